"""Runs workers as threads of this process and as its children."""

from __future__ import annotations

import math
from functools import partial

from iceblink.config import Settings
from iceblink.errors import ConfigError
from iceblink.run.pipeline.backend import Block, Order, Signal, Slots, Task
from iceblink.run.pipeline.function_pickle import pickled
from iceblink.run.pipeline.gpus import gpus_of, visible_devices
from iceblink.run.pipeline.held_rows import fetched, in_heap
from iceblink.run.pipeline.processes import ProcessWorker
from iceblink.run.pipeline.resources import allow_many_files, local_slots, resident
from iceblink.run.pipeline.roster import Roster, Tell
from iceblink.run.pipeline.shared_rows import SharedRows
from iceblink.run.pipeline.threads import ThreadWorker
from iceblink.scan.batch import Batch


def local_backend(settings: Settings) -> LocalBackend:
    """Return a backend with all that this machine has to share out."""
    return LocalBackend(local_slots(settings), settings.spill_dir)


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
        self._builds: dict[Order, bytes] = {}  # pickled once, however many workers are started
        self._roster = Roster[ThreadWorker | ProcessWorker](self.free)

    def slots(self) -> Slots:
        """Return what this machine has; it does not grow."""
        return self._slots

    def check(self, order: Order) -> None:
        """See that a worker needs no more GPUs than there are, and nothing that only a cluster has.

        Raises
        ------
        ConfigError
            It needs more, or is to be on a node with some resource or label.
        """
        if order.gpus > self._slots.gpus:
            has = f"{self._slots.gpus:g} GPUs" if self._slots.gpus else "no GPU"
            raise ConfigError(f"a worker wants {order.gpus:g} GPUs, and there is {has} here", order.label, "gpus=0")
        wanted = [f"{amount:g} {name}" for name, amount in order.resources.items()]
        wanted += [f"{key}={value}" for key, value in order.labels.items()]
        if wanted:
            what = f"a worker wants a node with {', '.join(wanted)}, and here is no cluster"
            raise ConfigError(what, order.label, 'use ib.connect(engine="ray"), or leave out resources= and labels=')

    def start_worker(self, order: Order) -> int | None:
        """Begin to build a worker; None while no device is free for it.

        Raises
        ------
        FunctionError
            It needs a process, and cannot be pickled.
        ConfigError
            It needs an impossible share of a GPU.
        """
        if order.processes and order not in self._builds:
            self._builds[order] = pickled(order.build, order.label)
        share = self._gpus.take(order.gpus, order.label)
        if share is None:
            return None

        def make(number: int, tell: Tell) -> ThreadWorker | ProcessWorker:
            if order.processes:
                return ProcessWorker(number, order, self._builds[order], share.devices, self._spill_dir, tell)
            return ThreadWorker(number, order, tell)

        if order.processes:
            allow_many_files()
        return self._roster.enter(make, partial(self._gpus.give_back, share))

    def submit(self, worker: int, task: Task, credit: int) -> None:
        """Queue a task; one for a worker that has just died is dropped, for its `Died` is on the way."""
        self._roster.submit(worker, task, credit)

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        self._roster.allow(task)

    def stop_worker(self, worker: int, at_once: bool = False) -> None:
        """End a worker after its tasks, or at once; a process is gone on return, a thread is left to itself."""
        if at_once:
            self._roster.end(worker)
        else:
            self._roster.stop(worker)

    def wait(self, timeout_s: float) -> list[Signal]:
        """Return what has happened, at least one signal unless the time runs out or somebody calls `wake`."""
        return self._roster.wait(timeout_s)

    def wake(self) -> None:
        """Let `wait` return."""
        self._roster.wake()

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
        # shared rows lie in each process that maps them, and in none while they wait: they count once, by their size
        here, workers = resident(), self._roster.hands().values()
        return here.own + max(here.shared, SharedRows.held_bytes) + sum(worker.resident_bytes() for worker in workers)

    def close(self, patience_s: float = 0.0) -> None:
        """End all workers at once, but for those that are ending: they may take `patience_s` to close what they hold.

        Raises
        ------
        FunctionError
            One of those could not close what it held.
        """
        self._roster.close(patience_s)
