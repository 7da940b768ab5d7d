"""A loader whose transform is called in processes: the batches that it has in threads, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import iceblink as ib
from ctrl_c import interrupted
from iceblink.errors import ConfigError, FunctionError
from iceblink.events import observing
from iceblink.load.replace import RowsReplaced

ROWS, BATCH = 400, 16
CALL_S = 90


@pytest.fixture
def table(lake: ib.Lake) -> ib.Dataset:
    rows = {
        "id": range(ROWS),
        "text": [f"røw {number}" for number in range(ROWS)],
        "data": [b"\xff" * (number % 3) for number in range(ROWS)],
        "emb": pa.array([[number, number + 0.5] for number in range(ROWS)], pa.list_(pa.float32())),
        "tags": pa.array([list(range(number % 4)) for number in range(ROWS)], pa.list_(pa.int32())),
    }
    return lake.write("n.t", rows, "create")


def loader(table: ib.Dataset, **options: Any) -> Any:
    return table.to_numpy(BATCH, shuffle=True, **options)


def listed(value: Any) -> Any:
    """Return what a batch is made of, so that it can be compared: arrays with their types and shapes."""
    match value:
        case dict():
            return {name: listed(item) for name, item in value.items()}
        case tuple() | list():
            return type(value)(map(listed, value))
        case np.ndarray():
            return value.dtype.str, value.shape, value.tolist()
        case pa.Array():
            return value.type, value.to_pylist()
        case _:
            return value


def all_kinds(batch: dict[str, Any]) -> dict[str, Any]:
    batch["emb"] *= 2  # in place
    return batch | {
        "cube": np.arange(BATCH * 6, dtype=np.float16).reshape(BATCH, 2, 3),
        "empty": np.empty((0, 5)),
        "turned": np.asfortranarray(np.ones((3, 4), np.int8)),
        "every other": np.arange(10)[::2],
        "one": np.float32(1.5),
        "times": np.array(["2020-01-01"], "datetime64[s]"),
        "words": ["a", None, b"b"],
        "pair": (np.arange(3), {"rows": len(batch["id"])}),
    }


def children() -> set[int]:
    """Return the processes that threads of this one have started, zombies too."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # it ends while we look
            found |= set(map(int, (thread / "children").read_text().split()))
    return found


@pytest.mark.parametrize("options", [{}, {"text": "arrow"}, {"ragged": "pad"}])
def test_batches_are_those_of_threads(table: ib.Dataset, options: dict[str, Any]) -> None:
    here = loader(table, transform=all_kinds, **options)
    there = loader(table, transform=all_kinds, workers=2, processes=True, **options)
    found = list(there)
    assert listed(found) == listed(list(here))
    for batch in found:
        batch["emb"] += 1  # nobody else has it
    assert "in 2 processes" in there.explain()


def test_only_transform_is_called_elsewhere(table: ib.Dataset) -> None:
    made = table.to_torch(
        BATCH,
        columns=["id"],
        transform=lambda batch: batch | {"there": os.getpid()},
        collate=lambda batch: batch | {"here": os.getpid()},
        workers=2,
        processes=True,
    )
    batches = list(made)
    assert all(isinstance(batch["id"], torch.Tensor) for batch in batches)
    assert torch.cat([batch["id"] for batch in batches]).tolist() == list(range(ROWS))
    assert {batch["here"] for batch in batches} == {os.getpid()}
    assert os.getpid() not in {batch["there"] for batch in batches}


def test_what_is_declared_pure_python_is_called_in_processes(table: ib.Dataset) -> None:
    @ib.pure_python
    def where(batch: dict[str, Any]) -> int:
        return os.getpid()

    assert os.getpid() not in set(loader(table, transform=where))
    assert set(loader(table, transform=where, processes=False)) == {os.getpid()}


def test_a_state_goes_on_exactly(table: ib.Dataset) -> None:
    def same(batch: dict[str, Any]) -> dict[str, Any]:
        return batch

    undisturbed, made = loader(table), loader(table, transform=same, workers=2, processes=True)
    first, second = ([batch["id"].tolist() for batch in undisturbed] for _epoch in range(2))
    assert [batch["id"].tolist() for batch in islice(made, 5)] == first[:5]
    state = json.loads(json.dumps(made.state_dict()))
    assert state["step"] == 5
    resumed = loader(table, transform=same, processes=True)
    resumed.load_state_dict(state)
    assert [[batch["id"].tolist() for batch in resumed] for _epoch in range(2)] == [first[5:], second]


