"""What is known of running work, added up from its events: numbers only, for whoever draws them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

from iceblink.events import (
    Event,
    FilesRewritten,
    FileWritten,
    LoaderProgress,
    OperatorProgress,
    PipelineProgress,
    QueryProgress,
    ScanPlanned,
    SplitRead,
)

RATE_S = 5.0  # rates are of the last so many seconds


@dataclass(frozen=True)
class OperatorSeen:
    """An operator now, and how fast it is [rows/s, bytes/s]."""

    now: OperatorProgress
    rows_s: float
    bytes_s: float


@dataclass(frozen=True)
class PipelineSeen:
    """A pipeline now; `left_s` is an estimate, None where nobody knows how much its source will give [s]."""

    operators: tuple[OperatorSeen, ...]
    seconds: float
    resident_bytes: int
    left_s: float | None
    ended: bool


@dataclass(frozen=True)
class LoaderSeen:
    """A pass of a loader now, how fast it is [rows/s], and the share of the time in which its consumer waits.

    `left_s` is None where that cannot be told yet [s].
    """

    now: LoaderProgress
    rows_s: float
    waiting: float
    left_s: float | None


@dataclass(frozen=True)
class JobSeen:
    """All that runs: its pipelines and loaders, and rows read, planned and written whether or not there are any.

    `fraction` is the kernel's own estimate of how much of its statement is done; 0 where it has none.
    """

    pipelines: tuple[PipelineSeen, ...]
    loaders: tuple[LoaderSeen, ...]
    rows_planned: int
    rows_read: int
    rows_written: int
    fraction: float


class _Pipeline:
    """What is remembered of a pipeline: its last few seconds, and since when rows are through."""

    def __init__(self) -> None:
        self._recent: deque[PipelineProgress] = deque()
        self._first: tuple[float, float] | None = None  # when rows were through for the first time [s], and which part
        self._done = 0.0

    @property
    def ended(self) -> bool:
        return self._recent[-1].ended

    def take(self, progress: PipelineProgress, source: float | None) -> None:
        """Remember how it is now; `source` is the part of its source's rows that were read, None if nobody knows."""
        self._recent.append(progress)
        while len(self._recent) > 2 and progress.seconds - self._recent[1].seconds >= RATE_S:
            self._recent.popleft()
        self._done = source or 0.0
        for before, behind in pairwise(progress.operators):
            self._done *= behind.rows_in / before.rows_out if before.rows_out else 0.0
        if self._done and self._first is None:
            self._first = (progress.seconds, self._done)

    def seen(self) -> PipelineSeen:
        then, now = self._recent[0], self._recent[-1]
        passed = now.seconds - then.seconds
        operators = tuple(
            OperatorSeen(
                new,
                (new.rows_out - old.rows_out) / passed if passed else 0.0,
                (new.bytes_out - old.bytes_out) / passed if passed else 0.0,
            )
            for old, new in zip(then.operators, now.operators, strict=True)
        )
        return PipelineSeen(operators, now.seconds, now.resident_bytes, self._left_s(now), now.ended)

    def _left_s(self, now: PipelineProgress) -> float | None:
        """Estimate by the pace since the first rows were through: what was built before that is built once."""
        if now.ended or self._first is None or self._done <= self._first[1]:
            return None
        pace = (self._done - self._first[1]) / (now.seconds - self._first[0])
        return max(0.0, 1.0 - self._done) / pace


class _Loader:
    """The last few seconds of a pass of a loader."""

    def __init__(self) -> None:
        self._recent: deque[LoaderProgress] = deque()

    @property
    def ended(self) -> bool:
        return self._recent[-1].ended

    def take(self, progress: LoaderProgress) -> None:
        """Remember how it is now."""
        self._recent.append(progress)
        while len(self._recent) > 2 and progress.seconds - self._recent[1].seconds >= RATE_S:
            self._recent.popleft()

    def seen(self) -> LoaderSeen:
        then, now = self._recent[0], self._recent[-1]
        passed, batches = now.seconds - then.seconds, now.batches - then.batches
        if not passed:
            return LoaderSeen(now, 0.0, 0.0, None)
        left_s = (now.steps - now.step) * passed / batches if batches and not now.ended else None
        return LoaderSeen(now, (now.rows - then.rows) / passed, (now.waited_s - then.waited_s) / passed, left_s)


class Job:
    """An observer that adds up what it hears, from any thread; `seen` tells how things stand.

    A pipeline, or a pass of a loader, that has ended is told of until something new begins.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._pipelines: dict[int, _Pipeline] = {}
        self._loaders: dict[int, _Loader] = {}
        self._tables: dict[str, int] = {}  # rows of the scan planned last
        self._planned = self._read = self._written = 0
        self._fraction = 0.0

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        with self._lock:
            match event:
                case PipelineProgress(pipeline=number):
                    if number not in self._pipelines:
                        self._forget()
                    self._pipelines.setdefault(number, _Pipeline()).take(event, self._source(event))
                case LoaderProgress(number=number):
                    if number not in self._loaders:
                        self._forget()
                    self._loaders.setdefault(number, _Loader()).take(event)
                case ScanPlanned(table=table, rows=rows):
                    self._forget()
                    self._tables[table] = rows
                    self._planned += rows
                    self._fraction = 0.0
                case SplitRead(rows=rows):
                    self._read += rows
                case QueryProgress(fraction=fraction):
                    self._fraction = fraction
                case FilesRewritten(file_bytes=done, file_bytes_total=total):
                    self._fraction = done / total if total else 0.0
                case FileWritten(rows=rows):
                    self._written += rows

    def seen(self) -> JobSeen:
        """Return how things stand."""
        with self._lock:
            pipelines = tuple(pipeline.seen() for pipeline in self._pipelines.values())
            loaders = tuple(loader.seen() for loader in self._loaders.values())
            return JobSeen(pipelines, loaders, self._planned, self._read, self._written, self._fraction)

    def _forget(self) -> None:
        self._pipelines = {number: pipeline for number, pipeline in self._pipelines.items() if not pipeline.ended}
        self._loaders = {number: loader for number, loader in self._loaders.items() if not loader.ended}

    def _source(self, progress: PipelineProgress) -> float | None:
        """Return which part of a pipeline's source was read, if that is known."""
        source = progress.operators[0]
        if rows := self._tables.get(source.operator.removeprefix("scan ")):
            return min(1.0, source.rows_out / rows)
        if len(self._pipelines) > 1:  # whose statement it is, nobody says
            return None
        return self._fraction or (self._read / self._planned if self._planned else None)
