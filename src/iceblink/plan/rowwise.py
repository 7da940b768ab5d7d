"""Queries that look at one row at a time: they may run over any part of their input, part after part."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import pyarrow as pa

from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Query, Repartition, Scan

_PARTS = {"expressions", "from_", "where"}
"""Of a SELECT that only computes columns and keeps rows; anything else needs other rows."""


def leaf_of(plan: Plan) -> Plan:
    """Return what row-wise queries read in the end; a plan that is none is its own leaf."""
    while True:
        if isinstance(plan, Repartition):
            plan = plan.source
        elif isinstance(plan, Query) and row_wise(plan):
            (plan,) = plan.inputs
        else:
            return plan


def over(plan: Plan, leaf: Plan) -> Plan:
    """Return the row-wise queries of `plan` over another leaf."""
    if isinstance(plan, Repartition):
        return over(plan.source, leaf)
    if not isinstance(plan, Query) or not row_wise(plan):
        return leaf
    return replace(plan, sources={name: over(source, leaf) for name, source in plan.sources.items()}, expression=None)


def chosen(plan: Plan, names: Sequence[str]) -> Plan:
    """Return the plan of some columns of `plan`, in this order."""
    if isinstance(plan, Scan):
        return plan.choose(names)
    columns = [exp.column(exp.to_identifier(name, quoted=True)) for name in names]
    tree = exp.select(*columns).from_(exp.Table(this=exp.to_identifier(plan.name, quoted=True)))
    return Query(pa.schema([plan.schema.field(name) for name in names]), tree, {plan.name: plan})


def row_wise(query: Query) -> bool:
    """Whether each row of a query comes of one row of its one input, and of nothing else.

    A function that sqlglot does not know may be an aggregate: then the answer is no.
    """
    return len(query.sources) == 1 and row_wise_over(query.tree, query.sources)


def row_wise_over(tree: exp.Expression | None, names: Container[str]) -> bool:
    """Whether each row of a tree comes of one row of one of these tables."""
    if isinstance(tree, exp.Table):
        return tree.name in names and not any(tree.args.get(part) for part in ("joins", "sample", "pivots"))
    if isinstance(tree, exp.Subquery):
        tree = tree.this if not any(tree.args.get(part) for part in ("joins", "sample", "pivots")) else None
    if not isinstance(tree, exp.Select) or any(value for part, value in tree.args.items() if part not in _PARTS):
        return False
    computed = [*tree.expressions, *([tree.args["where"]] if tree.args.get("where") else [])]
    others = (exp.AggFunc, exp.Window, exp.Query, exp.Anonymous)
    if any(part.find(*others) is not None for part in computed):
        return False
    source = tree.args.get("from_")
    return source is not None and row_wise_over(source.this, names)
