"""States of blocks of rows become one, in an order that only the number of blocks decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self, TypeVar


class State(Protocol):
    """What is known of some rows, and can be joined with what is known of others."""

    def merged(self, other: Self) -> Self:
        """Return what is known of the rows of both."""


S = TypeVar("S", bound=State)


def merged(states: Iterable[S]) -> S | None:
    """Merge states as a balanced binary tree over their positions does; of none, None.

    Rounding then grows with the logarithm of the number of states, and never depends on who made which of them.
    At most one state for each level of the tree is held.
    """
    levels: list[S | None] = []
    for state in states:
        level = 0
        while level < len(levels) and (left := levels[level]) is not None:
            levels[level] = None
            state = left.merged(state)
            level += 1
        if level == len(levels):
            levels.append(None)
        levels[level] = state
    whole: S | None = None
    for right in levels:
        if right is not None:
            whole = right if whole is None else right.merged(whole)
    return whole
