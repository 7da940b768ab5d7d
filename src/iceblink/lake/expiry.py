"""Snapshots that a table no longer needs, and the files that only they reach.

The metadata is committed first and files are removed after: who is killed in between leaves files that nothing refers
to, and never a snapshot without its files.

References
----------
.. [1] Iceberg table spec, "Snapshot Retention Policy", "Snapshot References", "Table Statistics".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    RemovePartitionStatisticsUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    RemoveStatisticsUpdate,
    TableUpdate,
)

from iceblink.config import MIB
from iceblink.errors import ConfigError, SnapshotNotFound
from iceblink.lake.commit import Commit
from iceblink.lake.file_format import number
from iceblink.lake.format_version import check_writable
from iceblink.lake.leftovers import delete_all
from iceblink.lake.reachable import Reached, listed_in, read_content
from iceblink.lake.table import Table
from iceblink.lake.transactions import one_try

MAX_AGE, MAX_AGE_MS = "history.expire.max-snapshot-age-ms", 5 * 24 * 3600 * 1000
MIN_KEPT = "history.expire.min-snapshots-to-keep"
MAX_REF_AGE, FOREVER_MS = "history.expire.max-ref-age-ms", 1 << 63
GARBAGE = "gc.enabled"


@dataclass(frozen=True)
class Expired:
    """What expired, or would.

    Parameters
    ----------
    table : str
    snapshots : tuple of int
        Ids.
    refs : tuple of str
        Branches and tags whose time was over.
    data_files, delete_files, manifests, manifest_lists, statistics_files : int
        Files that only those snapshots reached.
    file_bytes : int
        Size of the data files and delete files [bytes].
    files : tuple of str
        All those files.
    kept_files : int
        Of these, files that could not be removed: `remove_orphan_files` finds them.
    """

    table: str
    snapshots: tuple[int, ...] = ()
    refs: tuple[str, ...] = ()
    data_files: int = 0
    delete_files: int = 0
    manifests: int = 0
    manifest_lists: int = 0
    statistics_files: int = 0
    file_bytes: int = 0
    files: tuple[str, ...] = field(default=(), repr=False)
    kept_files: int = 0

    def __str__(self) -> str:
        text = (
            f"{self.table}: {len(self.snapshots):,} snapshots, {self.data_files:,} data files and "
            f"{self.delete_files:,} delete files of {self.file_bytes / MIB:,.1f} MiB, {self.manifests:,} manifests"
        )
        return f"{text}, {self.kept_files:,} files could not be removed" if self.kept_files else text


@dataclass(frozen=True)
class Retention:
    """What is kept and for how long, beside what branches and tags say of themselves.

    Parameters
    ----------
    older_than_ms : int or None
        Snapshots since then are kept [ms since 1970]. Default: the table's maximum age.
    keep_last : int or None
        At least so many snapshots of each branch are kept. Default: the table's minimum.
    snapshot_ids : frozenset of int
        Go in any case.
    """

    older_than_ms: int | None = None
    keep_last: int | None = None
    snapshot_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 1:
            raise ConfigError(f"keep_last is {self.keep_last}", "expire_snapshots", "one or more: a table needs one")

    def ending(self, metadata: TableMetadata, now_ms: int) -> Ending:
        """Return which snapshots and references of a table are not kept.

        Raises
        ------
        SnapshotNotFound, ConfigError
            A snapshot asked to go is not there; a branch or tag needs it.
        """
        properties = metadata.properties
        since_ms = self.older_than_ms
        if since_ms is None:
            since_ms = now_ms - number(properties, MAX_AGE, MAX_AGE_MS)
        least = self.keep_last or number(properties, MIN_KEPT, 1)
        ref_age_ms = number(properties, MAX_REF_AGE, FOREVER_MS)
        heads: dict[int, str] = {}
        kept: set[int] = set()
        referred: set[int] = set()
        refs: list[str] = []
        for name, ref in metadata.refs.items():
            head = metadata.snapshot_by_id(ref.snapshot_id)
            if head is None:
                continue
            if name != MAIN_BRANCH and now_ms - head.timestamp_ms > (ref.max_ref_age_ms or ref_age_ms):
                refs.append(name)
                continue
            heads[head.snapshot_id] = name
            referred.add(head.snapshot_id)
            if ref.snapshot_ref_type == SnapshotRefType.BRANCH:
                line = list(ancestors_of(head, metadata))
                referred.update(snapshot.snapshot_id for snapshot in line)
                kept.update(_kept_of_branch(line, ref, since_ms, least, now_ms))
        self._check_asked(metadata, heads)
        ending = [
            snapshot
            for snapshot in metadata.snapshots
            if snapshot.snapshot_id in self.snapshot_ids
            or (
                snapshot.snapshot_id not in kept | heads.keys()
                and (snapshot.snapshot_id in referred or snapshot.timestamp_ms < since_ms)
            )
        ]
        return Ending(tuple(ending), tuple(refs))

    def _check_asked(self, metadata: TableMetadata, heads: Mapping[int, str]) -> None:
        for snapshot_id in self.snapshot_ids:
            if metadata.snapshot_by_id(snapshot_id) is None:
                raise SnapshotNotFound(f"no snapshot {snapshot_id}", "expire_snapshots", "see lake.history(name)")
            if snapshot_id in heads:
                name = heads[snapshot_id]
                raise ConfigError(f"snapshot {snapshot_id} is what {name!r} is at", "expire_snapshots", "keep it")


def _kept_of_branch(line: Iterable[Snapshot], ref: SnapshotRef, since_ms: int, least: int, now_ms: int) -> set[int]:
    """Return the newest of a branch's snapshots: at least so many, and on as far as they are young enough."""
    if ref.max_snapshot_age_ms is not None:
        since_ms = now_ms - ref.max_snapshot_age_ms
    least = ref.min_snapshots_to_keep or least
    kept: set[int] = set()
    for snapshot in line:
        if len(kept) >= least and snapshot.timestamp_ms < since_ms:
            break
        kept.add(snapshot.snapshot_id)
    return kept


