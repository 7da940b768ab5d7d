"""Rows in an order of chance, or some of them by chance: statements over a column that seed and place decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from iceblink.plan.late import exp
from iceblink.plan.nodes import Drawn, Plan, Query, Repartition, Scan, Tree
from iceblink.plan.rowwise import leaf_of
from iceblink.scan.chance import chance_of
from iceblink.scan.place import placed_field

Drawing = tuple[Tree, Mapping[str, Plan]]
"""A statement, and what it names."""


def shuffled(plan: Plan, seed: int, n: int | None = None) -> Drawing:
    """Return the rows of `plan` in an order of chance; only the first `n` of them, if that is given."""
    select, chance, sources = _drawn(plan, seed)
    select = select.order_by(exp.Ordered(this=chance, nulls_first=False))
    return select if n is None else select.limit(n), sources


def sampled(plan: Plan, fraction: float, seed: int) -> Drawing:
    """Return about a `fraction` in [0, 1) of the rows of `plan`, each chosen by itself."""
    select, chance, sources = _drawn(plan, seed)
    bound = int(fraction * 2**64) - 2**63
    return select.where(exp.LT(this=chance, expression=exp.convert(bound))), sources


def _drawn(plan: Plan, seed: int) -> tuple[exp.Select, exp.Column, Mapping[str, Plan]]:
    """Return what selects the columns of `plan`, the column of chance beside them, and what it is selected from."""
    source, name = with_chance(plan, seed)
    select = exp.select(*(_column(column) for column in plan.schema.names))
    return (
        select.from_(exp.Table(this=exp.to_identifier(source.name, quoted=True))),
        _column(name),
        {source.name: source},
    )


def with_chance(plan: Plan, seed: int) -> tuple[Plan, str]:
    """Return `plan` with one more column, of chance, and the name of that.

    Where each row is made of one row of a table, its place is the one in the data file; else it is its number among
    the rows of `plan`.
    """
    leaf = leaf_of(plan)
    if not isinstance(leaf, Scan | Drawn) or not _passes(plan):
        plan = leaf = Drawn(plan)
    name = chance_of(seed, leaf.schema.names)
    return _passed(plan, name), name


def _passes(plan: Plan) -> bool:
    """Whether row-wise statements make no several rows of one, and choose no columns by a pattern."""
    if isinstance(plan, Query):
        if plan.tree.find(exp.UDTF, exp.Explode, exp.Columns) is not None:
            return False
        if not all(isinstance(star.parent, exp.Select | exp.Column) for star in plan.tree.find_all(exp.Star)):
            return False
    return isinstance(plan, Scan | Drawn) or all(map(_passes, plan.inputs))


def _passed(plan: Plan, name: str) -> Plan:
    """Return a row-wise plan that passes a column of chance on from its leaf."""
    if isinstance(plan, Repartition):
        return _passed(plan.source, name)
    if isinstance(plan, Scan | Drawn):
        return plan.with_placed(name)
    assert isinstance(plan, Query), "what looks at one row at a time is a statement over its leaf"
    tree = plan.tree.copy()
    for select in tree.find_all(exp.Select):
        if not _has_all(select):
            select.select(_column(name), copy=False)
    sources = {at: _passed(source, name) for at, source in plan.sources.items()}
    return replace(plan, schema=plan.schema.append(placed_field(name)), tree=tree, sources=sources, expression=None)


def _has_all(select: exp.Select) -> bool:
    """Whether all columns of what a SELECT reads are in it; the star of a struct has others."""
    table = select.args["from_"].this.alias_or_name.lower()
    return any(
        isinstance(column, exp.Star)
        or (column.is_star and [part.name.lower() for part in column.parts[:-1]] == [table])
        for column in select.expressions
    )


def _column(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True))
