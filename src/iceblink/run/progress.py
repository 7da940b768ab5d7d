"""How far the kernel is with a statement, told to whoever observes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

import duckdb

from iceblink.events import QueryProgress, emit, observed

EVERY_S = 0.2
"""The kernel is asked this often [s]."""


@contextmanager
def progress_told(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Emit `QueryProgress` whenever what runs on `cursor` inside the block gets on, if anybody observes."""
    if not observed():
        yield
        return
    cursor.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false; SET progress_bar_time = 0")
    over = threading.Event()
    watcher = threading.Thread(
        target=copy_context().run, args=(_watch, cursor, over), name="iceblink-progress", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(cursor: duckdb.DuckDBPyConnection, over: threading.Event) -> None:
    furthest = 0.0
    while not over.wait(EVERY_S):
        fraction = cursor.query_progress() / 100  # negative while it cannot tell, as of rows it is fed
        if fraction > furthest:
            furthest = fraction
            emit(QueryProgress(fraction))
