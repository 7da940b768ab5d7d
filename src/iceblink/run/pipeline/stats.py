"""What a run did, operator by operator: counted while it runs, read while or after it does."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iceblink.events import OperatorProgress, PipelineProgress, emit

SPANS = 100_000  # tasks of which the times are kept, the first ones
SHOWN_S = 0.2  # between two progress events


@dataclass(frozen=True)
class OperatorStats:
    """One operator of a run.

    Parameters
    ----------
    label : str
    rows_in, rows_out : int
    bytes_out : int
        Arrow size of what it made [bytes].
    tasks : int
    busy_s : float
        Time its workers were at work, all together [s].
    idle_s : float
        Time its workers were built and had nothing to do, between the first task and the last [s].
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
    bytes_out: int = 0
    tasks: int = 0
    busy_s: float = 0.0
    idle_s: float = 0.0
    workers: int = 0
    most_workers: int = 0
    deaths: int = 0
    waited_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineStats:
    """A run: its operators, the first of which is the source.

    Parameters
    ----------
    operators : tuple of OperatorStats
    seconds : float
        From the start to the end, or until now [s].
    peak_resident_bytes, peak_block_bytes : int
        Most memory seen of this process and its workers, and of the blocks among them [bytes].
    spans : tuple of (str, int, float, float, int)
        Operator, worker, begin and length of a task [s], and its rows: the first 100,000.
    """

    operators: tuple[OperatorStats, ...]
    seconds: float
    peak_resident_bytes: int
    peak_block_bytes: int
    spans: tuple[tuple[str, int, float, float, int], ...] = field(repr=False, default=())

    def __str__(self) -> str:
        lines = [
            f"{'operator':<28} {'rows out':>12} {'MiB out':>9} {'busy s':>8} {'idle s':>8} {'workers':>7}  waited for"
        ]
        for item in self.operators:
            waited = ", ".join(f"{why} {seconds:.1f} s" for why, seconds in item.waited_s.items() if seconds >= 0.05)
            lines.append(
                f"{item.label[:28]:<28} {item.rows_out:>12,} {item.bytes_out / 2**20:>9.1f} {item.busy_s:>8.2f} "
                f"{item.idle_s:>8.2f} {item.most_workers:>7}  {waited}"
            )
        peak = f"{self.peak_resident_bytes / 2**20:.0f} MiB resident, {self.peak_block_bytes / 2**20:.0f} MiB of blocks"
        return "\n".join([*lines, f"{self.seconds:.2f} s; at most {peak}"])

    def trace(self, path: str) -> None:
        """Write the tasks as a timeline that chrome://tracing and Perfetto show."""
        events = [
            {
                "name": label,
                "cat": "task",
                "ph": "X",
                "pid": 1,
                "tid": worker,
                "ts": round(begin * 1e6),
                "dur": round(length * 1e6),
                "args": {"rows": rows},
            }
            for label, worker, begin, length, rows in self.spans
        ]
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


class Recorder:
    """Counts; only the scheduler's thread writes."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._operators = [OperatorStats(label) for label in labels]
        self._begun = self._looked = self._shown = time.monotonic()
        self._ended: float | None = None
        self._resident = self._blocks = 0
        self._spans: list[tuple[str, int, float, float, int]] = []
        self._stalls = [""] * len(labels)
        self._queues: Sequence[tuple[int, int, int]] = [(0, 0, 0)] * len(labels)

    def task(self, place: int, worker: int, busy_s: float, rows_in: int, rows_out: int, bytes_out: int) -> None:
        """A task is done."""
        old = self._operators[place]
        self._operators[place] = replace(
            old,
            tasks=old.tasks + 1,
            busy_s=old.busy_s + busy_s,
            rows_in=old.rows_in + rows_in,
            rows_out=old.rows_out + rows_out,
            bytes_out=old.bytes_out + bytes_out,
        )
        if len(self._spans) < SPANS:
            begin = time.monotonic() - self._begun - busy_s
            self._spans.append((old.label, worker, begin, busy_s, rows_in or rows_out))

    def worker(self, place: int, workers: int) -> None:
        """A worker was started."""
        old = self._operators[place]
        self._operators[place] = replace(old, most_workers=max(old.most_workers, workers))

    def death(self, place: int) -> None:
        """A worker died."""
        self._operators[place] = replace(self._operators[place], deaths=self._operators[place].deaths + 1)

    def stalled(self, place: int, why: str) -> None:
        """An operator cannot go on for this reason; empty when it can."""
        self._stalls[place] = why

    def look(self, resident: int, blocks: int, queues: Sequence[tuple[int, int, int]]) -> None:
        """Memory [bytes], and for each operator the rows waiting, the tasks running and the workers there are."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        self._resident, self._blocks = max(self._resident, resident), max(self._blocks, blocks)
        self._queues = queues
        for place, why in enumerate(self._stalls):
            old = self._operators[place]
            waited = {**old.waited_s, why: old.waited_s.get(why, 0.0) + passed} if why else old.waited_s
            _, running, workers = queues[place]
            idle = passed * max(0, workers - running) if old.tasks else 0.0
            self._operators[place] = replace(old, waited_s=waited, workers=workers, idle_s=old.idle_s + idle)
        if now - self._shown >= SHOWN_S:
            self._shown = now
            self._show(resident)

    def _show(self, resident: int) -> None:
        shown = zip(self._operators, self._queues, self._stalls, strict=True)
        operators = tuple(
            OperatorProgress(item.label, item.rows_out, item.bytes_out, waiting, running, workers, why)
            for item, (waiting, running, workers), why in shown
        )
        emit(PipelineProgress(operators, time.monotonic() - self._begun, resident))

    def end(self) -> None:
        """The run is over."""
        self._ended = time.monotonic()
        self._show(self._resident)

    def stats(self) -> PipelineStats:
        """Return what was counted."""
        seconds = (self._ended or time.monotonic()) - self._begun
        return PipelineStats(tuple(self._operators), seconds, self._resident, self._blocks, tuple(self._spans))
