"""How a table is, in numbers, each with a verdict and the call that would mend it: `Lake.health`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pyarrow as pa

from iceblink.config import MIB
from iceblink.errors import DataCorrupt, StorageError
from iceblink.lake.compaction import TARGET_BYTES
from iceblink.lake.entries import FileEntry
from iceblink.lake.expiry import Retention
from iceblink.lake.file_format import number
from iceblink.lake.manifest_rewrite import worth_rewriting
from iceblink.lake.orphans import ORPHAN_AGE, remove_orphans
from iceblink.lake.statistics import rows_of, statistics_of
from iceblink.lake.table import Table
from iceblink.predicate import Everything
from iceblink.run.compaction import SMALL, CompactOptions, chosen
from iceblink.run.session import Session

SCHEMA = pa.schema(
    {"check": pa.string(), "value": pa.float64(), "verdict": pa.string(), "detail": pa.string(), "mend": pa.string()}
)
GOOD, ACT = "good", "act"
SKEW = 10.0
"""So many times the median is uneven."""
DELETED = 0.1
"""This part of the rows being deleted is much."""
STALE = 0.2
"""Statistics are old when this part of the rows came or went since."""


def health(session: Session, name: str, orphans: bool) -> pa.Table:
    """Return a row for each check; see `Lake.health`."""
    table = session.catalog.load(name)
    files = list(table.files())
    rows = [*_file_checks(session, table, files), *_metadata_checks(table)]
    if orphans:
        rows.append(_orphans(table))
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


Row = tuple[str, float, str, str, str]


def _row(check: str, value: float, bad: bool, detail: str, mend: str) -> Row:
    return check, float(value), ACT if bad else GOOD, detail, mend if bad else ""


def _file_checks(session: Session, table: Table, files: Sequence[FileEntry]) -> Iterator[Row]:
    target = number(table.properties, TARGET_BYTES, session.engine.settings.file_bytes)
    compact = f"lake.compact({table.name!r})"
    small = sum(file.file_bytes < SMALL * target for file in files)
    choice = chosen(session, table, Everything(), target, CompactOptions())
    unfit = sum(map(len, choice.groups))
    detail = f"of {len(files):,} files {small:,} are small for a target of {target / MIB:,.0f} MiB"
    yield _row("files to compact", unfit, unfit > 0, f"{detail}; {unfit:,} are worth rewriting", compact)
    rows = sum(file.rows for file in files)
    deletes = {delete.path for file in files for delete in file.deletes}
    affected = sum(file.rows for file in files if file.deletes)
    part = _deleted_rows(table) / rows if rows else 0.0
    detail = f"{len(deletes):,} delete files may apply to files of {affected:,} of {rows:,} rows"
    yield _row("deleted part of rows", part, part > DELETED or len(deletes) > len(files), detail, compact)
    sizes = sorted(file.file_bytes for file in files)
    skew = _skew(sizes)
    detail = f"from {sizes[0] / MIB:,.2f} to {sizes[-1] / MIB:,.2f} MiB" if sizes else "no files"
    yield _row("largest file over median", skew, skew > SKEW, detail, compact)
    by_partition: dict[object, int] = {}
    for file in files:
        key = file.spec_id, tuple(file.partition.items())
        by_partition[key] = by_partition.get(key, 0) + file.rows
    counts = sorted(by_partition.values())
    skew = _skew(counts)
    mend = "partition the large ones further, by bucket(n, key) or a shorter time: write(..., mode='replace')"
    yield _row("largest partition over median", skew, skew > SKEW, f"{len(counts):,} partitions with rows", mend)


def _skew(ascending: Sequence[int]) -> float:
    """Return how many times the median the largest is."""
    return ascending[-1] / max(1, ascending[len(ascending) // 2]) if ascending else 1.0


def _deleted_rows(table: Table) -> int:
    """Return how many rows position deletes take out, as the snapshot's summary has it."""
    snapshot = table.snapshot
    summary = None if snapshot is None else snapshot.summary
    told = None if summary is None else summary.get("total-position-deletes")
    return int(told or 0)


def _metadata_checks(table: Table) -> Iterator[Row]:
    metadata = table.pyiceberg.metadata
    over = Retention().ending(metadata, int(time.time() * 1000))
    detail = f"{len(over.snapshots):,} are older than the table keeps them, {len(metadata.refs):,} branches and tags"
    yield _row(
        "snapshots", len(metadata.snapshots), bool(over.snapshots), detail, f"lake.expire_snapshots({table.name!r})"
    )
    manifests, due = worth_rewriting(table)
    detail = f"{due:,} are too many, or mix their partitions"
    yield _statistics(table)
    yield _row("manifests", manifests, due > 0, detail, f"lake.rewrite_manifests({table.name!r})")


def _statistics(table: Table) -> Row:
    """Tell how old statistics are; a table without any is fine, planners go by sizes."""
    mend = f"lake.compute_statistics({table.name!r})"
    try:
        found = statistics_of(table)
    except (DataCorrupt, StorageError) as error:
        return _row("rows since statistics", 1.0, True, f"the statistics file cannot be read: {error.what}", mend)
    if found is None:
        return _row("rows since statistics", 0.0, False, "no column has statistics", mend)
    now, then = rows_of(table.snapshot), found.rows
    part = 0.0 if now is None or then is None else abs(now - then) / max(1, then)
    detail = f"{len(found.distinct):,} columns have statistics, of snapshot {found.snapshot_id}"
    return _row("rows since statistics", part, part > STALE, detail, mend)


def _orphans(table: Table) -> Row:
    found = remove_orphans(table, ORPHAN_AGE, dry_run=True)
    detail = f"{len(found.files):,} files older than three days that nothing refers to"
    return _row(
        "orphan bytes", found.file_bytes, bool(found.files), detail, f"lake.remove_orphan_files({table.name!r})"
    )
