"""The words of a lake that change what a table is: columns, partitions, branches and tags, its newest snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from iceblink.dataset import Dataset
from iceblink.lake.alteration import Alteration, altered
from iceblink.lake.references import How, Kind, Retention, drop_reference, rolled_back, set_current, set_reference
from iceblink.lake.table import Table
from iceblink.lake.truncation import truncated
from iceblink.plan.nodes import Scan
from iceblink.run.session import Session


class Altering:
    """Changes of tables that write no rows. Every method is eager, and makes one commit or none."""

    session: Session

    def create_namespace(self, name: str) -> None:
        """Make a namespace; one that is there already is no error. `create` and `write` do so by themselves."""
        self.session.catalog.create_namespace(name)

    def drop_namespace(self, name: str) -> None:
        """Remove a namespace that has no tables. Raises NamespaceNotFound, CatalogError."""
        self.session.catalog.drop_namespace(name)

    def alter(
        self,
        name: str,
        *,
        add: Mapping[str, str | pa.DataType] | None = None,
        drop: str | Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        types: Mapping[str, str | pa.DataType] | None = None,
        optional: str | Sequence[str] = (),
        defaults: Mapping[str, str | float | bool | bytes | None] | None = None,
        comments: Mapping[str, str] | None = None,
        move: Mapping[str, str] | None = None,
        partition_by: Sequence[str] | None = None,
        sort_by: Sequence[str] | None = None,
        properties: Mapping[str, str | None] | None = None,
    ) -> Dataset:
        """Change what a table is, all of it in one commit; no data file is rewritten.

        Names are those before the change; fields of structs are dotted, those in lists and maps below ``element`` or
        ``value``: ``"address.zip"``, ``"points.element.x"``. When another writer commits meanwhile, the change is
        checked and made again on top of that.

        Parameters
        ----------
        name : str
        add : mapping of name to type, optional
            New columns, of the words of `create`: null in the rows that are there, or their default.
        drop : str or sequence of str
            Columns, which earlier snapshots keep.
        rename : mapping of str to str, optional
            ``{"zip": "postcode"}``.
        types : mapping of name to type, optional
            Wider ones: int to long, float to double, a decimal with more digits.
        optional : str or sequence of str
            Columns that may be null from now on.
        defaults : mapping of name to (str, number, bool, bytes or None), optional
            What columns have in rows that a write gives no value; of new columns, also in the rows that are there. None
            is null. A table of format version 3 has them.
        comments : mapping of str to str, optional
            Of columns, new ones too.
        move : mapping of str to str, optional
            ``{"zip": "first", "city": "after zip"}``.
        partition_by, sort_by : sequence of str, optional
            Of files written from now on, as in `create`, by the names after the change; files that are there stay as
            they are. Default: no change.
        properties : mapping of str to (str or None), optional
            To set; None takes one away.

        Returns
        -------
        Dataset
            The table as it is now.

        Raises
        ------
        TableNotFound, ColumnNotFound, DuplicateColumn, TypeMismatch
        PlanError
            A column that partitions or sorts the table cannot go, a new one cannot be required.
        ConfigError
            A word or a property that cannot be.
        CommitConflict, CommitUnknown, WriteError
        """
        to = Alteration(
            add or {}, _several(drop), rename or {}, types or {}, _several(optional), defaults or {}, comments or {},
            move or {},
            None if partition_by is None else tuple(partition_by), None if sort_by is None else tuple(sort_by),
            properties=properties or {},
        )  # fmt: skip
        return self._at(altered(self._load(name), to))

    def tag(
        self,
        name: str,
        tag: str,
        snapshot: int | str | None = None,
        *,
        replace: bool = False,
        keep: timedelta | None = None,
    ) -> Dataset:
        """Give a snapshot of a table a name by which it is read: ``lake.table(name, tag=...)``.

        Parameters
        ----------
        name, tag : str
        snapshot : int or str, optional
            Its id, or another tag or a branch. Default: the newest.
        replace : bool
            Whether a tag of that name moves.
        keep : timedelta, optional
            How long it protects its snapshot from being expired. Default: always.

        Returns
        -------
        Dataset
            The table at the tag.

        Raises
        ------
        TableNotFound, SnapshotNotFound
        CatalogError
            The name is taken.
        CommitConflict, CommitUnknown, WriteError
        """
        table = self._named("tag", name, tag, snapshot, replace, None if keep is None else Retention(keep))
        return self._at(table.at(tag=tag))

    def branch(
        self,
        name: str,
        branch: str,
        snapshot: int | str | None = None,
        *,
        replace: bool = False,
        keep: timedelta | None = None,
        keep_snapshots: timedelta | None = None,
        least_snapshots: int | None = None,
    ) -> Dataset:
        """Let a table have a line of snapshots of its own: ``ds.write(name, branch=...)`` adds to it.

        Parameters
        ----------
        name, branch : str
        snapshot : int or str, optional
            Where it begins: a snapshot id, a tag or another branch. Default: the newest.
        replace : bool
            Whether a branch of that name begins anew here.
        keep, keep_snapshots : timedelta, optional
            How long it, and its snapshots, are protected from being expired. Default: always; what the table says.
        least_snapshots : int, optional
            How many of its snapshots are kept however old they are. Default: what the table says.

        Returns
        -------
        Dataset
            The table at the branch.

        Raises
        ------
        TableNotFound, SnapshotNotFound
        CatalogError
            The name is taken.
        CommitConflict, CommitUnknown, WriteError
        """
        told = (keep, keep_snapshots, least_snapshots)
        retention = Retention(*told) if told != (None, None, None) else None
        return self._at(self._named("branch", name, branch, snapshot, replace, retention).at(branch=branch))

    def drop_tag(self, name: str, tag: str) -> None:
        """Take a tag away; its snapshot stays until it is expired. Raises TableNotFound, SnapshotNotFound."""
        drop_reference(self._load(name), "tag", tag)

    def drop_branch(self, name: str, branch: str) -> None:
        """Take a branch away; its snapshots stay until they are expired. Raises TableNotFound, SnapshotNotFound."""
        drop_reference(self._load(name), "branch", branch)

    def rollback(self, name: str, *, snapshot: int | None = None, as_of: datetime | str | int | None = None) -> Dataset:
        """Make an earlier version of a table its newest again; nothing is written, and the later ones stay readable.

        Parameters
        ----------
        name : str
        snapshot : int, optional
            A snapshot id that the table was at.
        as_of : datetime, ISO string or int [ms], optional
            The newest snapshot of that time or before it.

        Raises
        ------
        TableNotFound, SnapshotNotFound
        CommitConflict
            Others committed meanwhile; their rows would be gone unseen.
        CommitUnknown, WriteError
        """
        return self._at(rolled_back(self._load(name), snapshot, as_of))

    def set_current(self, name: str, snapshot: int | str) -> Dataset:
        """Make any snapshot of a table its newest: an id, a tag or a branch, that of an audited write for example.

        Raises
        ------
        TableNotFound, SnapshotNotFound, CommitConflict, CommitUnknown, WriteError
        """
        return self._at(set_current(self._load(name), snapshot))

    def truncate(self, name: str, *, branch: str = "main") -> Dataset:
        """Empty a table in one commit; its history stays.

        Raises
        ------
        TableNotFound, SnapshotNotFound, CommitConflict, CommitUnknown, WriteError
        """
        table = self._load(name)
        return self._at(truncated(table if branch == "main" else table.at(branch=branch)))

    def _named(
        self, kind: Kind, name: str, reference: str, version: Any, replace: bool, retention: Retention | None
    ) -> Table:
        how: How = "create or replace" if replace else "create"
        return set_reference(self._load(name), kind, reference, version, how, retention)

    def _load(self, name: str) -> Table:
        return self.session.catalog.load(name)

    def _at(self, table: Table) -> Dataset:
        return Dataset(Scan.of(table), self.session)


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
