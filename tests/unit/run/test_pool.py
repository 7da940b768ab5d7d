"""The ordered pool: order, bounds, one callable a worker, and what happens when work or its consumer stops."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.run.pool import ordered_map


@given(items=st.lists(st.integers(), max_size=30), workers=st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(items: list[int], workers: int) -> None:
    assert list(ordered_map(lambda: lambda x: x * 2, items, workers, "t")) == [x * 2 for x in items]


def test_no_more_items_are_drawn_than_workers_and_one() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    with closing(ordered_map(lambda: lambda x: x, items(), 2, "t")) as results:
        for taken in range(1, 20):
            assert next(results) == taken
            assert drawn - taken <= 2


def test_each_worker_builds_its_callable_once() -> None:
    built: list[str] = []

    def build() -> Callable[[int], str]:
        name = threading.current_thread().name
        built.append(name)
        return lambda _: name

    assert set(ordered_map(build, range(50), 3, "t")) <= set(built)
    assert len(built) == len(set(built)) <= 3


def test_an_error_comes_out_at_its_place_and_stops_the_source() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    results = ordered_map(lambda: lambda x: 1 // (3 - x), items(), 2, "t")
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert closed.is_set()


def test_closing_leaves_no_thread() -> None:
    before = threading.active_count()
    with closing(ordered_map(lambda: lambda x: x, itertools.count(), 3, "t")) as results:
        next(results)
    assert threading.active_count() == before
