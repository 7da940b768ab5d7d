"""A condition that a user may be waiting for."""

from __future__ import annotations

import threading
from contextlib import nullcontext, suppress
from types import TracebackType


class Condition(threading.Condition):
    """As Python's, but that what a signal raises in a wait, a KeyboardInterrupt as a rule, is what the wait raises.

    Python's lets go of its lock a line before it makes sure of taking it back: where a signal comes in between, the
    block around the wait leaves a lock that it has not, and a RuntimeError takes the place of what was raised.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError) if error is not None else nullcontext():
            super().__exit__(kind, error, trace)
