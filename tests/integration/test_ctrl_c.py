"""Ctrl-C in the middle of a call: all ends at once, nothing lives on, and the lake is as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import iceblink as ib
from ctrl_c import interrupted

pytestmark = pytest.mark.alone

ROWS = 1_000
CALL_S = 90

LAKE = """
    import os, threading, time
    from pathlib import Path
    import iceblink as ib

    def started(thread):
        try:
            return (thread / "children").read_text().split()
        except OSError:  # it has ended meanwhile
            return []

    def slow(batch):
        if batch.column("id")[0].as_py() >= 500:  # by then the statement has begun to read
            os.write(1, b"working\\n")  # in one piece: there are several of them
            time.sleep({call})
        return batch

    columns = {{"id": "long", "s": "string"}}
    lake = ib.connect({lake!r}, engine=ib.LocalEngine(spill_dir={spill!r}))
    source = lake.table("d.t")
    try:
        {statement}
    finally:
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("iceblink")]
        tasks = Path("/proc/self/task").iterdir()
        children = [child for task in tasks for child in started(task)]
        print("left:", *threads, *children, flush=True)
"""

WAYS = {"threads": "", "processes": "workers=2, processes=True, "}
ENDINGS = {
    "function": "made.write('d.t')",
    "sql": "made.sql('SELECT id + 1 AS id, s FROM this').to_arrow()",
    "group": "made.group_by('s').agg(n=ib._.id.max()).write('d.new', 'create')",
    "filter": "made.filter(ib._.id >= 0).write('d.t')",
    "checkpoint": "made.filter(ib._.id >= 0).write('d.t', checkpoint='job')",
    "two functions": "made.filter(ib._.id >= 0).map_batches(lambda batch: batch, schema=columns).filter(ib._.id >= 0)"
    ".write('d.t')",
}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path / "lake") as lake:
        rows = pa.table({"id": pa.array(range(ROWS)), "s": [f"s{n % 7}" for n in range(ROWS)]})
        lake.from_arrow(rows).write("d.t", "create")
        yield lake


def interrupted_statement(tmp_path: Path, statement: str) -> tuple[list[str], str]:
    """Run a statement in a program of its own until it says so, then press Ctrl-C; return what it says after."""
    settings = {"lake": str(tmp_path / "lake"), "spill": str(tmp_path / "spill")}
    return interrupted(LAKE.format(call=CALL_S, statement=statement, **settings))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_call_under_way_keeps_nobody_waiting(lake: ib.Lake, tmp_path: Path, way: str, ending: str) -> None:
    before = _files(tmp_path / "lake" / "d")
    make = f"made = source.map_batches(slow, batch_size=100, {WAYS[way]}schema=columns)"
    told, errors = interrupted_statement(tmp_path, f"{make}; {ENDINGS[ending]}")
    assert told[-1] == "left:"
    assert "KeyboardInterrupt" in errors
    assert lake.table("d.t").count() == ROWS
    assert lake.tables() == ["d.t"]
    assert _files(tmp_path / "lake" / "d") == before
    assert not _files(tmp_path / "spill")


def test_a_long_statement_is_stopped(lake: ib.Lake, tmp_path: Path) -> None:
    crossed = "lake.sql('SELECT sum((a.i * b.i) % 7) AS n FROM range(4000000) a(i), range(4000000) b(i)')"
    told, errors = interrupted_statement(tmp_path, f"print('working', flush=True); {crossed}.to_arrow()")
    assert told[-1] == "left:"
    assert "KeyboardInterrupt" in errors


def test_a_reader_that_stops_waits_for_no_call(lake: ib.Lake) -> None:
    called, released = threading.Event(), threading.Event()
    before = set(threading.enumerate())  # a Ray that other tests have started

    def held(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.column("id")[0].as_py() >= 800:
            called.set()
            released.wait(CALL_S)
        return batch

    dataset = lake.table("d.t").map_batches(held, batch_size=100, workers=1).filter(ib._.id >= 0)
    batches = dataset.to_batches()
    try:
        next(batches)
        assert called.wait(CALL_S)
        batches.close()
        assert not released.is_set()
        left = set(threading.enumerate()) - before
        assert not [thread.name for thread in left if thread.name.startswith("iceblink")]
    finally:
        released.set()


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}
