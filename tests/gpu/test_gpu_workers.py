"""Functions on a GPU, each worker a process with its device: shared out, beside CPUs, and what goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import iceblink as ib
from iceblink.errors import ConfigError, FunctionError

pytestmark = pytest.mark.gpu

ROWS, BATCH_ROWS = 4_000, 100
GIB = 1 << 30
Batch = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ib.Dataset]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ib.connect(tmp_path / "lake") as lake:
        yield lake.write("d.t", {"id": range(ROWS)}, "create")


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    threads = Path("/proc/self/task").iterdir()
    assert not [pid for thread in threads for pid in (thread / "children").read_text().split()]


def on_gpu(table: ib.Dataset, function: Any, gpus: float = 1, **options: Any) -> ib.Dataset:
    return table.map_batches(function, batch_format="numpy", batch_size=BATCH_ROWS, gpus=gpus, **options)


def ids(dataset: ib.Dataset) -> list[int]:
    found: list[int] = dataset.to_arrow()["id"].to_pylist()
    return found


class Squares:
    """Computes on its device, and says where it is."""

    def __init__(self) -> None:
        self.power = torch.tensor(2, device="cuda")

    def __call__(self, batch: Batch) -> dict[str, Any]:
        squares = (torch.from_numpy(batch["id"].copy()).cuda() ** self.power).cpu().numpy()
        rows = len(squares)
        return {
            "id": batch["id"],
            "square": squares,
            "sees": np.full(rows, torch.cuda.device_count()),
            "named": [os.environ["CUDA_VISIBLE_DEVICES"]] * rows,
            "process": np.full(rows, os.getpid()),
        }


@pytest.mark.parametrize(("gpus", "workers"), [(1, 1), (0.25, 4)])
def test_each_worker_sees_one_device_and_fractions_share_it(table: ib.Dataset, gpus: float, workers: int) -> None:
    found = on_gpu(table, Squares, gpus, workers=workers).to_arrow()
    assert found["square"].to_pylist() == [number * number for number in range(ROWS)]
    assert set(found["sees"].to_pylist()) == {1}
    assert set(found["named"].to_pylist()) == {"0"}
    assert os.getpid() not in found["process"].to_pylist()


def plus_one(batch: pa.RecordBatch) -> dict[str, Any]:
    return {"id": [number + 1 for number in batch["id"].to_pylist()]}


def test_functions_on_cpus_stream_beside_it(table: ib.Dataset) -> None:
    dataset = on_gpu(table.map_batches(plus_one, workers=2), Squares).map_batches(plus_one, batch_size=33)
    assert ids(dataset) == list(range(2, ROWS + 2))


class Halves(Squares):
    """Wants the device for itself, too."""


def test_functions_that_want_the_same_device_take_turns(table: ib.Dataset) -> None:
    dataset = on_gpu(on_gpu(table, Squares).select("id"), Halves)
    assert ids(dataset) == list(range(ROWS))


def test_more_devices_than_there_are_are_refused_before_anything_runs(table: ib.Dataset) -> None:
    with pytest.raises(ConfigError, match="a worker wants 99 GPUs"):
        on_gpu(table, Squares, 99).to_arrow()


def too_large(batch: Batch) -> Batch:
    torch.empty(10_000 * GIB, dtype=torch.uint8, device="cuda")
    return batch


def test_a_gpu_that_has_no_room_names_the_function(table: ib.Dataset) -> None:
    with pytest.raises(FunctionError, match="OutOfMemoryError: CUDA out of memory") as caught:
        on_gpu(table, too_large).to_arrow()
    assert "too_large" in caught.value.where


class RoomForTen:
    """Has room for ten rows of a batch on its device, whatever it is."""

    def __init__(self) -> None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((1 << 28) / total)

    def __call__(self, batch: Batch) -> Batch:
        torch.empty(len(batch["id"]) * 25 << 20, dtype=torch.uint8, device="cuda")
        return batch


def test_a_batch_that_finds_no_room_is_halved(table: ib.Dataset) -> None:
    assert ids(on_gpu(table.limit(400), RoomForTen, on_error="skip")) == list(range(400))


class Embedding:
    """Looks rows up in a table that has no place for one of them: an assertion fails on the device."""

    def __init__(self, missing: int) -> None:
        self.missing, self.places = missing, torch.arange(ROWS, device="cuda")

    def __call__(self, batch: Batch) -> Batch:
        asked = np.where(batch["id"] == self.missing, 10 * ROWS, batch["id"])
        return {"id": self.places[torch.from_numpy(asked).cuda()].cpu().numpy()}


def test_an_assertion_on_the_device_names_the_function(table: ib.Dataset) -> None:
    with pytest.raises(FunctionError, match="device-side assert") as caught:
        on_gpu(table, partial(Embedding, 1_234)).to_arrow()
    assert "Embedding" in caught.value.where


@pytest.mark.parametrize("policy", [{"on_error": "skip"}, {"on_error": "skip", "retry_on": RuntimeError, "retries": 5}])
def test_a_device_that_is_lost_costs_one_batch_and_not_those_behind_it(
    table: ib.Dataset, policy: dict[str, Any]
) -> None:
    first = 1_234 // BATCH_ROWS * BATCH_ROWS
    wanted = [number for number in range(ROWS) if not first <= number < first + BATCH_ROWS]
    assert ids(on_gpu(table, partial(Embedding, 1_234), **policy)) == wanted


class KilledOnce:
    """Is killed with its device in use, the first time."""

    def __init__(self, done: Path) -> None:
        self.done, self.weights = done, torch.ones(1 << 28, device="cuda")

    def __call__(self, batch: Batch) -> Batch:
        if 1_234 in batch["id"] and not self.done.exists():
            self.done.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


@pytest.mark.parametrize("gpus", [1, 0.5])
def test_a_killed_worker_is_replaced(table: ib.Dataset, gpus: float, tmp_path: Path) -> None:
    assert ids(on_gpu(table, partial(KilledOnce, tmp_path / "done"), gpus)) == list(range(ROWS))
