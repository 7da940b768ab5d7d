"""A prepared statement rewritten so that each SELECT does one thing: aggregates by themselves, subqueries as joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from iceblink.plan.cut.functions import aggregates, function_name, unwrapped
from iceblink.plan.cut.prepared import column, named, unique
from iceblink.plan.cut.subqueries import decorrelate
from iceblink.plan.late import exp

_SELECT = {
    "expressions", "from_", "joins", "where", "group", "having", "qualify", "distinct", "order", "limit", "offset",
    "with_",
}  # fmt: skip
_JOINS = {
    ("", ""), ("INNER", ""), ("CROSS", ""), ("", "LEFT"), ("", "RIGHT"), ("", "FULL"), ("OUTER", "LEFT"),
    ("OUTER", "RIGHT"), ("OUTER", "FULL"), ("SEMI", ""), ("ANTI", ""), ("SEMI", "LEFT"), ("ANTI", "LEFT"),
}  # fmt: skip

WHOLE = "whole"
"""The key in a SELECT's `meta` under which it is written why it is not cut."""

_ORDERED = {"array_agg", "list", "string_agg", "group_concat", "listagg", "first", "last", "arbitrary", "any_value"}


def rewritten(tree: exp.Query) -> exp.Query:
    """Rewrite a prepared statement, in place where it can be; what is not understood is marked, and stays as it is."""
    taken = {identifier.name for identifier in tree.find_all(exp.Identifier)}

    def fresh(base: str) -> str:
        name = unique(base, taken)
        taken.add(name)
        return name

    return _rewrite(tree, fresh)


Fresh = Callable[[str], str]


def _rewrite(query: exp.Query, fresh: Fresh) -> exp.Query:
    if isinstance(query, exp.Select):
        reason = why_not(query)
        if reason is not None:
            query.meta[WHOLE] = reason
            return query
        query = _separated(query, fresh)
        decorrelate(query, fresh)
    elif isinstance(query, exp.SetOperation):
        reason = _why_not_combined(query)
        if reason is not None:
            query.meta[WHOLE] = reason
            return query
        _tell_apart(query.right.unnest())
    for inner in list(nested(query)):
        new = _rewrite(inner, fresh)
        if new is not inner:
            inner.replace(new)
    return query


def nested(query: exp.Expression) -> Iterator[exp.Query]:
    """Yield the queries inside `query`, those inside them left out."""
    for part in query.iter_expressions():
        if isinstance(part, exp.Query) and not isinstance(part, exp.Subquery):
            yield part
        else:
            yield from nested(part)


def why_not(select: exp.Select) -> str | None:
    """Return what a SELECT has that is not cut, in plain words; None when there is nothing."""
    for clause, value in select.args.items():
        if value and clause not in _SELECT:
            return f"{clause.strip('_').replace('_', ' ').upper()} is not cut"
    if reason := _why_no_number(select):
        return reason
    joins: list[exp.Join] = select.args.get("joins") or []
    from_ = select.args.get("from_")
    sources = ([from_.this] if from_ is not None else []) + [join.this for join in joins]
    for join in joins:
        if (join.kind, join.side) not in _JOINS or join.method:
            return f"{join.method or join.kind} {join.side} JOIN is not cut".replace("  ", " ")
    for source in sources:
        if not isinstance(source, exp.Table | exp.Subquery | exp.Values | exp.Unnest):
            return f"{type(source).__name__.upper()} in FROM is not cut"
        if extra := {key for key, value in source.args.items() if value} - _PARTS[type(source)]:
            return f"{', '.join(sorted(extra)).upper()} of a table is not cut"
    group = select.args.get("group")
    if group is not None and (
        any(value for key, value in group.args.items() if key != "expressions")
        or any(isinstance(key, exp.Rollup | exp.Cube | exp.GroupingSets) for key in group.expressions)
    ):
        return "grouping sets are not cut"
    if group is not None and not all(key.find(exp.Column) for key in group.expressions):
        return "it groups by a constant"
    names = [projection.alias_or_name for projection in select.expressions]
    if len(set(names)) < len(names):
        return "two of its columns have one name"
    if any(isinstance(projection.unalias(), exp.Star) or projection.is_star for projection in select.expressions):
        return "its columns are not spelled out"
    if _needs_order(select, sources):
        return "an aggregate depends on the order of a subquery's rows"
    return None


def _why_no_number(query: exp.Query) -> str | None:
    for clause in ("limit", "offset"):
        node = query.args.get(clause)
        if node is not None and (node.args.get("limit_options") or not node.expression.is_int):
            return f"its {clause.upper()} is not a plain number"
    return None


