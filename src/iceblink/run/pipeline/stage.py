"""One operator at work: what waits for it, what runs, what it made and nobody took yet. No threads, no clocks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice

from iceblink.config import MIB
from iceblink.run.pipeline.backend import Block, Kind, Produced, Slice, Task
from iceblink.run.pipeline.operator import Operator

PROBE_BYTES = MIB
"""A function that takes batches as they come is first given so much: what it makes of it is not known yet."""
TASK_BYTES = 16 * MIB
"""Calls are put together to a task up to this input."""
TASK_S = 0.05
"""Calls are put together to a task up to about this time, so that handing tasks over costs little."""
MOST_CALLS = 256
POISON_KILLS = 2
DEPTH = 2
"""Tasks a worker has: the next one lies there when it is done."""
_RECENT = 0.3  # weight of the newest observation in a moving average


@dataclass(frozen=True, slots=True)
class Item:
    """What goes from one operator to the next."""

    kind: Kind
    block: Block
    part: int = 0


@dataclass(eq=False, slots=True)
class Stretch:
    """Consecutive input rows for one task.

    `kills` counts the workers that died of them, or may have; `kept`, the rows that a dead one had made of the first
    call.
    """

    slices: tuple[Slice, ...]
    kills: int = 0
    kept: int = 0


@dataclass(eq=False, slots=True)
class Lane:
    """What becomes of one stretch of the input; lanes are handed on in the order of the input."""

    todo: deque[Stretch]
    task: int | None = None
    items: deque[Item] = field(default_factory=deque)

    @property
    def suspect(self) -> bool:
        """Whether a worker died of what is to do next, or of what was under way at the same time."""
        return bool(self.todo and self.todo[0].kills)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.task is None and not self.todo


@dataclass(eq=False, slots=True)
class Running:
    """A task in the hands of a worker.

    What always holds: of its stretch the first `consumed` rows are dealt with, and `kept` rows came after what those
    gave. Begun again from `consumed`, with `kept` rows left out, it gives what is missing and no row twice.
    """

    lane: Lane
    stretch: Stretch
    worker: int
    credit: int
    consumed: int = 0
    kept: int = 0
    begun_s: float = 0.0
    rows_out: int = 0
    bytes_out: int = 0

    @property
    def rows(self) -> int:
        """Input rows."""
        return sum(part.rows for part in self.stretch.slices)

    @property
    def nbytes(self) -> int:
        """Input bytes."""
        return sum(part.nbytes for part in self.stretch.slices)


@dataclass(eq=False, slots=True)
class Worker:
    """A worker of a stage, and the tasks it has, the one it works on first."""

    ready: bool = False
    tasks: deque[int] = field(default_factory=deque)
    born: float = 0.0
    idle_since: float = 0.0


class Stage:
    """The state of one operator; a scheduler moves it.

    What always holds: each row that was offered is in one place only, the queue, a stretch that is to do or running, or
    done; so a block is spent once, when all its rows are done, and never while a task with rows of it may have to be
    begun again. A lane has one task at a time; so its items lie in the order of the input. `_rows` has one number
    more than there are marks in the queue, and their sum is what waits, without `_taken`; so a task never has rows of
    both sides of a mark.
    """

    def __init__(self, operator: Operator, output_bytes: int) -> None:
        self.operator = operator
        self.output_bytes = output_bytes  # what one call may make of batches that come in any size
        self.schema = operator.schema
        self.queue: deque[Item] = deque()
        self.lanes: deque[Lane] = deque()
        self.running: dict[int, Running] = {}
        self.workers: dict[int, Worker] = {}
        self.starting: set[int] = set()  # workers that are being built
        self.by_tasks: tuple[dict[int, None], ...] = tuple({} for _ in range(DEPTH))  # workers with none, with one...
        self.ended = False  # upstream will send no more
        self.spent: list[Block] = []  # blocks that nobody here needs any more
        self._taken = 0  # rows of the first waiting block that tasks have already
        self._rows = deque([0])  # waiting rows up to each mark, and after the last
        self._unfinished: dict[int, int] = {}  # rows of a block, by its identity, that some task may still need
        self._ratio: float | None = None  # bytes out for each byte in
        self._again = False  # whether a task ended, and may have left its lane something to do
        self._in_flight: int | None = None  # see `in_flight_bytes`; None until somebody asks again
        self.call_s: float | None = None  # how long a call takes, as of late

    # -- input ---------------------------------------------------------------------------------------------------------

    def offer(self, item: Item) -> None:
        """Add to the queue; an empty block is let go of."""
        if item.kind == "mark":
            self.queue.append(item)
            self._rows.append(0)
        elif item.block.rows:
            self.queue.append(item)
            self._rows[-1] += item.block.rows
            self._unfinished[id(item.block)] = item.block.rows
        else:
            self.spent.append(item.block)

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue."""
        return sum(self._rows)

    @property
    def waiting_calls(self) -> int:
        """Calls that the queue would keep workers busy with."""
        if (rows := self.operator.batch_rows) is None:
            return len(self.queue)
        return math.ceil(self.waiting_rows / rows)

    @property
    def sated(self) -> bool:
        """Whether so much waits that every worker could be given all the tasks that it may have.

        A task of whole blocks has as many bytes as it was told: with less waiting, it would never be begun.
        """
        if not self.queue or not (rows := self.queue[0].block.rows):
            return False
        tasks = DEPTH * self.operator.most
        task_bytes = max(TASK_BYTES, self.operator.call_bytes or 0)
        waiting_bytes = self.waiting_rows * self.queue[0].block.nbytes // rows
        return waiting_bytes >= tasks * task_bytes and self.waiting_calls >= tasks

    @property
    def drained(self) -> bool:
        """Whether nothing is left to do, to run or to hand on."""
        return self.ended and not self.queue and not self.lanes

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def next_lane(self) -> Lane | None:
        """Return a lane with a stretch to run: one to be run again, else the next of the queue; None for now."""
        # all are looked through only when that may find one: else a task would cost as much as there are under way
        for lane in self.lanes if self._again else islice(reversed(self.lanes), 1):
            if lane.todo and lane.task is None:
                return lane
        self._again = False
        while self.queue and self.queue[0].kind == "mark" and not self._rows[0]:
            self._rows.popleft()
            self.lanes.append(Lane(deque(), items=deque([self.queue.popleft()])))
        if slices := self._cut():
            self.lanes.append(Lane(deque([Stretch(slices)])))
            return self.lanes[-1]
        return None

    def _calls(self) -> int:
        """Return how many calls one task should have."""
        if self.call_s is None or self.operator.calls > 1:
            return self.operator.calls
        shared = self.waiting_calls // max(1, self.operator.most)
        return max(1, min(MOST_CALLS, shared, int(TASK_S / max(self.call_s, 1e-9))))

    def _cut(self) -> tuple[Slice, ...]:
        """Take the next rows off the queue; nothing if there are too few for a batch and more may come."""
        calls, batch = self._calls(), self.operator.batch_rows
        if not self._rows[0]:
            return ()
        slices: list[Slice] = []
        if (call_bytes := self.operator.call_bytes) is not None:
            if not self.ended and len(self._rows) == 1 and not self._has_bytes(call_bytes):
                return ()
            while self._rows[0] and (not slices or sum(part.nbytes for part in slices) < call_bytes):
                slices.append(self._take(self.queue[0].block.rows))
            return tuple(slices)
        if batch is None:
            while self._rows[0] and len(slices) < calls and sum(part.nbytes for part in slices) < TASK_BYTES:
                slices.append(self._take(self._rows_for_a_call()))
            return tuple(slices)
        full = min(self._rows[0] // batch, calls)
        wanted = full * batch
        if not full:
            wanted = self._rows[0] if self.ended or len(self._rows) > 1 else 0
        parts: list[Slice] = []
        while wanted > 0:
            parts.append(self._take(wanted))
            wanted -= parts[-1].rows
            # at least one batch, and no more than a task should hold
            if wanted and wanted % batch == 0 and sum(part.nbytes for part in parts) >= TASK_BYTES:
                break
        return tuple(parts)

    def _has_bytes(self, wanted: int) -> bool:
        """Whether so many bytes wait, where no mark does; it looks no further than it must."""
        return any(waiting >= wanted for waiting in accumulate(item.block.nbytes for item in self.queue))

    def _rows_for_a_call(self) -> int:
        block = self.queue[0].block
        row_bytes = max(1, block.nbytes // block.rows)
        if self._ratio is None:
            return max(1, PROBE_BYTES // row_bytes)
        return max(1, int(self.output_bytes / max(1.0, self._ratio) / row_bytes))

    def _take(self, rows: int) -> Slice:
        """Take at most `rows` of the first waiting block."""
        block = self.queue[0].block
        part = Slice(block, self._taken, min(rows, block.rows - self._taken))
        self._taken += part.rows
        self._rows[0] -= part.rows
        if self._taken == block.rows:
            self.queue.popleft()
            self._taken = 0
        return part

    def begin(self, lane: Lane, number: int, worker: int, credit: int) -> Task:
        """Give the first stretch of a lane to a worker."""
        stretch = lane.todo.popleft()
        lane.task = number
        self.running[number] = running = Running(lane, stretch, worker, credit, kept=stretch.kept)
        if self._in_flight is not None:
            self._in_flight += self._to_come(running)
        self.workers[worker].tasks.append(number)
        self.sort_in(worker)
        slices = tuple(piece for part in stretch.slices for piece in part.pieces)
        return Task(number, slices, self.operator.batch_rows, self.schema, stretch.kept)

    def produced(self, signal: Produced) -> None:
        """Keep an output of a task until it is its turn."""
        running = self.running[signal.task]
        self._in_flight = None
        running.credit -= 1
        if signal.consumed > running.consumed:
            running.consumed, running.kept = signal.consumed, 0
        else:
            running.kept += signal.block.rows
        if signal.kind == "rows":
            running.rows_out += signal.block.rows
            running.bytes_out += signal.block.nbytes
        running.lane.items.append(Item(signal.kind, signal.block, signal.part))

    def finished(self, number: int, busy_s: float) -> Running:
        """Let go of a task's input, and learn from how it went."""
        running = self._over(number)
        slices = running.stretch.slices
        self._release(slices)
        if (size := running.nbytes) > 0:
            self._ratio = _moved(self._ratio, running.bytes_out / size)
        rows, batch = sum(part.rows for part in slices), self.operator.batch_rows
        self.call_s = _moved(self.call_s, busy_s / (math.ceil(rows / batch) if batch and rows else len(slices) or 1))
        return running

    def died(self, number: int, begun: int | None) -> tuple[Lane, Stretch] | None:
        """Put back what a dead worker left of a task, call by call; return a call that has killed two workers.

        Parameters
        ----------
        number : int
            The task.
        begun : int or None
            Rows of the task that were done when the call began in which the worker died; None if it had it waiting.
        """
        running = self._over(number)
        if self.operator.atomic:
            self.spent += [item.block for item in running.lane.items]
            running.lane.items.clear()
            running.consumed = running.kept = 0
        done, left = _divided(running.stretch.slices, running.consumed)
        self._release(done)
        if not left:
            return None
        if begun is None:
            running.lane.todo.appendleft(Stretch(left, running.stretch.kills, running.kept))
            return None
        calls = [Stretch(call) for call in self._single_calls(left)]
        killer = _call_at(calls, max(0, begun - running.consumed))
        upto = next(place for place, call in enumerate(calls, 1) if call is killer)
        for call in calls[:upto]:  # the worker may have died of what an earlier one gave
            call.kills = 1
        killer.kills += running.stretch.kills
        poison = killer.kills >= POISON_KILLS
        if poison:
            upto -= 1
            del calls[upto]
        if running.kept:  # which of the calls up to the killer made them is not known: they are one task again
            parts = tuple(part for call in calls[:upto] for part in call.slices)
            calls[:upto] = [Stretch(parts, 0 if poison else killer.kills, running.kept)] if parts else []
        running.lane.todo.extendleft(reversed(calls))
        if not poison:
            return None
        self._release(killer.slices)
        return running.lane, killer

    def _over(self, number: int) -> Running:
        running = self.running.pop(number)
        self._in_flight, self._again = None, True
        running.lane.task = None
        if (worker := self.workers.get(running.worker)) is not None:
            worker.tasks.remove(number)
            self.sort_in(running.worker)
        return running

    def _single_calls(self, slices: tuple[Slice, ...]) -> Iterator[tuple[Slice, ...]]:
        if self.operator.call_bytes is not None:
            yield slices
            return
        if (batch := self.operator.batch_rows) is None:
            yield from ((part,) for part in slices)
            return
        while slices:
            call, slices = _divided(slices, batch)
            yield call

    def _release(self, slices: tuple[Slice, ...]) -> None:
        for part in slices:
            key = id(part.block)
            self._unfinished[key] -= part.rows
            if not self._unfinished[key]:
                del self._unfinished[key]
                self.spent.append(part.block)

    def let_go(self) -> None:
        """Hold no rows any more."""
        self.queue.clear()
        self.lanes.clear()
        self.running.clear()
        self.spent.clear()

    # -- output --------------------------------------------------------------------------------------------------------

    def expected_bytes(self, lane: Lane) -> int:
        """Estimate what the next task of a lane will make [bytes]."""
        return int((self._ratio or 1.0) * sum(part.nbytes for part in lane.todo[0].slices))

    @property
    def in_flight_bytes(self) -> int:
        """Estimate what the running tasks will make beyond what they made already [bytes]."""
        if self._in_flight is None:
            self._in_flight = sum(map(self._to_come, self.running.values()))
        return self._in_flight

    def _to_come(self, running: Running) -> int:
        return max(0, int((self._ratio or 1.0) * running.nbytes) - running.bytes_out)

    def sort_in(self, number: int) -> None:
        """Keep a worker among those with as many tasks, whatever has happened to it; the last one comes last."""
        self.starting.discard(number)
        for numbers in self.by_tasks:
            numbers.pop(number, None)
        worker = self.workers.get(number)
        if worker is not None and not worker.ready:
            self.starting.add(number)
        elif worker is not None and len(worker.tasks) < DEPTH:
            self.by_tasks[len(worker.tasks)][number] = None

    @property
    def with_tasks(self) -> int:
        """Workers that have a task, with credit or without."""
        return len(self.workers) - len(self.starting) - len(self.by_tasks[0])

    def tries(self, worker: Worker) -> bool:
        """Whether a worker has a task of which another one may have died."""
        return any(self.running[task].stretch.kills for task in worker.tasks)

    @property
    def goes_on(self) -> bool:
        """Whether a worker is being built, or is at a task that has credit."""
        at = (self.running[worker.tasks[0]] for worker in self.workers.values() if worker.tasks)
        return bool(self.starting) or any(running.credit for running in at)

    def at_work(self) -> Iterator[tuple[int, Running]]:
        """Yield the task each worker is at, in the order of the input; what waits behind it does nothing yet."""
        first = {worker.tasks[0] for worker in self.workers.values() if worker.tasks}
        for lane in self.lanes:
            if lane.task in first:
                yield lane.task, self.running[lane.task]

    def hand_over(self) -> Iterator[Item]:
        """Yield what may go on: in the order of the input, or between marks as it comes."""
        if not self.operator.ordered:
            under_way = False
            for lane in self.lanes:
                if under_way and lane.items and lane.items[0].kind == "mark":
                    break  # nothing passes a mark, and a mark passes nothing
                while self._may_go(lane):
                    yield lane.items.popleft()
                under_way = under_way or not lane.ended
            self.lanes = deque(lane for lane in self.lanes if lane.items or not lane.ended)
            return
        while self.lanes:
            front = self.lanes[0]
            while self._may_go(front):
                yield front.items.popleft()
            if not front.ended:
                return
            self.lanes.popleft()

    def _may_go(self, lane: Lane) -> bool:
        return bool(lane.items) and (lane.ended or not self.operator.atomic)


def _call_at(calls: list[Stretch], row: int) -> Stretch:
    """Return the call that has a row, counted from the first one's first."""
    for call in calls:
        row -= sum(part.rows for part in call.slices)
        if row < 0:
            return call
    return calls[-1]


def _divided(slices: tuple[Slice, ...], rows: int) -> tuple[tuple[Slice, ...], tuple[Slice, ...]]:
    """Return the first `rows` of consecutive slices, and the rest."""
    head: list[Slice] = []
    for index, part in enumerate(slices):
        if rows <= 0:
            return tuple(head), slices[index:]
        if part.rows > rows:
            head.append(Slice(part.block, part.start, rows))
            return tuple(head), (part.skip(rows), *slices[index + 1 :])
        head.append(part)
        rows -= part.rows
    return tuple(head), ()


def _moved(average: float | None, seen: float) -> float:
    return seen if average is None else average + _RECENT * (seen - average)
