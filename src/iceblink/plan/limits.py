"""How many rows of its only table a statement can use: a limit that nothing stands in the way of."""

from __future__ import annotations

from iceblink.plan.late import exp

_IN_THE_WAY = (
    "joins", "laterals", "where", "group", "having", "qualify", "windows", "distinct", "order", "sort", "cluster",
    "distribute", "sample", "pivots", "connect", "match", "prewhere",
)  # fmt: skip
"""Clauses that need other rows, or more of them, to give the first ones."""


def rows_wanted(tree: exp.Query) -> int | None:
    """Return after how many rows of the one table it reads `tree` needs no more; None where it needs all.

    Follows ``LIMIT`` and ``OFFSET`` down through subqueries and CTEs that only choose and compute columns row by row.
    The caller knows that there is one table.
    """
    not_row_by_row = (exp.AggFunc, exp.Window, exp.Unnest, exp.Explode, exp.Query, exp.Anonymous)
    ctes: dict[str, exp.Expression] = {}
    wanted: int | None = None
    node: exp.Expression = tree
    while True:
        if not isinstance(node, exp.Select) or any(node.args.get(clause) for clause in _IN_THE_WAY):
            return None
        if any(projection.find(*not_row_by_row) for projection in node.expressions):
            return None
        with_ = node.args.get("with_")
        ctes.update({cte.alias.lower(): cte.this for cte in with_.expressions} if with_ is not None else {})
        limit, offset = _number(node.args.get("limit")), _number(node.args.get("offset"))
        if limit is _UNKNOWN or offset is _UNKNOWN:
            return None
        if limit is not None:
            wanted = limit if wanted is None else min(wanted, limit)
        if wanted is not None:
            wanted += offset or 0
        source = node.args["from_"].this if node.args.get("from_") is not None else None
        if isinstance(source, exp.Subquery):
            node = source.this
        elif isinstance(source, exp.Table) and source.args.get("pivots") is None and source.args.get("sample") is None:
            if source.name.lower() not in ctes:
                return wanted
            node = ctes.pop(source.name.lower())
        else:
            return None


_UNKNOWN = -1


def _number(clause: exp.Expression | None) -> int | None:
    """Return the number of a LIMIT or OFFSET clause; `_UNKNOWN` for an expression or a percentage."""
    if clause is None:
        return None
    value = clause.expression
    alone = isinstance(clause, exp.Limit | exp.Offset) and all(
        name == "expression" or not argument for name, argument in clause.args.items()
    )
    return int(value.name) if alone and isinstance(value, exp.Literal) and value.name.isdigit() else _UNKNOWN
