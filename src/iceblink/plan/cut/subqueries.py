"""Subqueries that become joins: EXISTS and IN as semi and anti joins, a correlated aggregate as a left join."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from iceblink.plan.cut.functions import aggregates, unwrapped
from iceblink.plan.cut.prepared import column, conjuncts, named, unique
from iceblink.plan.late import exp

_KNOWN = ("Count", "Sum", "Min", "Max", "Avg")
"""Aggregates that are null over no rows, and a count that is 0."""

_OTHER_ROWS = ("with_", "group", "having", "qualify", "limit", "offset", "windows")


def decorrelate(select: exp.Select, fresh: Callable[[str], str]) -> None:
    """Turn what is certain to mean the same into joins, in place; other subqueries stay where they are."""
    where = select.args.get("where")
    if select.args.get("from_") is None:
        return
    kept = []
    for condition in conjuncts(where.this if where is not None else None):
        if not _as_semi_join(select, condition, fresh):
            _scalars_as_left_joins(select, condition, fresh)
            kept.append(condition)
    select.set("where", exp.Where(this=exp.and_(*kept, copy=False)) if kept else None)
    if not any(any(aggregates(projection)) for projection in select.expressions):
        for projection in select.expressions:
            _scalars_as_left_joins(select, projection, fresh)


def correlated(query: exp.Expression) -> list[exp.Column]:
    """Return the columns of a query that come from outside it."""
    inside = {node.alias_or_name for node in query.find_all(exp.Table, exp.Subquery, exp.Unnest, exp.Values)}
    inside |= {lateral.alias_or_name for lateral in query.find_all(exp.Lateral)}
    return [found for found in query.find_all(exp.Column) if found.table and found.table not in inside]


def _as_semi_join(select: exp.Select, condition: exp.Expression, fresh: Callable[[str], str]) -> bool:
    negated = isinstance(condition, exp.Not)
    test = condition.this.unnest() if negated else condition
    if isinstance(test, exp.Exists):
        query, compared = test.this, []
    elif isinstance(test, exp.In) and test.args.get("query") is not None and not negated:
        query, compared = test.args["query"], _elements(test.this)
    else:
        return False
    query = query.unnest()
    outside = correlated(query)
    if any(element.find(exp.Query) for element in compared) or (not compared and not outside):
        return False
    if compared and len(compared) != len(query.selects):
        return False
    alias = fresh("matching" if not negated else "excluded")
    if not outside:
        derived = query
        names = [projection.alias_or_name for projection in query.selects]
        on = [exp.EQ(this=x, expression=column(alias, n)) for x, n in zip(compared, names, strict=True)]
    else:
        apart = _apart(query, outside)
        if apart is None or any(any(aggregates(projection)) for projection in query.expressions):
            return False
        local, across = apart
        inner = [found for part in across for found in part.find_all(exp.Column) if not _among(found, outside)]
        given = [projection.unalias() for projection in query.expressions] if compared else []
        names_of = _named(dict.fromkeys([*given, *inner]))
        on = [exp.EQ(this=x, expression=column(alias, names_of[g])) for x, g in zip(compared, given, strict=True)]
        for found in inner:
            found.replace(column(alias, names_of[found]))
        on += across
        derived = _derived(query, [exp.alias_(part.copy(), named(name)) for part, name in names_of.items()], local)
        if not names_of:
            derived.set("expressions", [exp.alias_(exp.Literal.number(1), "one")])
    _join(select, derived, alias, "ANTI" if negated else "SEMI", "", on)
    return True


def _scalars_as_left_joins(select: exp.Select, expression: exp.Expression, fresh: Callable[[str], str]) -> None:
    for subquery in list(expression.find_all(exp.Subquery)):
        if isinstance(subquery.parent, exp.In | exp.Exists | exp.Any | exp.All | exp.From | exp.Join):
            continue
        if subquery.find_ancestor(exp.Query) is not select:
            continue
        query = subquery.unnest()
        outside = correlated(query)
        if not outside or not isinstance(query, exp.Select) or len(query.expressions) != 1:
            continue
        (value,) = query.expressions
        value = value.unalias()
        found = list(dict.fromkeys(aggregates(value)))
        if value.find(exp.Query) or not found or not all(_known_of_nothing(one) for one in found):
            continue
        apart = _apart(query, outside)
        if apart is None:
            continue
        local, across = apart
        pairs = [_equal_sides(part, outside) for part in across]
        if not all(pairs):
            continue
        alias = fresh("scalar")
        inner = [pair[0] for pair in pairs if pair]
        names = _named(dict.fromkeys([*inner, *found]))
        over = {one: _or_zero(one, column(alias, names[one])) for one in found}
        replaced = value.transform(lambda node, over=over: over[node].copy() if node in over else node)
        if any(column.table != alias for column in replaced.find_all(exp.Column)):
            continue
        derived = _derived(query, [exp.alias_(part.copy(), named(name)) for part, name in names.items()], local)
        derived.set("group", exp.Group(expressions=[key.copy() for key in dict.fromkeys(inner)]))
        on = [exp.EQ(this=pair[1].copy(), expression=column(alias, names[pair[0]])) for pair in pairs if pair]
        subquery.replace(exp.paren(replaced, copy=False))
        _join(select, derived, alias, "", "LEFT", on)


def _elements(value: exp.Expression) -> list[exp.Expression]:
    value = value.unnest()
    return list(value.expressions) if isinstance(value, exp.Tuple) else [value]


def _apart(
    query: exp.Expression, outside: list[exp.Column]
) -> tuple[list[exp.Expression], list[exp.Expression]] | None:
    """Return the conditions of a SELECT that look only inside and those that look outside too.

    None where it looks outside from anywhere else.
    """
    if not isinstance(query, exp.Select) or any(query.args.get(clause) for clause in _OTHER_ROWS):
        return None
    if any(isinstance(projection.unalias(), exp.Unnest | exp.Explode) for projection in query.expressions):
        return None
    if any(part.find(exp.Window) for part in query.expressions) or query.args.get("from_") is None:
        return None
    local: list[exp.Expression] = []
    across: list[exp.Expression] = []
    seen = 0
    where = query.args.get("where")
    for condition in conjuncts(where.this if where is not None else None):
        looks = sum(_among(found, outside) for found in condition.find_all(exp.Column))
        seen += looks
        (across if looks else local).append(condition)
    if seen < len(outside) or any(part.find(exp.Query) for part in across):
        return None
    return local, across


def _among(found: exp.Column, columns: Iterable[exp.Column]) -> bool:
    return any(found is one for one in columns)


def _known_of_nothing(one: exp.Expression) -> bool:
    function = unwrapped(one)
    return type(function).__name__ in _KNOWN and not function.args.get("expressions")


def _equal_sides(condition: exp.Expression, outside: list[exp.Column]) -> tuple[exp.Expression, exp.Expression] | None:
    """Return the inner and the outer side of an equality; None where it is something else."""
    if not isinstance(condition, exp.EQ):
        return None
    for inner, outer in ((condition.left, condition.right), (condition.right, condition.left)):
        inner_columns, outer_columns = list(inner.find_all(exp.Column)), list(outer.find_all(exp.Column))
        looks_in = inner_columns and not any(_among(one, outside) for one in inner_columns)
        if looks_in and outer_columns and all(_among(one, outside) for one in outer_columns):
            return inner.unnest(), outer.unnest()
    return None


def _or_zero(aggregate: exp.Expression, value: exp.Column) -> exp.Expression:
    if isinstance(unwrapped(aggregate), exp.Count):
        return exp.Coalesce(this=value, expressions=[exp.Literal.number(0)])
    return value


def _named(parts: Iterable[exp.Expression]) -> dict[exp.Expression, str]:
    names: dict[exp.Expression, str] = {}
    for part in parts:
        base = part.name if isinstance(part, exp.Column) else "value"
        names[part.copy()] = unique(base, set(names.values()))
    return names


def _derived(query: exp.Select, projections: list[exp.Expression], local: list[exp.Expression]) -> exp.Select:
    derived = exp.Select(
        expressions=projections,
        **{clause: query.args[clause] for clause in ("from_", "joins") if query.args.get(clause)},
    )
    if local:
        derived.set("where", exp.Where(this=exp.and_(*local, copy=False)))
    return derived


def _join(select: exp.Select, derived: exp.Query, alias: str, kind: str, side: str, on: list[exp.Expression]) -> None:
    source = exp.Subquery(this=derived, alias=exp.TableAlias(this=named(alias)))
    join = exp.Join(this=source, on=exp.and_(*on, copy=False), kind=kind or None, side=side or None)
    select.set("joins", [*(select.args.get("joins") or []), join])
