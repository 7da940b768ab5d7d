"""What a job does, as a table under a notebook's cell that changes while it runs."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from iceblink.events import Event, observing
from iceblink.watch.job import Job, JobSeen
from iceblink.watch.words import Picture, pictures, reading

EVERY_S = 0.25  # between two pictures


def in_notebook() -> bool:
    """Tell whether this is a kernel of Jupyter: IPython is then there already, and is not imported to ask."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookView:
    """An observer that shows what it hears in one output, which it replaces."""

    def __init__(self) -> None:
        self._job = Job()
        self._lock = Lock()
        self._output: Any = None
        self._drawn = -EVERY_S

    def __call__(self, event: Event) -> None:
        """Take note of one event; from any thread."""
        self._job(event)
        with self._lock:
            if time.monotonic() - self._drawn >= EVERY_S:
                self._draw()

    def stop(self) -> None:
        """Leave the last picture there, if there was any."""
        with self._lock:
            if self._output is not None:
                self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display  # in a kernel only: iceblink does not need it

        self._drawn = time.monotonic()
        picture = HTML(page(self._job.seen()))
        if self._output is None:
            self._output = display(picture, display_id=True)
        else:
            self._output.update(picture)


def page(job: JobSeen) -> str:
    """Return tables of pipelines and loaders, else a line with a bar."""
    if drawn := pictures(job):
        return "".join(map(_table, drawn))
    words, done = reading(job)
    part = "" if done is None else f' value="{done:.3f}"'
    return f"<progress{part}></progress> {html.escape(words)}"


def _table(picture: Picture) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in picture.headings)
    rows = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in picture.rows)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"{table}<p>{html.escape(picture.line)}</p>" if picture.line else table


@contextmanager
def shown_in_notebook() -> Iterator[None]:
    """Show under the cell what runs inside the block."""
    view = NotebookView()
    try:
        with observing(view):
            yield
    finally:
        view.stop()
