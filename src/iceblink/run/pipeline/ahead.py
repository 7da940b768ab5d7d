"""Calls asked for ahead: one thread makes them, another one prepares them and deals with what they gave.

Between two calls a device has nothing to do. Whoever built an instance calls it too, for what it holds may belong to
its thread; so everything else is done beside that thread, and the next call is there when one ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Ahead:
    """The calls of one worker, made in the order in which they are asked for."""

    def __init__(self) -> None:
        self.serving = False
        self._stopped = False
        self._begin_next: Callable[[], None] = _nothing
        self._news: SimpleQueue[None] = SimpleQueue()
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def serve(self, asking: Callable[[], None], begin_next: Callable[[], None]) -> None:
        """Run `asking` in a thread of its own, and here the calls that it asks for, until it ends.

        While that thread waits for the last calls of a task, it lets `begin_next` look for another one.
        """

        def ask() -> None:
            try:
                asking()
            finally:
                self._asked.put(None)

        self._begin_next, self.serving = begin_next, True
        name = f"{threading.current_thread().name}, around its calls"
        threading.Thread(target=copy_context().run, args=(ask,), name=name, daemon=True).start()
        while (asked := self._asked.get()) is not None:
            self._make(*asked)
            del asked  # while this waits for the next one, it holds no rows
        self.serving = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Ask for a call."""
        future: Future[T] = Future()
        self._asked.put((future, call))
        return future

    def last(self, future: Future[T]) -> T:
        """Wait for a call after which none of its task will be asked for; the next task is begun meanwhile."""
        future.add_done_callback(lambda _: self.look())
        while not future.done():
            self._begin_next()
            self._news.get()
        return future.result()

    def look(self) -> None:
        """Let who waits for a last call look again whether there is a next task; from any thread."""
        self._news.put(None)

    def drawn(self, values: Iterator[Any]) -> Iterator[Any]:
        """Yield what an iterator gives that a call has returned."""
        ended = object()
        while (value := self.submit(partial(next, values, ended)).result()) is not ended:
            yield value
            del value  # while the next one is made, nothing of this one is held

    def stop(self) -> None:
        """Begin no call any more; from any thread."""
        self._stopped = True

    def _make(self, future: Future[Any], call: Callable[[], Any]) -> None:
        if self._stopped:
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)


def _nothing() -> None:
    """Begin no task: there is none while nobody asks for calls."""
