"""What a run did, operator by operator: counted while it runs, read while or after it does."""

from __future__ import annotations

import html
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iceblink.config import MIB
from iceblink.events import OperatorProgress, PipelineProgress, emit
from iceblink.run.pipeline.timeline import Span, chrome_trace

SPANS = 100_000  # tasks of which the times are kept, the first ones
SHOWN_S = 0.2  # between two progress events
TOLD_S = 0.05  # waiting that is shorter is not worth a word
COLUMNS = ("operator", "rows out", "MiB out", "tasks", "busy s", "idle s", "used", "workers", "remarks")
WORDS = {0, len(COLUMNS) - 1}  # the columns that hold words; the others are numbers

_numbers = itertools.count(1)


@dataclass(frozen=True)
class OperatorStats:
    """One operator of a run.

    Parameters
    ----------
    label : str
    rows_in, rows_out : int
    rows_refused : int
        Rows that failed and were left out or quarantined, as `on_error` says.
    bytes_out : int
        Arrow size of what it made [bytes].
    tasks : int
    busy_s : float
        Time its workers were at work, all together [s].
    idle_s : float
        Time its workers were built and not at work, all together, from the first task to the last [s].
    workers, most_workers : int
        Now, and at the busiest.
    deaths : int
        Workers that died.
    waited_s : dict of str to float
        Time it could not go on, by what it waited for: ``input``, ``output`` (those behind it are slower), ``cpu``,
        ``worker`` (one is being built), ``memory`` [s].
    """

    label: str
    rows_in: int = 0
    rows_out: int = 0
    rows_refused: int = 0
    bytes_out: int = 0
    tasks: int = 0
    busy_s: float = 0.0
    idle_s: float = 0.0
    workers: int = 0
    most_workers: int = 0
    deaths: int = 0
    waited_s: dict[str, float] = field(default_factory=dict)

    @property
    def utilisation(self) -> float:
        """Share of the time in which its workers were at work, from 0 to 1."""
        there = self.busy_s + self.idle_s
        return self.busy_s / there if there else 0.0

    @property
    def remarks(self) -> str:
        """What it waited for, and what went wrong."""
        waited = ", ".join(f"{why} {seconds:.1f} s" for why, seconds in self.waited_s.items() if seconds >= TOLD_S)
        remarks = [
            f"waited for {waited}" if waited else "",
            f"rows refused: {self.rows_refused:,}" if self.rows_refused else "",
            f"workers died: {self.deaths:,}" if self.deaths else "",
        ]
        return "; ".join(filter(None, remarks))


