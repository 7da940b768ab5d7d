"""A catalog and an engine: what a dataset needs to be more than a description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from iceblink.errors import (
    ColumnNotFound,
    NamespaceNotFound,
    PlanError,
    SnapshotNotFound,
    SqlError,
    TableNotFound,
    nearest,
)
from iceblink.lake.catalog import Catalog
from iceblink.lake.late import views
from iceblink.lake.metadata_tables import KINDS
from iceblink.lake.row_lineage import Traced
from iceblink.lake.table import Table
from iceblink.plan.change_statements import read_change
from iceblink.plan.changes import RowChange
from iceblink.plan.nodes import Memory, Plan, Query, Scan
from iceblink.plan.sql import QueryText, Version, parse, pointed, renamed_query, union_query
from iceblink.run.local_engine import LocalEngine
from iceblink.run.quarantine import Quarantine, quarantine

if TYPE_CHECKING:
    from iceblink.lake.views import View


@dataclass
class Place:
    """Where names in SQL are looked up that say less than all: what ``USE`` changes.

    Parameters
    ----------
    catalog : str
        One of `Catalog.others`; empty for the first.
    namespace : str
        Empty for none.
    """

    catalog: str = ""
    namespace: str = ""

    def inside(self, name: str) -> str:
        """Return the full name of what the catalog calls so."""
        return f"{self.catalog}.{name}" if self.catalog else name


@dataclass(frozen=True)
class Session:
    """Where tables are found, and where plans run."""

    catalog: Catalog
    engine: LocalEngine
    place: Place = field(default_factory=Place, compare=False)
    reading: tuple[str, ...] = ()
    """The views of which a query is being read, from the outside in."""

    # names

    def use(self, name: str) -> str:
        """Look names up in a catalog, or in a namespace, from now on, and return its full name.

        Raises
        ------
        NamespaceNotFound
            There is no catalog and no namespace of that name.
        """
        head, _, rest = name.partition(".")
        others, known = self.catalog.others, self.catalog.namespaces()
        if head in others and rest and name in known:
            self.place.catalog, self.place.namespace = head, rest
        elif self.place.inside(name) in known:
            self.place.namespace = name
        elif name in others:
            self.place.catalog, self.place.namespace = name, ""
        elif name == self.catalog.name:
            self.place.catalog = self.place.namespace = ""
        else:
            hint = nearest(name, [*others, *known], "catalogs and namespaces")
            raise NamespaceNotFound(f"no catalog and no namespace {name!r}", repr(self.catalog), hint)
        return self.place.inside(self.place.namespace) if self.place.namespace else self.place.catalog

    def full_name(self, name: str) -> str:
        """Return the full name of a table that SQL may call by less, as ``USE`` has set it."""
        head, _, rest = name.partition(".")
        if head in self.catalog.others and "." in rest:
            return name
        if self.place.namespace and (not rest or _is_part(rest)):
            short = self.place.inside(f"{self.place.namespace}.{name}")
            if not rest or self.catalog.exists(short.rpartition(".")[0]):
                return short
        return self.place.inside(name)

    def full_namespace(self, name: str) -> str:
        """Return the full name of a namespace that SQL may call by less."""
        head, _, rest = name.partition(".")
        return name if head in self.catalog.others and rest else self.place.inside(name)

    # tables

    def table(
        self,
        name: str,
        *,
        snapshot: int | None = None,
        as_of: datetime | str | int | None = None,
        branch: str | None = None,
        tag: str | None = None,
        row_lineage: bool = False,
    ) -> Plan:
        """Return the plan that reads a table, one of its metadata tables (``ns.t.snapshots``), or a view.

        Raises
        ------
        TableNotFound, SnapshotNotFound
        PlanError
            A view has no versions; its query does not fit its tables any more. Rows have no lineage.
        DuplicateColumn
            A column of the table has the name of one of the two of `row_lineage`.
        """
        pinned = any(version is not None for version in (snapshot, as_of, branch, tag))
        try:
            table, kind = self._found(name)
        except TableNotFound:
            view = views.find_view(self.catalog, name)
            if view is None:
                raise
            if pinned:
                hint = "write FOR VERSION AS OF in the view, or behind the table itself"
                raise PlanError(f"{name!r} is a view, and has no versions of its rows", name, hint) from None
            if row_lineage:
                raise PlanError(f"{name!r} is a view, and its rows have no ids", name, "name a table") from None
            return self._view(view)
        if pinned:
            table = table.at(snapshot=snapshot, as_of=as_of, branch=branch, tag=tag)
        if not kind:
            return Scan.of(Traced.of(table) if row_lineage else table)
        if row_lineage:
            raise PlanError(f"{name!r} is metadata, and its rows have no ids", name, "name a table")
        rows = table.metadata_table(kind)
        return Memory(rows.schema, rows, label=kind)

    def target(self, name: str) -> Table:
        """Return what a statement writes to: a table, or a branch of it (``ns.t.branch_dev``, as in Spark).

        Raises
        ------
        TableNotFound, SnapshotNotFound
        PlanError
            It is a metadata table, or a view.
        """
        try:
            table, kind = self._found(name)
        except TableNotFound:
            if views.find_view(self.catalog, name) is None:
                raise
            raise PlanError(f"{name!r} is a view: it has no rows to change", name, "change its tables") from None
        if kind:
            raise PlanError(f"{name!r} cannot be written", name, "name a table, not its metadata")
        return table

    def _found(self, name: str) -> tuple[Table, str]:
        """Return a table, at a branch or tag if the name says one, and which of its metadata is meant, if any is."""
        base, _, last = name.rpartition(".")
        try:
            return self.catalog.load(name), ""
        except TableNotFound:
            if "." not in base or not _is_part(last):
                raise
        table = self.catalog.load(base)
        if last in KINDS:
            return table, last
        kind, _, reference = last.partition("_")
        return (table.at(branch=reference) if kind == "branch" else table.at(tag=reference)), ""

    def _view(self, view: View) -> Plan:
        """Return the query of a view, with the columns that it had when it was made."""
        if view.name in self.reading:
            raise PlanError("a view reads itself", " -> ".join((*self.reading, view.name)), "replace one of them")
        try:
            query = self.view_query(view)
        except PlanError as error:
            where = f"view {view.name}" + (f", {error.where}" if error.where else "")
            raise type(error)(error.what, where, error.hint) from error
        names = view.schema.names
        missing = next((name for name in names if name not in query.schema.names), None)
        if missing is not None:
            raise ColumnNotFound.of(missing, query.schema.names, f"view {view.name}")
        if names == query.schema.names:
            return query
        return self.engine.query(union_query([query.name], names), {query.name: query})

    def view_query(self, view: View) -> Query:
        """Return the query that a view is, its names looked up where the view says.

        Raises
        ------
        SqlError
            It is another engine's SQL.
        PlanError
            Its tables are in a catalog that is not connected.
        """
        if view.dialect != views.DIALECT:
            hint = f"CREATE OR REPLACE VIEW {view.name} AS ... in DuckDB's SQL"
            raise SqlError(f"the text of the view is {view.dialect}'s SQL", view.name, hint)
        own, others = self.catalog.holding(view.name), self.catalog.others
        if view.catalog and view.catalog not in (own.name, *others):
            hint = nearest(view.catalog, [own.name, *others], "catalogs")
            raise PlanError(f"the view reads from catalog {view.catalog!r}, which is not connected", view.name, hint)
        place = Place(view.catalog if view.catalog in others else own.prefix, view.namespace)
        return replace(self, place=place, reading=(*self.reading, view.name)).sql(view.sql)

    def quarantine(self, target: str) -> Quarantine:
        """Return the table or folder that takes refused rows."""
        return quarantine(self.catalog, self.engine.settings, target)

    def sql(self, query: str | QueryText, this: Plan | None = None, columns: Sequence[str] | None = None) -> Query:
        """Return the node of an SQL query.

        Parameters
        ----------
        query : str or QueryText
        this : Plan, optional
            What the name ``this`` stands for.
        columns : sequence of str, optional
            What its columns are called, in order, whatever the query calls them.

        Raises
        ------
        SqlError, TableNotFound, SnapshotNotFound, PlanError
        """
        query = QueryText(query) if isinstance(query, str) else query

        def resolve(name: str, version: Version | None) -> Plan:
            return this if name.lower() == "this" and this is not None else self.resolve(name, version)

        tree, sources = parse(query, resolve)
        if columns is not None:
            tree = renamed_query(tree, columns)
        try:
            return self.engine.query(tree, sources)
        except PlanError as error:  # the kernel saw generated SQL
            raise pointed(error, query) from error

    def change(self, text: str) -> RowChange:
        """Return what a DELETE, UPDATE or MERGE says. Errors are those of `read_change`."""
        try:
            return read_change(text, self.resolve, self.engine.query)
        except PlanError as error:
            raise pointed(error, QueryText(text)) from error

    def resolve(self, name: str, version: Version | None = None) -> Plan:
        """Return the plan that reads what SQL names. Raises TableNotFound, SnapshotNotFound."""
        return self.at(self.full_name(name), version)

    def at(self, name: str, version: Version | None) -> Plan:
        """Return the plan that reads a table, by its full name, at a version. Raises as `resolve`."""
        if version is None:
            return self.table(name)
        if version.kind == "timestamp":
            return self.table(name, as_of=version.value)
        return self._at_version(name, version.value)

    def _at_version(self, name: str, value: str) -> Plan:
        """Read ``FOR VERSION AS OF``: a snapshot id, else a tag, else a branch."""
        if value.isdecimal():
            return self.table(name, snapshot=int(value))
        try:
            return self.table(name, tag=value)
        except SnapshotNotFound:
            return self.table(name, branch=value)


def _is_part(name: str) -> bool:
    """Whether the last part of a dotted name may say which metadata, branch or tag of a table is meant."""
    return name in KINDS or (name.startswith(("branch_", "tag_")) and name not in ("branch_", "tag_"))
