"""``DEFAULT`` among the values of an ``INSERT``: what the column has in rows that a write gives no value.

References
----------
.. [1] ISO/IEC 9075-2:2023, <default specification> in <contextually typed row value constructor>, ``DEFAULT VALUES``.
"""

from __future__ import annotations

from collections.abc import Sequence

from iceblink.errors import PlanError
from iceblink.lake.defaults import write_default
from iceblink.lake.table import Table
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan
from iceblink.plan.sql import QueryText, constant, one_statement, pointed
from iceblink.run.kernel_types import kernel_type
from iceblink.run.session import Session


def default_values(session: Session, query: QueryText | None, table: Table, names: Sequence[str]) -> Plan | None:
    """Return the rows of a ``VALUES`` that says DEFAULT somewhere; None for any other query, which is not run.

    Parameters
    ----------
    session : Session
    query : QueryText or None
        None for one row of default values.
    table : Table
    names : sequence of str
        Columns of the table that the values go to, in order.

    Raises
    ------
    SchemaMismatch
        A default that cannot be written.
    SqlError
    """
    if query is None:
        rows: exp.Expression = exp.Values(expressions=[exp.Tuple(expressions=[exp.var("DEFAULT") for _ in names])])
    elif "DEFAULT" not in query.alone.upper():
        return None
    else:
        rows = one_statement(query)
    if not isinstance(rows, exp.Values):
        return None
    found = False
    for row in rows.expressions:
        for value, name in zip(row.expressions, names, strict=False):  # their number is looked at later
            if isinstance(value, exp.Var) and value.name.upper() == "DEFAULT":
                field = table.schema.field(name)
                value.replace(constant(write_default(field), kernel_type(field.type)))
                found = True
    if not found:
        return None
    try:
        return session.engine.query(exp.select("*").from_(rows), {})
    except PlanError as error:  # the kernel saw generated SQL
        raise (error if query is None else pointed(error, query)) from error
