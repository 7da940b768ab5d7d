"""Columns of row lineage in SQL: a table has them where a query names one, and ``*`` does not mean them.

References
----------
.. [1] Iceberg table spec, "Row Lineage", "Reserved Field IDs"; Spark's metadata columns, which ``*`` leaves out, too.
"""

from __future__ import annotations

from iceblink.lake.row_lineage import NAMES, Traced, has_lineage
from iceblink.lake.table import Table
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Scan


def asks_lineage(table: exp.Table) -> bool:
    """Whether the query that reads a table, or one inside it, names a column of row lineage of that table."""
    select = _select_of(table)
    if select is None:
        return False
    alias = table.alias_or_name.lower()
    for column in select.find_all(exp.Column):
        if column.name.lower() in NAMES:
            own = column.table.lower() == alias if column.table else column.find_ancestor(exp.Select) is select
            if own:
                return True
    return False


def with_lineage(plan: Plan, table: exp.Table) -> Plan:
    """Return the plan of a table for which `asks_lineage`, with the columns; as it is where it can have none.

    Stars of the query are told in place to leave them out.
    """
    if not isinstance(plan, Scan) or type(plan.table) is not Table or not has_lineage(plan.table):
        return plan  # what changed in a table is a table of another kind
    if any(name.lower() in NAMES for name in plan.table.schema.names):  # the table's own are meant
        return plan
    select = _select_of(table)
    assert select is not None, "what asks for lineage is read by a SELECT"
    alias = table.alias_or_name.lower()
    for item in select.expressions:
        star = item.this if isinstance(item, exp.Column) and item.table.lower() == alias else item
        if isinstance(star, exp.Star):
            left_out = star.args.get("except_") or []
            named = {one.name.lower() for one in left_out}
            star.set("except_", [*left_out, *(exp.column(name) for name in NAMES if name not in named)])
    return Scan.of(Traced.of(plan.table))


def _select_of(table: exp.Table) -> exp.Select | None:
    """Return the query that has a table behind FROM or JOIN."""
    part = table.parent
    select = part.parent if isinstance(part, exp.From | exp.Join) else None
    return select if isinstance(select, exp.Select) else None
