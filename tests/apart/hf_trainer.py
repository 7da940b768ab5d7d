"""Hugging Face's Trainer with the lines of docs/how-to/loaders.md; run by test_apart.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

import iceblink as ib

PAGE = Path(__file__).parents[2] / "docs/how-to/loaders.md"
ROWS, BATCH, EPOCHS = 100, 8, 2
STEPS = -(-ROWS // BATCH)

Train = Callable[..., tuple[list[list[int]], Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def table(folder: Path) -> Iterator[ib.Dataset]:
    rows = {name: [[number, number % 7, number % 3] for number in range(ROWS)] for name in ("input_ids", "labels")}
    with ib.connect(folder / "lake") as lake:
        yield lake.write("n.t", rows, "create")


@pytest.fixture(scope="module")
def train(table: ib.Dataset, folder: Path) -> Train:
    """Train a model from its beginning or its last checkpoint; return the rows of each step, and the weights."""
    (classes,) = re.findall(r"^```py\n(class OurTrainer.*?)^args = Train", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    class Stop(TrainerCallback):  # type: ignore[misc]
        def __init__(self, step: int) -> None:
            self.step = step

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            control.should_training_stop |= state.global_step == self.step

    def trained(job: str, save_steps: int, most: int = EPOCHS * STEPS, **how: Any) -> tuple[list[list[int]], Any]:
        set_seed(3)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=ROWS, n_positions=4, n_embd=8, n_layer=1, n_head=1))
        steps: list[list[int]] = []
        model.register_forward_pre_hook(
            lambda _model, _given, named: steps.append(named["input_ids"][:, 0].tolist()), with_kwargs=True
        )
        args = TrainingArguments(
            str(folder / job),
            save_steps=save_steps,
            ignore_data_skip=True,
            num_train_epochs=EPOCHS,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        names: dict[str, Any] = {"torch": torch, "Trainer": Trainer, "TrainerCallback": TrainerCallback}
        names["loader"] = table.to_torch(BATCH, shuffle=True)
        exec(classes, names)
        names["OurTrainer"](model, args, callbacks=[names["KeepPlace"](), Stop(most)]).train(**how)
        return steps, model.state_dict()

    return trained


@pytest.fixture(scope="module")
def undisturbed(train: Train) -> tuple[list[list[int]], Any]:
    return train("undisturbed", 1000)


@pytest.mark.parametrize(("saved", "stopped"), [(5, 9), (5, 18), (STEPS, STEPS + 3)])
def test_a_job_goes_on_exactly_where_its_checkpoint_is(
    train: Train, undisturbed: tuple[list[list[int]], Any], saved: int, stopped: int
) -> None:
    steps, weights = undisturbed
    job = f"{saved}, {stopped}"
    epochs = steps[:STEPS], steps[STEPS:]
    assert [sorted(chain.from_iterable(epoch)) for epoch in epochs] == [list(range(ROWS))] * EPOCHS
    before, _ = train(job, saved, stopped)
    assert before == steps[:stopped]
    after, resumed = train(job, saved, resume_from_checkpoint=True)
    assert after == steps[stopped - stopped % saved :]
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
