"""The filter of a scan, as a client sends it: an expression of Iceberg's, for the questions that metadata can answer.

What cannot be said in the terms of a column counts as "maybe", so that no file with a wanted row is left out.

References
----------
.. [1] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``Expression``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyiceberg import expressions
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.visitors import bind
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType

from iceblink.lake.json_values import from_json
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.values import Inexpressible, to_stored

iceberg: Any = expressions  # mypy sees pydantic's constructors there, not those that the classes have

DEEPEST = 120
"""Levels of an expression: PyIceberg's visitors call themselves for each."""

_UNARY: Mapping[str, Callable[[str], BooleanExpression]] = {
    "is-null": iceberg.IsNull,
    "not-null": iceberg.NotNull,
    "is-nan": iceberg.IsNaN,
    "not-nan": iceberg.NotNaN,
}
_LITERAL: Mapping[str, Callable[[str, Any], BooleanExpression]] = {
    "lt": iceberg.LessThan,
    "lt-eq": iceberg.LessThanOrEqual,
    "gt": iceberg.GreaterThan,
    "gt-eq": iceberg.GreaterThanOrEqual,
    "eq": iceberg.EqualTo,
    "not-eq": iceberg.NotEqualTo,
    "starts-with": iceberg.StartsWith,
    "not-starts-with": iceberg.NotStartsWith,
}
_SET: Mapping[str, Callable[[str, Any], BooleanExpression]] = {"in": iceberg.In, "not-in": iceberg.NotIn}


def parsed_filter(value: Any, schema: Schema, case_sensitive: bool) -> tuple[BooleanExpression, bool]:
    """Return an expression that is true for every row that a filter is true for, and whether for no others.

    It binds to `schema`.

    Parameters
    ----------
    value : object
        JSON; None asks for all rows.
    schema : Schema
    case_sensitive : bool
        Whether names of columns are.

    Raises
    ------
    Refusal
        400: it is no expression, is too deep, or names a column that is not there.
    """
    parser = _Parser(schema, case_sensitive)
    asked = expressions.AlwaysTrue() if value is None else parser.conjuncts(value, DEEPEST)
    return asked, parser.exact


@dataclass
class _Parser:
    schema: Schema
    case_sensitive: bool
    exact: bool = True

    def conjuncts(self, value: Any, levels: int) -> BooleanExpression:
        """Return what is joined by AND at the top; one of which a part cannot be said is left out as a whole."""
        if isinstance(value, dict) and value.get("type") == "and":
            self._deep(levels)
            return expressions.And(
                self.conjuncts(value.get("left"), levels - 1), self.conjuncts(value.get("right"), levels - 1)
            )
        try:
            return self._exact(value, levels)
        except Inexpressible:
            self.exact = False
            return expressions.AlwaysTrue()

    def _exact(self, value: Any, levels: int) -> BooleanExpression:
        """Return the same expression; raises `Inexpressible` where there is none."""
        self._deep(levels)
        if isinstance(value, bool):  # so Java and PyIceberg write what is always true
            value = {"type": str(value).lower()}
        match value:
            case {"type": "true"}:
                return expressions.AlwaysTrue()
            case {"type": "false"}:
                return expressions.AlwaysFalse()
            case {"type": "not", "child": child}:
                return expressions.Not(self._exact(child, levels - 1))
            case {"type": "and", "left": left, "right": right}:
                return expressions.And(self._exact(left, levels - 1), self._exact(right, levels - 1))
            case {"type": "or", "left": left, "right": right}:
                return expressions.Or(self._exact(left, levels - 1), self._exact(right, levels - 1))
            case {"type": str(word), "term": term} if word in _UNARY:
                return self._bound(_UNARY[word](self._name(term)))
            case {"type": str(word), "term": term, "value": literal} if word in _LITERAL:
                name = self._name(term)
                return self._bound(_LITERAL[word](name, self._literal(name, literal, word.endswith("starts-with"))))
            case {"type": str(word), "term": term, "values": list(literals)} if word in _SET:
                name = self._name(term)
                return self._bound(_SET[word](name, {self._literal(name, one) for one in literals}))
        raise Refusal.bad("the filter cannot be read: a part of it is no expression")

    def _deep(self, levels: int) -> None:
        if levels == 0:
            raise Refusal.bad(f"the filter has more than {DEEPEST} levels")

    def _name(self, term: Any) -> str:
        """Return the name of a column as the schema has it."""
        match term:
            case {"type": "reference", "term": str(name)} | str(name):
                return str(self.schema.find_column_name(self._field(name).field_id))
            case {"type": "transform"}:
                raise Inexpressible(term)
        raise Refusal.bad("the filter cannot be read: a term is no column")

    def _field(self, name: str) -> NestedField:
        try:
            return self.schema.find_field(name, self.case_sensitive)
        except ValueError:
            raise Refusal.bad(f"no column {name!r}") from None

    def _literal(self, name: str, value: Any, prefix: bool = False) -> Any:
        kind = self._field(name).field_type
        if prefix and not isinstance(kind, StringType):
            raise Inexpressible(value)
        return to_stored(from_json(kind, value), kind)

    def _bound(self, asked: BooleanExpression) -> BooleanExpression:
        try:
            bind(self.schema, asked, case_sensitive=True)
        except (TypeError, ValueError):  # PyIceberg's way to refuse a literal
            raise Inexpressible(asked) from None
        return asked
