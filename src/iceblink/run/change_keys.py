"""What the condition of a change tells of the table's rows, before they are read: certain matches, ranges of keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias

import pyarrow as pa
import pyarrow.types as pt

from iceblink.plan.changes import RowChange, column_of
from iceblink.plan.late import exp
from iceblink.plan.nodes import Memory
from iceblink.plan.predicates import exact_predicate, fit
from iceblink.predicate import Everything, Predicate
from iceblink.run.kernel_types import kernel_type
from iceblink.run.local_engine import LocalEngine

FEW_KEYS = 200
"""So many keys are named one by one; of more, the least and the greatest."""

Key: TypeAlias = "tuple[str, exp.Expression]"
"""A column of the table, and what it equals in each row of the source that matches."""


def certain_match(condition: exp.Expression | None, change: RowChange, engine: LocalEngine) -> Predicate | None:
    """Return what a condition over the table alone says, if metadata can tell all of it."""
    if condition is None:
        return Everything()
    if condition.find(exp.Query) is not None:
        return None
    tree = exp.Paren(this=condition.copy())
    for column in tree.find_all(exp.Column):
        if column.table.lower() not in ("", change.alias.lower()) or len(column.parts) > 2:
            return None
        column.set("table", exp.to_identifier(change.alias))
    fields = {field.name.lower(): field for field in change.target.table.schema}
    return exact_predicate(tree, change.alias, fields, engine.evaluate)


def equal_keys(change: RowChange) -> list[Key]:
    """Return the columns of the table that equal something of the source, by the condition of a merge."""
    if change.on is None:
        return []
    on = change.on.unnest()
    parts = [part.unnest() for part in (on.flatten() if isinstance(on, exp.And) else [on])]
    found: list[Key] = []
    for part in parts:
        if not isinstance(part, exp.EQ):
            continue
        for one, other in ((part.left, part.right), (part.right, part.left)):
            sides = _sides(one, change), _sides(other, change)
            if isinstance(one, exp.Column) and sides == ({"target"}, {"source"}):
                found.append((_own_name(one, change), other))
                break
    return found


def key_range(engine: LocalEngine, change: RowChange, keys: Sequence[Key]) -> list[exp.Expression] | None:
    """Return conditions that every row of the table with a match satisfies; None if no row can have one.

    Eager: reads the keys of the source.
    """
    schema: pa.Schema = change.target.table.schema
    conditions: list[exp.Expression] = []
    source = change.source
    assert source is not None, "a merge has a source"
    if not keys:
        return []
    from_ = exp.Table(
        this=exp.to_identifier(source.name, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(change.source_alias, quoted=True)),
    )
    few = isinstance(source, Memory) and source.data.num_rows <= FEW_KEYS
    ends = [function(this=value.copy()) for _, value in keys for function in (exp.Min, exp.Max)]
    shown = [exp.alias_(one, f"end {place}", quoted=True) for place, one in enumerate(ends)]
    (row,) = _rows(engine, exp.select(*shown).from_(from_.copy()), change)
    limits = list(row.values())
    for place, (name, value) in enumerate(keys):
        dtype = schema.field(name).type
        low, high = limits[2 * place], limits[2 * place + 1]
        if low is None:
            return None
        if pt.is_floating(dtype):
            continue
        column = column_of(name, change.alias)
        values = [low, high]
        if few:
            tree = exp.select(exp.alias_(value.copy(), "key", quoted=True)).from_(from_.copy()).distinct()
            values = [one["key"] for one in _rows(engine, tree, change) if one["key"] is not None]
        literals = [_literal(one, dtype) for one in values]
        known = [one for one in literals if one is not None]
        if len(known) < len(literals):
            continue
        if few:
            conditions.append(exp.In(this=column, expressions=known))
        else:
            conditions += [
                exp.GTE(this=column, expression=known[0]),
                exp.LTE(this=column.copy(), expression=known[1]),
            ]
    return conditions


def _rows(engine: LocalEngine, tree: exp.Query, change: RowChange) -> list[dict[str, object]]:
    assert change.source is not None, "a merge has a source"
    query = engine.query(tree, {change.source.name: change.source})
    return [row for batch in engine.batches(query) for row in batch.data.to_pylist()]


def _own_name(column: exp.Column, change: RowChange) -> str:
    """Return what the table calls a column, which may be written in upper or lower case."""
    names: list[str] = change.target.table.schema.names
    return column.name if column.name in names else next(one for one in names if one.lower() == column.name.lower())


def _sides(tree: exp.Expression, change: RowChange) -> set[str]:
    """Return which sides of a merge an expression looks at; something else as well where that is not known."""
    if tree.find(exp.Query) is not None:
        return {"unknown"}
    assert change.source is not None, "a merge has a source"
    names = {
        "target": {name.lower() for name in change.target.table.schema.names},
        "source": {name.lower() for name in change.source.schema.names},
    }
    aliases = {change.alias.lower(): "target", change.source_alias.lower(): "source"}
    found = set()
    for column in tree.find_all(exp.Column):
        if column.table:
            side = aliases.get(column.table.lower(), "unknown")
            found.add(side if side != "unknown" and column.name.lower() in names[side] else "unknown")
        else:
            having = [side for side, known in names.items() if column.name.lower() in known]
            found.add(having[0] if len(having) == 1 else "unknown")
    return found


def _literal(value: object, dtype: pa.DataType) -> exp.Expression | None:
    """Return a value of a column as SQL; None where it has none that is exactly that value."""
    match fit(value, dtype):
        case bool():
            return None
        case int() as number:
            return exp.convert(number)
        case str() as text:
            return exp.Literal.string(text)
        case Decimal() | date() | datetime() as moment:
            return exp.cast(exp.Literal.string(str(moment)), exp.DataType.build(kernel_type(dtype), dialect="duckdb"))
    return None
