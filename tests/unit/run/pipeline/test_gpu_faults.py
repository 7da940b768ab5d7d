"""What becomes of calls where a GPU may be lost; no GPU is needed: the driver's answer is given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink.errors import FunctionError

SCHEMA = pa.schema({"id": pa.int64()})


def fails(batch: pa.RecordBatch) -> pa.RecordBatch:
    raise ValueError("device-side assert")


async def is_late(batch: pa.RecordBatch) -> pa.RecordBatch:
    await asyncio.sleep(60)
    return batch


def rows(folder: Path, function: Any, **options: Any) -> int:
    with ib.connect(folder) as lake:
        data = lake.from_arrow(pa.table({"id": range(4)}, SCHEMA))
        made = data.map_batches(
            function, schema=SCHEMA, batch_size=2, gpus=1, processes=False, on_error="skip", **options
        )
        return len(made.to_arrow())


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


def test_a_thread_whose_process_has_lost_its_gpu_skips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.calls.gpu_lost", lambda: True)
    with pytest.raises(FunctionError, match="device-side assert; this process has lost its GPU"):
        rows(tmp_path, fails)


def test_after_a_call_that_is_late_nobody_waits_for_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    monkeypatch.setattr("iceblink.run.pipeline.calls.gpu_lost", lambda: asked.append(None))
    assert rows(tmp_path, is_late, timeout_s=0.01) == 0
    assert not asked
    assert rows(tmp_path, fails) == 0
    assert asked
