"""A condition that a user may be waiting for."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType


class Condition(threading.Condition):
    """As Python's, but that Ctrl-C in a wait is always a KeyboardInterrupt.

    Python's lets go of its lock a line before it makes sure of taking it back: where Ctrl-C comes in between, the block
    around the wait leaves a lock that it has not, and a RuntimeError takes the interrupt's place.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            with suppress(RuntimeError):
                super().__exit__(kind, error, trace)
        else:
            super().__exit__(kind, error, trace)
