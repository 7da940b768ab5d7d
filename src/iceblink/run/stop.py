"""Who waits for rows can be told by another thread to wait no longer: the run that it works for is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

from iceblink.errors import PlanError

AWAKE_S = 0.2
"""Whoever waits looks up so often [s]: Ctrl-C just before a wait, or given to another thread, does not end that."""

_current: ContextVar[Stop | None] = ContextVar("iceblink_stop", default=None)


class Stop:
    """Asked for once, from any thread: those who wait under it raise, and so does whoever would wait from then on."""

    def __init__(self) -> None:
        self.asked = False
        self._lock = threading.Lock()
        self._wakes: list[Callable[[], None]] = []

    def ask(self) -> None:
        """Wake all who wait under it."""
        with self._lock:
            self.asked = True
            wakes = list(self._wakes)
        for wake in wakes:
            wake()

    def context(self) -> Context:
        """Return a copy of the caller's context; what runs in it waits under this."""
        context = copy_context()
        context.run(_current.set, self)
        return context

    def _add(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes.append(wake)
        if self.asked:
            wake()

    def _remove(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes.remove(wake)


@contextmanager
def waiting(wake: Callable[[], None]) -> Iterator[None]:
    """Wait inside the block; `wake` is called, by whoever stops the run, to end the wait.

    Raises
    ------
    PlanError
        The run was stopped.
    """
    stop = _current.get()
    if stop is None:
        yield
        return
    stop._add(wake)
    try:
        yield
    finally:
        stop._remove(wake)
    if stop.asked:
        raise cancelled()


def cancelled() -> PlanError:
    """Return what a run that was stopped raises where it is waited for; nobody is told but who stopped it."""
    return PlanError("the query was cancelled")
