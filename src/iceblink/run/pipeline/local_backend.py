"""Runs workers as threads of this process and as its children."""

from __future__ import annotations

import itertools
import math
import threading
import time
from dataclasses import dataclass
from functools import partial

from iceblink.run.pipeline.backend import Block, Died, Failed, Finished, Order, Produced, Signal, Slots, Task
from iceblink.run.pipeline.function_pickle import pickled
from iceblink.run.pipeline.gpus import Share, gpus_of, visible_devices
from iceblink.run.pipeline.held_rows import fetched, in_heap
from iceblink.run.pipeline.processes import ProcessWorker
from iceblink.run.pipeline.resources import allow_many_files, resident
from iceblink.run.pipeline.shared_rows import SharedRows
from iceblink.run.pipeline.threads import ThreadWorker
from iceblink.scan.batch import Batch

SOON_S = 0.5  # what was ending anyway may take so long, even in haste


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker that lives, as far as the scheduler was told."""

    hands: ThreadWorker | ProcessWorker
    timeout_s: float | None
    share: Share


class LocalBackend:
    """The `Backend` of one machine.

    A worker is in the list until its last signal, or until somebody ends it; what is told of one that is not in it is
    dropped, and its blocks freed. So no signal follows an end, whichever thread is faster.

    Parameters
    ----------
    slots : Slots
        What there is to share out.
    spill_dir : str
        Where shared rows lie on systems that have no anonymous memory.
    """

    def __init__(self, slots: Slots, spill_dir: str) -> None:
        self._slots, self._spill_dir = slots, spill_dir
        self._gpus = gpus_of(visible_devices() or tuple(str(at) for at in range(math.ceil(slots.gpus))))
        self._numbers = itertools.count(1)
        self._builds: dict[Order, bytes] = {}  # pickled once, however many workers are started
        self._workers: dict[int, _Worker] = {}
        self._homes: dict[int, int] = {}  # the worker of each task
        self._signals: list[tuple[int, Signal]] = []
        self._stopping: set[int] = set()  # workers that end after their tasks
        self._woken = False
        self._changed = threading.Condition()

    def slots(self) -> Slots:
        """Return what this machine has; it does not grow."""
        return self._slots

    def start_worker(self, order: Order) -> int | None:
        """Begin to build a worker; None while no device is free for it.

        Raises
        ------
        FunctionError
            It needs a process, and cannot be pickled.
        ConfigError
            It needs an impossible share of a GPU.
        """
        number = next(self._numbers)
        tell = partial(self._tell, number)
        if order.processes and order not in self._builds:
            self._builds[order] = pickled(order.build, order.label)
        share = self._gpus.take(order.gpus, order.label)
        if share is None:
            return None
        hands: ThreadWorker | ProcessWorker
        with self._changed:  # nobody hears of it before it is in the list
            if order.processes:
                allow_many_files()
                hands = ProcessWorker(number, order, self._builds[order], share.devices, self._spill_dir, tell)
            else:
                hands = ThreadWorker(number, order, tell)
            self._workers[number] = _Worker(hands, order.timeout_s, share)
        return number

    def submit(self, worker: int, task: Task, credit: int) -> None:
        """Queue a task; one for a worker that has just died is dropped, for its `Died` is on the way."""
        with self._changed:
            living = self._workers.get(worker)
            if living is not None:
                self._homes[task.number] = worker
                living.hands.submit(task, credit)

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        with self._changed:
            living = self._workers.get(self._homes.get(task, 0))
        if living is not None:
            living.hands.allow(task)

    def stop_worker(self, worker: int, at_once: bool = False) -> None:
        """End a worker after its tasks, or at once; a process is gone on return, a thread is left to itself."""
        if not at_once:
            with self._changed:
                living = self._workers.get(worker)
                self._stopping.add(worker)
            if living is not None:
                living.hands.stop()
            return
        with self._changed:
            living = self._leave(worker)
            unheard = [signal for number, signal in self._signals if number == worker]
            self._signals = [item for item in self._signals if item[0] != worker]
        for signal in unheard:
            self._drop(signal)
        if living is not None:
            living.hands.end()
            living.hands.join()

    def wait(self, timeout_s: float) -> list[Signal]:
        """Return what has happened, at least one signal unless the time runs out or somebody calls `wake`."""
        end = time.monotonic() + timeout_s
        while True:
            look = self._end_late_workers()
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

    def put(self, batch: Batch) -> Block:
        """Keep rows for tasks to come; they are not copied before a process needs them."""
        return in_heap(batch)

    def fetch(self, block: Block) -> Batch:
        """Return the rows of a block, without copying them."""
        return fetched(block)

    def free(self, block: Block) -> None:
        """Let go of a block; batches that were fetched stay good."""
        block.ref.free()

    def memory_bytes(self) -> int:
        """Return the memory that is resident here and in all processes [bytes]."""
        with self._changed:
            hands = [living.hands for living in self._workers.values()]
        # shared rows lie in each process that maps them, and in none while they wait: they count once, by their size
        here = resident()
        return here.own + max(here.shared, SharedRows.held_bytes) + sum(worker.resident_bytes() for worker in hands)

    def close(self, patience_s: float = 0.0) -> None:
        """End all workers at once, but for those that are ending: they may take `patience_s` to close what they hold.

        Raises
        ------
        FunctionError
            One of those could not close what it held.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._stopping & self._workers.keys(), max(SOON_S, patience_s))
            numbers = list(self._workers)
            left = [living.hands for living in map(self._leave, numbers) if living is not None]
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

    def _tell(self, worker: int, signal: Signal | None) -> None:
        """Take a worker's signal, or None when it came to the end that was asked for."""
        with self._changed:
            if worker not in self._workers:
                heard = False
            else:
                heard = True
                if signal is None or isinstance(signal, Died) or (isinstance(signal, Failed) and signal.task is None):
                    self._leave(worker)
                elif isinstance(signal, Finished | Failed) and signal.task is not None:
                    self._homes.pop(signal.task, None)
                if signal is not None:
                    self._signals.append((worker, signal))
                    self._changed.notify_all()
        if not heard and signal is not None:
            self._drop(signal)

    def _leave(self, worker: int) -> _Worker | None:
        """Strike a worker off the list: nothing more is heard of it."""
        living = self._workers.pop(worker, None)
        if living is not None:
            self._changed.notify_all()
            self._gpus.give_back(living.share)
            self._homes = {task: home for task, home in self._homes.items() if home != worker}
        return living

    def _end_late_workers(self) -> float:
        """End the workers whose call takes too long; return when to look again [s from now]."""
        look = math.inf
        now = time.monotonic()
        with self._changed:
            timed = [(number, living) for number, living in self._workers.items() if living.timeout_s is not None]
        for number, living in timed:
            assert living.timeout_s is not None
            calling = living.hands.calling
            left = living.timeout_s - (now - calling.began_s) if calling is not None else living.timeout_s
            if left > 0:
                look = min(look, left)
            elif calling is not None:
                self._end_late(number, living, calling.consumed)
        return look

    def _end_late(self, number: int, living: _Worker, consumed: int) -> None:
        why = f"took longer than {living.timeout_s:g} s for a call"
        with self._changed:
            if self._leave(number) is None:
                return
            self._signals.append((number, Died(number, why, consumed)))
        living.hands.end()
        living.hands.join()

    def _drop(self, signal: Signal) -> None:
        if isinstance(signal, Produced):
            self.free(signal.block)
