"""Branches and tags of a table, and which snapshot is its current one.

References
----------
.. [1] Iceberg table spec, "Snapshot References" and "Snapshot Retention Policy".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.update import AssertRefSnapshotId, RemoveSnapshotRefUpdate

from iceblink.errors import CatalogError, ConfigError, SnapshotNotFound, nearest
from iceblink.lake.change import change
from iceblink.lake.table import Table, milliseconds

Kind = Literal["branch", "tag"]
How = Literal["create", "replace", "create or replace"]

_TYPES: dict[Kind, SnapshotRefType] = {"branch": SnapshotRefType.BRANCH, "tag": SnapshotRefType.TAG}


@dataclass(frozen=True)
class Retention:
    """How long a reference, and of a branch its snapshots, are kept when snapshots are expired.

    Parameters
    ----------
    reference : timedelta, optional
        Default: forever.
    snapshots : timedelta, optional
        How old a branch's snapshots become. Default: what the table says.
    least : int, optional
        How many snapshots of a branch are kept however old they are. Default: what the table says.
    """

    reference: timedelta | None = None
    snapshots: timedelta | None = None
    least: int | None = None


def set_reference(
    table: Table,
    kind: Kind,
    name: str,
    version: int | str | None = None,
    how: How = "create",
    retention: Retention | None = None,
) -> Table:
    """Make or move a branch or tag, and return the table after it.

    Eager. Nothing of it depends on what others commit, unless they make a reference of that name.

    Parameters
    ----------
    table : Table
    kind : {"branch", "tag"}
    name : str
    version : int or str, optional
        A snapshot id, or the name of a tag or branch. Default: the table's snapshot.
    how : {"create", "replace", "create or replace"}
    retention : Retention, optional
        Default: of one that is replaced as it was, else none.

    Raises
    ------
    SnapshotNotFound
        No such version; the table is empty; nothing is there to replace.
    CatalogError
        The name is taken.
    ConfigError
        The name is that of the main branch, or empty.
    CommitConflict, CommitUnknown, TableNotFound, WriteError
    """
    if not name.strip() or name == MAIN_BRANCH:
        raise ConfigError(f"{name!r} cannot be made", table.name, "the main branch is there already: see rollback")
    snapshot_id = version_of(table, version)

    def stage(transaction: Transaction) -> None:
        now = transaction.table_metadata
        if now.snapshot_by_id(snapshot_id) is None:
            raise SnapshotNotFound(f"snapshot {snapshot_id} was expired meanwhile", table.name)
        there = now.refs.get(name)
        _check_free(table.name, kind, name, there, how, now)
        _set(transaction, name, kind, snapshot_id, retention or _kept(there))

    return change(table, stage, lambda metadata: metadata.refs.get(name))


def drop_reference(table: Table, kind: Kind, name: str) -> Table:
    """Take a branch or tag away, and return the table after it; its snapshots stay until they are expired.

    Raises
    ------
    SnapshotNotFound
        There is none of that name.
    ConfigError
        It is the main branch.
    CommitConflict, CommitUnknown, TableNotFound, WriteError
    """
    if name == MAIN_BRANCH:
        raise ConfigError("the main branch cannot be dropped", table.name, "drop the table")

    def stage(transaction: Transaction) -> None:
        there = _required(table.name, kind, name, transaction.table_metadata)
        transaction._apply(
            (RemoveSnapshotRefUpdate.model_validate({"ref-name": name}),),
            (AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": there.snapshot_id}),),
        )

    return change(table, stage, lambda metadata: metadata.refs.get(name))


def rolled_back(table: Table, snapshot: int | None = None, as_of: datetime | str | int | None = None) -> Table:
    """Make an earlier snapshot of the main branch its newest again, and return the table after it.

    Eager. The snapshots after it stay until they are expired; the schema stays the newest.

    Parameters
    ----------
    table : Table
    snapshot : int
        Its id.
    as_of : datetime, str or int
        As in `Table.at`; the newest snapshot that was committed at that time or before it.

    Raises
    ------
    SnapshotNotFound
        The table never was at it, or nothing is as old.
    ConfigError
        Not one of the two is given.
    CommitConflict
        Others committed meanwhile: their rows would be gone unseen.
    CommitUnknown, TableNotFound, WriteError
    """
    if (snapshot is None) == (as_of is None):
        raise ConfigError("give a snapshot or a time", f"roll {table.name} back", "snapshot=... or as_of=...")
    metadata = table.pyiceberg.metadata
    ancestors = list(ancestors_of(metadata.current_snapshot(), metadata))
    if as_of is not None:
        at_ms = milliseconds(as_of, table.name)
        found = next((one.snapshot_id for one in ancestors if one.timestamp_ms <= at_ms), None)
        if found is None:
            raise SnapshotNotFound(f"no snapshot is as old as {as_of}", table.name, "see the table's history")
        return set_current(table, found)
    assert snapshot is not None
    version_of(table, snapshot)
    if all(one.snapshot_id != snapshot for one in ancestors):
        hint = "call set_current to make it the newest all the same"
        raise SnapshotNotFound(f"the main branch never was at snapshot {snapshot}", table.name, hint)
    return set_current(table, snapshot)


def set_current(table: Table, version: int | str | None) -> Table:
    """Make any snapshot the newest of the main branch, and return the table after it.

    Parameters
    ----------
    table : Table
    version : int or str
        A snapshot id, or the name of a tag or branch.

    Raises
    ------
    SnapshotNotFound
    CommitConflict
        Others committed meanwhile: their rows would be gone unseen.
    CommitUnknown, TableNotFound, WriteError
    """
    snapshot_id = version_of(table, version)

    def stage(transaction: Transaction) -> None:
        now = transaction.table_metadata
        if now.current_snapshot_id != snapshot_id:
            _set(transaction, MAIN_BRANCH, "branch", snapshot_id, _kept(now.refs.get(MAIN_BRANCH)))

    return change(table, stage, lambda metadata: metadata.refs.get(MAIN_BRANCH), repeatable=False)


def _set(transaction: Transaction, name: str, kind: Kind, snapshot_id: int, keep: Retention) -> None:
    transaction._apply(
        *transaction._set_ref_snapshot(
            snapshot_id=snapshot_id,
            ref_name=name,
            type=_TYPES[kind],
            max_ref_age_ms=_ms(keep.reference),
            max_snapshot_age_ms=_ms(keep.snapshots),
            min_snapshots_to_keep=keep.least,
        )
    )


def version_of(table: Table, version: int | str | None) -> int:
    """Return the id of the snapshot that an id or a name means; None is that of the table.

    Raises
    ------
    SnapshotNotFound
    """
    if version is None:
        if table.snapshot_id is None:
            raise SnapshotNotFound("the table has no snapshots yet", table.name, "write to it first")
        return table.snapshot_id
    if isinstance(version, int):
        found = table.at(snapshot=version)
    else:
        refs = table.pyiceberg.metadata.refs
        if version not in refs:
            raise SnapshotNotFound(f"no tag or branch {version!r}", table.name, nearest(version, refs, "names"))
        found = table.at(snapshot=refs[version].snapshot_id)
    assert found.snapshot_id is not None
    return found.snapshot_id


def has_reference(table: Table, kind: Kind, name: str) -> bool:
    """Whether the table has a branch or tag of that name."""
    there = table.pyiceberg.metadata.refs.get(name)
    return there is not None and there.snapshot_ref_type == _TYPES[kind]


def _required(where: str, kind: Kind, name: str, now: TableMetadata) -> SnapshotRef:
    there = now.refs.get(name)
    if there is None or there.snapshot_ref_type != _TYPES[kind]:
        others = [other for other, ref in now.refs.items() if ref.snapshot_ref_type == _TYPES[kind]]
        plural = "branches" if kind == "branch" else "tags"
        raise SnapshotNotFound(f"no {kind} {name!r}", where, nearest(name, others, plural))
    return there


def _check_free(where: str, kind: Kind, name: str, there: SnapshotRef | None, how: How, now: TableMetadata) -> None:
    if how == "replace":
        _required(where, kind, name, now)
    elif there is not None and there.snapshot_ref_type != _TYPES[kind]:
        raise CatalogError(f"{name!r} is a {there.snapshot_ref_type.value}", where, "choose another name")
    elif there is not None and how == "create":
        raise CatalogError(f"there is a {kind} {name!r} already", where, "replace it, or choose another name")


def _kept(there: SnapshotRef | None) -> Retention:
    if there is None:
        return Retention()
    return Retention(_age(there.max_ref_age_ms), _age(there.max_snapshot_age_ms), there.min_snapshots_to_keep)


def _age(ms: int | None) -> timedelta | None:
    return None if ms is None else timedelta(milliseconds=ms)


def _ms(age: timedelta | None) -> int | None:
    return None if age is None else age // timedelta(milliseconds=1)