@dataclass(frozen=True)
class Ending:
    """Snapshots and references whose time is over."""

    snapshots: tuple[Snapshot, ...]
    refs: tuple[str, ...]

    @property
    def ids(self) -> set[int]:
        """Of the snapshots."""
        return {snapshot.snapshot_id for snapshot in self.snapshots}

    def updates(self, metadata: TableMetadata) -> tuple[TableUpdate, ...]:
        """Return what takes them out of the metadata, with their statistics."""
        made: list[TableUpdate] = [RemoveSnapshotRefUpdate.model_validate({"ref-name": name}) for name in self.refs]
        made += [
            RemoveStatisticsUpdate.model_validate({"snapshot-id": one.snapshot_id})
            for one in metadata.statistics
            if one.snapshot_id in self.ids
        ]
        made += [
            RemovePartitionStatisticsUpdate.model_validate({"snapshot-id": one.snapshot_id})
            for one in metadata.partition_statistics
            if one.snapshot_id in self.ids
        ]
        if self.snapshots:
            made.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": sorted(self.ids)}))
        return tuple(made)


def expire_snapshots(table: Table, retention: Retention, dry_run: bool = False) -> Expired:
    """Take snapshots out of a table and remove the files that only they reached; see `Lake.expire_snapshots`."""
    check_writable(table)
    check_garbage(table, "expire_snapshots")
    now_ms = int(time.time() * 1000)
    metadata = table.pyiceberg.metadata
    planned = retention.ending(metadata, now_ms)
    if not planned.snapshots and not planned.refs:
        return Expired(table.name)
    removable = _removable(table, planned, metadata)  # before the commit, so that damage is found while all is there
    if dry_run:
        return _report(table, planned, removable, metadata)
    expiry = _Expiry(table, retention, now_ms)
    after = expiry.run()
    ending, before = expiry.ending, expiry.before
    if (ending.ids, _ids(after.pyiceberg.metadata)) != (planned.ids, _ids(metadata) - planned.ids):
        removable = _removable(table, ending, after.pyiceberg.metadata)  # others came in between
    report = _report(table, ending, removable, before)
    return replace(report, kept_files=len(delete_all(table.pyiceberg.io, report.files)))


