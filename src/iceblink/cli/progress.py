"""A progress bar on stderr, drawn from the events of a job: how much is read of what was planned, rows written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from iceblink.events import Event, FileWritten, QueryProgress, ScanPlanned, SplitRead, observing

PATIENCE_S = 1.0  # work shorter than this shows no bar


class ProgressBar:
    """An observer that draws what it hears, once the work has lasted `PATIENCE_S` or `show` was called."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._bar.add_task("working", total=None)
        self._planned = self._read = self._written = 0
        self._fraction = 0.0
        self._stopped = False
        self._lock = Lock()  # events come from every thread of the job, `show` from the timer's
        self._timer = Timer(PATIENCE_S, self.show)
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        with self._lock:
            match event:
                case ScanPlanned(rows=rows):
                    self._planned += rows
                case SplitRead(rows=rows):
                    self._read += rows
                case QueryProgress(fraction=fraction):
                    self._fraction = fraction
                case FileWritten(rows=rows):
                    self._written += rows
            self._update()

    def show(self) -> None:
        """Put the bar on the screen."""
        with self._lock:
            if not self._stopped:
                self._bar.start()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._timer.cancel()
        with self._lock:
            self._stopped = True
            self._bar.stop()

    def _update(self) -> None:
        reading = f"reading {self._planned:,} rows" if self._planned else "reading"
        total: float | None
        total, completed = None, 0.0  # the bar just moves, while nobody says how far it is
        if self._read:
            reading, total, completed = f"{self._read:,} of {self._planned:,} rows read", self._planned, self._read
        elif self._fraction:  # the kernel reads by itself, and counts no rows
            reading, total, completed = f"{reading}, {self._fraction:.0%} done", 1.0, self._fraction
        writing = f", {self._written:,} written" if self._written else ""
        self._bar.update(self._task, description=reading + writing, total=total, completed=completed)


@contextmanager
def progress_bar(stream: TextIO) -> Iterator[None]:
    """Draw the progress of what runs inside the block on `stream`, if that is a terminal."""
    if not stream.isatty():
        yield
        return
    bar = ProgressBar(Console(file=stream))
    try:
        with observing(bar):
            yield
    finally:
        bar.stop()
