"""Arrays of steps made in processes, several steps a call: to ask for one costs as much as to ask for some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from iceblink.config import MIB
from iceblink.errors import IceblinkError
from iceblink.load.batches import Finish
from iceblink.load.columns import Columns, compact
from iceblink.run.pipeline.process_calls import ProcessCalls
from iceblink.run.pipeline.stage import DEPTH

CALL_S, CALL_BYTES, CALL_STEPS = 0.01, 4 * MIB, 16
"""A call has steps for about this time, of at most this size and number; one at least."""

T = TypeVar("T")


class Apart:
    """The processes of one pass, in which the user's transform is called; ended by `close`, or else by nobody.

    Parameters
    ----------
    finish : Finish
        Of which `transformed` is called there.
    workers : int
        Processes.
    spill_dir : str
    """

    def __init__(self, finish: Finish, workers: int, spill_dir: str) -> None:
        self._calls = ProcessCalls(partial(_timed, finish.transformed), "transform", workers, spill_dir)
        self.at_once = workers * DEPTH
        self.alone = replace(finish, transformed=self._one)
        self._step_s: float | None = None  # that the last call took for each of its steps, there

    def close(self) -> None:
        """End the processes at once; whoever waits for one is told so."""
        self._calls.close()

    def groups(self, steps: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
        """Yield the steps that are made together; `size` tells the bytes of one."""
        group: list[T] = []
        for step in steps:
            group.append(step)
            if len(group) >= self._most(size(step)):
                yield group
                group = []
        if group:
            yield group

    def finishes(self, steps: Sequence[tuple[Columns, int]]) -> list[Finish]:
        """Return what finishes each of several steps: their arrays are there, or if one failed, are made one by one."""
        try:
            arrays = self._asked(steps)
        except IceblinkError:
            return [self.alone] * len(steps)
        return [replace(self.alone, transformed=partial(_given, made)) for made in arrays]

    def _most(self, nbytes: int) -> int:
        if self._step_s is None:
            return 1
        return int(min(CALL_STEPS, CALL_S / max(self._step_s, 1e-9), CALL_BYTES / max(1, nbytes)))

    def _one(self, columns: Columns, step: int) -> Any:
        return self._asked([(columns, step)])[0]

    def _asked(self, steps: Sequence[tuple[Columns, int]]) -> list[Any]:
        arrays: list[Any]
        arrays, took_s = self._calls([(compact(columns), step) for columns, step in steps])
        self._step_s = took_s / len(steps)
        return arrays


def _timed(made: Callable[[Columns, int], Any], steps: Sequence[tuple[Columns, int]]) -> tuple[list[Any], float]:
    """Return what is made of each step, and how long that took [s]."""
    begun = time.perf_counter()
    return [made(columns, step) for columns, step in steps], time.perf_counter() - begun


def _given(made: Any, columns: Columns, step: int) -> Any:
    return made
