"""SQL conditions read as `Predicate`: only what is certain; anything else is `Everything`."""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeAlias

import pyarrow as pa

from iceblink.plan.late import exp, simplifying
from iceblink.predicate import (
    FLIPPED,
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
    conjunction,
)

Evaluate: TypeAlias = "Callable[[exp.Expression], object]"
"""Gives the value of a constant expression; raises ValueError when it has none."""

_OPERATORS: dict[str, Operator] = {"eq": "=", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
"""By the key of sqlglot's node."""

_CONSTANT = frozenset((
    "literal", "boolean", "null", "cast", "trycast", "neg", "paren", "add", "sub", "mul", "div", "interval", "var",
    "datatype", "datatypeparam", "intervalspan", "dateadd", "datesub", "datefromparts", "timestampfromparts",
    "timefromparts",
))  # fmt: skip
"""Keys of the nodes that constants are made of."""


def read_predicate(node: exp.Expression, alias: str, fields: Mapping[str, pa.Field], evaluate: Evaluate) -> Predicate:
    """Return what `node` says about the columns of `alias`, as far as it can be said.

    The result is implied by `node`: a row for which it is false cannot satisfy `node`.

    Parameters
    ----------
    node : sqlglot Expression
        A boolean expression of a qualified tree.
    alias : str
        The table's alias there.
    fields : mapping of str to pa.Field
        Lower-case column name to field.
    evaluate : callable
        For constants that are more than a literal.
    """

    def column(side: exp.Expression) -> pa.Field | None:
        if isinstance(side, exp.Column) and side.table == alias:
            return fields.get(side.name.lower())
        return None

    def recurse(inner: exp.Expression) -> Predicate:
        return read_predicate(inner, alias, fields, evaluate)

    match node:
        case exp.Paren():
            return recurse(node.this)
        case exp.And():
            return conjunction(recurse(node.left), recurse(node.right))
        case exp.Or():
            return either(recurse(node.left), recurse(node.right))
        case exp.Not(this=exp.Is() as inner) if isinstance(inner.expression, exp.Null):
            field = column(inner.this)
            return NotNull(field.name) if field else Everything()
        case exp.Is() if isinstance(node.expression, exp.Null):
            field = column(node.this)
            return IsNull(field.name) if field else Everything()
        case exp.Between():
            low, high = node.args["low"], node.args["high"]
            return conjunction(
                recurse(exp.GTE(this=node.this.copy(), expression=low.copy())),
                recurse(exp.LTE(this=node.this.copy(), expression=high.copy())),
            )
        case exp.In() if node.expressions and (field := column(node.this)):
            values = [_constant(item, field, evaluate) for item in node.expressions]
            usable = [value for value in values if value is not None]
            return IsIn(field.name, frozenset(usable)) if len(usable) == len(values) else Everything()
        case exp.Like() if field := column(node.this):
            return _like(field, node.expression)
        case exp.Column() if (field := column(node)) and pa.types.is_boolean(field.type):
            return Compare(field.name, "=", True)
        case exp.Not() if (field := column(node.this)) and pa.types.is_boolean(field.type):
            return Compare(field.name, "=", False)
    operator = _OPERATORS.get(node.key)
    if operator is not None:
        if field := column(node.left):
            return _compare(field, operator, _constant(node.right, field, evaluate))
        if field := column(node.right):
            return _compare(field, FLIPPED[operator], _constant(node.left, field, evaluate))
    if (operator is not None or isinstance(node, exp.Not)) and not node.find(exp.Query):
        own = [found for found in map(column, node.find_all(exp.Column)) if found]
        # such as x + 1 > 5, or NOT x > 5; arithmetic of floats rounds, so that nothing may be moved
        if own and not any(pa.types.is_floating(field.type) for field in own):
            simpler = _simplified(node)
            return Everything() if simpler == node else recurse(simpler)
    return Everything()


def either(left: Predicate, right: Predicate) -> Predicate:
    """Join with OR; `Everything` wins, `Nothing` disappears."""
    if isinstance(left, Everything) or isinstance(right, Everything):
        return Everything()
    if isinstance(left, Nothing):
        return right
    return left if isinstance(right, Nothing) else Or(left, right)


def _compare(field: pa.Field, operator: Operator, value: object) -> Predicate:
    if value is None:
        return Everything()
    if pa.types.is_floating(field.type) and operator in (">", ">=", "!="):
        return Everything()  # NaN is the greatest value in SQL here, and no statistic counts it
    return Compare(field.name, operator, value)


def _like(field: pa.Field, pattern: exp.Expression) -> Predicate:
    if not (isinstance(pattern, exp.Literal) and pattern.is_string and pa.types.is_string(field.type)):
        return Everything()
    prefix = pattern.name.split("%")[0]
    if not prefix or "_" in prefix or "\\" in prefix or "%" not in pattern.name:
        return Everything()
    return StartsWith(field.name, prefix)


def _constant(node: exp.Expression, field: pa.Field, evaluate: Evaluate) -> object:
    """Return the value of a column-free expression in the column's type, or None where there is none."""
    if not all(part.key in _CONSTANT or _makes_moment(part) for part in node.walk()):
        return None
    try:
        value = _literal(node)
        if value is None:
            value = _literal(_simplified(node))
        return fit(evaluate(node) if value is None else value, field.type)
    except (ValueError, ArithmeticError, OverflowError):
        return None


def _makes_moment(node: exp.Expression) -> bool:
    """Whether `node` is what Ibis writes for a moment with a time zone; sqlglot has no class for it."""
    return isinstance(node, exp.Anonymous) and node.name.lower() == "make_timestamptz"


def _simplified(node: exp.Expression) -> exp.Expression:
    return simplifying.simplify(node.copy(), dialect="duckdb")


_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?")


def _literal(node: exp.Expression) -> object:
    """Return the value of a literal, or of a date or moment in its plainest form; None of all else."""
    match node:
        case exp.Boolean():
            return bool(node.this)
        case exp.Literal() if node.is_string:
            return node.name
        case exp.Literal():
            return int(node.name) if node.name.isdigit() else Decimal(node.name)
        case exp.Neg(this=exp.Literal(is_string=False) as number):
            return -(int(number.name) if number.name.isdigit() else Decimal(number.name))
        case exp.Cast(this=exp.Literal(is_string=True) as text):
            if node.is_type("date") and _DATE.fullmatch(text.name):
                return dt.date.fromisoformat(text.name)
            if node.is_type("timestampntz") and _TIMESTAMP.fullmatch(text.name):
                return dt.datetime.fromisoformat(text.name)
    return None


def fit(value: object, dtype: pa.DataType) -> object:
    """Return `value` in the Python type of `dtype` when it is exactly that value, else None."""
    match value:
        case bool():
            return value if pa.types.is_boolean(dtype) else None
        case int() | Decimal() | float() if pa.types.is_integer(dtype):
            return int(value) if value == int(value) else None
        case int() | Decimal() | float() if pa.types.is_floating(dtype):
            number = float(value)
            if pa.types.is_float32(dtype):  # the kernel compares a float column with a double literal as floats
                return None
            return None if math.isnan(number) else number
        case int() | Decimal() if pa.types.is_decimal(dtype):
            exact = Decimal(value)
            scaled = exact.scaleb(dtype.scale)
            return exact if scaled == scaled.to_integral_value() else None
        case str() if pa.types.is_string(dtype):
            return value
        case str() if isinstance(dtype, pa.UuidType):
            return uuid.UUID(value)
        case uuid.UUID() if isinstance(dtype, pa.UuidType):
            return value
        case bytes() if pa.types.is_binary(dtype) or pa.types.is_fixed_size_binary(dtype):
            return value
        case dt.datetime() if pa.types.is_date(dtype):
            return value.date() if value.time() == dt.time() and value.tzinfo is None else None
        case dt.date() | str() if pa.types.is_date(dtype) or pa.types.is_timestamp(dtype):
            return _moment(value, dtype)
        case dt.time() if pa.types.is_time(dtype):
            return value
    return None


def _moment(value: dt.date | str, dtype: pa.DataType) -> object:
    if pa.types.is_date(dtype):
        return dt.date.fromisoformat(value) if isinstance(value, str) else value
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.combine(moment, dt.time())
    if dtype.tz is not None and moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)  # the kernel's time zone is pinned to UTC
    return None if dtype.tz is None and moment.tzinfo is not None else moment


