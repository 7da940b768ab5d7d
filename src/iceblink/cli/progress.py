"""A progress bar on stderr, drawn from the events of a job: rows read of those planned, files written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from iceblink.events import Committed, Event, FileWritten, ScanPlanned, SplitRead, observing

PATIENCE_S = 1.0  # work shorter than this shows no bar


class ProgressBar:
    """An observer that draws what it hears, once the work has lasted `patience_s` [s]."""

    def __init__(self, console: Console, patience_s: float = PATIENCE_S) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"), TimeElapsedColumn()
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("planning", total=None, rows="")
        self._starts_at = time.monotonic() + patience_s
        self._planned = self._read = self._files = 0
        self._lock = Lock()  # events come from every thread of the job

    def __call__(self, event: Event) -> None:
        """Take note of one event and redraw."""
        with self._lock:
            match event:
                case ScanPlanned():
                    self._planned += event.rows
                case SplitRead():
                    self._read += event.rows
                case FileWritten():
                    self._files += 1
                case Committed():
                    self._files = 0
            self._draw()
            if time.monotonic() >= self._starts_at:
                self._bar.start()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    def _draw(self) -> None:
        doing = f"reading, {self._files} files written" if self._files else "reading"
        total = max(self._planned, self._read)
        rows = f"{self._read:,} of {total:,} rows"
        self._bar.update(self._task, description=doing, total=total or None, completed=self._read, rows=rows)


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
