"""Operators side by side over one backend: nearest the sink first, inside one memory budget, output in order.

One thread runs the loop: hand over what is ready, start what may start, wait for what happens. It never waits for one
operator, and it knows workers only by the contract in `backend`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial

import pyarrow as pa

from iceblink.condition import Condition
from iceblink.errors import ConfigError, FunctionError, OutOfMemoryBudget
from iceblink.events import BatchDone, emit
from iceblink.run.pipeline.backend import (
    Backend,
    Block,
    Died,
    Failed,
    Finished,
    Kind,
    Produced,
    Ready,
    Signal,
    Slots,
)
from iceblink.run.pipeline.crew import Crew
from iceblink.run.pipeline.operator import Operator
from iceblink.run.pipeline.pieces import places
from iceblink.run.pipeline.rejected import rejected_rows
from iceblink.run.pipeline.schema import Held
from iceblink.run.pipeline.stage import Item, Lane, Stage, Stretch
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.stop import AWAKE_S, waiting
from iceblink.scan.batch import Batch

CREDIT = 2  # outputs that a task may have made and nobody has asked for
QUEUE_SHARE = 0.25  # of the memory budget, for blocks; the rest is the kernel's, the workers' and the writers'
CALL_SHARE = 0.125  # of the blocks' budget, for what one call makes where its size is ours to choose
CALL_BYTES = 128 << 20
TIGHT = 0.9  # of the memory budget resident: nothing new is begun that can wait
CLOSE_S = 60.0  # for what workers close when all is done
UNBOUNDED = 1 << 40  # what an atomic task makes waits for its end: asking for it bit by bit holds nothing back
LOOK_S = 0.1  # between looks at memory and at idle workers

_numbers = itertools.count(1)  # of tasks, whichever run they belong to


class Scheduler:
    """Runs a chain of operators, the first of which is the source.

    Parameters
    ----------
    operators : sequence of Operator
        The first takes no input: one task of it yields everything.
    backend : Backend
    recorder : Recorder
        Told what happens, for statistics.
    lent : bool
        Whether the backend serves other runs after this one: it is not closed when the run ends.
    """

    def __init__(self, operators: Sequence[Operator], backend: Backend, recorder: Recorder, lent: bool = False) -> None:
        self.backend, self.recorder, self.lent = backend, recorder, lent
        slots = backend.slots()
        self.memory_bytes = slots.memory_bytes
        self.budget = int(slots.memory_bytes * QUEUE_SHARE)
        call_bytes = int(min(CALL_BYTES, self.budget * CALL_SHARE))
        self.stages = [Stage(_possible(operator, slots), call_bytes) for operator in operators]
        for operator in operators:
            backend.check(operator.order)
        self.crew = Crew(self.stages, backend, recorder)
        self.held = [Held(operator.schema, operator.label) for operator in operators]
        self.passed = [0] * len(operators)  # marks that each operator has handed on
        self.stage_of_task: dict[int, Stage] = {}
        self.blocks_bytes = 0  # of all blocks alive but those in `out`
        self.base_bytes = backend.memory_bytes()
        self.looked_at = 0.0
        self.tight = False
        # between the loop and whoever takes
        self.changed = Condition()
        self.out: deque[tuple[int, Item, int]] = deque()
        self.out_bytes = 0
        self.ended = self.stopping = False
        self.error: BaseException | None = None

    # -- the taker's side ----------------------------------------------------------------------------------------------

    def run(self) -> Generator[tuple[int, Kind, Batch], None, None]:
        """Yield (operator, kind, batch): rows and marks of the last operator, rejected rows of any.

        Rejected rows overtake the rows of operators after theirs, and marks with them: their `first_row` is the number
        of the source's units before the one that they came of. When a run fails, what lies before a mark is still
        handed on. Closing the generator ends all workers.

        Raises
        ------
        FunctionError, BatchContractBroken, OutOfMemoryBudget
        IceblinkError
            Whatever the source raised.
        """
        with closing(self.taken()) as items:
            for index, item, unit in items:
                batch = self.backend.fetch(item.block)
                self.backend.free(item.block)
                if item.kind == "rejected":
                    batch = replace(batch, first_row=unit)
                yield index, item.kind, batch
                del batch  # whoever took it must be the last to hold it

    def taken(self) -> Generator[tuple[int, Item, int], None, None]:
        """Yield (operator, item, unit) as `run` does, and leave the rows where they lie: whoever takes them frees them.

        Raises
        ------
        FunctionError, BatchContractBroken, OutOfMemoryBudget
        IceblinkError
            Whatever the source raised.
        """
        loop = threading.Thread(target=copy_context().run, args=(self._loop,), name="iceblink-scheduler", daemon=True)
        loop.start()
        try:
            while (taken := self._take()) is not None:
                yield taken
        finally:
            self.stop()
            loop.join()
            self._let_go()

    def stop(self) -> None:
        """Let the loop end all workers and itself; from any thread."""
        self.stopping = True
        self.backend.wake()

    def _let_go(self) -> None:
        """Hold no rows any more: an error that is kept keeps the frames it came through, and with them this."""
        for stage in self.stages:
            stage.let_go()
        self.out.clear()

    def _take(self) -> tuple[int, Item, int] | None:
        with waiting(self.stop), self.changed:
            while not self.changed.wait_for(lambda: self.out or self.ended, AWAKE_S):
                pass
            if self.error is not None and not any(item.kind == "mark" for _, item, _ in self.out):
                raise self.error
            if not self.out:
                return None
            index, item, unit = self.out.popleft()
            self.out_bytes -= item.block.held_bytes
        self.backend.wake()
        return index, item, unit

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            self.stages[0].ended = True
            self.stages[0].lanes.append(Lane(deque([Stretch(())])))
            while not self.stopping:
                self._hand_over()
                if self.stages[-1].drained:
                    break
                self._admit()
                for signal in self.backend.wait(LOOK_S):
                    self._handle(signal)
        except BaseException as error:
            self.error = error
            with suppress(Exception):  # the first error is told
                self._hand_over()
        finally:
            self._end()

    def _end(self) -> None:
        """End the workers and say that the run is over, whatever fails in that: somebody may wait to take more."""
        ended_well = self.error is None and not self.stopping
        close = partial(self.backend.close, CLOSE_S if ended_well else 0.0)
        for end in (self.crew.dismiss_all if self.lent else close, self.recorder.end):
            try:
                end()
            except BaseException as error:
                self.error = self.error or error
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _hand_over(self) -> None:
        for index, stage in enumerate(self.stages):
            last = index + 1 == len(self.stages)
            for item in stage.hand_over():
                if item.kind == "rejected" or last:
                    self._give(index, self._typed(index, item))
                else:
                    self.stages[index + 1].offer(self._typed(index, item))
                self.passed[index] += item.kind == "mark"
            self._free_spent(stage)
            if stage.drained:
                self.crew.dismiss(stage)
                if not last:
                    self.stages[index + 1].ended = True

    def _typed(self, index: int, item: Item) -> Item:
        """Hold rows to the operator's schema: the declared one, or that of its first output; a source keeps its own."""
        held, block = self.held[index], item.block
        if item.kind != "rows" or not index or self.stages[index].operator.exchanged:
            return item
        if held.fits(block.schema):
            self.stages[index].schema = held.schema
            return item
        made = self.backend.put(held.conformed(self.backend.fetch(block)))
        self.blocks_bytes += made.nbytes
        self._free(block)
        return Item("rows", made)

    def _give(self, index: int, item: Item) -> None:
        skipped = item.kind == "rejected" and self.stages[index].operator.on_error == "skip"
        if skipped or (item.kind == "rows" and not item.block.rows):
            self._free(item.block)
            return
        self.blocks_bytes -= item.block.held_bytes
        with self.changed:
            self.out.append((index, item, self.passed[index]))
            self.out_bytes += item.block.held_bytes
            self.changed.notify_all()

    def _free(self, block: Block) -> None:
        if not block.parts:
            self.blocks_bytes -= block.nbytes
            self.backend.free(block)

    def _free_spent(self, stage: Stage) -> None:
        for block in stage.spent:
            self._free(block)
        stage.spent.clear()

    # -- admission -----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        self._look()
        self.crew.look()
        wanted = False  # a CPU, by an operator nearer the sink: those before it neither begin what takes one nor go on
        for index in reversed(range(len(self.stages))):
            stage = self.stages[index]
            if not (wanted and stage.operator.cpus):
                self._ask_on(index)
            stall = "cpu" if wanted and stage.operator.cpus else ""
            while not stall and (lane := stage.next_lane()) is not None:
                worker, stall = self.crew.find(stage, lane)
                if worker is not None and not self._room(index, self._need(index, lane)):
                    stall = "memory" if self.tight else "output"
                if worker is not None and not stall:
                    self._start(stage, lane, worker)
            wanted = wanted or stall == "cpu"
            self.recorder.stalled(index, "" if stage.running and stall == "worker" else stall or _idle(stage))
        if not self._moving():
            self._force()

    def _ask_on(self, index: int) -> None:
        """Give credit to the tasks of a stage, the front one first, while there is room for what they make."""
        stage = self.stages[index]
        if index == 0 and len(self.stages) > 1 and self.stages[1].sated:
            return  # a source takes no CPU of ours, so that nothing else keeps it from running far ahead
        for lane in () if stage.operator.atomic else stage.lanes:  # atomic tasks have all the credit that they want
            if lane.task is None:
                continue
            running = stage.running[lane.task]
            if not running.credit and not self.crew.has_cpu(stage):
                continue  # it gave its own away
            front = lane is stage.lanes[0] and self._starving(index)
            if running.credit < CREDIT and (self._room(index, 0) or (front and not running.credit)):
                if not running.credit and stage.workers[running.worker].tasks[0] == lane.task:
                    self.crew.at_work(stage)
                running.credit += 1
                self.backend.allow(lane.task)

    def _starving(self, index: int) -> bool:
        """Whether whoever follows a stage has nothing to do."""
        if index + 1 == len(self.stages):
            return not self.out
        following = self.stages[index + 1]
        return not following.running and not following.waiting_rows

    def _need(self, index: int, lane: Lane) -> int:
        """Return the bytes for which there must be room; what follows starves: then a task larger than all is begun."""
        stage = self.stages[index]
        return 0 if not stage.running and self._starving(index) else stage.expected_bytes(lane)

    def _room(self, index: int, need: int) -> bool:
        """Whether a stage may make `need` bytes more; the nearer the sink, the larger its part of the budget."""
        if self.tight:
            return False
        if self.stages[index].operator.exchanged:
            return True  # a backend whose blocks leave the run keeps them where there is room, on disk at last
        held = self.blocks_bytes + self.out_bytes + sum(stage.in_flight_bytes for stage in self.stages)
        return held + need <= self.budget * (index + 1) / len(self.stages)

    def _start(self, stage: Stage, lane: Lane, worker: int) -> None:
        number = next(_numbers)
        if not (at := stage.workers[worker]).tasks:
            self.recorder.begun(self.stages.index(stage), worker, at.idle_since)
            self.crew.at_work(stage)
        credit = UNBOUNDED if stage.operator.atomic else CREDIT
        task = stage.begin(lane, number, worker, credit)
        stage.running[number].begun_s = time.monotonic()
        self.stage_of_task[number] = stage
        self.backend.submit(worker, task, credit)

    def _moving(self) -> bool:
        """Whether something will happen without our doing: a taker takes, a task goes on, a worker is built.

        Where this is false and something is left to do, `_force` sets one thing going before the loop waits. Tasks that
        have no credit do not count: they wait for us, and we for room that they may be the only ones to make.
        """
        return bool(self.out) or any(stage.goes_on for stage in self.stages)

    def _force(self) -> None:
        """Go one step over the budget, nearest the sink, so that it can be kept again: else all would wait for all."""
        for stage in reversed(self.stages):
            for task, running in stage.at_work():
                running.credit += 1
                self.backend.allow(task)
                return
            if (lane := stage.next_lane()) is None:
                continue
            worker, _ = self.crew.find(stage, lane)
            if worker is not None:
                self._start(stage, lane, worker)
                return
            self.crew.make_way(stage)
            if stage.starting or self.crew.grow(stage):
                return

    def _look(self) -> None:
        """From time to time: measure memory, and let workers go that have nothing to do."""
        now = time.monotonic()
        if now - self.looked_at < LOOK_S:
            return
        self.looked_at = now
        resident = self.backend.memory_bytes()
        self.tight = resident - self.base_bytes > TIGHT * self.memory_bytes
        self.crew.remember(resident, self.tight)
        if self.tight:
            pa.default_memory_pool().release_unused()
        self.crew.dismiss_idle()
        queued = [(stage.waiting_rows, len(stage.running), len(stage.workers)) for stage in self.stages]
        self.recorder.look(resident, self.blocks_bytes + self.out_bytes, queued)

    # -- signals -------------------------------------------------------------------------------------------------------

    def _handle(self, signal: Signal) -> None:
        match signal:
            case Ready(worker=number):
                self.crew.ready(number)
            case Produced(task=task, block=block):
                stage = self.stage_of_task[task]
                self._check_size(stage, block)
                self.blocks_bytes += block.held_bytes
                self._record(stage, signal)
                stage.produced(signal)
            case Finished(task=task, busy_s=busy_s):
                stage = self.stage_of_task.pop(task)
                running = stage.finished(task, busy_s)
                stage.workers[running.worker].idle_since = time.monotonic()
                rows_in = running.rows
                index = self.stages.index(stage)
                left = rows_in - running.consumed
                self.recorder.task(index, running.worker, busy_s, left, rows_in or running.rows_out)
                if index:
                    emit(BatchDone(stage.operator.label, running.rows_out, running.bytes_out, busy_s))
            case Failed(error=error):
                raise error
            case Died():
                self._bury(signal)

    def _record(self, stage: Stage, signal: Produced) -> None:
        """Count an output before its stage takes it."""
        index, block = self.stages.index(stage), signal.block
        dealt = max(0, signal.consumed - stage.running[signal.task].consumed)
        if signal.kind == "rejected":
            self.recorder.refused(index, dealt, block.rows)
        else:
            self.recorder.produced(index, dealt, block.rows, block.nbytes)

    def _check_size(self, stage: Stage, block: Block) -> None:
        if block.held_bytes > self.memory_bytes // 2:
            raise OutOfMemoryBudget(
                f"one output has {block.nbytes:,} bytes ({block.rows:,} rows), more than half of the budget of "
                f"{self.memory_bytes:,}",
                stage.operator.label,
                "lower batch_size, yield the output in parts, or raise ICEBLINK_MEMORY_BYTES",
            )

    def _bury(self, death: Died) -> None:
        """What a dead worker had is done again, by whoever is free."""
        if (found := self.crew.bury(death)) is None:
            return
        stage, worker = found
        tasks = list(worker.tasks)
        begun = {task: 0 for task in tasks[:1] if worker.ready and not death.refused}
        if (calling := death.calling) is not None:
            # a task is begun when all calls of the one before have been
            begun = {task: stage.running[task].rows for task in begun} | {calling.task: calling.consumed}
        for task in reversed(tasks):
            del self.stage_of_task[task]
            poison = stage.died(task, begun.get(task))
            if poison is not None:
                self._reject(stage, *poison, death.why)
        del stage.workers[death.worker]
        stage.sort_in(death.worker)

    def _reject(self, stage: Stage, lane: Lane, stretch: Stretch, why: str) -> None:
        """Deal with rows that killed two workers as their operator says."""
        parts = [
            self.backend.fetch(part.block).slice(part.start, part.rows)
            for given in stretch.slices
            for part in given.pieces
        ]
        rows = sum(part.data.num_rows for part in parts)
        error = FunctionError(
            f"a worker {why}, twice, on the same {rows:,} rows",
            f"{stage.operator.label}, {places(parts)}",
            "run the function on these rows alone; on_error='skip' or 'quarantine' leaves them out",
        )
        if stage.operator.on_error == "raise":
            raise error
        self.recorder.refused(self.stages.index(stage), rows, rows)
        if stage.operator.on_error == "quarantine":
            for part in parts:
                block = self.backend.put(rejected_rows(part, stage.operator.label, str(error.what), ""))
                self.blocks_bytes += block.nbytes
                lane.items.append(Item("rejected", block))


def _idle(stage: Stage) -> str:
    """Return what a stage waits for that could start all it has: nothing, or more input while there will be some."""
    return "" if stage.running or stage.ended else "input"


def _possible(operator: Operator, slots: Slots) -> Operator:
    """Return an operator that the slots can run; CPUs are only a share of time, memory is not.

    Of GPUs, slots are without what others hold at the moment; what there may ever be, a backend's `check` knows.

    Raises
    ------
    ConfigError
        One worker needs more than there is.
    """
    if operator.memory_bytes > slots.memory_bytes:
        raise ConfigError(
            f"a worker wants {operator.memory_bytes:,} bytes, and the budget is {slots.memory_bytes:,}",
            operator.label,
            "raise ICEBLINK_MEMORY_BYTES, or lower memory=",
        )
    return replace(operator, cpus=min(operator.cpus, slots.cpus))