def test_rows_that_it_fails_on_are_replaced_as_in_threads(table: ib.Dataset) -> None:
    def picky(batch: dict[str, Any]) -> dict[str, Any]:
        if (batch["id"] % 100 == 7).any():
            raise ValueError("seven")
        return batch

    def found(**options: Any) -> Any:
        told: list[RowsReplaced] = []
        with observing(lambda event: told.append(event) if isinstance(event, RowsReplaced) else None):
            made = loader(table, transform=picky, on_error="skip", **options)
            batches = [batch["id"].tolist() for batch in made]
        return batches, made.stats().replaced_rows, {(event.where, event.error) for event in told}

    assert found(workers=2, processes=True) == found()
    with pytest.raises(FunctionError, match="ValueError: seven") as caught:
        list(loader(table, transform=picky, processes=True))
    assert "transform, step" in caught.value.where
    assert any("picky" in note for note in caught.value.__notes__)


def test_a_process_that_is_killed_is_replaced(table: ib.Dataset, tmp_path: Path) -> None:
    once = tmp_path / "once"

    def killed(batch: dict[str, Any]) -> dict[str, Any]:
        if 200 in batch["id"] and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    found = [batch["id"].tolist() for batch in loader(table, transform=killed, workers=2, processes=True)]
    assert once.exists()
    assert found == [batch["id"].tolist() for batch in loader(table)]


def test_rows_that_kill_are_an_error_or_replaced(table: ib.Dataset) -> None:
    def deadly(batch: dict[str, Any]) -> dict[str, Any]:
        if 200 in batch["id"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    before = children()
    with pytest.raises(FunctionError, match=r"signal 9.*twice"):
        list(loader(table, transform=deadly, workers=2, processes=True))
    assert children() == before
    made = loader(table, transform=deadly, workers=2, processes=True, on_error="skip")
    assert {number for batch in made for number in batch["id"].tolist()} == set(range(ROWS)) - {200}
    assert made.stats().replaced_rows == 1


def test_whoever_leaves_early_leaves_no_process(table: ib.Dataset) -> None:
    before = children()

    def slow(batch: dict[str, Any]) -> dict[str, Any]:
        if (batch["id"] >= 4 * BATCH).any():  # two for each process are there at a time
            threading.Event().wait(CALL_S)
        return batch

    for batch in table.to_numpy(BATCH, transform=slow, workers=2, processes=True):
        assert len(children() - before) == 2
        assert batch["id"][0] == 0
        break
    del batch
    assert children() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "iceblink-transform"]


def test_ctrl_c_ends_the_processes(table: ib.Dataset, tmp_path: Path) -> None:
    program = f"""
        import os, time
        from pathlib import Path
        import iceblink as ib

        def started(thread):
            try:
                return (thread / "children").read_text().split()
            except OSError:  # it has ended meanwhile
                return []

        longest = {CALL_S}
        def slow(batch):
            if (batch["id"] >= 16).any():
                os.write(1, b"working\\n")
                time.sleep(longest)
            return batch

        made = ib.connect({str(tmp_path / "my lake ü")!r}).table("n.t").to_numpy(8, transform=slow, processes=True)
        try:
            for batch in made:
                pass
        finally:
            tasks = Path("/proc/self/task").iterdir()
            print("left:", *(child for task in tasks for child in started(task)), flush=True)
    """
    told, _ = interrupted(program)
    assert told == ["left:"]


def test_what_cannot_go_there_or_come_back_is_told(table: ib.Dataset) -> None:
    lock = threading.Lock()

    def locked(batch: dict[str, Any]) -> dict[str, Any]:
        with lock:
            return batch

    with pytest.raises(FunctionError, match="captured variable 'lock'"):
        loader(table, transform=locked, processes=True)
    with pytest.raises(FunctionError, match="cannot leave its process"):
        list(loader(table, transform=lambda batch: threading.Lock(), processes=True))
    with pytest.raises(ConfigError, match="without a transform"):
        loader(table, processes=True)
