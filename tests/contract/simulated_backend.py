"""A backend in which things happen one at a time, in an order drawn from a seed: workers die whenever they may."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from iceblink.run.pipeline.backend import (
    Block,
    Call,
    Calling,
    Died,
    Failed,
    Finished,
    Order,
    Output,
    Produced,
    Ready,
    Signal,
    Slots,
    Stored,
    Task,
    Work,
)
from iceblink.run.pipeline.chain import SourceWork
from iceblink.run.pipeline.held_rows import block_of
from iceblink.scan.batch import Batch


class WorkerDies(BaseException):
    """Raised by a function in these tests where a real one would take its process along."""


class NodeDies(WorkerDies):
    """Raised by a function in these tests at the moment at which its node is lost."""


Made: TypeAlias = tuple[Task, Output | Stored | None]
"""An output of a task, or None at its end."""


class RoomLacks(WorkerDies):
    """Raised by a function in these tests whose output could not be kept."""


@dataclass
class SimulatedWorker:
    order: Order
    work: Work | None = None
    tasks: deque[Task] = field(default_factory=deque)
    outputs: Iterator[Output | Stored] | None = None
    at: int = 0  # the place of the task that `outputs` are of
    ahead: deque[Made | Exception] = field(default_factory=deque)  # made, and not told
    calling: Calling | None = None

    @property
    def is_source(self) -> bool:
        """Whether it is in this process, which does not die."""
        return self.order.label == "source" or isinstance(self.order.build, SourceWork)


class SimulatedBackend:
    """See the module; `death_rate` is the chance of a death at each step of a worker that has a task.

    In every other one, workers make a call before they tell what came of the one before.
    """

    def __init__(self, slots: Slots, seed: int, death_rate: float = 0.0) -> None:
        self._slots, self._random, self._death_rate = slots, random.Random(seed), death_rate
        self._ahead = bool(seed % 2)
        self.workers: dict[int, SimulatedWorker] = {}
        self.credit: dict[int, int] = {}
        self.alive: dict[int, Block] = {}
        self.deadly: frozenset[int] = frozenset()  # an output with such a value takes along who tells of it
        self.deaths = self.started = 0
        self.most_bytes = self.most_workers = 0
        self.closed = False
        self._woken = threading.Event()

    def slots(self) -> Slots:
        return self._slots

    def check(self, order: Order) -> None:
        pass

    def start_worker(self, order: Order) -> int:
        self.started += 1
        self.workers[self.started] = SimulatedWorker(order)
        self.most_workers = max(self.most_workers, len(self.workers))
        return self.started

    def submit(self, worker: int, task: Task, credit: int) -> None:
        self.workers[worker].tasks.append(task)
        self.credit[task.number] = credit

    def allow(self, task: int) -> None:
        self.credit[task] += 1

    def stop_worker(self, worker: int, at_once: bool = False) -> None:
        assert not self.workers[worker].tasks, "a scheduler stops workers that have nothing to do"
        del self.workers[worker]

    def wait(self, timeout_s: float) -> list[Signal]:
        able = [number for number, worker in self.workers.items() if self._able(worker)]
        if not able:
            self._woken.wait(timeout_s)
            self._woken.clear()
            return []
        number = self._random.choice(able)
        worker = self.workers[number]
        if worker.tasks and not worker.is_source and self._random.random() < self._death_rate:
            return [self._died(number, "was killed by the simulation")]
        try:
            return [self._step(number, worker)]
        except NodeDies:
            return [self._died(number, "was lost with its node", with_node=True)]
        except RoomLacks:
            self._died(number, "")
            return [Died(number, "had no room", refused=True)]
        except WorkerDies:
            return [self._died(number, "died of its rows")]
        except Exception as error:
            return [Failed(number, worker.tasks[0].number if worker.tasks else None, error)]

    def _able(self, worker: SimulatedWorker) -> bool:
        return worker.work is None or bool(worker.tasks and self.credit[worker.tasks[0].number])

    def _step(self, number: int, worker: SimulatedWorker) -> Signal:
        if worker.work is None:
            worker.work = worker.order.build()
            return Ready(number)
        made = worker.ahead.popleft() if worker.ahead else self._made(worker.work, worker)
        if isinstance(made, Exception):
            raise made
        task, output = made
        source = worker.is_source
        ahead = self._ahead and not source and not isinstance(output, Stored)
        while ahead and len(worker.ahead) < 2 and worker.at < len(worker.tasks):  # the end of a task, and a call
            worker.ahead.append(self._made(worker.work, worker))
        if isinstance(output, Output) and not source and not self.deadly.isdisjoint(output.data.data[0].to_pylist()):
            raise WorkerDies
        if output is None:
            worker.tasks.popleft()
            worker.at -= 1
            return Finished(task.number, 0.05 * max(1, task.rows))
        self.credit[task.number] -= 1
        assert self.credit[task.number] >= 0
        if isinstance(output, Stored):
            return Produced(task.number, "rows", output.block, 0)
        return Produced(task.number, output.kind, self.put(output.data), output.consumed, output.part)

    def _made(self, work: Work, worker: SimulatedWorker) -> Made | Exception:
        """Return the next output that a worker makes, of whichever task."""
        task = worker.tasks[worker.at]
        if worker.outputs is None:
            parts = [self.fetch(part.block).slice(part.start, part.rows) for part in task.slices]

            def begun(consumed: int) -> None:
                worker.calling = Calling(task.number, consumed, 0.0)

            worker.outputs = work(Call(parts, task.batch_rows, task.schema, task.skip), begun)
        try:
            output = next(worker.outputs, None)
        except Exception as error:
            return error
        if output is None:
            worker.outputs = None
            worker.at += 1
        return task, output

    def _died(self, number: int, why: str, with_node: bool = False) -> Died:
        self.deaths += 1
        worker = self.workers.pop(number)
        return Died(number, why, worker.calling if self._ahead else None, with_node)

    def wake(self) -> None:
        self._woken.set()

    def put(self, batch: Batch) -> Block:
        block = block_of(batch, batch.data)
        self.alive[id(block)] = block
        self.most_bytes = max(self.most_bytes, sum(block.nbytes for block in list(self.alive.values())))
        return block

    def fetch(self, block: Block) -> Batch:
        return Batch(block.ref, block.path, block.first_row, block.exact)

    def free(self, block: Block) -> None:
        assert id(block) in self.alive, "a block is freed once"
        del self.alive[id(block)]

    def memory_bytes(self) -> int:
        return 0

    def close(self, patience_s: float = 0.0) -> None:
        self.closed = True
        self.workers.clear()


def working(function: Callable[[Batch], Iterator[Batch]]) -> Callable[[], Work]:
    """Return a builder of a plain `Work`: `function` on each call's batch, one output for each that it yields."""

    def work(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        consumed, skip = 0, call.skip
        for part in calls_of(call):
            begun(consumed)
            made = list(function(part))
            consumed += part.data.num_rows
            for place, batch in enumerate(made):
                skipped = min(skip, batch.data.num_rows)
                skip -= skipped
                whole = place + 1 == len(made)
                yield Output("rows", batch.slice(skipped), consumed if whole else consumed - part.data.num_rows)

    return lambda: work


def calls_of(call: Call) -> Iterator[Batch]:
    """Cut a task's rows as its `batch_rows` says."""
    if call.batch_rows is None:
        yield from call.parts
        return
    rows = [(part, place) for part in call.parts for place in range(part.data.num_rows)]
    for start in range(0, len(rows), call.batch_rows):
        chosen = rows[start : start + call.batch_rows]
        values = [part.data.column(0)[place].as_py() for part, place in chosen]
        first, place = chosen[0]
        data = type(first.data).from_pydict({"x": values}, schema=first.data.schema)
        yield Batch(data, first.path, first.first_row + place)
