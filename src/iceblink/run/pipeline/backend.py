"""What a scheduler needs of whoever runs its work: workers, tasks whose output streams, blocks of rows.

The contract of one process, of its child processes, and of a cluster. A backend knows nothing of operators' order,
queues or budgets; a scheduler knows nothing of threads, processes or objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import pyarrow as pa

from iceblink.scan.batch import Batch

Kind: TypeAlias = Literal["rows", "rejected", "mark"]
"""What an output is: rows for the next operator, rows that an operator refused, or a place in the source."""


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that a task produced.

    Parameters
    ----------
    kind : {"rows", "rejected", "mark"}
        A mark has no rows: it says that everything before it came from the source's first `data.first_row` units.
    data : Batch
    consumed : int
        Rows of the task's input that are dealt with once this output is kept. Where it does not grow, calls gave more
        than this: a task begun again is told how many rows, rejected ones among them, were kept since it last grew.
    part : int
        Where rows that are exchanged belong.
    """

    kind: Kind
    data: Batch
    consumed: int = 0
    part: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that lie where the backend put them.

    Parameters
    ----------
    ref : object
        The backend's own; only it can look inside.
    rows, nbytes : int
        Their number, and their Arrow size [bytes].
    schema : pa.Schema
    path, first_row, exact
        Data file and positions of the rows, as in `Batch`.
    parts : tuple of Block
        Other blocks that this one stands for, which somebody else lets go of; it has no rows of its own then.
    """

    ref: Any
    rows: int
    nbytes: int
    schema: pa.Schema
    path: str = ""
    first_row: int = 0
    parts: tuple[Block, ...] = ()
    exact: bool = True

    @property
    def held_bytes(self) -> int:
        """What letting go of it frees [bytes]."""
        return 0 if self.parts else self.nbytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What a source hands on without touching it: rows that lie where the backend keeps them."""

    block: Block


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive rows of a block."""

    block: Block
    start: int
    rows: int

    @property
    def nbytes(self) -> int:
        """Its share of the block [bytes]."""
        return self.block.nbytes * self.rows // max(1, self.block.rows)

    @property
    def first_row(self) -> int:
        """Position of its first row, as in `Batch`."""
        return self.block.first_row + self.start if self.block.exact else self.block.first_row

    @property
    def pieces(self) -> tuple[Slice, ...]:
        """Itself, or all of the blocks that its block stands for."""
        return tuple(Slice(part, 0, part.rows) for part in self.block.parts) or (self,)

    def skip(self, rows: int) -> Slice:
        """Return what follows the first `rows`."""
        return Slice(self.block, self.start + rows, self.rows - rows)


@dataclass(frozen=True, slots=True)
class Task:
    """Rows for one worker; it may call its function several times on them.

    Parameters
    ----------
    number : int
        Unique in the life of a backend.
    slices : tuple of Slice
        The input, in order, of blocks that have rows of their own; none for a source.
    batch_rows : int or None
        Rows of each call but the last; None makes each slice a call of its own.
    schema : pa.Schema or None
        What every output is held to, once that is known.
    skip : int
        Rows at the beginning of the output that are there already: a worker died after it gave them.
    """

    number: int
    slices: tuple[Slice, ...]
    batch_rows: int | None = None
    schema: pa.Schema | None = None
    skip: int = 0

    @property
    def rows(self) -> int:
        """Input rows."""
        return sum(part.rows for part in self.slices)

    @property
    def nbytes(self) -> int:
        """Input bytes."""
        return sum(part.nbytes for part in self.slices)


@dataclass(frozen=True, slots=True)
class Call:
    """A task as it reaches a worker: the rows themselves."""

    parts: Sequence[Batch]
    batch_rows: int | None = None
    schema: pa.Schema | None = None
    skip: int = 0


PAUSED = -1
"""Instead of a number of rows dealt with: no call is under way."""


class Work(Protocol):
    """What one worker keeps: an operator's function, built, a model loaded."""

    def __call__(self, call: Call, begun: Callable[[int], None]) -> Iterator[Output | Stored]:
        """Yield what comes of a task.

        `begun(consumed)` is called before each call of the user's function, and `begun(PAUSED)` after it. A call may
        have been made for which there is no credit yet, but not two.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What a worker is: how it is built, where, and how long one call may take. Equality is identity.

    Parameters
    ----------
    label : str
        The operator's name.
    build : callable
        Builds the `Work` in the worker; picklable where `processes` is set.
    processes : bool
        Whether it needs a process of its own.
    gpus : float
        Share of a device; its worker sees only that device.
    timeout_s : float or None
        A call that takes longer ends the worker [s].
    memory_bytes : int
        What it takes for itself [bytes]; a cluster finds a node where as much is not promised to others.
    resources, labels : mapping
        What else its node must have for it, by the cluster's names, and what that must be called; only clusters know.
    """

    label: str
    build: Callable[[], Work]
    processes: bool = False
    gpus: float = 0.0
    timeout_s: float | None = None
    memory_bytes: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker is built."""

    worker: int


@dataclass(frozen=True, slots=True)
class Produced:
    """A task has an output; it may go on until its credit is used up."""

    task: int
    kind: Kind
    block: Block
    consumed: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """A task came to its end."""

    task: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A task raised, and the worker lives on; or, without a task, a worker could not be built."""

    worker: int
    task: int | None
    error: BaseException


