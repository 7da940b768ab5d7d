"""Runs workers in actors of Ray, wherever in the cluster there is room; those that must be here, in threads."""

from __future__ import annotations

import time
from typing import Any

from iceblink.run.pipeline.backend import Block, Order, Signal, Slots, Task
from iceblink.run.pipeline.function_pickle import pickled
from iceblink.run.pipeline.held_rows import block_of, fetched
from iceblink.run.pipeline.roster import Roster
from iceblink.run.pipeline.threads import ThreadWorker
from iceblink.run.ray.objects import RayRows
from iceblink.run.ray.ray_worker import RayWorker
from iceblink.run.ray.room import Refusals, kept
from iceblink.run.ray.session import Session
from iceblink.scan.batch import Batch

_STRIKE_OFF_S = 1.0  # looking at all workers is not for every signal


class RayBackend:
    """The `Backend` of a cluster.

    Parameters
    ----------
    session : Session
        Whose hosts it uses; outlives it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._roster = Roster[RayWorker | ThreadWorker](self.free)
        self._refusals = Refusals()
        self._struck_off_at = 0.0
        self._builds: dict[Order, Any] = {}  # pickled once, however many workers are started

    def slots(self) -> Slots:
        """Return what the cluster has that others do not use; one that can grow is asked to when that is little."""
        self._session.capacity.want(sum(worker.busy for worker in self._hosted()))
        return self._session.slots()

    def check(self, order: Order) -> None:
        """See that some node has what a worker needs, or could come to have it.

        Raises
        ------
        ConfigError
            No node of the cluster will ever have it.
        """
        if order.processes:
            self._session.check(order)

    def start_worker(self, order: Order) -> int | None:
        """Begin to build a worker; Ray looks for a place for it.

        Raises
        ------
        FunctionError
            It cannot be pickled.
        ConfigError
            No node of the cluster will ever have what it needs.
        OutOfMemoryBudget
            There is no room in the object store.
        """
        if not order.processes:
            return self._roster.enter(lambda number, tell: ThreadWorker(number, order, tell, self.put), _nothing)
        self.check(order)  # again: nodes may have gone
        if order not in self._builds:
            build = pickled(order.build, order.label)
            self._builds[order] = kept(build, len(build), order.label, patience_s=0)  # the scheduler does not wait
        built = self._builds[order]
        return self._roster.enter(
            lambda number, tell: RayWorker(number, order, built, self._session, self._refusals, tell), _nothing
        )

    def submit(self, worker: int, task: Task, credit: int) -> None:
        """Queue a task; one for a worker that has just died is dropped, for its `Died` is on the way."""
        self._roster.submit(worker, task, credit)

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        self._roster.allow(task)

    def stop_worker(self, worker: int, at_once: bool = False) -> None:
        """End a worker after its tasks, and keep its host; or both at once."""
        if at_once:
            self._roster.end(worker)
        else:
            self._roster.stop(worker)

    def wait(self, timeout_s: float) -> list[Signal]:
        """Return what has happened, at least one signal unless the time runs out or somebody calls `wake`."""
        self._strike_off()
        return self._roster.wait(timeout_s)

    def wake(self) -> None:
        """Let `wait` return."""
        self._roster.wake()

    def put(self, batch: Batch) -> Block:
        """Keep rows for tasks to come; many of them in the object store.

        Raises
        ------
        OutOfMemoryBudget
            It is full, and so is the disk that it spills to.
        """
        return block_of(batch, RayRows.put(batch.data))

    def fetch(self, block: Block) -> Batch:
        """Return the rows of a block, copied if they lie on another node.

        Raises
        ------
        RowsLost
            They are gone with their node.
        """
        return fetched(block)

    def free(self, block: Block) -> None:
        """Let go of a block; batches that were fetched stay good."""
        block.ref.free()

    def memory_bytes(self) -> int:
        """Return the memory that is resident here, in all hosts, and in the object stores for us [bytes]."""
        return self._session.memory_bytes()

    def close(self, patience_s: float = 0.0) -> None:
        """End all workers at once, but for those that are ending: they may take `patience_s` to close what they hold.

        Raises
        ------
        FunctionError
            One of those could not close what it held.
        """
        for worker in self._hosted():
            if worker.idle:  # its host is good for another one
                self._roster.stop(worker.number)
        self._roster.close(patience_s)
        self._builds.clear()

    def _strike_off(self) -> None:
        """Bury workers on nodes that are gone, once a second: as seen here, the stream of one may go on for ever."""
        now = time.monotonic()
        if now < self._struck_off_at + _STRIKE_OFF_S:
            return
        self._struck_off_at = now
        gone = self._session.capacity.gone()
        for worker in self._hosted() if gone else ():
            if (died := worker.lost_with(gone)) is not None:
                self._roster.tell(worker.number, died)
                worker.end()

    def _hosted(self) -> list[RayWorker]:
        return [worker for worker in self._roster.hands().values() if isinstance(worker, RayWorker)]


def _nothing() -> None:
    pass
