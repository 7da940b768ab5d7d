"""A backend whose workers do nothing and take no time: what a run over it costs is the driver's own work."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import pyarrow as pa

from iceblink.config import MIB
from iceblink.run.pipeline.backend import (
    Block,
    Call,
    Finished,
    Order,
    Produced,
    Ready,
    Signal,
    Slots,
    Stored,
    Task,
)
from iceblink.run.pipeline.chain import SourceWork
from iceblink.run.pipeline.held_rows import block_of
from iceblink.run.ray.objects import Part, RayRows
from iceblink.scan.batch import Batch

ROWS = pa.schema([("x", pa.int64())])
GIVES = pa.record_batch({"x": pa.array([0])})


class IdleBackend:
    """Workers that are built at once, and whose tasks take as long as the driver needs to give all of them something.

    Each task gives one block for each partition. Only a source really runs, as it would in the driver.

    Parameters
    ----------
    workers : int
        CPUs there are.
    partitions : int
        Outputs of each task.
    together : bool
        Whether all workers are heard at the same time, as by a driver that is behind; else one after the other.
    """

    def __init__(self, workers: int, partitions: int = 1, together: bool = True) -> None:
        self._slots = Slots(workers, 0, workers << 32)
        self._partitions, self._together = partitions, together
        self._numbers = itertools.count(1)
        self._sources: dict[int, Order] = {}
        self._given: dict[int, deque[int]] = {}  # the tasks of each worker
        self._tasks: dict[int, Iterator[Signal]] = {}
        self._credit: dict[int, int] = {}
        self._turns: deque[int] = deque()  # workers with tasks, but for sources
        self._heard: list[Signal] = []
        self._woken = threading.Event()
        self.started = 0

    def slots(self) -> Slots:
        """Return the same every time."""
        return self._slots

    def check(self, order: Order) -> None:
        """Say nothing: there is room for all."""

    def start_worker(self, order: Order) -> int:
        """Have a worker at once."""
        number = next(self._numbers)
        if isinstance(order.build, SourceWork):
            self._sources[number] = order
        self._given[number] = deque()
        self._heard.append(Ready(number))
        self.started += 1
        return number

    def submit(self, worker: int, task: Task, credit: int) -> None:
        """Make the parts of the message that a host of Ray would get."""
        parts = tuple(map(Part.of, task.slices))
        source = self._sources.get(worker)
        self._tasks[task.number] = self._nothing_done(task, parts) if source is None else self._fed(task, source)
        self._credit[task.number] = credit
        if source is None and not self._given[worker]:
            self._turns.append(worker)
        self._given[worker].append(task.number)

    def allow(self, task: int) -> None:
        """Let a task have one more output."""
        if task in self._credit:
            self._credit[task] += 1

    def stop_worker(self, worker: int, at_once: bool = False) -> None:
        """Forget a worker that has nothing to do, as all have at the end of a run."""
        del self._given[worker]
        self._sources.pop(worker, None)

    def wait(self, timeout_s: float) -> list[Signal]:
        """Return what one worker says, or all."""
        for source in [number for number in self._sources if self._given[number]]:
            self._hear(source)
        for _ in range(0 if self._heard else len(self._turns)):
            self._hear(self._turns.popleft())
            if self._heard and not self._together:
                break
        if not self._heard:
            self._woken.wait(timeout_s)
        self._woken.clear()
        heard, self._heard = self._heard, []
        return heard

    def wake(self) -> None:
        """Let `wait` return."""
        self._woken.set()

    def put(self, batch: Batch) -> Block:
        """Keep rows as the backend of Ray keeps few of them."""
        return block_of(batch, RayRows.put(batch.data))

    def fetch(self, block: Block) -> Batch:
        """Return one row, whatever was kept."""
        return Batch(GIVES, block.path, block.first_row, block.exact)

    def free(self, block: Block) -> None:
        """Let go of a block."""
        block.ref.free()

    def memory_bytes(self) -> int:
        """Return nothing: memory is never tight."""
        return 0

    def close(self, patience_s: float = 0.0) -> None:
        """Forget all."""
        self._given.clear()
        self._tasks.clear()

    def _hear(self, worker: int) -> None:
        """Take what the first task of a worker says, until its credit is used up."""
        given = self._given[worker]
        task = given[0]
        while self._credit[task] > 0 and (signal := next(self._tasks[task], None)) is not None:
            self._heard.append(signal)
            self._credit[task] -= isinstance(signal, Produced)
            if isinstance(signal, Finished):
                given.popleft()
                del self._tasks[task], self._credit[task]
                break
        if given and worker not in self._sources:
            self._turns.append(worker)

    def _nothing_done(self, task: Task, parts: Sequence[Part]) -> Iterator[Signal]:
        for part in range(self._partitions):
            yield Produced(task.number, "rows", Block(RayRows(object()), 1, MIB, ROWS), 0, part)
        yield Finished(task.number, 1.0)

    def _fed(self, task: Task, source: Order) -> Iterator[Signal]:
        for output in source.build()(Call(()), lambda _: None):
            block = output.block if isinstance(output, Stored) else self.put(output.data)
            yield Produced(task.number, "rows", block, 0)
        yield Finished(task.number, 0.0)