def exact_predicate(
    node: exp.Expression, alias: str, fields: Mapping[str, pa.Field], evaluate: Evaluate
) -> Predicate | None:
    """Return what `node` says if that can be said wholly: true for the same rows, no more and no fewer; else None.

    Parameters are those of `read_predicate`.
    """
    match node:
        case exp.Paren():
            return exact_predicate(node.this, alias, fields, evaluate)
        case exp.Boolean():
            return Everything() if node.this else Nothing()
        case exp.And() | exp.Or():
            left = exact_predicate(node.left, alias, fields, evaluate)
            right = exact_predicate(node.right, alias, fields, evaluate)
            if left is None or right is None:
                return None
            return conjunction(left, right) if isinstance(node, exp.And) else either(left, right)
        case exp.Between() | exp.In() | exp.Is() | exp.Column() | exp.Not(this=exp.Is() | exp.Column()):
            leaf = not isinstance(node, exp.Between) or not node.args.get("symmetric")
        case _:
            leaf = node.key in _OPERATORS
    if not leaf or any(isinstance(part, exp.Query) for part in node.walk()):
        return None
    found = read_predicate(node, alias, fields, evaluate)
    if isinstance(node, exp.Between) and not isinstance(found, And):
        return None  # one of the bounds could not be said
    return None if isinstance(found, Everything) or not _plain(node) else found


def _plain(node: exp.Expression) -> bool:
    """Whether a leaf names a column alone, and not in arithmetic that was solved for it."""
    columns = list(node.find_all(exp.Column))
    direct = [side for side in (node, node.this, node.args.get("expression")) if isinstance(side, exp.Column)]
    inside = [node.this.this] if isinstance(node, exp.Not) and isinstance(node.this, exp.Is) else []
    return len(columns) == 1 and any(columns[0] is side for side in [*direct, *inside])