class _Expiry(Commit):
    """Takes what is over out of the metadata as it is at the moment of the commit."""

    def __init__(self, table: Table, retention: Retention, now_ms: int) -> None:
        super().__init__(table)
        self._retention, self._now_ms = retention, now_ms
        self.before, self.ending = table.pyiceberg.metadata, Ending((), ())

    def run(self) -> Table:
        """Commit, and return the table after it."""
        return Table.latest(self._table.catalog, self._table.name, self._landing())

    def _stage(self, head: IcebergTable) -> Transaction:
        self.before, self.ending = head.metadata, self._retention.ending(head.metadata, self._now_ms)
        transaction = one_try(head)
        # a reference that somebody moves meanwhile may need what was to go
        moved = [
            AssertRefSnapshotId.model_validate({"snapshot-id": ref.snapshot_id, "ref": name})
            for name, ref in head.metadata.refs.items()
        ]
        transaction._apply(self.ending.updates(head.metadata), tuple(moved))
        return transaction

    def _landed(self, head: IcebergTable) -> Snapshot | None:
        """Return a snapshot if a try of this has landed: then what it took out is gone."""
        if not self.ending.snapshots or self.ending.ids & _ids(head.metadata):
            return None
        return head.metadata.snapshots[-1]

    def _drop_unused(self, head: IcebergTable, landed: Snapshot) -> None:
        """There are no files of this."""


def check_garbage(table: Table, where: str) -> None:
    """Refuse to remove files of a table whose files are not its own alone.

    Raises
    ------
    ConfigError
    """
    if table.properties.get(GARBAGE, "true").lower() == "false":
        raise ConfigError(
            f"{GARBAGE} is false: other tables may have files of this one", f"{where} {table.name}", "leave them"
        )


def _ids(metadata: TableMetadata) -> set[int]:
    return {snapshot.snapshot_id for snapshot in metadata.snapshots}


def _removable(table: Table, ending: Ending, metadata: TableMetadata) -> Reached:
    """Return what only `ending` reaches; `metadata` has all that is kept, and perhaps what is not."""
    kept = listed_in(table, [one for one in metadata.snapshots if one.snapshot_id not in ending.ids])
    gone = listed_in(table, ending.snapshots, without=kept.manifests, complete=False)
    read_content(gone, complete=False)
    if gone.content:
        read_content(kept)
    return Reached(
        gone.lists - kept.lists,
        gone.manifests,
        {path: found for path, found in gone.content.items() if path not in kept.content},
    )


def _report(table: Table, ending: Ending, removable: Reached, metadata: TableMetadata) -> Expired:
    every = [*metadata.statistics, *metadata.partition_statistics]
    kept = {one.statistics_path for one in every if one.snapshot_id not in ending.ids}
    statistics = {one.statistics_path for one in every if one.snapshot_id in ending.ids} - kept
    deletes = sum(found.deletes for found in removable.content.values())
    return Expired(
        table=table.name,
        snapshots=tuple(snapshot.snapshot_id for snapshot in ending.snapshots),
        refs=ending.refs,
        data_files=len(removable.content) - deletes,
        delete_files=deletes,
        manifests=len(removable.manifests),
        manifest_lists=len(removable.lists),
        statistics_files=len(statistics),
        file_bytes=sum(found.file_bytes for found in removable.content.values()),
        # what refers to others goes after them
        files=(*sorted(removable.content), *sorted(removable.manifests), *sorted(removable.lists), *sorted(statistics)),
    )
