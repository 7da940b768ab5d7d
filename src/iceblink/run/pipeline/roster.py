"""The workers of a backend as its scheduler was told of them: who lives, who has which task, what is to be heard."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from iceblink.run.pipeline.backend import Block, Calling, Died, Failed, Finished, Produced, Signal, Task
from iceblink.run.pipeline.endings import late

SOON_S = 0.5  # what was ending anyway may take so long, even in haste

Tell = Callable[[Signal | None], None]
"""Takes a worker's signals, and None when it came to the end that was asked for."""


class Hands(Protocol):
    """One worker, whatever it runs in."""

    timeout_s: float | None
    """A call that takes longer is ended from here [s]."""

    @property
    def calling(self) -> Calling | None:
        """What it is calling, as far as that is known here."""
        ...

    def submit(self, task: Task, credit: int) -> None:
        """Queue a task."""
        ...

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        ...

    def stop(self) -> None:
        """End after the tasks that are queued."""
        ...

    def end(self) -> None:
        """End at once, as far as that is possible."""
        ...

    def join(self) -> None:
        """Wait, not for ever, until it has ended."""
        ...


HandsT = TypeVar("HandsT", bound=Hands)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[HandsT]):
    hands: HandsT
    left: Callable[[], None]


class Roster(Generic[HandsT]):
    """Any thread may call; a worker that is struck off is not heard again.

    Parameters
    ----------
    drop : callable
        Lets go of a block that nobody will hear of.
    """

    def __init__(self, drop: Callable[[Block], None]) -> None:
        self._drop_block = drop
        self._numbers = itertools.count(1)
        self._entries: dict[int, _Entry[HandsT]] = {}
        self._homes: dict[int, int] = {}  # the worker of each task
        self._signals: list[tuple[int, Signal]] = []
        self._stopping: set[int] = set()  # workers that end after their tasks
        self._woken = False
        self._changed = threading.Condition()

    def enter(self, make: Callable[[int, Tell], HandsT], left: Callable[[], None]) -> int:
        """Make a worker and return its number; `left` is called when it is struck off."""
        with self._changed:  # nobody hears of it before it is in the list
            number = next(self._numbers)
            self._entries[number] = _Entry(make(number, partial(self.tell, number)), left)
        return number

    def hands(self) -> dict[int, HandsT]:
        """Return those who live."""
        with self._changed:
            return {number: entry.hands for number, entry in self._entries.items()}

    def submit(self, worker: int, task: Task, credit: int) -> None:
        """Queue a task; one for a worker that has just died is dropped, for its `Died` is on the way."""
        with self._changed:
            entry = self._entries.get(worker)
            if entry is not None:
                self._homes[task.number] = worker
                entry.hands.submit(task, credit)

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        with self._changed:
            entry = self._entries.get(self._homes.get(task, 0))
        if entry is not None:
            entry.hands.allow(task)

    def stop(self, worker: int) -> None:
        """End a worker after its tasks."""
        with self._changed:
            entry = self._entries.get(worker)
            self._stopping.add(worker)
        if entry is not None:
            entry.hands.stop()

    def end(self, worker: int) -> None:
        """End a worker at once; what it said is not heard any more."""
        with self._changed:
            unheard = [signal for number, signal in self._signals if number == worker]
            self._signals = [item for item in self._signals if item[0] != worker]
        for signal in unheard:
            self._drop(signal)
        self._end(worker)

    def tell(self, worker: int, signal: Signal | None) -> None:
        """Take a worker's signal, or None when it came to the end that was asked for."""
        with self._changed:
            heard = worker in self._entries
            if heard:
                if signal is None or isinstance(signal, Died) or (isinstance(signal, Failed) and signal.task is None):
                    self._leave(worker)
                elif isinstance(signal, Finished | Failed) and signal.task is not None:
                    self._homes.pop(signal.task, None)
                if signal is not None:
                    self._signals.append((worker, signal))
                    self._changed.notify_all()
        if not heard and signal is not None:
            self._drop(signal)

    def wait(self, timeout_s: float) -> list[Signal]:
        """Return what has happened, at least one signal unless the time runs out or somebody calls `wake`."""
        end = time.monotonic() + timeout_s
        while True:
            look = self._end_late()
            with self._changed:
                left = end - time.monotonic()
                if self._signals or self._woken or left <= 0:
                    self._woken = False
                    signals = [signal for _, signal in self._signals]
                    self._signals.clear()
                    return signals
                self._changed.wait(min(left, look, threading.TIMEOUT_MAX))

    def wake(self) -> None:
        """Let `wait` return."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self, patience_s: float) -> None:
        """End all at once, but for those that are ending: they may take `patience_s`.

        Raises
        ------
        FunctionError
            One of those could not close what it held.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._stopping & self._entries.keys(), max(SOON_S, patience_s))
            left = [entry.hands for entry in map(self._leave, list(self._entries)) if entry is not None]
            signals, self._signals = self._signals, []
        for _, signal in signals:
            self._drop(signal)
        for hands in left:
            hands.end()
        for hands in left:
            hands.join()
        for _, signal in signals:
            if isinstance(signal, Failed) and signal.task is None:
                raise signal.error

    def _end_late(self) -> float:
        """End the workers whose call takes too long; return when to look again [s from now]."""
        look = math.inf
        now = time.monotonic()
        for number, worker in self.hands().items():
            if worker.timeout_s is None:
                continue
            calling = worker.calling
            left = worker.timeout_s - (now - calling.began_s) if calling is not None else worker.timeout_s
            if left > 0:
                look = min(look, left)
            elif calling is not None:
                self._end(number, Died(number, late(worker.timeout_s), calling))
        return look

    def _end(self, worker: int, told: Died | None = None) -> None:
        """Strike a worker off and end it."""
        with self._changed:
            entry = self._leave(worker)
            if entry is None:
                return
            if told is not None:
                self._signals.append((worker, told))
        entry.hands.end()
        entry.hands.join()

    def _leave(self, worker: int) -> _Entry[HandsT] | None:
        """Strike a worker off the list: nothing more is heard of it."""
        entry = self._entries.pop(worker, None)
        if entry is not None:
            self._changed.notify_all()
            entry.left()
            self._homes = {task: home for task, home in self._homes.items() if home != worker}
        return entry

    def _drop(self, signal: Signal) -> None:
        if isinstance(signal, Produced):
            self._drop_block(signal.block)
