"""The public word: see what runs, in the terminal or the notebook, or with an observer of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from iceblink.events import Observer, observing
from iceblink.watch.notebook import in_notebook, shown_in_notebook
from iceblink.watch.terminal import shown_in_terminal


@contextmanager
def watching(observer: Observer | None = None) -> Iterator[None]:
    """Show what iceblink does inside the block, while it does it.

    For each pipeline its operators: rows, rows and MiB per second, rows that wait, tasks, workers, what it waits for;
    resident memory, and the time left where it is known how many rows there are. For each loader: epoch, step, rows
    per second, how much of its time the loop waits, and for what. Without either, one line.

    Parameters
    ----------
    observer : callable, optional
        Takes every event of `iceblink.events`, from any thread; what it raises ends the work. Default: a table under
        the cell in a notebook; lines on stderr if that is a terminal, after a second; else nothing.

    Examples
    --------
    >>> with ib.watching():
    ...     images.map_batches(Model).write("demo.labels", "create")
    """
    if observer is not None:
        shown = observing(observer)
    elif in_notebook():
        shown = shown_in_notebook()
    else:
        shown = shown_in_terminal(sys.stderr)
    with shown:
        yield
