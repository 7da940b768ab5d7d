"""A worker that is a thread of this process: rows reach it and leave it without a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from functools import partial

from iceblink.errors import FunctionError
from iceblink.run.pipeline.backend import Block, Calling, Failed, Order, Signal, Task
from iceblink.run.pipeline.gpu_faults import GpuLost
from iceblink.run.pipeline.held_rows import call_of, in_heap
from iceblink.run.pipeline.worker_loop import WorkerLoop
from iceblink.scan.batch import Batch

CALL_S = 0.2  # most functions come back soon, an abandoned one may never do
LEAVE_S = 2.0  # for what is no call: to end what a source waits for


class ThreadWorker:
    """A daemon thread; the events of its functions reach the observers of whoever made it.

    A thread cannot be killed: one that is ended at once goes on until the user's function comes back, unheard.

    Parameters
    ----------
    worker : int
    order : Order
    tell : callable
        Takes each signal, and None at an end that was asked for.
    keep : callable
        Puts an output where the backend wants it.
    """

    def __init__(
        self,
        worker: int,
        order: Order,
        tell: Callable[[Signal | None], None],
        keep: Callable[[Batch], Block] = in_heap,
    ) -> None:
        self.timeout_s = order.timeout_s
        self.calling: Calling | None = None
        self._ended_at = 0.0
        self._label, self._pass_on = order.label, tell
        self._loop = WorkerLoop(worker, order.label, self._tell, keep, self._note)
        live = partial(copy_context().run, self._live, order)
        self._thread = threading.Thread(target=live, name=f"{order.label} {worker}", daemon=True)
        self._thread.start()

    def _tell(self, signal: Signal | None) -> None:
        match signal:
            case Failed(error=GpuLost() as error):  # with this process, which cannot be ended for it
                lost = FunctionError(f"{error}; this process has lost its GPU", self._label, "processes=True")
                signal = replace(signal, error=lost)
        self._pass_on(signal)

    def submit(self, task: Task, credit: int) -> None:
        """Queue a task."""
        self._loop.submit(task.number, partial(call_of, task), credit)

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        self._loop.allow(task)

    def stop(self) -> None:
        """End after the tasks that are queued."""
        self._loop.stop()

    def end(self) -> None:
        """End at once, as far as that is possible."""
        self._ended_at = time.monotonic()
        self._loop.abandon()

    def join(self) -> None:
        """Wait a moment."""
        patience_s = LEAVE_S if self.calling is None else CALL_S
        self._thread.join(max(0.0, self._ended_at + patience_s - time.monotonic()))

    def resident_bytes(self) -> int:
        """Return 0: its memory is that of this process."""
        return 0

    def _live(self, order: Order) -> None:
        self._loop.run(order.build)
        self._tell(None)

    def _note(self, calling: Calling | None) -> None:
        self.calling = calling
