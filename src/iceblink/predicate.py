"""Row predicates as plain data: the part of a filter that metadata can answer.

A `Predicate` is what the planner could prove about a scan: Iceberg partitions, file statistics, row-group
statistics and Bloom filters are asked the same question in the same words. It names top-level columns, its
values are plain Python values of the column's type, and null counts as false, as in SQL ``WHERE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Operator = Literal["=", "!=", "<", "<=", ">", ">="]

FLIPPED: dict[Operator, Operator] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Predicate:
    """The root; the subclasses below are all there are."""


def shown(value: object) -> str:
    """Return a value as SQL would write it: numbers bare, the rest in quotes."""
    return str(value) if isinstance(value, int | float | Decimal) else f"'{value}'"


@dataclass(frozen=True)
class Everything(Predicate):
    """True for every row: nothing is known."""

    def __str__(self) -> str:
        return "true"


@dataclass(frozen=True)
class Nothing(Predicate):
    """False for every row: the scan is empty."""

    def __str__(self) -> str:
        return "false"


@dataclass(frozen=True)
class Compare(Predicate):
    """``column op value``; `value` is never null."""

    column: str
    op: Operator
    value: object

    def __str__(self) -> str:
        return f"{self.column} {self.op} {shown(self.value)}"


@dataclass(frozen=True)
class IsIn(Predicate):
    """``column IN (values)``; no value is null."""

    column: str
    values: frozenset[object]

    def __str__(self) -> str:
        return f"{self.column} in {{{', '.join(sorted(map(shown, self.values)))}}}"


@dataclass(frozen=True)
class StartsWith(Predicate):
    """``column LIKE 'prefix%'``."""

    column: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.column} like {self.prefix + '%'!r}"


@dataclass(frozen=True)
class IsNull(Predicate):
    """``column IS NULL``."""

    column: str

    def __str__(self) -> str:
        return f"{self.column} is null"


@dataclass(frozen=True)
class NotNull(Predicate):
    """``column IS NOT NULL``."""

    column: str

    def __str__(self) -> str:
        return f"{self.column} is not null"


@dataclass(frozen=True)
class And(Predicate):
    """Both are true."""

    left: Predicate
    right: Predicate

    def __str__(self) -> str:
        return f"{self.left} and {self.right}"


@dataclass(frozen=True)
class Or(Predicate):
    """One is true."""

    left: Predicate
    right: Predicate

    def __str__(self) -> str:
        return f"({self.left} or {self.right})"


def conjunction(*parts: Predicate) -> Predicate:
    """Join with AND; `Everything` disappears, `Nothing` wins."""
    result: Predicate = Everything()
    for part in parts:
        if isinstance(part, Nothing):
            return part
        if isinstance(part, Everything):
            continue
        result = part if isinstance(result, Everything) else And(result, part)
    return result


def columns(predicate: Predicate) -> set[str]:
    """Return the names that `predicate` asks about."""
    match predicate:
        case And(left, right) | Or(left, right):
            return columns(left) | columns(right)
        case Compare(column) | IsIn(column) | StartsWith(column) | IsNull(column) | NotNull(column):
            return {column}
        case _:
            return set()
