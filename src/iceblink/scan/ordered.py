"""Streams produced by several threads, handed on in order: a bounded number of bytes ahead of whoever reads."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from iceblink.condition import Condition

T = TypeVar("T")


@dataclass(eq=False)
class _Stream(Generic[T]):
    """What one task has produced and nobody has taken yet."""

    items: deque[tuple[T, int]] = field(default_factory=deque)
    ended: bool = False
    error: BaseException | None = None


class _Line(Generic[T]):
    """Tasks in a line; threads serve the front first, and wait when too much lies ready.

    The front stream may always add an item when it has none: whoever reads never waits for a thread that waits.
    """

    def __init__(self, tasks: Iterable[Callable[[], Iterator[T]]], size: Callable[[T], int], ahead_bytes: int) -> None:
        self.tasks, self.size, self.ahead_bytes = iter(tasks), size, ahead_bytes
        self.starting = threading.Lock()  # of the next task, which may be long in coming: nobody else waits for that
        self.changed = Condition()
        self.streams: deque[_Stream[T]] = deque()
        self.held_bytes = 0
        self.stopped = False
        self.exhausted = False

    def work(self) -> None:
        """Run tasks until there are none; errors wait in their stream for the reader to come by."""
        while (started := self._start()) is not None:
            task, stream = started
            items: Iterator[T] | None = None
            try:
                items = task()
                for item in items:
                    if not self._put(stream, item):
                        break
            except BaseException as error:
                stream.error = error
            finally:
                if items is not None and hasattr(items, "close"):
                    items.close()
                with self.changed:
                    stream.ended = True
                    self.changed.notify_all()

    def _start(self) -> tuple[Callable[[], Iterator[T]], _Stream[T]] | None:
        with self.starting:
            if self.stopped or self.exhausted:
                return None
            task, error = None, None
            try:
                task = next(self.tasks, None)
            except BaseException as raised:  # as if the task itself had failed
                error = raised
            stream: _Stream[T] = _Stream(ended=task is None, error=error)
            with self.changed:
                self.exhausted = task is None
                if task is not None or error is not None:
                    self.streams.append(stream)
                self.changed.notify_all()
            return None if task is None else (task, stream)

    def _put(self, stream: _Stream[T], item: T) -> bool:
        size = self.size(item)

        def room() -> bool:
            starving = self.streams and self.streams[0] is stream and not stream.items
            return self.stopped or bool(starving) or self.held_bytes + size <= self.ahead_bytes

        with self.changed:
            self.changed.wait_for(room)
            if self.stopped:
                return False
            stream.items.append((item, size))
            self.held_bytes += size
            self.changed.notify_all()
            return True

    def take(self) -> Iterator[T]:
        """Yield every item, the front stream's first."""
        while True:
            with self.changed:
                self.changed.wait_for(self._ready)
                if self.stopped:  # while somebody reads: nobody would add an item any more
                    raise RuntimeError("the process ends, and with it the threads that read")
                if not self.streams:
                    return
                front = self.streams[0]
                if not front.items:
                    if front.error is not None:
                        raise front.error
                    self.streams.popleft()
                    self.changed.notify_all()
                    continue
                item, size = front.items.popleft()
                self.held_bytes -= size
                self.changed.notify_all()
            yield item
            del item  # a reader that let go of it must be the last to hold it

    def _ready(self) -> bool:
        if self.stopped:
            return True
        if not self.streams:
            return self.exhausted
        return bool(self.streams[0].items) or self.streams[0].ended

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


def in_order(
    tasks: Iterable[Callable[[], Iterator[T]]],
    threads: int,
    size: Callable[[T], int],
    ahead_bytes: int,
    interrupt: Callable[[], None] | None = None,
) -> Generator[T, None, None]:
    """Run `tasks` in threads and yield what they yield, in the order of the tasks.

    Closing the generator stops the threads at their next item and waits for them; so does the end of the process.

    Parameters
    ----------
    tasks : iterable of callables
        Each returns an iterator; both run in a thread, under a copy of the caller's context.
    threads : int
    size : callable
        Bytes of an item.
    ahead_bytes : int
        Items of at most this size together wait for the reader [bytes]; each thread has one more in its hands.
    interrupt : callable, optional
        Makes tasks under way come to their end soon; called before they are waited for.
    """
    line = _Line(tasks, size, ahead_bytes)
    workers = [
        threading.Thread(target=copy_context().run, args=(line.work,), name=f"iceblink-scan-{number}", daemon=True)
        for number in range(threads)
    ]

    def end() -> None:
        line.stop()
        if interrupt is not None:
            interrupt()
        for worker in workers:
            if worker.ident is not None:
                worker.join()

    atexit.register(end)  # a thread that is inside pyarrow when the interpreter goes away brings the process down
    try:
        for worker in workers:
            worker.start()
        yield from line.take()
    finally:
        end()
        atexit.unregister(end)
