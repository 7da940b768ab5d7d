"""Aggregates: in two steps around the exchange where an aggregate can be taken apart, else after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iceblink.plan.cut.block import Block, Output, Rest
from iceblink.plan.cut.finish import distinct_rows
from iceblink.plan.cut.functions import unwrapped
from iceblink.plan.cut.prepared import column, named, unique
from iceblink.plan.cut.rows import Relation, Steps
from iceblink.plan.late import exp
from iceblink.plan.stage import Gather, Hash


@dataclass(frozen=True)
class Split:
    """An aggregate as partial ones that travel, and one of those."""

    partial: tuple[Output, ...]
    final: exp.Expression


def grouped(block: Block, outputs: Sequence[Output], is_key: Sequence[bool]) -> Steps[Relation]:
    """Group the rows in hand by the outputs that are keys, and compute those that are aggregates."""
    keys = [output for output, key in zip(outputs, is_key, strict=True) if key]
    if block.single or (keys and block.together([key for key, _ in keys])):
        return block.close(outputs, group=bool(keys))
    kinds = _kinds(block, outputs, bool(keys))
    splits = {name: split(block, aggregate, name) for aggregate, name in outputs if (aggregate, name) not in keys}
    names = [name for _, name in keys]
    if all(splits.values()):
        return (yield from _in_two_steps(block, outputs, names, splits, kinds))
    if (value := _one_distinct(outputs, is_key)) is not None:
        return (yield from _of_distinct_rows(block, outputs, is_key, value))
    which = ", ".join(name for name, one in splits.items() if one is None)
    if keys:
        yield from block.hash([key for key, _ in keys], f"rows by {', '.join(names)}: {which} needs whole groups")
        block.divide(False)
    else:
        yield from block.gather(f"all rows: {which} needs them in one task")
    return block.close(outputs, group=bool(keys))


def _one_distinct(outputs: Sequence[Output], is_key: Sequence[bool]) -> exp.Expression | None:
    """Return the value of which all aggregates are over DISTINCT ones; None where there is no such."""
    found = [aggregate for (aggregate, _), key in zip(outputs, is_key, strict=True) if not key]
    values = {aggregate.this for aggregate in found if isinstance(aggregate, exp.AggFunc)}
    if not all(isinstance(aggregate, exp.Count | exp.Sum | exp.Avg) for aggregate in found) or len(values) != 1:
        return None
    (distinct,) = values
    if not isinstance(distinct, exp.Distinct) or distinct.args.get("on") or len(distinct.expressions) != 1:
        return None
    value: exp.Expression = distinct.expressions[0]
    return None if isinstance(value, exp.Tuple) else value


def _of_distinct_rows(
    block: Block, outputs: Sequence[Output], is_key: Sequence[bool], value: exp.Expression
) -> Steps[Relation]:
    """Let equal rows meet first: what each task has twice does not travel, and no task need see all."""
    keys = [output for output, key in zip(outputs, is_key, strict=True) if key]
    alias, name = block.making.fresh("distinct_rows"), unique("value", {name for _, name in keys})
    sent = block.close([*keys, (value, name)], distinct=exp.Distinct())
    if keys:
        send = Hash(tuple(key for _, key in keys))
        met = yield from block.making.exchanged(sent, send, f"distinct rows by {', '.join(send.keys)}")
    else:
        met = yield from distinct_rows(block.making, sent)
    over = Block(block.making, met, alias, Rest([]))
    new: list[Output] = []
    for (expression, output), key in zip(outputs, is_key, strict=True):
        of = column(alias, name)
        if not key:
            of = type(expression)(this=exp.Distinct(expressions=[of]) if keys else of)
        new.append((column(alias, output) if key else of, output))
    return (yield from grouped(over, new, is_key))


def _kinds(block: Block, outputs: Sequence[Output], group: bool) -> dict[str, str]:
    schema, kinds = block.making.described(block.close(outputs, group=group).pieces[0])
    return dict(zip(schema.names, kinds, strict=True))


def _in_two_steps(
    block: Block, outputs: Sequence[Output], keys: list[str], splits: dict[str, Split | None], kinds: dict[str, str]
) -> Steps[Relation]:
    making = block.making
    partial = [output for output in outputs if output[1] in keys]
    same: dict[exp.Expression, str] = {}  # a sum that an average has too is sent once
    stands: dict[str, str] = {}
    for part in splits.values():
        for expression, name in part.partial if part is not None else ():
            stands[name] = same.setdefault(expression, name)
    partial += list(same.items())
    title = f"aggregates by {', '.join(keys)}, of each task's rows" if keys else "aggregates of each task's rows"
    sent = block.close(partial, group=bool(keys))
    moved = yield from making.exchanged(sent, Hash(tuple(keys)) if keys else Gather(), title)
    finals = {name: one.final for name, one in splits.items() if one is not None}
    for final in finals.values():
        for part in final.find_all(exp.Column):
            part.set("this", named(stands[part.name]))
    (piece,) = moved.pieces
    select = exp.Select(
        expressions=[exp.alias_(finals[name], named(name)) if name in finals else _key(name) for _, name in outputs],
        from_=_source(piece),
    )
    if keys:
        select.set("group", exp.Group(all=True))
    schema, got = making.described(select)
    for output, name, kind in zip(list(select.expressions), schema.names, got, strict=True):
        if kind != kinds[name]:
            typed = exp.cast(output.unalias().copy(), exp.DataType.build(kinds[name], dialect="duckdb"), copy=False)
            output.replace(exp.alias_(typed, named(name)))
    return Relation((select,), tuple(name for _, name in outputs), moved.placed, moved.size)


def _key(name: str) -> exp.Column:
    return exp.column(named(name))


def _source(piece: exp.Query) -> exp.From:
    from_ = piece.args["from_"]
    if all(isinstance(output, exp.Column) for output in piece.selects):
        return exp.From(this=from_.this.copy())
    return exp.From(this=exp.Subquery(this=piece, alias=exp.TableAlias(this=named("rows"))))


def split(block: Block, aggregate: exp.Expression, name: str) -> Split | None:
    """Return the parts of an aggregate; None where it needs all rows of a group at once.

    Counts, sums, least and greatest values, averages of numbers and their like; with FILTER too.
    """
    condition = aggregate.expression if isinstance(aggregate, exp.Filter) else None
    function = aggregate.this if isinstance(aggregate, exp.Filter) else aggregate
    call = unwrapped(function)
    if isinstance(function, exp.WithinGroup) or aggregate.find(exp.Distinct, exp.Order, exp.Query):
        return None
    rule, sides = _RULES.get(type(call).__name__, (None, set()))
    given = {part for part, value in call.args.items() if value and not isinstance(value, bool)}
    if rule is None or not given <= sides:
        return None  # min(x, n) and such
    return rule(block, function, condition, name)


Rule = Callable[[Block, exp.Expression, exp.Expression | None, str], Split | None]


def _where(
    function: exp.Expression, condition: exp.Expression | None, also: exp.Expression | None = None
) -> exp.Expression:
    parts = ([condition.this.copy()] if condition is not None else []) + ([also] if also is not None else [])
    if not parts:
        return function.copy()
    return exp.Filter(this=function.copy(), expression=exp.Where(this=exp.and_(*parts, copy=False)))


def _again(block: Block, function: exp.Expression, condition: exp.Expression | None, name: str) -> Split | None:
    """Of least values the least, of sums the sum."""
    final = function.copy()
    unwrapped(final).set("this", exp.column(named(name)))
    return Split(((_where(function, condition), name),), final)


def _count(block: Block, function: exp.Expression, condition: exp.Expression | None, name: str) -> Split | None:
    total = exp.Coalesce(this=exp.Sum(this=exp.column(named(name))), expressions=[exp.Literal.number(0)])
    return Split(((_where(function, condition), name),), total)


def _again_sum(block: Block, function: exp.Expression, condition: exp.Expression | None, name: str) -> Split | None:
    """Of what is null over nothing but nulls the sum, null as well."""
    return Split(((_where(function, condition), name),), exp.Sum(this=exp.column(named(name))))


def _average(block: Block, function: exp.Expression, condition: exp.Expression | None, name: str) -> Split | None:
    value = function.this
    (kind,) = block.kinds_of([value])
    if (
        not kind.startswith(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"))
        or "[" in kind
    ):
        return None  # of times and intervals
    total, count = f"{name}_sum", f"{name}_count"
    summed: exp.Expression = exp.Sum(this=exp.column(named(total)))
    if not kind.startswith(("FLOAT", "DOUBLE")):
        summed = exp.cast(summed, "DOUBLE")
    counted = exp.Sum(this=exp.column(named(count)))
    parts = (
        (_where(exp.Sum(this=value.copy()), condition), total),
        (_where(exp.Count(this=value.copy()), condition), count),
    )
    return Split(parts, exp.Div(this=summed, expression=counted, typed=False, safe=False))


def _extreme(block: Block, function: exp.Expression, condition: exp.Expression | None, name: str) -> Split | None:
    """The value where another is least: the other travels along."""
    value, by = function.this, function.expression
    least = exp.Min if isinstance(function, exp.ArgMin) else exp.Max
    there = exp.Not(this=exp.Is(this=exp.paren(value.copy()), expression=exp.null()))
    parts = (
        (_where(function, condition), name),
        (_where(least(this=by.copy()), condition, there), f"{name}_by"),
    )
    return Split(parts, type(function)(this=exp.column(named(name)), expression=exp.column(named(f"{name}_by"))))


_ONE, _TWO = {"this"}, {"this", "expression"}
_RULES: dict[str, tuple[Rule, set[str]]] = {
    "Count": (_count, _ONE),
    "CountIf": (_again_sum, _ONE),
    "Sum": (_again, _ONE),
    "Min": (_again, _ONE),
    "Max": (_again, _ONE),
    "LogicalAnd": (_again, _ONE),
    "LogicalOr": (_again, _ONE),
    "BitwiseAndAgg": (_again, _ONE),
    "BitwiseOrAgg": (_again, _ONE),
    "BitwiseXorAgg": (_again, _ONE),
    "AnyValue": (_again, _ONE),
    "Avg": (_average, _ONE),
    "ArgMin": (_extreme, _TWO),
    "ArgMax": (_extreme, _TWO),
}
"""By sqlglot's class; with the arguments that the rule knows."""
