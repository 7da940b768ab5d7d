"""A table in plain Python: columns by number, rows as bags, snapshots with their parents, branches and tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = frozenset[tuple[int, Any]]
"""Values by the number of their column; a null is not there."""
Rows = Counter[Row]
ID, GROUP, NUMBER = 1, 2, 3
"""The columns that every table has; others are numbered on."""


def value(row: Row, column: int) -> Any:
    """Return what a row has in a column."""
    return next((one for number, one in row if number == column), None)


def changed(row: Row, values: Mapping[int, Any]) -> Row:
    """Return the row with other values."""
    kept = {number: one for number, one in row if number not in values}
    return frozenset((kept | {number: one for number, one in values.items() if one is not None}).items())


def kept(rows: Rows, condition: Callable[[Row], Any]) -> Rows:
    """Return the rows for which something is true."""
    return Counter({row: times for row, times in rows.items() if condition(row)})


def each(rows: Rows, change: Callable[[Row], Row]) -> Rows:
    """Return what becomes of the rows, one by one."""
    made: Rows = Counter()
    for row, times in rows.items():
        made[change(row)] += times
    return made


def seen(rows: Rows, columns: Iterable[int]) -> Rows:
    """Return the rows as somebody sees them who knows these columns."""
    known = frozenset(columns)
    return each(rows, lambda row: frozenset(pair for pair in row if pair[0] in known))


@dataclass(frozen=True)
class Version:
    """A snapshot: rows, the columns of that time by name, and the snapshot that it was made from."""

    rows: Rows
    columns: Mapping[str, int]
    parent: int | None
    grows: bool = False
    """Whether it does nothing but add rows."""


@dataclass
class Model:
    """A table with its history."""

    columns: dict[str, int]
    versions: dict[int, Version] = field(default_factory=dict)
    branches: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    """Snapshots whose parent was expired."""
    highest: int = NUMBER
    """Number of the newest column."""

    def rows(self, branch: str = "main") -> Rows:
        """Return the rows at the head of a branch, with values of columns that are gone."""
        head = self.branches.get(branch)
        return Counter() if head is None else self.versions[head].rows

    def name(self, number: int) -> str:
        """Return what a column is called."""
        return next(name for name, one in self.columns.items() if one == number)

    def line(self, snapshot: int | None) -> list[int]:
        """Return a snapshot and those that it was made from, newest first, as far as they are kept."""
        found: list[int] = []
        while snapshot is not None:
            found.append(snapshot)
            snapshot = self.versions[snapshot].parent
        return found

    def committed(self, snapshot: int, branch: str, rows: Rows, grows: bool) -> None:
        """Take note of a new snapshot of a branch."""
        self.versions[snapshot] = Version(rows, dict(self.columns), self.branches.get(branch), grows)
        self.branches[branch] = snapshot

    def expire(self, keep_last: int) -> set[int]:
        """Forget what nothing needs, and return it: the newest of each branch and the tags stay."""
        needed = set(self.tags.values())
        for head in self.branches.values():
            needed.update(self.line(head)[:keep_last])
        gone = self.versions.keys() - needed
        for snapshot in needed:
            version = self.versions[snapshot]
            if version.parent in gone:
                self.versions[snapshot] = Version(version.rows, version.columns, None, version.grows)
                self.cut.add(snapshot)
        for snapshot in gone:
            del self.versions[snapshot]
        return gone
