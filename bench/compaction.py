"""Make few files of many: a compaction beside a scan and a write of its rows: ``python -m bench.compaction``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.mixed import mixed_rows
from bench.report import MIB, OURS, comparison, middle, problem_of, table

TITLE = "Compacting small files"
NAME, COPY = "bench.small", "bench.copy"
FILES, FILE_ROWS = 2_000, 250
TINY = {"write.parquet.row-group-limit": str(FILE_ROWS), "write.target-file-size-bytes": "1"}
"""A row group is a file."""


def ensure_small(files: int) -> tuple[Path, Path]:
    """Return where a lake with a table of that many small files is to be, and a copy of it to begin from."""
    folder, origin = DATA / f"compaction-{files}", DATA / f"compaction-{files}-origin"
    if not origin.exists():
        import iceblink as ib

        shutil.rmtree(folder, ignore_errors=True)
        rng = np.random.default_rng(3)
        with ib.connect(folder) as lake:
            first = mixed_rows(rng, 0, FILE_ROWS, "")
            lake.create(NAME, first.schema, properties=TINY)
            step = 200
            for start in range(0, files, step):
                count = min(step, files - start)
                lake.write(NAME, mixed_rows(rng, start * FILE_ROWS, count * FILE_ROWS, ""))
            with lake.session.catalog.load(NAME).pyiceberg.transaction() as change:
                change.remove_properties(*TINY)
        folder.rename(origin)
    return folder, origin


def begun(folder: str, origin: str) -> int:
    """Put the lake in its place as it was, and return the size of its data files [bytes]."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(origin, folder, copy_function=linked)
    return sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))


def linked(source: str, target: str) -> None:
    """Link a data file, which never changes, and copy what does."""
    if source.endswith(".parquet"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def compacted(folder: str, origin: str) -> Job:
    """`Lake.compact`."""
    import iceblink as ib

    nbytes = begun(folder, origin)
    lake = ib.connect(folder)

    def job() -> Generator[int, None, int]:
        done = lake.compact(NAME)
        yield nbytes
        return done.files_after

    return job


def copied(folder: str, origin: str) -> Job:
    """The limit: the same rows scanned and written to a new table."""
    import iceblink as ib

    nbytes = begun(folder, origin)
    lake = ib.connect(folder)

    def job() -> Generator[int, None, int]:
        lake.write(COPY, lake.table(NAME), mode="create")
        yield nbytes
        return lake.session.catalog.load(COPY).file_count

    return job


def overwritten(folder: str, origin: str) -> Job:
    """What PyIceberg's users do: read the table, and overwrite it with itself."""
    from pyiceberg.catalog import load_catalog

    nbytes = begun(folder, origin)
    catalog = load_catalog("default", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder)
    found = catalog.load_table(NAME)

    def job() -> Generator[int, None, int]:
        found.overwrite(found.scan().to_arrow())
        yield nbytes
        return len(found.inspect.files())

    return job


WRITERS = (
    Contestant(OURS, compacted, ("iceblink",)),
    Contestant("scan and write", copied, ("iceblink",)),
    Contestant("PyIceberg overwrite", overwritten, ("pyiceberg", "sqlalchemy")),
)


def report(options: Options) -> str:
    """Measure a compaction, the limit, and what is done without one."""
    files = 40 if options.small else FILES
    folder, origin = ensure_small(files)
    results = in_turns(
        options.chosen(WRITERS), {"folder": str(folder), "origin": str(origin)}, options.runs, options.cpus
    )
    shutil.rmtree(folder, ignore_errors=True)
    rows = [
        [
            name,
            f"{runs[-1].rows / MIB / middle(runs, lambda one: one.wall_s):,.1f}",
            f"{files:,}",
            f"{runs[-1].detail:,}",
        ]
        for name, runs in results.items()
        if not problem_of(runs)
    ]
    parts = [heading(TITLE, options), f"{comparison(results, amount='bytes')}\n"]
    parts.append(f"{table(['', 'MB/s on disk', 'files before', 'after'], rows)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
