"""An ordered, bounded pool of threads: each worker builds its callable once and keeps it."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    build: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int, name: str
) -> Generator[Result, None, None]:
    """Yield `build()(item)` for each item, in order.

    At most ``workers + 1`` items are inside at any time, so that memory does not depend on how fast `items`
    come. Closing the generator cancels what has not started and waits for what has.

    Parameters
    ----------
    build : callable
        Called once in each worker thread, when its first item arrives.
    items : iterable
        Drawn by the thread that draws from this generator.
    workers : int
        Threads.
    name : str
        Prefix of the threads' names.
    """
    local = threading.local()

    def work(item: Item) -> Result:
        if not hasattr(local, "call"):
            local.call = build()
        result: Result = local.call(item)
        return result

    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    try:
        for item in source:
            # events raised in a worker reach the observers of the thread that asked for the work
            waiting.append(pool.submit(contextvars.copy_context().run, work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(source, Generator):
            source.close()
