"""Rows become data files of a table that no snapshot refers to yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iceblink.errors import SchemaMismatch, nearest
from iceblink.lake.defaults import write_default
from iceblink.lake.files import NewFile
from iceblink.lake.table import Table
from iceblink.plan.nodes import Plan
from iceblink.plan.sql import constant, sorted_query, widened_query
from iceblink.run.kernel_types import kernel_type
from iceblink.run.session import Session
from iceblink.types import show_type


def fitted(session: Session, plan: Plan, table: Table) -> Plan:
    """Return `plan` with exactly the table's columns: those it lacks have their default value, or are null.

    Raises
    ------
    SchemaMismatch
        A column the table does not have, or a required one without a default missing.
    """
    ours, theirs = plan.schema, table.schema
    extra = [name for name in ours.names if name not in theirs.names]
    if extra:
        hint = nearest(extra[0], [name for name in theirs.names if name not in ours.names], "columns left")
        raise SchemaMismatch(
            f"table {table.name} has no column {extra[0]!r}",
            f"write to {table.name}",
            f"{hint}; or evolve=True adds it ({show_type(ours.field(extra[0]).type)})",
        )
    missing = [item for item in theirs if item.name not in ours.names]
    values = {item.name: write_default(item) for item in missing}
    required = next((item.name for item in missing if not item.nullable and values[item.name] is None), None)
    if required is not None:
        raise SchemaMismatch(f"column {required!r} is missing", f"write to {table.name}", "the table requires it")
    if not missing:
        return plan
    constants = {item.name: constant(values[item.name], kernel_type(item.type)) for item in missing}
    tree = widened_query(plan.name, constants)
    return session.engine.query(tree, {plan.name: plan})


def written(
    session: Session,
    plan: Plan,
    table: Table,
    begun: Callable[[str], None] | None = None,
    job: str = "",
    group_rows: int | None = None,
) -> list[NewFile]:
    """Run `plan` and write its rows to data files of `table`, sorted if the table is; nothing is committed.

    Whatever fails, its files are removed. Before there is one, `begun` is told the token in their names; `job` is the
    folder of the journal that will have them. `group_rows` is that of `TableWriter`.
    """
    sorts = can_sort(table, table.sort_by)
    if sorts:  # all rows, not file by file: files then hold disjoint ranges, and readers skip more of them
        plan = session.engine.query(sorted_query(plan.name, table.sort_by), {plan.name: plan})
    return session.engine.files(plan, table, sorts, begun, job, group_rows)


def can_sort(table: Table, words: Sequence[str]) -> bool:
    """Tell whether `words`, of a sort order, name columns that a statement can sort by."""
    return bool(words) and all(_column(word) in table.schema.names for word in words)


def _column(word: str) -> str:
    return word.removesuffix(" nulls first").removesuffix(" nulls last").removesuffix(" desc")
