"""Many threads, one order, bounded haste."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.scan.ordered import in_order


def numbers(task: int, count: int) -> Iterator[tuple[int, int]]:
    return ((task, at) for at in range(count))


@given(counts=st.lists(st.integers(0, 5), max_size=8), threads=st.integers(1, 4), ahead=st.integers(0, 6))
def test_items_come_in_the_order_of_the_tasks(counts: list[int], threads: int, ahead: int) -> None:
    tasks = [partial(numbers, task, count) for task, count in enumerate(counts)]
    expected = [(task, at) for task, count in enumerate(counts) for at in range(count)]
    assert list(in_order(tasks, threads, lambda _: 1, ahead)) == expected


def test_what_lies_ready_is_bounded() -> None:
    made: list[int] = []

    def endless(task: int) -> Iterator[int]:
        while True:
            made.append(task)
            yield task

    items = in_order([partial(endless, task) for task in range(9)], 3, lambda _: 10, 40)
    for _ in range(50):
        next(items)
    items.close()
    # fifty taken, four ready, and one in the hands of each of three threads
    assert len(made) <= 50 + 4 + 3
    assert set(made) <= {0, 1, 2}


def test_closing_stops_the_threads() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = in_order([endless], 2, lambda _: 1, 3)
    next(items)
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("iceblink-scan")]


def test_an_error_comes_in_its_place() -> None:
    def failing() -> Iterator[int]:
        yield 2
        raise KeyError("here")

    items = in_order([lambda: iter([1]), failing, lambda: iter([3])], 3, lambda _: 1, 10)
    assert next(items) == 1
    assert next(items) == 2
    with pytest.raises(KeyError, match="here"):
        next(items)


def test_an_error_of_the_list_of_tasks_is_raised() -> None:
    def tasks() -> Iterator[Callable[[], Iterator[int]]]:
        yield lambda: iter([1])
        raise KeyError("no more")

    items = in_order(tasks(), 2, lambda _: 1, 10)
    assert next(items) == 1
    with pytest.raises(KeyError, match="no more"):
        next(items)


def test_tasks_run_in_a_copy_of_the_callers_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    token = variable.set("set")
    try:
        assert list(in_order([lambda: iter([variable.get()])], 1, lambda _: 1, 1)) == ["set"]
    finally:
        variable.reset(token)


def test_no_tasks_give_nothing() -> None:
    assert list(in_order([], 3, lambda _: 1, 1)) == []


def test_a_process_that_ends_in_the_middle_stops_its_threads_first() -> None:
    script = """
import itertools
from iceblink.scan.ordered import in_order

def task():
    try:
        yield from itertools.count()
    finally:
        print("closed")

stream = in_order([task], 1, lambda item: 1, 2)
next(stream)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "closed\n"


def test_a_process_ends_while_one_stream_is_made_of_another() -> None:
    script = """
import itertools, time
from iceblink.scan.ordered import in_order

def slow():
    for number in itertools.count():
        time.sleep(0.01)
        yield number

def made():
    yield from in_order([slow], 1, lambda item: 1, 2)

stream = in_order([made], 1, lambda item: 0, 1)
print(next(stream))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "0\n"


def test_what_is_under_way_can_be_interrupted() -> None:
    interrupted = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        interrupted.wait()

    items = in_order([waits], 1, lambda _: 1, 1, interrupted.set)
    assert next(items) == 1
    items.close()
    assert interrupted.is_set()
