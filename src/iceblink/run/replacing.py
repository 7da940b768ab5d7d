"""Overwrite by filter and upsert as changes of rows: rows go by a condition or by their keys, and new ones come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iceblink.errors import ColumnNotFound, NullInRequired, TypeMismatch, WriteError
from iceblink.lake.table import Table
from iceblink.plan.changes import RowChange, make_change
from iceblink.plan.clauses import MergeClause
from iceblink.plan.nodes import Memory, Plan, Scan
from iceblink.plan.query import relate
from iceblink.plan.sql import unused
from iceblink.run.change_types import may_fit
from iceblink.run.local_engine import LocalEngine
from iceblink.run.session import Session
from iceblink.run.staging import staged
from iceblink.types import show_type

COUNT = "__iceblink_count"


def overwriting(session: Session, new_rows: Plan, table: Table, where: Any) -> RowChange:
    """Return the change that puts `new_rows` in the place of the rows for which `where` is true.

    Raises
    ------
    ColumnNotFound, TypeMismatch, SqlError
        `where` does not fit the table.
    """
    clause = MergeClause("matched", "delete", where)
    return make_change("overwrite", Scan.of(table), [clause], session.resolve, added=new_rows)


def upserting(session: Session, new_rows: Plan, table: Table, on: Sequence[str]) -> RowChange:
    """Return the change that puts `new_rows` in the place of the rows that have their keys, and adds the others.

    Eager: the new rows are run once, for keys are looked at several times.

    Raises
    ------
    ColumnNotFound
        A key column that the table does not have.
    TypeMismatch
        A key that is none of its column's type.
    NullInRequired
        A key that is null.
    WriteError
        Two new rows of one key.
    """
    where = f"upsert into {table.name}"
    for name in on:
        if name not in table.schema.names:
            raise ColumnNotFound.of(name, table.schema.names, f"{where}, on")
        got, wanted = new_rows.schema.field(name).type, table.schema.field(name).type
        if not may_fit(got, wanted, name):
            what = f"key column {name!r} is {show_type(wanted)}, and in the new rows {show_type(got)}"
            raise TypeMismatch(what, where, f"cast it: .cast({{{name!r}: ...}})")
    rows = staged(session.engine, new_rows)
    keys = rows.data.select(list(on))
    source = Memory(keys.schema, keys, label="keys")
    _check_keys(session.engine, source, where)
    clause = MergeClause("matched", "delete")
    return make_change("upsert", Scan.of(table), [clause], session.resolve, source, list(on), rows)


def _check_keys(engine: LocalEngine, keys: Memory, where: str) -> None:
    names = list(keys.schema.names)
    for name in names:
        nulls = keys.data.column(name).null_count
        if nulls:
            raise NullInRequired(f"key column {name!r} has {nulls:,} nulls", where, "a key is never null")
    count = unused(COUNT, names)

    def repeated(t: Any) -> Any:
        counted = t.group_by(*names).aggregate(**{count: t.count()})
        return counted.filter(counted[count] > 1).limit(1)

    relation = relate("upsert", (keys,), repeated)
    for batch in engine.batches(engine.query(relation.tree, relation.sources, relation.expression)):
        (row,) = batch.data.to_pylist()
        times = row.pop(count)
        raise WriteError(f"the key {row} comes {times} times", where, "keep one row for each key: .distinct('key')")
