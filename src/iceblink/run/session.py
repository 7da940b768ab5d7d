"""A catalog and an engine: what a dataset needs to be more than a description."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from iceblink.errors import PlanError, SnapshotNotFound, TableNotFound
from iceblink.lake.catalog import Catalog
from iceblink.lake.metadata_tables import KINDS
from iceblink.lake.table import Table
from iceblink.plan.nodes import Memory, Plan, Query, Scan
from iceblink.plan.sql import Version, parse, point_at_word, renamed_query
from iceblink.run.local_engine import LocalEngine
from iceblink.run.quarantine import Quarantine, quarantine


@dataclass(frozen=True)
class Session:
    """Where tables are found, and where plans run."""

    catalog: Catalog
    engine: LocalEngine

    def table(
        self,
        name: str,
        *,
        snapshot: int | None = None,
        as_of: datetime | str | int | None = None,
        branch: str | None = None,
        tag: str | None = None,
    ) -> Plan:
        """Return the plan that reads a table, or one of its metadata tables (``ns.t.snapshots``).

        Raises
        ------
        TableNotFound, SnapshotNotFound
        """
        base, _, kind = name.rpartition(".")
        try:
            table, kind = self.catalog.load(name), ""
        except TableNotFound:
            if kind not in KINDS or not base:
                raise
            table = self.catalog.load(base)
        if any(version is not None for version in (snapshot, as_of, branch, tag)):
            table = table.at(snapshot=snapshot, as_of=as_of, branch=branch, tag=tag)
        if not kind:
            return Scan.of(table)
        rows = table.metadata_table(kind)
        return Memory(rows.schema, rows, label=kind)

    def target(self, name: str) -> Table:
        """Return what a statement writes to: a table, or a branch of it (``ns.t.branch_dev``, as in Spark).

        Raises
        ------
        TableNotFound, SnapshotNotFound
        """
        base, _, last = name.rpartition(".")
        try:
            return self.catalog.load(name)
        except TableNotFound:
            if not last.startswith("branch_") or "." not in base:
                raise
        return self.catalog.load(base).at(branch=last.removeprefix("branch_"))

    def quarantine(self, target: str) -> Quarantine:
        """Return the table or folder that takes refused rows."""
        return quarantine(self.catalog, self.engine.settings, target)

    def sql(self, text: str, this: Plan | None = None, columns: Sequence[str] | None = None, start: int = 0) -> Query:
        """Return the node of an SQL query.

        Parameters
        ----------
        text : str
        this : Plan, optional
            What the name ``this`` stands for.
        columns : sequence of str, optional
            What its columns are called, in order, whatever the query calls them.
        start : int
            Where in the text the query begins.

        Raises
        ------
        SqlError, TableNotFound, SnapshotNotFound, PlanError
        """

        def resolve(name: str, version: Version | None) -> Plan:
            return this if name.lower() == "this" and this is not None else self.resolve(name, version)

        tree, sources = parse(text, resolve, start)
        if columns is not None:
            tree = renamed_query(tree, columns)
        try:
            return self.engine.query(tree, sources)
        except PlanError as error:  # the kernel saw generated SQL: point into the user's own
            name = next((part for part in re.findall(r"'([^']+)'", error.what) if part in text), "")
            where = point_at_word(text, name, start) if name or not error.where else error.where
            raise type(error)(error.what, where, error.hint) from error

    def resolve(self, name: str, version: Version | None = None) -> Plan:
        """Return the plan that reads what SQL names. Raises TableNotFound, SnapshotNotFound."""
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
