"""One worker's life, in a thread or a process of its own: build, then task after task, output after output."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from iceblink.errors import FunctionError
from iceblink.run.pipeline.ahead import Ahead
from iceblink.run.pipeline.backend import (
    PAUSED,
    Block,
    Call,
    Calling,
    Failed,
    Finished,
    Output,
    Produced,
    Ready,
    Signal,
    Stored,
    Work,
)
from iceblink.scan.batch import Batch

LONG_S = 1e-3  # to hand a call over to another thread takes a tenth of this


@dataclass(slots=True)
class _Job:
    task: int
    call: Callable[[], Call]
    credit: threading.Semaphore
    outputs: Iterator[Output | Stored] | None = None
    called_s: float = 0.0  # the time that calls took, also while something else was done


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
        self._ahead: Ahead | None = None
        self._next: _Job | None = None  # begun while the one before it is not done
        self._ended = False
        self._began_s = 0.0  # the last call
        self._long = False  # it took so long that calls are worth to be asked for ahead

    def submit(self, task: int, call: Callable[[], Call], credit: int) -> None:
        """Queue a task; `call` gives its rows when it is begun."""
        self._credits[task] = threading.Semaphore(credit)
        self._inbox.put(_Job(task, call, self._credits[task]))
        if self._ahead is not None:
            self._ahead.look()

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
        self._ahead = getattr(work, "ahead", None)
        while not self._ended:
            if self._ahead is not None and self._long:
                self._ahead.serve(partial(self._do_tasks, work), partial(self._begin_next, work))
            else:
                self._do_tasks(work)
        try:
            if (close := getattr(work, "close", None)) is not None:
                close()
        except BaseException as error:
            self._say(Failed(self._worker, None, _raisable(error, self._label)))

    def _do_tasks(self, work: Work) -> None:
        """Do tasks until the end is asked for, or calls that were short are long, or the other way round."""
        long = self._long
        while self._next is not None or self._long == long:
            job = self._next or self._inbox.get()
            if job is None or self._abandoned.is_set():
                self._ended = True
                return
            self._next = None
            self._do(work, job)
            del job  # while this waits for the next one, it holds no rows

    def _begin_next(self, work: Work) -> None:
        """Begin the task that waits, if there is one, while the last call of the one before is under way."""
        if self._next is not None or self._inbox.empty():
            return
        job = self._inbox.get()
        if job is None:
            self._inbox.put(None)
            return
        try:
            job.outputs = self._begin(work, job)
        except BaseException as error:
            job.outputs = _raising(error)
        self._next = job

    def _begin(self, work: Work, job: _Job) -> Iterator[Output | Stored]:
        return iter(work(job.call(), partial(self._begun, job)))

    def _do(self, work: Work, job: _Job) -> None:
        began = time.perf_counter()
        try:
            waited = self._stream(work, job)
        except BaseException as error:
            self._say(Failed(self._worker, job.task, _raisable(error, self._label)))
        else:
            self._say(Finished(job.task, max(job.called_s, time.perf_counter() - began - waited)))
        finally:
            del self._credits[job.task]

    def _stream(self, work: Work, job: _Job) -> float:
        """Hand on a task's outputs; return how long it waited for credit [s]."""
        waited = 0.0
        outputs, job.outputs = job.outputs or self._begin(work, job), None
        try:
            while True:
                asked = time.perf_counter()
                job.credit.acquire()
                waited += time.perf_counter() - asked
                if self._abandoned.is_set():
                    return waited
                output = next(outputs, None)
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

    def _begun(self, job: _Job, consumed: int) -> None:
        """Take note that a call of a task has begun, or is over; in the thread that makes the calls."""
        now = time.monotonic()
        if consumed == PAUSED:
            took_s = now - self._began_s
            job.called_s += took_s
            self._long = took_s >= LONG_S
            self._note(None)
        else:
            self._began_s = now
            self._note(Calling(job.task, consumed, now))

    def _say(self, signal: Signal) -> None:
        if not self._abandoned.is_set():
            self._tell(signal)


def _raising(error: BaseException) -> Iterator[Output | Stored]:
    yield from ()
    raise error


def _raisable(error: BaseException, label: str) -> Exception:
    """Return an error that ends a job and not the program: functions may call ``sys.exit``."""
    if isinstance(error, Exception):
        return error
    return FunctionError(f"{type(error).__name__}: {error}", label, "raise an error instead of ending the program")
