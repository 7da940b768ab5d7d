"""Rows changed where they are: delete, update and merge, in Python or SQL, each one commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from iceblink.dataset import Dataset
from iceblink.errors import ConfigError, PlanError
from iceblink.interop import to_arrow
from iceblink.plan.changes import RowChange, make_change
from iceblink.plan.clauses import MergeClause
from iceblink.plan.nodes import Memory, Plan, Scan, Stream
from iceblink.run.once import Once
from iceblink.run.outcome import outcome
from iceblink.run.row_changes import change_rows
from iceblink.run.session import Session


class Changing:
    """The part of a lake that changes rows.

    What a row becomes is written as in a dataset's verbs (``_.price * 2``), as SQL text (``"price * 2"``), or as a
    plain value; text that is a value is ``"'Oslo'"``. A condition that is null is not true, and a null key matches
    nothing. The table properties ``write.delete.mode``, ``write.update.mode`` and ``write.merge.mode`` choose
    between ``copy-on-write``, the default, which writes touched files anew, and ``merge-on-read``, which writes beside
    them which of their rows are gone. ``write.delete.isolation-level`` and its like are ``serializable``, the default:
    rows that others add meanwhile and that the condition would match are a conflict; or ``snapshot``: they are not.
    """

    session: Session

    def delete(self, name: str, where: Any, *, branch: str | None = None) -> Dataset:
        """Delete the rows for which a condition is true.

        Eager, one commit; none if there is no such row. Files all of whose rows go are not read where metadata tells
        so.

        Parameters
        ----------
        name : str
            ``namespace.table``.
        where : boolean expression, or str
            ``_.price > 3``, or SQL text, in which subqueries may name tables; True for all rows.
        branch : str, optional

        Returns
        -------
        Dataset
            One row: ``statement, name, rows_inserted, rows_updated, rows_deleted, files_added, files_removed,
            delete_files_added, snapshot_id``, as of every statement that changes something (`Lake.sql`).

        Raises
        ------
        TableNotFound, SnapshotNotFound, ColumnNotFound, TypeMismatch, SqlError
        CommitConflict
            Others changed, meanwhile, what was looked at. Nothing was committed.
        """
        if where is None:
            raise ConfigError("delete needs a condition", f"delete {name}", "write True for all rows")
        target = self._target(name, branch)
        return self._changed(
            make_change("delete", target, [MergeClause("matched", "delete", where)], self.session.resolve)
        )

    def update(self, name: str, values: Mapping[str, Any], where: Any = None, *, branch: str | None = None) -> Dataset:
        """Set columns of the rows for which a condition is true.

        Eager, one commit; none if there is no such row. All values are of the row as it was. A row whose partition
        changes moves there.

        Parameters
        ----------
        name : str
        values : mapping of str to expression
            By column; ``{"price": _.price * 2, "note": None, "city": "upper(city)"}``.
        where : boolean expression, or str, optional
            Default: all rows.
        branch : str, optional

        Returns
        -------
        Dataset
            As of `delete`.

        Raises
        ------
        TableNotFound, SnapshotNotFound, ColumnNotFound, TypeMismatch, SqlError
        SchemaMismatch, NullInRequired
            A value that its column cannot hold without a loss.
        CommitConflict
        """
        if not values:
            raise ConfigError("update sets no column", f"update {name}", 'write update("ns.t", {"n": _.n + 1})')
        target = self._target(name, branch)
        return self._changed(
            make_change("update", target, [MergeClause("matched", "update", where, values)], self.session.resolve)
        )

    def merge(self, name: str, source: Any, on: Any, *clauses: MergeClause, branch: str | None = None) -> Dataset:
        """Change the rows of a table by those of a source: update, delete and insert in one commit.

        Eager. Of the clauses of each kind the first one whose condition is true for a row is carried out.

        >>> lake.merge(  # doctest: +SKIP
        ...     "shop.stock", news, "item", ib.when_matched().update_all(), ib.when_not_matched().insert_all()
        ... )

        Parameters
        ----------
        name : str
        source : Dataset, or as for `Lake.from_arrow`
        on : str, list of str, callable or SQL text
            Columns that both have, ``lambda target, source: target.id == source.key``, or text over ``target`` and
            ``source``.
        *clauses
            Of `when_matched`, `when_not_matched` and `when_not_matched_by_source`.
        branch : str, optional

        Returns
        -------
        Dataset
            As of `delete`.

        Raises
        ------
        MergeCardinality
            Several rows of the source match one row of the table, and there is a clause for matched rows.
        TableNotFound, SnapshotNotFound, ColumnNotFound, TypeMismatch, SqlError, PlanError
        SchemaMismatch, NullInRequired
            A value that its column cannot hold without a loss.
        CommitConflict
        """
        hint = "write ib.when_matched().update_all(), ib.when_not_matched().insert_all()"
        if not clauses or not all(isinstance(clause, MergeClause) for clause in clauses):
            raise ConfigError("merge needs clauses that say what becomes of rows", f"merge {name}", hint)
        target = self._target(name, branch)
        if isinstance(source, Dataset):
            plan = source.plan
        else:
            rows = to_arrow(source)
            plan = Memory(rows.schema, rows) if isinstance(rows, pa.Table) else Stream(rows.schema, Once(rows))
        return self._changed(make_change("merge", target, clauses, self.session.resolve, plan, on))

    def _target(self, name: str, branch: str | None) -> Scan:
        plan: Plan = self.session.table(name, branch=branch)
        if not isinstance(plan, Scan):
            raise PlanError(f"the rows of {name!r} cannot be changed", name, "name a table, not its metadata")
        return plan

    def _changed(self, change: RowChange) -> Dataset:
        done = outcome(change.verb.upper(), change.target.table.name, change_rows(self.session, change))
        return Dataset(done, self.session)
