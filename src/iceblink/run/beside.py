"""Rows made in a thread of their own, so that whoever waits for them can be interrupted.

Python answers Ctrl-C in the main thread, and only while that runs Python or waits in it: inside the kernel it would be
deaf until the next batch.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TypeVar

from iceblink.run.stop import AWAKE_S, waiting

T = TypeVar("T")

AGAIN_S = 0.05  # a call may begin just when it is interrupted, and hear nothing of it
PATIENCE_S = 5.0  # for what was interrupted; a stream of the user's may never come back


def beside(items: Generator[T, None, None], interrupt: Callable[[], None]) -> Generator[T, None, None]:
    """Yield what `items` yields; a thread makes one item ahead at most.

    Closing the generator interrupts what is under way, and waits for its end; so does the end of the process.

    Parameters
    ----------
    items : generator
        Run and closed in the thread, under a copy of the caller's context.
    interrupt : callable
        Makes a call under way come back soon; called again and again until it has.
    """
    made: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(1)
    over = threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not over.is_set():
                item = next(items, None)
                made.put((item, None))
                if item is None:
                    return
                del item  # while this waits, it holds no rows
        except BaseException as error:
            made.put((None, error))
        finally:
            items.close()

    thread = threading.Thread(target=copy_context().run, args=(work,), name="iceblink-statement", daemon=True)

    def end() -> None:
        over.set()
        room.release()
        patient_until = time.monotonic() + PATIENCE_S
        while thread.is_alive() and time.monotonic() < patient_until:
            interrupt()
            thread.join(AGAIN_S)
        while not made.empty():  # an error would keep the frames it came through, and these the queue
            made.get()

    atexit.register(end)  # a thread that is inside the kernel when the interpreter goes away brings the process down
    try:
        thread.start()
        while True:
            with waiting(lambda: made.put((None, None))):
                item, error = _taken(made)
            room.release()
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # it keeps the frames it came through, and this one it
            if item is None:
                return
            yield item
            del item  # whoever took it must be the last to hold it
    finally:
        end()
        atexit.unregister(end)


def _taken(made: SimpleQueue[T]) -> T:
    while True:
        with suppress(Empty):
            return made.get(timeout=AWAKE_S)
