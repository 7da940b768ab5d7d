"""One worker's life, in a thread or a process of its own: build, then task after task, output after output."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from iceblink.errors import FunctionError
from iceblink.run.pipeline.backend import PAUSED, Block, Call, Failed, Finished, Produced, Ready, Signal, Stored, Work
from iceblink.scan.batch import Batch


@dataclass(frozen=True, slots=True)
class Calling:
    """A call of the user's function that has begun: of which task, after how many of its rows, when [monotonic s]."""

    task: int
    consumed: int
    began_s: float


@dataclass(frozen=True, slots=True)
class _Job:
    task: int
    call: Callable[[], Call]
    credit: threading.Semaphore


class WorkerLoop:
    """Runs tasks in order and stops each one before the output for which it has no credit.

    Parameters
    ----------
    worker : int
    label : str
        The operator's name.
    tell : callable
        Takes each signal.
    keep : callable
        Puts an output where the backend wants it.
    note : callable
        Takes what is being called, and None between calls.
    """

    def __init__(
        self,
        worker: int,
        label: str,
        tell: Callable[[Signal], None],
        keep: Callable[[Batch], Block],
        note: Callable[[Calling | None], None],
    ) -> None:
        self._worker, self._label = worker, label
        self._tell, self._keep, self._note = tell, keep, note
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._credits: dict[int, threading.Semaphore] = {}
        self._abandoned = threading.Event()
        self._work: Work | None = None
        self._consumed = -1  # by the calls before the one under way; -1 before the first of a task

    def submit(self, task: int, call: Callable[[], Call], credit: int) -> None:
        """Queue a task; `call` gives its rows when it is begun."""
        self._credits[task] = threading.Semaphore(credit)
        self._inbox.put(_Job(task, call, self._credits[task]))

    def allow(self, task: int) -> None:
        """Give credit for one more output; a task that is done needs none."""
        credit = self._credits.get(task)
        if credit is not None:
            credit.release()

    def stop(self) -> None:
        """End after the tasks that are queued."""
        self._inbox.put(None)

    def abandon(self) -> None:
        """End as soon as the user's function lets us; nothing more is told."""
        self._abandoned.set()
        if (stop := getattr(self._work, "stop", None)) is not None:
            stop()
        for credit in list(self._credits.values()):
            credit.release()
        self._inbox.put(None)

    def run(self, build: Callable[[], Work]) -> None:
        """Build the work and do tasks until the end is asked for."""
        try:
            self._work = work = build()
        except BaseException as error:
            self._say(Failed(self._worker, None, _raisable(error, self._label)))
            return
        self._say(Ready(self._worker))
        while not self._abandoned.is_set() and (job := self._inbox.get()) is not None:
            self._do(work, job)
            del job  # while this waits for the next one, it holds no rows
        try:
            if (close := getattr(work, "close", None)) is not None:
                close()
        except BaseException as error:
            self._say(Failed(self._worker, None, _raisable(error, self._label)))

    def _do(self, work: Work, job: _Job) -> None:
        began = time.perf_counter()
        try:
            waited = self._stream(work, job)
        except BaseException as error:
            self._note(None)
            self._say(Failed(self._worker, job.task, _raisable(error, self._label)))
        else:
            self._say(Finished(job.task, time.perf_counter() - began - waited))
        finally:
            del self._credits[job.task]

    def _stream(self, work: Work, job: _Job) -> float:
        """Hand on a task's outputs; return how long it waited for credit [s]."""
        waited = 0.0
        self._consumed = -1
        outputs = iter(work(job.call(), partial(self._begun, job.task)))
        try:
            while True:
                asked = time.perf_counter()
                job.credit.acquire()
                waited += time.perf_counter() - asked
                if self._abandoned.is_set():
                    return waited
                if self._consumed >= 0:  # a call that gives several outputs has its time for each of them
                    self._begun(job.task, self._consumed)
                output = next(outputs, None)
                self._note(None)
                if output is None or self._abandoned.is_set():
                    return waited
                if isinstance(output, Stored):
                    self._say(Produced(job.task, "rows", output.block, 0))
                else:
                    kept = self._keep(output.data)
                    self._say(Produced(job.task, output.kind, kept, output.consumed, output.part))
                del output
        finally:
            close = getattr(outputs, "close", None)
            if close is not None:
                close()

    def _begun(self, task: int, consumed: int) -> None:
        if consumed == PAUSED:
            self._note(None)
            return
        self._consumed = consumed
        self._note(Calling(task, consumed, time.monotonic()))

    def _say(self, signal: Signal) -> None:
        if not self._abandoned.is_set():
            self._tell(signal)


def _raisable(error: BaseException, label: str) -> Exception:
    """Return an error that ends a job and not the program: functions may call ``sys.exit``."""
    if isinstance(error, Exception):
        return error
    return FunctionError(f"{type(error).__name__}: {error}", label, "raise an error instead of ending the program")
