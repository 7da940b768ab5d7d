"""Columns of subqueries that nobody asks for are not computed, and so not sent from task to task."""

from __future__ import annotations

from collections.abc import Iterable

from iceblink.plan.cut.functions import aggregates
from iceblink.plan.cut.rewritten import WHOLE, nested, sources_of
from iceblink.plan.late import exp


def pruned(tree: exp.Query) -> exp.Query:
    """Drop, in place, the outputs of subqueries that no SELECT around them names.

    Every source has an alias that no other one has, so that a column's table says whose it is.
    """
    _Pruning().query(tree, None)
    return tree


class _Pruning:
    """What is wanted of each named query, as it is found from the outside in."""

    def __init__(self) -> None:
        self._of_ctes: dict[str, set[str] | None] = {}

    def query(self, tree: exp.Expression, wanted: set[str] | None) -> None:
        """Keep what is `wanted` of a query (all where that is None), then look into what it reads."""
        tree = tree.unnest()
        if WHOLE in tree.meta:
            self._all_of_ctes(tree)
        elif isinstance(tree, exp.SetOperation):
            wanted = wanted if isinstance(tree, exp.Union) and not tree.args.get("distinct") else None
            self._arms(tree, wanted)
        elif isinstance(tree, exp.Select):
            if wanted is not None:
                _keep(tree, wanted)
            self._sources(tree)
        with_ = tree.args.get("with_")
        for cte in reversed(with_.expressions if with_ is not None else []):  # one reads only those before it
            self.query(cte.this, self._of_ctes.get(cte.alias, None))

    def _arms(self, tree: exp.SetOperation, wanted: set[str] | None) -> None:
        left, right = tree.left.unnest(), tree.right.unnest()
        names = [output.alias_or_name for output in tree.selects]
        places: set[int] | None = None
        if wanted is not None and all(_prunable(arm) and not _asked_in_order(arm) for arm in (left, right)):
            order = {key.this.name for key in tree.args["order"].expressions} if tree.args.get("order") else set()
            places = {at for at, name in enumerate(names) if name in wanted | order} or {0}
        for arm in (left, right):
            outputs = [output.alias_or_name for output in arm.selects]
            self.query(arm, None if places is None else {outputs[at] for at in places})

    def _sources(self, select: exp.Select) -> None:
        for source in sources_of(select):
            used = {column.name for column in select.find_all(exp.Column) if column.table == source.alias_or_name}
            if isinstance(source, exp.Subquery):
                self.query(source.this, used)
            elif isinstance(source, exp.Table):
                self._want(source.name, used)
        parts = [part for part in select.iter_expressions() if not isinstance(part, exp.From | exp.With)]
        for part in parts:
            within = part.args.get("on") if isinstance(part, exp.Join) else part
            for inner in nested(within) if within is not None else ():
                self.query(inner, None)

    def _want(self, name: str, columns: Iterable[str] | None) -> None:
        before = self._of_ctes.get(name, set())
        self._of_ctes[name] = None if columns is None or before is None else before | set(columns)

    def _all_of_ctes(self, tree: exp.Expression) -> None:
        for table in tree.find_all(exp.Table):
            self._want(table.name, None)


def _prunable(query: exp.Expression) -> bool:
    """Whether a query gives as many rows with fewer columns."""
    return (
        isinstance(query, exp.Select)
        and WHOLE not in query.meta
        and not query.args.get("distinct")
        and not any(output.find(exp.Unnest, exp.Explode, exp.Anonymous) for output in query.expressions)
        and not any(any(aggregates(output)) for output in query.expressions)
        and not query.args.get("group")
    )


def _asked_in_order(query: exp.Expression) -> set[str]:
    clauses = [query.args[clause] for clause in ("order", "qualify") if query.args.get(clause)]
    return {column.name for clause in clauses for column in clause.find_all(exp.Column) if not column.table}


def _keep(select: exp.Select, wanted: set[str]) -> None:
    group = select.args.get("group")
    keys = {key.unnest() for key in group.expressions} if group is not None else set()
    grouped = group is not None or any(any(aggregates(output)) for output in select.expressions)
    if not grouped and not _prunable(select):
        return
    wanted = wanted | _asked_in_order(select)
    kept = [one for one in select.expressions if one.alias_or_name in wanted or one.unalias() in keys]
    select.set("expressions", kept or select.expressions[:1])
