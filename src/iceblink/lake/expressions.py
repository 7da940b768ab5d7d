"""A `Predicate` in PyIceberg's words, for the questions that metadata can answer.

The answer must never lose a row. What cannot be said in Iceberg's terms counts as "maybe": true when asking which files
can be left out, false when asking which files match as a whole.

References
----------
.. [1] Iceberg table spec, "Scan Planning".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyiceberg import expressions
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.visitors import bind
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType, NestedField, StringType, UUIDType

from iceblink.errors import ColumnNotFound
from iceblink.lake.values import Inexpressible, to_stored
from iceblink.predicate import (
    And,
    Compare,
    Everything,
    IsIn,
    IsNull,
    Nothing,
    NotNull,
    Operator,
    Or,
    Predicate,
    StartsWith,
)

iceberg: Any = expressions  # mypy sees pydantic's constructors there, not those that the classes have

_COMPARE: dict[Operator, Callable[[str, Any], BooleanExpression]] = {
    "=": iceberg.EqualTo,
    "!=": iceberg.NotEqualTo,
    "<": iceberg.LessThan,
    "<=": iceberg.LessThanOrEqual,
    ">": iceberg.GreaterThan,
    ">=": iceberg.GreaterThanOrEqual,
}
MAX_LISTED = 200
"""Longer IN lists are asked as a range too: beyond this many values PyIceberg does not look at bounds."""


def to_iceberg(predicate: Predicate, schema: Schema, strict: bool = False) -> BooleanExpression:
    """Return `predicate` as a PyIceberg expression that binds to `schema`.

    Parameters
    ----------
    predicate : Predicate
    schema : Schema
    strict : bool
        False: the result is true for every row that `predicate` is true for, and maybe more. True: only for such rows,
        and maybe fewer.

    Raises
    ------
    ColumnNotFound
    """
    match predicate:
        case Everything():
            return expressions.AlwaysTrue()
        case Nothing():
            return expressions.AlwaysFalse()
        case And(left, right):
            return expressions.And(to_iceberg(left, schema, strict), to_iceberg(right, schema, strict))
        case Or(left, right):
            return expressions.Or(to_iceberg(left, schema, strict), to_iceberg(right, schema, strict))
        case Compare(column) | IsIn(column) | StartsWith(column) | IsNull(column) | NotNull(column):
            field = _top_level(column, schema)
            try:
                asked: BooleanExpression = _strictly(predicate, field) if strict else _inclusively(predicate, field)
                bind(schema, asked, case_sensitive=True)
            except (Inexpressible, TypeError, ValueError):  # the last two are PyIceberg's way to refuse a literal
                return expressions.AlwaysFalse() if strict else expressions.AlwaysTrue()
            return asked
        case _:
            return expressions.AlwaysFalse() if strict else expressions.AlwaysTrue()


def _top_level(column: str, schema: Schema) -> NestedField:
    for field in schema.fields:
        if field.name == column:
            return field
    raise ColumnNotFound.of(column, [field.name for field in schema.fields])


def _strictly(predicate: Predicate, field: NestedField) -> Any:
    if isinstance(field.field_type, FloatType | DoubleType) and not isinstance(predicate, IsNull | NotNull):
        raise Inexpressible("bounds do not know of NaN, and few writers count them")
    asked = _leaf(predicate, field)
    if isinstance(predicate, Compare) and predicate.op == "!=":  # Iceberg's is true for null
        return expressions.And(iceberg.NotNull(field.name), asked)
    return asked


def _inclusively(predicate: Predicate, field: NestedField) -> Any:
    if not isinstance(field.field_type, FloatType | DoubleType):
        return _leaf(predicate, field)
    match predicate:
        case Compare(column, op, value):
            if op == "!=":
                raise Inexpressible("bounds say nothing of one value")
            near = _near(to_stored(value, field.field_type), field)
            asked = _between(column, None if op in ("<", "<=") else near, None if op in (">", ">=") else near)
            # a query kernel sorts NaN above all numbers, and bounds leave it out
            return expressions.Or(asked, iceberg.IsNaN(column)) if op in (">", ">=") else asked
        case IsIn(column, values):
            stored = [_near(to_stored(value, field.field_type), field) for value in values]
            return _between(column, min(stored, default=None), max(stored, default=None))
        case _:
            return _leaf(predicate, field)


def _near(value: float, field: NestedField) -> tuple[float, float]:
    """Return a range around `value` in which it may be rounded: kernels compare float32 either way."""
    slack = abs(value) * 2.0**-23 + 2.0**-149 if isinstance(field.field_type, FloatType) else 0.0
    return value - slack, value + slack


def _between(column: str, least: tuple[float, float] | None, most: tuple[float, float] | None) -> BooleanExpression:
    asked: BooleanExpression = expressions.AlwaysTrue()
    if least is not None:
        asked = iceberg.GreaterThanOrEqual(column, least[0])
    if most is not None:
        asked = expressions.And(asked, iceberg.LessThanOrEqual(column, most[1]))
    return asked


def _leaf(predicate: Predicate, field: NestedField) -> Any:
    match predicate:
        case Compare(column, op, value):
            return _COMPARE[op](column, to_stored(value, field.field_type))
        case IsIn(column, values):
            stored = {to_stored(value, field.field_type) for value in values}
            listed = iceberg.In(column, stored)
            if len(stored) <= MAX_LISTED or isinstance(field.field_type, UUIDType):
                return listed
            between = expressions.And(
                iceberg.GreaterThanOrEqual(column, min(stored)), iceberg.LessThanOrEqual(column, max(stored))
            )
            return expressions.And(between, listed)
        case StartsWith(column, prefix) if isinstance(field.field_type, StringType):
            return iceberg.StartsWith(column, prefix) if prefix else iceberg.NotNull(column)
        case IsNull(column):
            return iceberg.IsNull(column)
        case NotNull(column):
            return iceberg.NotNull(column)
        case _:
            raise Inexpressible(predicate)
