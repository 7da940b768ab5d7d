"""Compare 50 metrics in 20 segments of an experiment, beside a group-by in SQL of the same columns.

``python -m bench.experiments --rows 20000000``. The statement computes means and standard deviations, which is what a
table of the experiment by hand needs; the other one sums alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.report import comparison

TITLE = "Experiments"
METRICS, SEGMENTS, CHUNK_ROWS = 50, 20, 500_000
NAMES = [f"m{number}" for number in range(METRICS)]


def ensure_table(rows: int) -> Path:
    """Return a lake with an experiment of this many rows: arm, segment, what was before, and metrics."""
    import iceblink as ib

    folder = DATA / f"experiments-{rows}"
    fields = [("unit", pa.int64()), ("arm", pa.string()), ("segment", pa.string()), ("before", pa.float64())]
    schema = pa.schema([*fields, *((name, pa.float64()) for name in NAMES)])

    def made() -> Iterator[pa.RecordBatch]:
        rng = np.random.default_rng(7)
        for begin in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - begin)
            before = rng.normal(10, 3, count)
            columns = {
                "unit": np.arange(begin, begin + count),
                "arm": np.array(["A", "B"])[rng.integers(0, 2, count)],
                "segment": np.array([f"s{number}" for number in range(SEGMENTS)])[rng.integers(0, SEGMENTS, count)],
                "before": before,
            }
            columns |= {name: np.round(before + rng.normal(0, 3, count), 2) for name in NAMES}
            yield pa.record_batch(columns, schema)

    with ib.connect(folder) as lake:
        if "bench.experiment" not in lake.tables():
            lake.write("bench.experiment", pa.RecordBatchReader.from_batches(schema, made()), "create")
    return folder


def compared(folder: str, cpus: int, unit: str | None = None, adjust: str = "") -> Job:
    """Compare all metrics, over all rows and in each segment."""
    import iceblink as ib
    from iceblink import causal as ci

    lake = ib.connect(folder, engine=ib.LocalEngine(threads=cpus))
    metrics = [ci.Mean(name, adjust or ()) for name in NAMES]
    test = ci.ABTest("arm", "A", metrics, unit=unit, segments="segment")

    def job() -> Generator[int, None, float]:
        found = test.fit(lake.table("bench.experiment"))
        yield found.rows
        return found.effects[0].difference

    return job


def with_units(folder: str, cpus: int) -> Job:
    """See that each unit has one row, too."""
    return compared(folder, cpus, unit="unit")


def with_cuped(folder: str, cpus: int) -> Job:
    """Adjust each metric."""
    return compared(folder, cpus, adjust="before")


def stated(folder: str, cpus: int, aggregates: str) -> Job:
    """Group by arm and segment."""
    import iceblink as ib

    lake = ib.connect(folder, engine=ib.LocalEngine(threads=cpus))
    made = ", ".join(aggregates.format(name=name) for name in NAMES)
    text = f"SELECT arm, segment, count(*) AS n, {made} FROM bench.experiment GROUP BY arm, segment"

    def job() -> Generator[int, None, None]:
        yield sum(lake.sql(text).to_arrow()["n"].to_pylist())

    return job


def by_hand(folder: str, cpus: int) -> Job:
    """Means and standard deviations."""
    return stated(folder, cpus, "avg({name}) AS {name}_mean, stddev_samp({name}) AS {name}_deviation")


def sums(folder: str, cpus: int) -> Job:
    """Sums alone, of which no error can be told."""
    return stated(folder, cpus, "sum({name}) AS {name}")


CONTESTANTS = (
    Contestant("iceblink", compared, ("iceblink",)),
    Contestant("and CUPED", with_cuped, ("iceblink",)),
    Contestant("and units", with_units, ("iceblink",)),
    Contestant("SQL: means and deviations", by_hand, ("iceblink",)),
    Contestant("SQL: sums alone", sums, ("iceblink",)),
)


def report(options: Options) -> str:
    """Measure the comparison and the statements."""
    folder = str(ensure_table(2_000 if options.small else options.rows))
    given = {"folder": folder, "cpus": options.cpus}
    results = in_turns(options.chosen(CONTESTANTS), given, options.runs, options.cpus)
    return f"{heading(TITLE, options)}\n{comparison(results)}\n"


if __name__ == "__main__":
    print(report(read_options(TITLE)))
