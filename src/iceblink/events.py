"""What happens while a job runs, as small facts; progress bars, logs and statistics are observers of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """The root of all events."""


@dataclass(frozen=True)
class ScanPlanned(Event):
    """A table's metadata was read: what is kept, of how much."""

    table: str
    files: int
    files_total: int
    splits: int
    rows: int
    decoded_bytes: int


@dataclass(frozen=True)
class SplitRead(Event):
    """A split was decoded to its end."""

    table: str
    rows: int
    decoded_bytes: int


@dataclass(frozen=True)
class QueryProgress(Event):
    """How much of a statement is done by the kernel's own estimate, from 0 to 1; rows it was fed it cannot tell."""

    fraction: float


@dataclass(frozen=True)
class BatchDone(Event):
    """A worker is done with a task: one call of an operator's function, or several, and the rows that came of them."""

    operator: str
    rows: int
    nbytes: int
    seconds: float


@dataclass(frozen=True)
class OperatorProgress:
    """One operator of a pipeline at one moment: totals since it began, then how things stand.

    `waits_for` is empty, or what it cannot go on without. `rows_refused` failed, and were left out or quarantined.
    """

    operator: str
    rows_in: int = 0
    rows_out: int = 0
    rows_refused: int = 0
    bytes_out: int = 0
    busy_s: float = 0.0
    deaths: int = 0
    rows_waiting: int = 0
    tasks: int = 0
    workers: int = 0
    waits_for: str = ""


@dataclass(frozen=True)
class PipelineProgress(Event):
    """A pipeline at one moment, a few times a second and when it has `ended`; the first operator is the source.

    `pipeline` is a number that no other run in this process has.
    """

    pipeline: int
    operators: tuple[OperatorProgress, ...]
    seconds: float
    resident_bytes: int
    ended: bool = False


@dataclass(frozen=True)
class LoaderProgress(Event):
    """A pass of a loader at one moment: at its begin, about twice a second, and when it has `ended`.

    `number` is one that no other pass in this process has. `step` of the `steps` of the epoch were handed over, this
    process's `rows` of them in this pass. What follows is counted since the pass began: `waited_s` of the `seconds` the
    consumer waited, for the `bottleneck` ("consumer" where there is little to wait for).
    """

    number: int
    loader: str
    epoch: int
    step: int
    steps: int
    batches: int = 0
    rows: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    bottleneck: str = ""
    replaced_rows: int = 0
    decoded_bytes: int = 0
    cached_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    ended: bool = False


@dataclass(frozen=True)
class FileWritten(Event):
    """A data file was closed; it is not in the table yet."""

    table: str
    path: str
    rows: int
    file_bytes: int


@dataclass(frozen=True)
class FilesRewritten(Event):
    """How far a compaction is: data files, and their bytes on disk, that were read of all that will be."""

    table: str
    files: int
    files_total: int
    file_bytes: int
    file_bytes_total: int


@dataclass(frozen=True)
class Committed(Event):
    """A snapshot is in the table."""

    table: str
    snapshot_id: int
    rows_added: int
    files_added: int
    files_removed: int


Observer = Callable[[Event], None]

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("iceblink_observers", default=())


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Send every event raised inside the block to `observer` as well."""
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


def emit(event: Event) -> None:
    """Tell every observer; code that starts threads copies the context into them."""
    for observer in _observers.get():
        observer(event)


def observed() -> bool:
    """Tell whether anybody would hear an event: what is only made to be told need not be made."""
    return bool(_observers.get())
