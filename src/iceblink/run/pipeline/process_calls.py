"""A function called in processes of its own: whoever calls it waits for the answer, as if it were called here."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from iceblink.errors import FunctionError
from iceblink.run.pipeline.backend import (
    PAUSED,
    Block,
    Call,
    Died,
    Failed,
    Finished,
    Order,
    Output,
    Produced,
    Ready,
    Signal,
    Slice,
    Slots,
    Task,
)
from iceblink.run.pipeline.crew import BUILDS
from iceblink.run.pipeline.local_backend import LocalBackend
from iceblink.run.pipeline.stage import DEPTH, POISON_KILLS
from iceblink.run.pipeline.values import as_row, of_row
from iceblink.run.stop import cancelled

WHOLE = 2  # credit for a task's one output, and for its end


@dataclass(frozen=True)
class CallWork:
    """Calls a function with the arguments of a task, and gives what it returns.

    Parameters
    ----------
    function : callable
    label : str
        Its name, for messages.
    """

    function: Callable[..., Any]
    label: str

    def __call__(self, call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        """Yield the answer as one row.

        Raises
        ------
        FunctionError
            It cannot be pickled.
        """
        arguments = of_row(call.parts[0])
        begun(0)
        try:
            answer = self.function(*arguments)
        finally:
            begun(PAUSED)
        try:
            row = as_row(answer)
        except Exception as error:  # whatever a __reduce__ raises
            raise FunctionError(
                f"what it returns cannot leave its process: {type(error).__name__}: {error}",
                self.label,
                "return a dict of NumPy arrays, lists and the like; or processes=False",
            ) from error
        yield Output("rows", row, 1)


@dataclass(eq=False)
class _Asked:
    """A call that somebody waits for."""

    arguments: Block
    kills: int = 0
    answer: Block | None = None
    error: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)


class ProcessCalls:
    """The processes of one function, which any thread may call.

    They are spawned when this is made, and live until `close`. Each makes one call at a time, and has the next one
    waiting. The calls of one that dies are made again by others; a call that kills two has failed.

    Parameters
    ----------
    function : callable
        Pickled, as are its arguments and what it returns; arrays travel in shared memory.
    label : str
        Its name, for messages.
    workers : int
        How many processes.
    spill_dir : str
        Where shared memory lies on systems that have no anonymous one.
    """

    def __init__(self, function: Callable[..., Any], label: str, workers: int, spill_dir: str) -> None:
        self._order = Order(label, partial(CallWork, function, label), processes=True)
        self._workers = workers
        self._backend = LocalBackend(Slots(workers, 0, 0), spill_dir)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._todo: deque[_Asked] = deque()
        self._ending: BaseException | None = None
        # of the loop alone
        self._starting: set[int] = set()
        self._tasks: dict[int, list[int]] = {}  # of each worker that is built, the one it works on first
        self._running: dict[int, _Asked] = {}
        self._lost = 0  # workers that died while they were built
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=f"iceblink-{label}", daemon=True)
        self._thread.start()

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns for the arguments.

        Raises
        ------
        Exception
            What the function raised, with its traceback as a note.
        FunctionError
            It cannot be pickled, or its answer cannot; or two processes died of the call.
        PlanError
            This was closed.
        """
        asked = _Asked(self._backend.put(as_row(arguments)))
        with self._lock:
            if self._ending is not None:
                raise self._ending
            self._todo.append(asked)
        self._backend.wake()
        asked.over.wait()
        self._backend.free(asked.arguments)
        if asked.answer is None:
            assert asked.error is not None
            raise asked.error
        answer = of_row(self._backend.fetch(asked.answer))
        self._backend.free(asked.answer)
        return answer

    def close(self) -> None:
        """End the processes at once, whatever they are at: who waits for an answer is told so."""
        self._stopping = True
        self._backend.wake()
        self._thread.join()

    def _loop(self) -> None:
        ending: BaseException = cancelled()
        try:
            while not self._stopping:
                self._hand_out()
                for signal in self._backend.wait(math.inf):
                    self._hear(signal)
        except BaseException as error:
            ending = error
        with self._lock:
            self._ending = ending
            left = [*self._running.values(), *self._todo]
        for asked in left:
            asked.error = ending
            asked.over.set()
        with suppress(FunctionError):  # of what held nothing that it had to close
            self._backend.close()

    def _hand_out(self) -> None:
        while len(self._starting) + len(self._tasks) < self._workers:
            worker = self._backend.start_worker(self._order)
            assert worker is not None, "it needs no device that could be taken"
            self._starting.add(worker)
        while self._tasks:
            worker, tasks = min(self._tasks.items(), key=lambda item: len(item[1]))
            with self._lock:
                if not self._todo or len(tasks) == DEPTH:
                    return
                asked = self._todo.popleft()
            number = next(self._numbers)
            tasks.append(number)
            self._running[number] = asked
            self._backend.submit(worker, Task(number, (Slice(asked.arguments, 0, 1),)), WHOLE)

    def _hear(self, signal: Signal) -> None:
        match signal:
            case Ready(worker=worker):
                self._starting.discard(worker)
                self._tasks[worker] = []
            case Produced(task=task, block=block):
                self._running[task].answer = block
            case Finished(task=task):
                self._over(task)
            case Failed(task=None, error=error):
                raise error
            case Failed(task=int(task), error=error):
                self._running[task].error = error
                self._over(task)
            case Died():
                self._bury(signal)

    def _over(self, task: int) -> None:
        self._running.pop(task).over.set()
        next(tasks for tasks in self._tasks.values() if task in tasks).remove(task)

    def _bury(self, death: Died) -> None:
        """Strike a dead worker off; others make its calls."""
        if death.worker in self._starting:
            self._starting.discard(death.worker)
            self._lost += 1
            if self._lost >= BUILDS:
                raise FunctionError(f"a worker {death.why}, while it was built", self._order.label)
            return
        tasks = self._tasks.pop(death.worker)
        killer = death.calling.task if death.calling is not None else next(iter(tasks), None)
        for task in reversed(tasks):
            asked = self._running.pop(task)
            asked.kills += task == killer
            if asked.answer is None and asked.kills == POISON_KILLS:
                asked.error = FunctionError(
                    f"a worker {death.why}, twice, on the same batch",
                    self._order.label,
                    "call the function on this batch alone; on_error='skip' leaves out the rows that it dies of",
                )
            if asked.answer is not None or asked.error is not None:
                asked.over.set()
            else:
                with self._lock:
                    self._todo.appendleft(asked)
