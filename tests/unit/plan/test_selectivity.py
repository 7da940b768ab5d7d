"""What a filter is taken to keep, by numbers of distinct values."""

from __future__ import annotations

import pytest

from iceblink.plan.selectivity import selectivity
from iceblink.predicate import And, Compare, Everything, IsIn, IsNull, Nothing, Or, Predicate

DISTINCT = {"day": 100, "shop": 20, "empty": 0, "one": 1}


@pytest.mark.parametrize(
    ("predicate", "part"),
    [
        (Everything(), 1),
        (Nothing(), 0),
        (Compare("day", "=", 1), 1 / 100),
        (Compare("day", "!=", 1), 99 / 100),
        (Compare("day", "<", 1), 1),
        (Compare("unknown", "=", 1), 1),
        (Compare("unknown", "!=", 1), 1),
        (Compare("empty", "=", 1), 1),
        (Compare("one", "!=", 1), 1 / 2),
        (IsIn("shop", frozenset({1, 2, 3})), 3 / 20),
        (IsIn("shop", frozenset(range(50))), 1),
        (IsNull("day"), 1),
        (And(Compare("day", "=", 1), Compare("shop", "=", 1)), 1 / 2000),
        (Or(Compare("day", "=", 1), Compare("shop", "=", 1)), 6 / 100),
        (Or(Compare("unknown", "=", 1), Compare("shop", "=", 1)), 1),
    ],
)
def test_every_value_is_taken_to_be_as_frequent_as_any_other(predicate: Predicate, part: float) -> None:
    assert selectivity(predicate, DISTINCT) == pytest.approx(part)
