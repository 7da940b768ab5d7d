"""How a pass of a loader goes on, told to whoever observes: at its begin, twice a second, and at its end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import fields, replace

from iceblink.events import LoaderProgress, emit, observed
from iceblink.load.waits import Counts, LoaderStats

EVERY_S = 0.5
"""Between two events [s]."""
ADDED = ("steps", "rows", "seconds", "waited_s", *(field.name for field in fields(Counts)))
SHOWN = ("rows", "waited_s", "replaced_rows", "decoded_bytes", "cached_bytes", "cache_hits", "cache_misses")

_numbers = itertools.count(1)


class Told:
    """Tells of one pass, in the consumer's thread; a step costs a comparison, but for two a second.

    Parameters
    ----------
    loader : str
        Its name, for people.
    epoch : int
    step, steps : int
        Where the pass begins, and how many there are in the epoch.
    totals : callable
        Gives what was counted so far.
    begun : float
        When [s of `time.perf_counter`].
    """

    def __init__(
        self, loader: str, epoch: int, step: int, steps: int, totals: Callable[[], LoaderStats], begun: float
    ) -> None:
        self._totals, self._before, self._begun = totals, totals(), begun
        self._first = LoaderProgress(next(_numbers), loader, epoch, step, steps)
        self._due = self._begun
        self.step(step, self._begun)

    def step(self, step: int, now: float) -> None:
        """Take note that so many steps of the epoch are handed over, now [s of `time.perf_counter`]."""
        self._step = step
        if now >= self._due:
            self._due = now + EVERY_S
            self._tell(now)

    def end(self) -> None:
        """Tell that the pass is over."""
        self._tell(time.perf_counter(), ended=True)

    def _tell(self, now: float, ended: bool = False) -> None:
        if observed():
            after = self._totals()
            done = replace(after, **{name: getattr(after, name) - getattr(self._before, name) for name in ADDED})
            shown = {name: getattr(done, name) for name in SHOWN}
            seconds, bottleneck = now - self._begun, done.bottleneck if done.steps else ""
            emit(
                replace(
                    self._first, step=self._step, batches=done.steps, seconds=seconds, bottleneck=bottleneck,
                    ended=ended, **shown,
                )
            )  # fmt: skip
