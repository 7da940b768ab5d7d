"""Row lineage of rows that a change writes: those that stay keep all of it, updated ones their id, new ones none.

References
----------
.. [1] Iceberg table spec, "Row Lineage", "Row lineage assignment".
"""

from __future__ import annotations

from dataclasses import replace

from iceblink.lake.row_lineage import KEPT_ROW_ID, KEPT_UPDATED
from iceblink.lake.table import Table
from iceblink.plan.changes import Clause, RowChange
from iceblink.plan.sql import constant
from iceblink.run.kernel_types import kernel_type


def traced(change: RowChange, table: Table) -> RowChange:
    """Return a change with what becomes of the columns of lineage, if `table` has them as `moving` gives it."""
    schema = table.schema
    if KEPT_ROW_ID not in schema.names:
        return change
    unset = {name: constant(None, kernel_type(schema.field(name).type)) for name in (KEPT_ROW_ID, KEPT_UPDATED)}

    def of(clause: Clause) -> Clause:
        names = {"insert": (KEPT_ROW_ID, KEPT_UPDATED), "update": (KEPT_UPDATED,), "delete": ()}[clause.action]
        return replace(clause, values={**clause.values, **{name: unset[name] for name in names}})

    return replace(change, clauses=tuple(map(of, change.clauses)))