@dataclass(frozen=True, slots=True)
class Calling:
    """A call of the user's function that has begun: of which task, after how many of its rows, when [monotonic s]."""

    task: int
    consumed: int
    began_s: float


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone, and with it the tasks it had; `why` in words, as in "a worker exited with status 1".

    `calling` is the call in which it died, if that is known: of the task that it was at, or of the one after that.
    `with_node` says that the machine it was on was lost, or its link, so that it is no fault of what it did; `refused`,
    that there was no room for what it read or made, of which no call is to blame.
    """

    worker: int
    why: str
    calling: Calling | None = None
    with_node: bool = False
    refused: bool = False


Signal: TypeAlias = Ready | Produced | Finished | Failed | Died


@dataclass(frozen=True, slots=True)
class Slots:
    """What there is to share out: CPUs, GPUs, and memory [bytes]."""

    cpus: float
    gpus: float
    memory_bytes: int


class Backend(Protocol):
    """Runs workers. All calls come from the scheduler's thread but `wake`, `put`, `fetch` and `free`."""

    def slots(self) -> Slots:
        """Return what there is now; a cluster may grow."""
        ...

    def check(self, order: Order) -> None:
        """See that a worker can ever have what it needs; called before a run begins.

        Raises
        ------
        ConfigError
            It would be waited for in vain.
        """
        ...

    def start_worker(self, order: Order) -> int | None:
        """Begin to build a worker; `Ready`, `Failed` or `Died` follows. None while no device is free for it."""
        ...

    def submit(self, worker: int, task: Task, credit: int) -> None:
        """Queue a task at a worker, which stops after `credit` outputs until it is given more."""
        ...

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        ...

    def stop_worker(self, worker: int, at_once: bool = False) -> None:
        """End a worker after its tasks; or at once, as far as that is possible, and no signal of it follows."""
        ...

    def wait(self, timeout_s: float) -> list[Signal]:
        """Return what has happened, at least one signal unless the time runs out or somebody calls `wake`."""
        ...

    def wake(self) -> None:
        """Let `wait` return; from any thread."""
        ...

    def put(self, batch: Batch) -> Block:
        """Keep rows for tasks to come; from any thread."""
        ...

    def fetch(self, block: Block) -> Batch:
        """Return the rows of a block; from any thread."""
        ...

    def free(self, block: Block) -> None:
        """Let go of a block; from any thread."""
        ...

    def memory_bytes(self) -> int:
        """Return the memory that is resident here and in all workers [bytes]."""
        ...

    def close(self, patience_s: float = 0.0) -> None:
        """End all workers at once, but for those that are ending: they may take so long to close what they hold [s].

        Raises
        ------
        FunctionError
            One of those could not close what it held.
        """
        ...