def _why_not_combined(query: exp.SetOperation) -> str | None:
    """Return what a UNION, INTERSECT or EXCEPT has that is not cut."""
    if query.args.get("by_name") or any(query.args.get(part) for part in ("side", "kind", "on")):
        return "columns are matched by name"
    if reason := _why_no_number(query):
        return reason
    order = query.args.get("order")
    if order is not None and not all(
        isinstance(key.this, exp.Column) and not key.this.table for key in order.expressions
    ):
        return "an order of it is computed"
    return None


def _tell_apart(query: exp.Expression) -> None:
    """Give columns of one name names of their own where names do not matter."""
    if not isinstance(query, exp.Select):
        return
    taken: set[str] = set()
    for output in list(query.expressions):
        name = unique(output.alias_or_name, taken)
        taken.add(name)
        if name != output.alias_or_name:
            output.replace(exp.alias_(output.unalias().copy(), named(name)))


_PARTS = {
    exp.Table: {"this", "alias"},
    exp.Subquery: {"this", "alias"},
    exp.Values: {"expressions", "alias"},
    exp.Unnest: {"expressions", "alias", "offset", "explode_array"},
}


def windows(select: exp.Select) -> Iterator[exp.Window]:
    for part in select.iter_expressions():
        if not isinstance(part, exp.From | exp.Join | exp.With):
            yield from part.find_all(exp.Window)


def _needs_order(select: exp.Select, sources: list[exp.Expression]) -> bool:
    ordered = any(isinstance(s, exp.Subquery) and s.this.args.get("order") is not None for s in sources)
    return ordered and any(
        function_name(unwrapped(one)) in _ORDERED for part in select.expressions for one in aggregates(part)
    )


def _separated(select: exp.Select, fresh: Fresh) -> exp.Select:
    """Put the grouping of a SELECT in a subquery of just keys and aggregates, and the rest around it."""
    group = select.args.get("group")
    keys = [key.unnest() for key in group.expressions] if group is not None else []
    upper = [*select.expressions, *(select.args[c] for c in ("having", "qualify", "order") if select.args.get(c))]
    found = list(dict.fromkeys(one for part in upper for one in aggregates(part)))
    if group is None and not found and select.args.get("having") is None:
        return select
    if group is not None:
        group.set("expressions", keys)
    direct = {projection.unalias() for projection in select.expressions}
    rest = ("having", "qualify", "distinct", "order", "limit", "offset")
    pure = direct == {*keys, *found} and len(direct) == len(select.expressions)
    if pure and not any(select.args.get(clause) for clause in (*rest, "with_")):
        return select
    names: dict[exp.Expression, str] = {}
    aliases = {p.unalias(): p.alias_or_name for p in reversed(select.expressions)}
    for number, part in enumerate(dict.fromkeys([*keys, *found]), 1):
        base = aliases.get(part) or (part.name if isinstance(part, exp.Column) else "")
        if not base or base.startswith("_col_"):
            base = f"{function_name(unwrapped(part)) or 'key'}_{number}"
        names[part] = unique(base, set(names.values()))
    alias = fresh("grouped")
    own = {source.alias_or_name for source in sources_of(select)}
    columns = {part: column(alias, name) for part, name in names.items()}

    def renamed(node: exp.Expression) -> exp.Expression:
        if node not in columns or (node not in keys and node.find_ancestor(exp.Query) is not None):
            return node  # a subquery's own aggregate only looks the same
        return columns[node].copy()

    inner = exp.Select(
        expressions=[exp.alias_(part.copy(), named(name)) for part, name in names.items()],
        **{clause: select.args[clause] for clause in ("from_", "joins", "where", "group") if select.args.get(clause)},
    )
    outer = exp.Select(
        expressions=[p.transform(renamed, copy=True) for p in select.expressions],
        from_=exp.From(this=exp.Subquery(this=inner, alias=exp.TableAlias(this=named(alias)))),
    )
    for projection, old in zip(outer.expressions, select.expressions, strict=True):
        if not isinstance(projection, exp.Alias):
            projection.replace(exp.alias_(projection.copy(), named(old.alias_or_name)))
    for clause in rest:
        if select.args.get(clause):
            outer.set(clause, select.args[clause].transform(renamed, copy=True))
    outer.set("with_", select.args.get("with_"))
    having = outer.args.pop("having", None)
    if having is not None:
        outer.set("where", exp.Where(this=having.this))
    left = [
        c for part in outer.iter_expressions() if part is not outer.args["from_"] for c in part.find_all(exp.Column)
    ]
    if any(c.table in own for c in left):
        select.meta[WHOLE] = "it uses a column that is not grouped"
        return select
    return outer


def sources_of(select: exp.Select) -> list[exp.Expression]:
    """Return what FROM and the joins of a SELECT read."""
    from_ = select.args.get("from_")
    return ([from_.this] if from_ is not None else []) + [join.this for join in select.args.get("joins") or []]
