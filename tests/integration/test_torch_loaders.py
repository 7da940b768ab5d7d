"""Loaders in what others train with: PyTorch's workers, torchdata, Lightning, Accelerate, and ranks that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import iceblink as ib
from iceblink.errors import ConfigError

JOB = Path(__file__).parents[1] / "training_job.py"
ROWS, GROUP_ROWS, BATCH = 1000, 50, 24
STEPS = -(-ROWS // BATCH)
SPAWNED: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "spawn"}
IN_TORCHDATA = "ignore:'set_vital' is deprecated:UserWarning"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lakes") / "my lake ü"


@pytest.fixture(scope="module")
def table(folder: Path) -> Iterator[ib.Dataset]:
    """Twenty row groups, each a unit."""
    numbers = np.arange(ROWS)
    rows = {
        "id": numbers,
        "text": [f"row {number}" for number in numbers],
        "emb": pa.array([[number, number + 0.5] for number in numbers], pa.list_(pa.float32())),
    }
    properties = {"write.parquet.row-group-limit": str(GROUP_ROWS)}
    with pytest.MonkeyPatch.context() as patch, ib.connect(folder) as lake:
        patch.setattr("iceblink.load.units.PACKED_ROWS", GROUP_ROWS)
        yield lake.write("n.t", rows, "create", properties=properties)


def loader(table: ib.Dataset, batch_size: int = BATCH, **options: Any) -> Any:
    return table.to_torch(batch_size, shuffle=True, quality="window", **options)


def ids(batches: Any) -> list[list[int]]:
    found = []
    for batch in batches:
        assert batch["text"] == [f"row {number}" for number in batch["id"].tolist()]
        found.append(batch["id"].tolist())
    return found


def flat(parts: Any) -> list[Any]:
    return list(chain.from_iterable(parts))


def begun(batches: Any, steps: int) -> Any:
    """Return a pass that has made so many steps."""
    passing = iter(batches)
    for _step in range(steps):
        next(passing)
    return passing


@pytest.fixture(scope="module")
def epochs(table: ib.Dataset) -> list[list[list[int]]]:
    """Two epochs in a bare loop."""
    one = loader(table)
    found = [ids(one) for _epoch in range(2)]
    assert [sorted(flat(epoch)) for epoch in found] == [list(range(ROWS))] * 2
    assert found[0] != found[1]
    return found


def test_a_data_loader_adds_nothing(table: ib.Dataset, epochs: list[list[list[int]]]) -> None:
    one = loader(table)
    wrapped = DataLoader(one, batch_size=None)
    assert len(wrapped) == STEPS
    assert [ids(wrapped), ids(wrapped)] == epochs
    begun(wrapped, 7)
    assert one.state_dict()["step"] == 7


def test_an_epoch_is_over_with_its_last_batch(table: ib.Dataset, epochs: list[list[list[int]]]) -> None:
    one, other = loader(table), loader(table)
    begun(one, STEPS)  # as Lightning does, which knows the length and asks for no more
    other.load_state_dict(one.state_dict())
    assert [ids(other), ids(other)] == [[], epochs[1]]
    assert ids(one) == epochs[1]
    begun(one, STEPS)
    one.set_epoch(0)
    passing = begun(one, 3)
    one.set_epoch(1)
    next(passing)
    assert ids(one) == epochs[1], "a pass that was sent elsewhere and left begins anew"


@pytest.mark.slow
def test_workers_take_turns_from_where_the_loader_is(table: ib.Dataset, epochs: list[list[list[int]]]) -> None:
    one = loader(table)
    begun(one, 7)
    resumed = loader(table)
    resumed.load_state_dict(one.state_dict())
    assert ids(DataLoader(resumed, batch_size=None, **SPAWNED)) == epochs[0][7:]


def test_forked_workers_are_refused(table: ib.Dataset) -> None:
    with pytest.raises(ConfigError, match="multiprocessing_context='spawn'"):
        ids(DataLoader(loader(table), batch_size=None, num_workers=1, multiprocessing_context="fork"))


@pytest.mark.slow
@pytest.mark.filterwarnings(IN_TORCHDATA)
@pytest.mark.parametrize("workers", [{}, SPAWNED])
def test_a_stateful_data_loader_goes_on(
    table: ib.Dataset, epochs: list[list[list[int]]], workers: dict[str, Any]
) -> None:
    one = StatefulDataLoader(loader(table), batch_size=None, **workers)
    passing = begun(one, 7)
    state = one.state_dict()
    del passing
    other = StatefulDataLoader(loader(table), batch_size=None, **workers)
    other.load_state_dict(state)
    assert ids(other) == epochs[0][7:]
    if not workers:
        assert ids(other) == epochs[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:lightning.*", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_lightning_goes_on_wherever_it_saved(table: ib.Dataset, epochs: list[list[list[int]]], tmp_path: Path) -> None:
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.seen: list[list[int]] = []

        def training_step(self, batch: dict[str, Any], index: int) -> Any:
            self.seen.append(batch["id"].tolist())
            return self.layer(batch["emb"]).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-9)

    def seen(checkpoint: Path | None, *callbacks: Any) -> list[list[int]]:
        model = Model()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=2, default_root_dir=tmp_path, callbacks=[*callbacks], **quiet
        )
        trainer.fit(model, loader(table), ckpt_path=checkpoint, weights_only=False)
        return model.seen

    steps = flat(epochs)
    saving = ModelCheckpoint(tmp_path / "saved", filename="{step}", every_n_train_steps=STEPS // 2, save_top_k=-1)
    assert seen(None, saving) == steps
    for step in (STEPS // 2, STEPS, STEPS // 2 * 3):
        assert seen(tmp_path / "saved" / f"step={step}.ckpt") == steps[step:]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_accelerate_saves_the_state(table: ib.Dataset, epochs: list[list[list[int]]], tmp_path: Path) -> None:
    from accelerate import Accelerator

    saved, loaded = loader(table), loader(table)
    accelerators = [Accelerator(cpu=True) for _job in range(2)]
    for accelerator, one in zip(accelerators, (saved, loaded), strict=True):
        accelerator.prepare(torch.nn.Linear(2, 1))
        accelerator.register_for_checkpointing(one)
    begun(saved, 7)
    accelerators[0].save_state(str(tmp_path / "saved"))
    accelerators[1].load_state(str(tmp_path / "saved"))
    assert ids(loaded) == epochs[0][7:]
    assert ids(loaded) == epochs[1]


def test_a_loader_that_was_made_before_the_ranks_were_is_refused(
    table: ib.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, told = loader(table), loader(table, rank=0, world=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="RANK=None"):
        loader(table)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="rank 0 of 1, and this is rank 0 of 2"):
        iter(early)
    assert len(ids(told)) == STEPS


@pytest.mark.slow
def test_ranks_that_are_killed_are_gone_on_with_by_others(table: ib.Dataset, folder: Path, tmp_path: Path) -> None:
    """Two ranks end in the second epoch, one by the signal, one for the other is gone; three go on."""
    expected: dict[tuple[int, int], list[int]] = {}
    undisturbed = [loader(table, 24, rank=rank, world=2, drop_last=True) for rank in range(2)]
    for epoch in range(2):
        for step, parts in enumerate(zip(*undisturbed, strict=True), 1):
            expected[epoch, step] = flat(part["id"].tolist() for part in parts)

    killed = ran(folder, tmp_path, 2, killed_at=len(expected) // 2 + 15)
    assert -signal.SIGKILL in killed
    assert 0 not in killed
    assert steps_of(tmp_path, 2).items() <= expected.items()
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["epoch"], state["step"]) == (1, 10), "five steps are lost with the ranks, and made again"

    assert ran(folder, tmp_path, 3) == [0] * 3
    rest = {place: found for place, found in expected.items() if place > (1, 10)}
    assert steps_of(tmp_path, 3) == rest


def ran(lake: Path, folder: Path, world: int, killed_at: int | None = None) -> list[int]:
    """Return how the ranks of a job ended, of which the last may kill itself at a step."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "ICEBLINK_THREADS": "1"}
    environment = {name: text for name, text in environment.items() if name not in ("RANK", "WORLD_SIZE")}
    ranks = []
    for rank in range(world):
        command = [sys.executable, JOB, "--lake", lake, "--out", folder, "--run", world]
        command += ["--rank", rank, "--world", world, "--batch-size", 48 // world, "--group-rows", GROUP_ROWS]
        if killed_at is not None and rank == world - 1:
            command += ["--killed-at", killed_at]
        ranks.append(subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True))
    ended = [rank.communicate(timeout=300)[1] for rank in ranks]
    if killed_at is None:
        assert not any(rank.returncode for rank in ranks), "\n".join(ended)
    return [rank.returncode for rank in ranks]


def steps_of(folder: Path, world: int) -> dict[tuple[int, int], list[int]]:
    """Return the rows of each step that all ranks of a job have made, in their order, by epoch and step."""
    lines = [(folder / f"{world}-{rank}.jsonl").read_text().splitlines() for rank in range(world)]
    found = {}
    for parts in zip(*(map(json.loads, texts) for texts in lines), strict=False):
        (place,) = {(epoch, step) for epoch, step, _ids in parts}
        found[place] = flat(ids for _epoch, _step, ids in parts)
    return found
