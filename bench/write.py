"""Write a stream into a table: throughput, and memory against the stream's length: ``python -m bench.write``."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.mixed import REGIONS, mixed_rows, open_catalog
from bench.report import MIB, OURS, comparison, middle, problem_of, table

TITLE = "Writing a stream"
NAME = "bench.written"
BATCH_ROWS = 25_000
CHUNK_BYTES = 256 * MIB  # what PyIceberg is handed at once where it takes no stream
ROW_GROUP_BYTES = 64 * MIB  # iceblink's default


def ensure_batches(rows: int) -> Path:
    """Return an Arrow stream file of ten batches of the mixed table, regions mixed, written if absent."""
    path = DATA / f"write-{rows}.arrows"
    if not path.exists():
        DATA.mkdir(exist_ok=True)
        rng = np.random.default_rng(11)
        parts = [mixed_rows(rng, number * rows, rows, "") for number in range(10)]
        place = parts[0].schema.get_field_index("region")
        with pa.ipc.new_stream(path, parts[0].schema) as writer:
            for part in parts:
                regions = pa.array(REGIONS).take(pa.array(rng.integers(0, len(REGIONS), rows)))
                writer.write_table(part.set_column(place, "region", regions))
    return path


def batches(path: str, nbytes: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of the file over and over, each in memory of its own, until `nbytes` have been given."""
    given = 0
    while given < nbytes:
        with pa.OSFile(path) as source:
            for batch in pa.ipc.open_stream(source):
                yield batch
                given += batch.nbytes
                if given >= nbytes:
                    return


def stream(path: str, nbytes: int) -> pa.RecordBatchReader:
    """Return the batches as a reader."""
    with pa.OSFile(path) as source:
        schema = pa.ipc.open_stream(source).schema
    return pa.RecordBatchReader.from_batches(schema, batches(path, nbytes))


def iceblink_write(folder: str, path: str, nbytes: int, partitioned: bool) -> Job:
    """One append of a reader."""
    import iceblink as ib

    shutil.rmtree(folder, ignore_errors=True)
    lake = ib.connect(folder)
    lake.create(NAME, stream(path, 0).schema, partition_by=["region"] if partitioned else [])

    def job() -> Generator[int, None, None]:
        lake.write(NAME, stream(path, nbytes), mode="append")
        yield nbytes

    return job


def pyiceberg_write(folder: str, path: str, nbytes: int, partitioned: bool) -> Job:
    """One append of a reader; PyIceberg takes none for a partitioned table, there chunks in one transaction."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    catalog = open_catalog(Path(folder))
    catalog.create_namespace("bench")
    made = catalog.create_table(NAME, stream(path, 0).schema)
    if partitioned:
        with made.update_spec() as spec:
            spec.add_identity("region")

    def job() -> Generator[int, None, None]:
        if not partitioned:
            made.append(stream(path, nbytes))
        else:
            with made.transaction() as transaction:
                for chunk in chunks(path, nbytes):
                    transaction.append(chunk)
        yield nbytes

    return job


def chunks(path: str, nbytes: int) -> Iterator[pa.Table]:
    """Yield the batches joined to tables of about `CHUNK_BYTES`."""
    parts: list[pa.RecordBatch] = []
    for batch in batches(path, nbytes):
        parts.append(batch)
        if sum(part.nbytes for part in parts) >= CHUNK_BYTES:
            yield pa.Table.from_batches(parts)
            parts = []
    if parts:
        yield pa.Table.from_batches(parts)


WRITERS = (
    Contestant("iceblink", iceblink_write, ("iceblink",)),
    Contestant("PyIceberg append", pyiceberg_write, ("pyiceberg",)),
)


def report(options: Options) -> str:
    """Measure both writers, two lengths each, plain and partitioned."""
    path = ensure_batches(500 if options.small else BATCH_ROWS)
    longest = 20 * MIB if options.small else int(options.gb * 1e9)
    folder = DATA / "written"
    parts = [heading(TITLE, options)]
    peaks = []
    for partitioned in options.some((True, False)):
        form = f"partitioned into {len(REGIONS)}" if partitioned else "not partitioned"
        found: dict[str, list[float]] = {}
        for nbytes in (longest // 2, longest):
            arguments: dict[str, Any] = {"folder": str(folder), "path": str(path), "nbytes": nbytes}
            arguments["partitioned"] = partitioned
            results = in_turns(options.chosen(WRITERS), arguments, options.runs, options.cpus)
            parts.append(f"### {megabytes(nbytes)}, {form}\n\n{comparison(results, amount='bytes')}\n")
            for name, runs in results.items():
                if not problem_of(runs):
                    found.setdefault(name, []).append(middle(runs, lambda one: one.added_bytes))
        bound = ROW_GROUP_BYTES * (1 + (len(REGIONS) if partitioned else 1))
        peaks += [peak_row(f"{name}, {form}", pair, bound) for name, pair in found.items() if len(pair) == 2]
    shutil.rmtree(folder, ignore_errors=True)
    header = ["", f"{megabytes(longest // 2)} in", f"{megabytes(longest)} in", "growth", "row group + buffers", "times"]
    parts.append(f"### Peak memory against length ({OURS}'s row group and open buffers as the measure)\n")
    parts.append(f"{table(header, peaks)}\n")
    return "\n".join(parts)


def peak_row(name: str, peaks: list[float], bound: int) -> list[str]:
    """Return the row of one writer: the peak of both lengths, their ratio, and the longer over the bound."""
    half, whole = peaks
    growth = f"{whole / half:.2f}" if half > 0 else "-"
    return [name, megabytes(half), megabytes(whole), growth, megabytes(bound), f"{whole / bound:.2f}"]


def megabytes(nbytes: float) -> str:
    """Return a size to read."""
    return f"{nbytes / MIB:,.0f} MB"


if __name__ == "__main__":
    print(report(read_options(TITLE)))
