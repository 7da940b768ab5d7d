"""Items come from another thread, one ahead at most; whoever stops waits for no call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from iceblink.errors import PlanError
from iceblink.run import beside as module
from iceblink.run.beside import beside
from iceblink.run.stop import Stop, waiting

LONG_S = 60


def nothing() -> None:
    pass


def numbers(made: list[int], threads: set[str] | None = None) -> Generator[int, None, None]:
    try:
        for number in range(5):
            made.append(number)
            if threads is not None:
                threads.add(threading.current_thread().name)
            yield number
    finally:
        made.append(-1)


def test_items_are_what_they_were_and_made_elsewhere() -> None:
    made: list[int] = []
    threads: set[str] = set()
    assert list(beside(numbers(made, threads), nothing)) == [0, 1, 2, 3, 4]
    assert threads == {"iceblink-statement"}
    assert made[-1] == -1


def test_one_item_is_made_ahead_and_no_more() -> None:
    ahead = threading.Event()
    made: list[int] = []

    def told() -> Generator[int, None, None]:
        for number in numbers(made):
            if number == 2:
                ahead.set()
            yield number

    items = beside(told(), nothing)
    assert [next(items), next(items)] == [0, 1]
    assert ahead.wait(LONG_S)
    assert made == [0, 1, 2]
    items.close()
    assert made == [0, 1, 2, -1]


def test_nothing_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []
    beside(numbers(made), nothing).close()
    assert made == []


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        raise KeyError("x")

    items = beside(broken(), nothing)
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)


def held(calls: threading.Semaphore, begun: threading.Event) -> Generator[int, None, None]:
    yield 1
    begun.set()
    assert calls.acquire(timeout=LONG_S)
    assert calls.acquire(timeout=LONG_S)
    raise InterruptedError


def test_who_takes_no_more_interrupts_until_it_is_heard() -> None:
    calls, begun = threading.Semaphore(0), threading.Event()
    items = beside(held(calls, begun), calls.release)
    assert next(items) == 1
    assert begun.wait(LONG_S)
    items.close()
    assert not _alive()


def test_what_never_comes_back_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    calls, begun = threading.Semaphore(0), threading.Event()
    items = beside(held(calls, begun), nothing)
    assert next(items) == 1
    assert begun.wait(LONG_S)
    items.close()
    assert len(_alive()) == 1
    calls.release(2)
    _alive()[0].join()


def test_who_waits_is_woken_when_the_run_is_stopped() -> None:
    calls, begun, stop = threading.Semaphore(0), threading.Event(), Stop()
    items = beside(held(calls, begun), calls.release)
    assert next(items) == 1

    def ask() -> None:
        begun.wait(LONG_S)
        stop.ask()

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(PlanError, match="cancelled"):
        stop.context().run(next, items)
    asking.join()
    assert not _alive()


def test_who_begins_to_wait_after_the_stop_is_woken_too() -> None:
    stop, woken = Stop(), threading.Event()
    stop.ask()
    with pytest.raises(PlanError, match="cancelled"):
        stop.context().run(_wait, woken)
    assert woken.is_set()


def test_nobody_is_woken_who_waits_no_longer() -> None:
    stop, woken = Stop(), threading.Event()
    context = stop.context()
    context.run(_pass, woken.set)
    stop.ask()
    assert not woken.is_set()


def _wait(woken: threading.Event) -> None:
    with waiting(woken.set):
        woken.wait(LONG_S)


def _pass(wake: Callable[[], None]) -> None:
    with waiting(wake):
        pass


def _alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "iceblink-statement"]
