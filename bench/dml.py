"""Estimate one effect beside twenty confounders by double machine learning, beside EconML and DoubleML.

``python -m bench.dml --rows 10000000``, where ``ICEBLINK_CAUSAL_PEERS`` is the interpreter of an environment with
econml and doubleml, whose pins fight ours; without it they are looked for here. All models are linear, of five folds.

A measurement is everything from the first import to the effect and its standard error: the table is in an Iceberg lake,
of which peers read the data files into arrays of float64. They may have 8 GiB; a peer that wants more has failed.
``--cost-model`` says from rates measured here what a thousand million rows would cost.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, Result, family_peak_bytes, in_turns
from bench.report import MIB, comparison, middle, problem_of, table

TITLE = "Double machine learning"
CONFOUNDERS, FOLDS, CHUNK_ROWS = 20, 5, 500_000
NAMES = [f"x{number}" for number in range(CONFOUNDERS)]
PEERS = os.environ.get("ICEBLINK_CAUSAL_PEERS", "")
LIMIT_BYTES = 8 << 30
BILLION = 1_000_000_000
BLOCK_ROWS = 65_536
CLUSTERS = (16, 160)


def ensure_table(rows: int) -> Path:
    """Return a lake with this many rows: a key, an outcome, a treatment and confounders, all of these float32."""
    import numpy as np
    import pyarrow as pa

    import iceblink as ib

    folder = DATA / f"dml-{rows}"
    schema = pa.schema([("id", pa.int64()), *((name, pa.float32()) for name in ("y", "t", *NAMES))])

    def made() -> Iterator[pa.RecordBatch]:
        draw = np.random.default_rng(11)
        slopes = 0.5 ** np.arange(CONFOUNDERS, dtype=np.float32)
        for begin in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - begin)
            x = draw.standard_normal((CONFOUNDERS, count), np.float32)
            t = slopes @ x + draw.standard_normal(count, np.float32)
            y = t + slopes[::-1] @ x + draw.standard_normal(count, np.float32)
            yield pa.record_batch(
                [pa.array(np.arange(begin, begin + count)), *map(pa.array, (y, t, *x))], schema=schema
            )

    with ib.connect(folder) as lake:
        if "bench.dml" not in lake.tables():
            lake.write("bench.dml", pa.RecordBatchReader.from_batches(schema, made()), "create")
    return folder


def files_of(folder: Path) -> list[str]:
    """Return the paths of the table's data files."""
    import iceblink as ib

    with ib.connect(folder) as lake:
        return [
            path.removeprefix("file://") for path in lake.table("bench.dml.files").to_arrow()["file_path"].to_pylist()
        ]


def linear_plr(folder: str, files: list[str], cpus: int) -> Job:
    """Estimate it where the rows are."""

    def job() -> Generator[int, None, Any]:
        import iceblink as ib
        from iceblink import causal as ci

        with ib.connect(folder, engine=ib.LocalEngine(threads=cpus)) as lake:
            fit = ci.LinearPLR("y", "t", NAMES, key="id", folds=FOLDS).fit(lake.table("bench.dml"))
        yield fit.rows
        return told(fit["t"], fit.error("t"))

    return job


def econml(folder: str, files: list[str], cpus: int) -> Job:
    """EconML's LinearDML with linear models of outcome and treatment, and a constant effect."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))

    def job() -> Generator[int, None, Any]:
        from econml.dml import LinearDML
        from sklearn.linear_model import LinearRegression

        y, t, x = arrays(files)
        model = LinearDML(model_y=LinearRegression(), model_t=LinearRegression(), cv=FOLDS, random_state=0)
        model.fit(y, t, X=None, W=x, inference="statsmodels")
        found = model.intercept__inference()
        yield len(y)
        return told(float(found.point_estimate), float(found.stderr))

    return job


def doubleml(folder: str, files: list[str], cpus: int) -> Job:
    """DoubleML's PLR with linear models of outcome and treatment."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))

    def job() -> Generator[int, None, Any]:
        from doubleml import DoubleMLData, DoubleMLPLR
        from sklearn.linear_model import LinearRegression

        y, t, x = arrays(files)
        model = DoubleMLPLR(DoubleMLData.from_arrays(x, y, t), LinearRegression(), LinearRegression(), n_folds=FOLDS)
        model.fit()
        yield len(y)
        return told(float(model.coef[0]), float(model.se[0]))

    return job


def arrays(files: list[str]) -> tuple[Any, Any, Any]:
    """Return outcome, treatment and confounders of Parquet files as arrays of float64."""
    import numpy as np
    import pyarrow.parquet as pq

    rows = [pq.ParquetFile(path).metadata.num_rows for path in files]
    x = np.empty((sum(rows), CONFOUNDERS))
    y, t = np.empty(len(x)), np.empty(len(x))
    begin = 0
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=["y", "t", *NAMES]):
            end = begin + batch.num_rows
            y[begin:end], t[begin:end] = batch["y"].to_numpy(), batch["t"].to_numpy()
            for at, name in enumerate(NAMES):
                x[begin:end, at] = batch[name].to_numpy()
            begin = end
    return y, t, x