@dataclass(frozen=True, repr=False)
class PipelineStats:
    """A run: its operators, the first of which is the source; prints as a table.

    Parameters
    ----------
    operators : tuple of OperatorStats
    seconds : float
        From the start to the end, or until now [s].
    peak_resident_bytes, peak_block_bytes : int
        Most memory seen of this process and its workers, and of the blocks among them [bytes].
    spans : tuple of Span
        The first 100,000 tasks.
    """

    operators: tuple[OperatorStats, ...]
    seconds: float
    peak_resident_bytes: int
    peak_block_bytes: int
    spans: tuple[Span, ...] = ()

    @property
    def scarcest(self) -> OperatorStats:
        """The operator whose workers were at work longest, each for itself: all others wait for it."""
        return max(self.operators, key=lambda item: item.busy_s / max(1, item.most_workers))

    def trace(self, path: str) -> None:
        """Write the tasks as a timeline that chrome://tracing and Perfetto show: operators, workers, tasks."""
        Path(path).write_text(chrome_trace([item.label for item in self.operators], self.spans), encoding="utf-8")

    def __repr__(self) -> str:
        rows = [COLUMNS, *map(_cells, self.operators)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if place in WORDS else text.rjust(width)
                for place, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self._sum()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        rows = ("".join(f"<td>{html.escape(text)}</td>" for text in _cells(item)) for item in self.operators)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{self._sum()}</p>"

    def _sum(self) -> str:
        peak = f"{self.peak_resident_bytes / MIB:,.0f} MiB resident, {self.peak_block_bytes / MIB:,.0f} MiB of blocks"
        return f"{self.seconds:.2f} s; at most {peak}"


def _cells(item: OperatorStats) -> tuple[str, ...]:
    return (
        item.label,
        f"{item.rows_out:,}",
        f"{item.bytes_out / MIB:,.1f}",
        f"{item.tasks:,}",
        f"{item.busy_s:,.2f}",
        f"{item.idle_s:,.2f}",
        f"{item.utilisation:.0%}",
        f"{item.most_workers}",
        item.remarks,
    )


class Recorder:
    """Counts; only the scheduler's thread writes, many times a second, so what is frozen is made when asked for."""

    def __init__(self, labels: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self._labels, self._now = labels, now
        self._number = next(_numbers)
        self._counts: list[defaultdict[str, Any]] = [defaultdict(int) for _ in labels]  # fields of `OperatorStats`
        self._waited: list[defaultdict[str, float]] = [defaultdict(float) for _ in labels]
        self._begun = self._looked = self._shown = now()
        self._ended: float | None = None
        self._resident = self._most_resident = self._most_blocks = 0
        self._spans: list[Span] = []
        self._first: list[float | None] = [None] * len(labels)  # when the first task began
        self._since: dict[int, float] = {}  # when each worker at work was free for its task
        self._stalls = [""] * len(labels)
        self._queues: Sequence[tuple[int, int, int]] = [(0, 0, 0)] * len(labels)

    def begun(self, place: int, worker: int, idle_since: float) -> None:
        """A worker that had nothing to do since then [monotonic s] is given a task."""
        now = self._since[worker] = self._now()
        if self._first[place] is None:
            self._first[place] = now
        self.idle(place, idle_since)

    def idle(self, place: int, since: float) -> None:
        """A worker had nothing to do since then [monotonic s]; before the first task there was nothing to be done."""
        if (first := self._first[place]) is not None:
            self._counts[place]["idle_s"] += self._now() - max(since, first)

    def produced(self, place: int, rows_in: int, rows_out: int, bytes_out: int) -> None:
        """A task has an output, with which so many more rows of its input are dealt with."""
        counts = self._counts[place]
        counts["rows_in"] += rows_in
        counts["rows_out"] += rows_out
        counts["bytes_out"] += bytes_out

    def refused(self, place: int, rows_in: int, rows: int) -> None:
        """Rows failed, and the run goes on without them; so many more rows of its input are dealt with."""
        self._counts[place]["rows_in"] += rows_in
        self._counts[place]["rows_refused"] += rows

    def task(self, place: int, worker: int, busy_s: float, rows_in: int, rows: int) -> None:
        """A task of `rows` is done; `rows_in` of them were not dealt with by any output."""
        now, counts = self._now(), self._counts[place]
        began = self._since[worker]
        self._since[worker] = now  # when another task lies there already
        counts["tasks"] += 1
        counts["rows_in"] += rows_in
        counts["busy_s"] += busy_s
        counts["idle_s"] += max(0.0, now - began - busy_s)
        if len(self._spans) < SPANS:
            self._spans.append(Span(place, worker, began - self._begun, now - began, busy_s, rows))

    def worker(self, place: int, workers: int) -> None:
        """A worker was started."""
        counts = self._counts[place]
        counts["most_workers"] = max(counts["most_workers"], workers)

    def death(self, place: int) -> None:
        """A worker died."""
        self._counts[place]["deaths"] += 1

    def stalled(self, place: int, why: str) -> None:
        """An operator cannot go on for this reason; empty when it can."""
        self._stalls[place] = why

    def look(self, resident: int, blocks: int, queues: Sequence[tuple[int, int, int]]) -> None:
        """Memory [bytes], and for each operator the rows waiting, the tasks running and the workers there are."""
        now = self._now()
        passed, self._looked = now - self._looked, now
        self._resident = resident
        self._most_resident, self._most_blocks = max(self._most_resident, resident), max(self._most_blocks, blocks)
        self._queues = queues
        for waited, why in zip(self._waited, self._stalls, strict=True):
            if why:
                waited[why] += passed
        if now - self._shown >= SHOWN_S:
            self._shown = now
            self._show()

    def end(self) -> None:
        """The run is over."""
        self._ended = self._now()
        self._queues = [(0, 0, 0)] * len(self._labels)
        self._stalls = [""] * len(self._labels)
        self._show()

    def stats(self) -> PipelineStats:
        """Return what was counted."""
        parts = zip(self._labels, self._counts, self._waited, self._queues, strict=True)
        operators = tuple(
            OperatorStats(label, workers=workers, waited_s=dict(waited), **counts)
            for label, counts, waited, (_, _, workers) in parts
        )
        spans = tuple(self._spans)
        return PipelineStats(operators, self._seconds(), self._most_resident, self._most_blocks, spans)

    def _show(self) -> None:
        operators = tuple(
            OperatorProgress(
                operator=label,
                rows_in=counts["rows_in"],
                rows_out=counts["rows_out"],
                rows_refused=counts["rows_refused"],
                bytes_out=counts["bytes_out"],
                busy_s=counts["busy_s"],
                deaths=counts["deaths"],
                rows_waiting=waiting,
                tasks=tasks,
                workers=workers,
                waits_for=why,
            )
            for label, counts, (waiting, tasks, workers), why in zip(
                self._labels, self._counts, self._queues, self._stalls, strict=True
            )
        )
        emit(PipelineProgress(self._number, operators, self._seconds(), self._resident, self._ended is not None))

    def _seconds(self) -> float:
        return (self._ended or self._now()) - self._begun
