"""The kernel says how far it is, to those who listen and to nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from iceblink.config import Settings
from iceblink.events import Event, QueryProgress, observing
from iceblink.run.kernel import Kernel

SCHEMA = pa.schema([("x", pa.int64())])


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "iceblink-progress"]


@pytest.fixture
def batches(tmp_path: Path) -> Iterator[Iterator[pa.RecordBatch]]:
    """Rows of a statement that is never at its end, as nobody draws all of them."""
    kernel = Kernel(Settings(threads=2, spill_dir=str(tmp_path)))
    with closing(kernel.stream("SELECT range AS x FROM range(3000000)", {}, SCHEMA, 1000)) as opened:
        yield opened
    assert watchers() == []
    kernel.close()


def test_who_listens_hears_how_far_a_statement_is(batches: Iterator[pa.RecordBatch]) -> None:
    heard: list[Event] = []
    told = threading.Event()

    def listen(event: Event) -> None:
        heard.append(event)
        told.set()

    with observing(listen):
        for _ in batches:
            if told.wait(0.01):
                break
    (first, *_) = heard
    assert isinstance(first, QueryProgress)
    assert 0 < first.fraction <= 1
    assert watchers() == ["iceblink-progress"]


def test_nobody_watches_for_nobody(batches: Iterator[pa.RecordBatch]) -> None:
    next(batches)
    assert watchers() == []
