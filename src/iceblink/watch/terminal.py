"""What a job does, drawn in the terminal while it runs: tables of pipelines and loaders, else one line with a bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iceblink.events import Event, observing
from iceblink.watch.job import Job, JobSeen
from iceblink.watch.words import Picture, duration, pictures, reading

PATIENCE_S = 1.0  # work shorter than this shows nothing
PICTURES = 4.0  # a second
BAR_WIDTH = 40  # characters


class TerminalView:
    """An observer that draws what it hears, once the work has lasted `PATIENCE_S` or `show` was called."""

    def __init__(self, console: Console) -> None:
        self._job = Job()
        self._begun = time.monotonic()
        self._live = Live(
            get_renderable=self._picture,
            console=console,
            refresh_per_second=PICTURES,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what is printed meanwhile stands above; a pipe is left alone
        )
        self._stopped = False
        self._lock = Lock()  # `show` is called in the timer's thread
        self._timer = Timer(PATIENCE_S, self.show)
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, event: Event) -> None:
        """Take note of one event; from any thread."""
        self._job(event)

    def show(self) -> None:
        """Put it on the screen."""
        with self._lock:
            if not self._stopped:
                self._live.start(refresh=True)

    def stop(self) -> None:
        """Take it off the screen."""
        self._timer.cancel()
        with self._lock:
            self._stopped = True
            self._live.stop()

    def _picture(self) -> RenderableType:
        job = self._job.seen()
        if drawn := pictures(job):
            return Group(*map(_table, drawn))
        return _line(job, time.monotonic() - self._begun)


def _table(picture: Picture) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in picture.headings:
        words = heading in (picture.headings[0], picture.headings[-1])
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for row in picture.rows:
        table.add_row(*map(Text, row))
    return Group(table, Text(picture.line, style="dim")) if picture.line else table


def _line(job: JobSeen, seconds: float) -> RenderableType:
    words, done = reading(job)
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(total=None if done is None else 1.0, completed=done or 0.0, width=BAR_WIDTH),
        Text(words),
        Text(duration(seconds), style="dim"),
    )
    return line


@contextmanager
def shown_in_terminal(stream: TextIO) -> Iterator[None]:
    """Draw on `stream`, if that is a terminal, what runs inside the block."""
    if not stream.isatty():
        yield
        return
    view = TerminalView(Console(file=stream))
    try:
        with observing(view):
            yield
    finally:
        view.stop()
