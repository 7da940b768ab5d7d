"""Shared rows: memory with no name, in memory or in a file, given back when nobody holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from iceblink.run.pipeline.shared_rows import SharedRows


@pytest.fixture(params=["memory", "file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create")
    return str(tmp_path / "made when needed")


def test_rows_come_back_and_outlive_the_file(folder: str) -> None:
    batch = pa.record_batch({"n": range(1000), "t": [str(n) for n in range(1000)]})
    shared = SharedRows.write(batch.slice(10, 500), folder)
    mapped = shared.map()
    shared.close()
    shared.close()
    assert mapped.equals(batch.slice(10, 500))
    assert not os.path.exists(folder) or not os.listdir(folder)


def test_only_the_rows_of_a_slice_are_written(folder: str) -> None:
    batch = pa.record_batch({"n": range(100_000), "t": ["x" * 10] * 100_000})
    assert SharedRows.write(batch.slice(99_000, 10), folder).nbytes < 2000


def test_mapping_costs_no_descriptor_and_no_heap(folder: str) -> None:
    shared = SharedRows.write(pa.record_batch({"n": range(100_000)}), folder)
    heap, files = pa.total_allocated_bytes(), len(os.listdir("/dev/fd"))
    mapped = [shared.map() for _ in range(5)]
    assert len(mapped) == 5
    assert pa.total_allocated_bytes() <= heap  # less, if garbage of other tests went meanwhile
    assert len(os.listdir("/dev/fd")) == files


def test_what_is_held_is_counted(folder: str) -> None:
    before = SharedRows.held_bytes
    one, two = (SharedRows.write(pa.record_batch({"n": range(1000)}), folder) for _ in range(2))
    assert SharedRows.held_bytes == before + one.nbytes + two.nbytes
    one.close()
    os.close(two.detach())
    assert SharedRows.held_bytes == before
