"""The WHEN clauses of a merge as Python says them: which rows, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Of: TypeAlias = Literal["matched", "not matched", "not matched by source"]
Action: TypeAlias = Literal["update", "delete", "insert"]


@dataclass(frozen=True)
class MergeClause:
    """One clause, made by `when_matched` and its like.

    Parameters
    ----------
    of : {"matched", "not matched", "not matched by source"}
        Which rows: those of both sides, of the source alone, of the table alone.
    action : {"update", "delete", "insert"}
    condition : expression or None
        Which of them; None for all.
    values : mapping of str to expression, or None
        By column of the table; None for the source's column of the same name, of all columns.
    """

    of: Of
    action: Action
    condition: Any = None
    values: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class WhenMatched:
    """Rows of the table that a row of the source matches; see `when_matched`."""

    condition: Any = None

    def update(self, values: Mapping[str, Any] | None = None, **named: Any) -> MergeClause:
        """Set columns: ``update(n=lambda target, source: target.n + source.n)``; others stay."""
        return MergeClause("matched", "update", self.condition, {**(values or {}), **named})

    def update_all(self) -> MergeClause:
        """Set every column to the source's of the same name."""
        return MergeClause("matched", "update", self.condition)

    def delete(self) -> MergeClause:
        """Delete the rows."""
        return MergeClause("matched", "delete", self.condition)


@dataclass(frozen=True)
class WhenNotMatched:
    """Rows of the source that match no row of the table; see `when_not_matched`."""

    condition: Any = None

    def insert(self, values: Mapping[str, Any] | None = None, **named: Any) -> MergeClause:
        """Insert a row of these values: ``insert(item=_.item, n=1)``; other columns are null."""
        return MergeClause("not matched", "insert", self.condition, {**(values or {}), **named})

    def insert_all(self) -> MergeClause:
        """Insert the source's columns of the same names."""
        return MergeClause("not matched", "insert", self.condition)


@dataclass(frozen=True)
class WhenNotMatchedBySource:
    """Rows of the table that no row of the source matches; see `when_not_matched_by_source`."""

    condition: Any = None

    def update(self, values: Mapping[str, Any] | None = None, **named: Any) -> MergeClause:
        """Set columns: ``update(n=0)``; others stay."""
        return MergeClause("not matched by source", "update", self.condition, {**(values or {}), **named})

    def delete(self) -> MergeClause:
        """Delete the rows."""
        return MergeClause("not matched by source", "delete", self.condition)


def when_matched(condition: Any = None) -> WhenMatched:
    """Begin a clause of `Lake.merge` about rows of both sides, for which `condition` is true: null counts as false.

    Parameters
    ----------
    condition : callable or str, optional
        ``lambda target, source: source.n == 0``, or SQL text over ``target`` and ``source``.
    """
    return WhenMatched(condition)


def when_not_matched(condition: Any = None) -> WhenNotMatched:
    """Begin a clause of `Lake.merge` about rows of the source alone, for which `condition` is true.

    Parameters
    ----------
    condition : boolean expression, or str, optional
        Over the source: ``_.n > 0``, or SQL text.
    """
    return WhenNotMatched(condition)


def when_not_matched_by_source(condition: Any = None) -> WhenNotMatchedBySource:
    """Begin a clause of `Lake.merge` about rows of the table alone, for which `condition` is true.

    Parameters
    ----------
    condition : boolean expression, or str, optional
        Over the table: ``_.day < dt.date(2026, 1, 1)``, or SQL text.
    """
    return WhenNotMatchedBySource(condition)
