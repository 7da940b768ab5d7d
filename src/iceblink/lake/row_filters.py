"""Row filters of PyIceberg as SQL, for whoever brings code that has them."""

from __future__ import annotations

from typing import Any

from pyiceberg import expressions
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.parser import parse

from iceblink.errors import PlanError, TypeMismatch

_COMPARE: dict[Any, str] = {
    expressions.EqualTo: "=",
    expressions.NotEqualTo: "<>",
    expressions.LessThan: "<",
    expressions.LessThanOrEqual: "<=",
    expressions.GreaterThan: ">",
    expressions.GreaterThanOrEqual: ">=",
}

_UNARY: dict[Any, str] = {
    expressions.IsNull: "{} IS NULL",
    expressions.NotNull: "{} IS NOT NULL",
    expressions.IsNaN: "isnan({})",
    expressions.NotNaN: "NOT isnan({})",
}


def sql_of(row_filter: str | BooleanExpression) -> str:
    """Return a filter, in PyIceberg's text or expressions, as a condition in SQL.

    Raises
    ------
    PlanError
        The text is none.
    TypeMismatch
        It is something else.
    """
    if isinstance(row_filter, str):
        try:
            row_filter = parse(row_filter)
        except Exception as error:  # of the parser's own making
            raise PlanError(f"cannot read the filter {row_filter!r}: {error}", "row_filter") from error
    return _sql(row_filter)


def _sql(node: Any) -> str:
    match node:
        case expressions.AlwaysTrue():
            return "true"
        case expressions.AlwaysFalse():
            return "false"
        case expressions.And():
            return f"({_sql(node.left)} AND {_sql(node.right)})"
        case expressions.Or():
            return f"({_sql(node.left)} OR {_sql(node.right)})"
        case expressions.Not():
            return f"NOT ({_sql(node.child)})"
        case expressions.UnaryPredicate():
            return _UNARY[type(node)].format(_name(node))
        case expressions.In() | expressions.NotIn():
            values = ", ".join(sorted(_value(one.value) for one in node.literals))
            return f"{_name(node)} {'IN' if isinstance(node, expressions.In) else 'NOT IN'} ({values})"
        case expressions.StartsWith():
            return f"starts_with({_name(node)}, {_value(node.literal.value)})"
        case expressions.NotStartsWith():
            return f"NOT starts_with({_name(node)}, {_value(node.literal.value)})"
    if type(node) in _COMPARE:
        return f"{_name(node)} {_COMPARE[type(node)]} {_value(node.literal.value)}"
    raise TypeMismatch(f"{type(node).__name__} is no filter of PyIceberg", "row_filter")


def _name(node: Any) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in node.term.name.split("."))


def _value(value: object) -> str:
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, bytes):
        return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"
    return "'" + str(value).replace("'", "''") + "'"
