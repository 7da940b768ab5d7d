"""Read-ahead: what the next tasks need is fetched while the ones before them are at work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Fetched = TypeVar("Fetched")

THREADS = 16  # waiting for answers, not computing


class ReadAhead(Generic[Item, Fetched]):
    """Calls a function for things before their turn comes; a context manager that ends its threads.

    Parameters
    ----------
    fetch : callable
        What is done ahead; several threads call it.
    size : callable
        About how many bytes that brings; nothing is done ahead for what brings none.
    limit_bytes : int
        Most bytes that are fetched, or under way, before anybody has asked for them. One thing more than that is
        always ahead.
    """

    def __init__(self, fetch: Callable[[Item], Fetched], size: Callable[[Item], int], limit_bytes: int) -> None:
        self._fetch, self._size, self._limit_bytes = fetch, size, limit_bytes
        self._pool: ThreadPoolExecutor | None = None

    def over(self, items: Iterable[Item]) -> Iterator[tuple[Item, Future[Fetched] | None]]:
        """Yield the things in order, each with what is being fetched for it, None where nothing is."""
        waiting: deque[tuple[Item, Future[Fetched] | None, int]] = deque()
        held_bytes = 0
        for item in items:
            nbytes = self._size(item)
            if not nbytes and not waiting:
                yield item, None
                continue
            waiting.append((item, self._threads().submit(self._fetch, item) if nbytes else None, nbytes))
            held_bytes += nbytes
            while held_bytes > self._limit_bytes and len(waiting) > 1:
                item, fetched, nbytes = waiting.popleft()
                held_bytes -= nbytes
                yield item, fetched
        yield from ((item, fetched) for item, fetched, _ in waiting)

    def stop(self) -> None:
        """Begin nothing more; whoever waits for what was not begun is told at once."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "iceblink-ahead")
        return self._pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
