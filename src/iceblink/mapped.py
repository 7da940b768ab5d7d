"""One function over many things, wherever that is done: by threads of this process, or by whoever has workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Each(Generic[Item, Result]):
    """What is to be done with each of many things, and what that takes.

    Parameters
    ----------
    label : str
        Of the things, for people.
    build : callable
        Makes the function, which several threads may call at once; picklable.
    cost_s : callable
        About the CPU time that one thing takes [s].
    threads : int
        Things looked at at once: they wait for storage more than they compute.
    stop : callable, optional
        Called where nobody takes results any more, so that what is being done may end early.
    """

    label: str
    build: Callable[[], Callable[[Item], Result]]
    cost_s: Callable[[Item], float]
    threads: int
    stop: Callable[[], None] | None = None


class Mapped(Protocol):
    """Whoever does such work; the results come in the order of the things, a few ahead of who takes them."""

    def __call__(self, each: Each[Item, Result], items: Sequence[Item]) -> Iterator[Result]: ...


def here(each: Each[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
    """Do the work in threads of this process."""
    if items:
        yield from in_threads(each.build(), items, each.threads, f"iceblink-{each.label}", each.stop)


def in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int,
    name: str,
    stop: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Call a function for each thing, in as many threads, as many things ahead; `stop` is that of `Each`."""
    if len(items) == 1:
        yield function(items[0])
        return
    pool = ThreadPoolExecutor(min(threads, len(items)), name)
    wanted = iter(items)
    running: deque[Future[Result]] = deque()
    try:
        for item in wanted:
            running.append(pool.submit(function, item))
            if len(running) == threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        if stop is not None:
            stop()
        pool.shutdown(wait=True, cancel_futures=True)
