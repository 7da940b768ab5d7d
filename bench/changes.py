"""Rows changed in place: a DELETE of 1 %, a MERGE of 5 %, spread over all files: ``python -m bench.changes``."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table.snapshots import Operation

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.report import comparison

TITLE = "Changing rows"
NAME = "bench.changes"
FILES, FEW_FILES = 40, 4
ROWS = 4_000_000
PART = 7  # of a hundred, which are drawn for the rows
CHANGED = 20  # one row of so many


def ensure_table(rows: int, files: int) -> tuple[Path, Path]:
    """Return the folder of a lake with the table, and a Parquet file of new values for one row of 20 of it."""
    import iceblink as ib

    folder, news = DATA / f"changes-{rows}", DATA / f"changes-{rows}-news.parquet"
    if news.exists():
        return folder, news
    rng = np.random.default_rng(5)
    with ib.connect(folder) as lake:
        for number in range(files):
            part = made_rows(rng, np.arange(number, rows, files))
            lake.write(NAME, part, "append" if number else "create")
    chosen = np.sort(rng.choice(rows, rows // CHANGED, replace=False))
    pq.write_table(made_rows(rng, chosen), news)
    return folder, news


def made_rows(rng: np.random.Generator, ids: Any) -> pa.Table:
    """Return rows of these ids: numbers, a hundredth, and some text."""
    count = len(ids)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "part": pa.array(rng.integers(0, 100, count), pa.int32()),
            "price": rng.random(count),
            "amount": pa.array(rng.integers(0, 10_000, count), pa.int64()),
            "note": [f"{number:x}" for number in rng.integers(0, 2**63, count)],
        }
    )


def opened(folder: str, mode: str) -> Any:
    """Return the lake, the table in it being as it was first, and changed in this mode from now on."""
    import iceblink as ib

    lake = ib.connect(folder)
    table = lake.session.catalog.load(NAME).pyiceberg
    appends = [
        one for one in table.metadata.snapshots if one.summary is not None and one.summary.operation is Operation.APPEND
    ]
    first = max(appends, key=lambda one: one.sequence_number or 0)  # all changes since were none
    table.manage_snapshots().set_current_snapshot(snapshot_id=first.snapshot_id).commit()
    modes = {f"write.{verb}.mode": mode for verb in ("delete", "merge")}
    lake.session.catalog.load(NAME).pyiceberg.transaction().set_properties(modes).commit_transaction()
    return lake


def iceblink_delete(folder: str, news: str, mode: str = "copy-on-write") -> Job:
    """A DELETE in SQL."""
    lake = opened(folder, mode)

    def job() -> Generator[int, None, None]:
        (done,) = lake.sql(f"DELETE FROM {NAME} WHERE part = {PART}").to_pylist()
        yield done["rows_deleted"]

    return job


def iceblink_delete_on_read(folder: str, news: str) -> Job:
    """The same, written as position deletes."""
    return iceblink_delete(folder, news, "merge-on-read")


def pyiceberg_delete(folder: str, news: str) -> Job:
    """PyIceberg's delete by a filter."""
    lake = opened(folder, "copy-on-write")
    table = lake.session.catalog.load(NAME).pyiceberg
    before = int(table.current_snapshot().summary["total-records"])

    def job() -> Generator[int, None, None]:
        table.delete(f"part == {PART}")
        yield before - int(table.refresh().current_snapshot().summary["total-records"])

    return job


def iceblink_merge(folder: str, news: str, mode: str = "copy-on-write") -> Job:
    """A merge that updates all columns, and would insert."""
    import iceblink as ib

    lake, source = opened(folder, mode), pq.read_table(news)

    def job() -> Generator[int, None, None]:
        (done,) = lake.merge(
            NAME, source, "id", ib.when_matched().update_all(), ib.when_not_matched().insert_all()
        ).to_pylist()
        yield done["rows_updated"]

    return job


def iceblink_merge_on_read(folder: str, news: str) -> Job:
    """The same, written as position deletes and new rows."""
    return iceblink_merge(folder, news, "merge-on-read")


def pyiceberg_upsert(folder: str, news: str) -> Job:
    """PyIceberg's upsert."""
    lake, source = opened(folder, "copy-on-write"), pq.read_table(news)
    table = lake.session.catalog.load(NAME).pyiceberg

    def job() -> Generator[int, None, None]:
        yield table.upsert(source, join_cols=["id"]).rows_updated

    return job


PARTS = {
    "delete": (
        Contestant("iceblink", iceblink_delete, ("iceblink",)),
        Contestant("iceblink, merge-on-read", iceblink_delete_on_read, ("iceblink",)),
        Contestant("PyIceberg", pyiceberg_delete, ("pyiceberg",)),
    ),
    "merge": (
        Contestant("iceblink", iceblink_merge, ("iceblink",)),
        Contestant("iceblink, merge-on-read", iceblink_merge_on_read, ("iceblink",)),
        Contestant("PyIceberg", pyiceberg_upsert, ("pyiceberg",)),
    ),
}
SAID = {"delete": "DELETE of 1 % of the rows", "merge": f"MERGE of one row of {CHANGED}"}


def report(options: Options) -> str:
    """Measure both changes of one table, which is as it was first before each of them."""
    rows, files = (4_000, FEW_FILES) if options.small else (ROWS, FILES)
    folder, news = ensure_table(rows, files)
    arguments = {"folder": str(folder), "news": str(news)}
    parts = [heading(TITLE, options), f"{rows:,} rows in {files} files.\n"]
    for name, contestants in PARTS.items():
        if options.wants(name):
            results = in_turns(options.chosen(contestants), arguments, options.runs, options.cpus, options.limit_s)
            parts.append(f"### {SAID[name]}\n\n{comparison(results)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