def told(effect: float, error: float) -> dict[str, float]:
    """Return what is found, and how much memory the whole process ever had."""
    return {"effect": effect, "error": error, "peak_bytes": family_peak_bytes()}


CONTESTANTS = (
    Contestant("iceblink", linear_plr, ("iceblink",)),
    Contestant("EconML LinearDML", econml, ("econml",), PEERS),
    Contestant("DoubleML PLR", doubleml, ("doubleml",), PEERS),
)


def sizes(options: Options) -> list[int]:
    """Return the numbers of rows to measure: up to those asked for, by tens."""
    return [2_000] if options.small else [rows for rows in (100_000, 1_000_000, 10_000_000) if rows <= options.rows]


def report(options: Options) -> str:
    """Measure each size."""
    text = heading(TITLE, options)
    for rows in sizes(options):
        results = measured(rows, options, CONTESTANTS)
        lines = []
        for name, runs in results.items():
            if not problem_of(runs):
                one = runs[-1]
                found = [f"{one.detail[what]:.6f}" for what in ("effect", "error")]
                rate = one.rows / middle(runs, lambda run: run.cpu_s)
                lines.append([name, *found, f"{one.detail['peak_bytes'] / MIB:,.0f}", f"{rate:,.0f}"])
        header = ["", "effect", "its error", "whole process, peak MB", "rows per CPU second"]
        text += f"\n### {rows:,} rows\n\n{comparison(results)}\n\n{table(header, lines)}\n"
    return text


def measured(rows: int, options: Options, contestants: Sequence[Contestant]) -> dict[str, list[Result]]:
    """Measure contestants on a table of this size."""
    folder = ensure_table(rows)
    given = {"folder": str(folder), "files": files_of(folder), "cpus": options.cpus}
    return in_turns(options.chosen(contestants), given, options.runs, options.cpus, options.limit_s)


def cost_model(options: Options) -> str:
    """Say what a thousand million rows cost, by what two sizes did here, and what is taken for granted."""
    few, many = (2_000, 20_000) if options.small else (100_000, max(1_000_000, options.rows))
    cpu_s = {}
    for rows in (few, many):
        (runs,) = measured(rows, options, CONTESTANTS[:1]).values()
        cpu_s[rows] = middle(runs, lambda run: run.cpu_s)
    each_s = (cpu_s[many] - cpu_s[few]) / (many - few)
    start_s = max(0.0, cpu_s[few] - few * each_s)
    merge_s = merge_seconds() * BILLION / BLOCK_ROWS
    bytes_each = sum(Path(path).stat().st_size for path in files_of(ensure_table(many))) / many
    lines = []
    for cores in CLUSTERS:
        wall_s = start_s + BILLION * each_s / cores + merge_s
        rate = 2 * BILLION * bytes_each / (BILLION * each_s / cores)
        lines.append([f"{cores}", f"{BILLION * each_s / 3600:.1f}", f"{wall_s:,.0f}", f"{rate / 1e9:.1f}"])
    header = ["cores", "CPU hours of workers", "wall s", "storage GB/s"]
    return (
        f"{heading(f'{TITLE}: {BILLION:,} rows', options)}\n{table(header, lines)}\n\n"
        f"Measured: {start_s:.1f} CPU s to start, {each_s * 1e6:.2f} CPU s a million rows (both passes, of {few:,} and "
        f"{many:,} rows), {bytes_each:.0f} bytes a row, {merge_s:.0f} s for one process to merge the states of "
        f"{BILLION // BLOCK_ROWS:,} blocks.\nTaken for granted: all cores are as fast as these and always busy, "
        "storage gives so many bytes, the driver merges after them, and Ray's start is not counted.\n"
    )


def merge_seconds() -> float:
    """Return how long it takes to read and merge the state of a block of the first pass, the larger one [s]."""
    import numpy as np

    from iceblink.causal.moments import Moments
    from iceblink.causal.tree import merged

    names = ("y", "t", *NAMES)
    values = np.random.default_rng(0).normal(size=(len(names), 5_000))
    batch = Moments.of(names, values, np.repeat(np.arange(FOLDS), 1_000)).to_batch()
    start = time.process_time()
    merged(state for _ in range(200) for state in Moments.from_batch(names, batch))
    return (time.process_time() - start) / 200


if __name__ == "__main__":
    modelled = "--cost-model" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--cost-model"]
    print((cost_model if modelled else report)(read_options(TITLE)))
