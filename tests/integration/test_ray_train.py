"""Each worker of Ray Train makes a loader of its own, and together they read every row once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

import iceblink as ib

ROWS = 1_000


def train(config: dict[str, Any]) -> None:
    """Note the rows of each step, as many as there are to be, and the state."""
    context = ray.train.get_context()
    with ib.connect(config["lake"]) as lake:
        loader = lake.table("n.t").to_torch(20, shuffle=True, drop_last=True)
        if config["state"] is not None:
            loader.load_state_dict(config["state"])
        steps = []
        for batch in loader:
            steps.append(batch["id"].tolist())
            if len(steps) == config["steps"]:
                break
        place = Path(config["folder"], f"{config['name']}-{context.get_world_rank()}.json")
        place.write_text(json.dumps({"steps": steps, "state": loader.state_dict()}))
    ray.train.report({"steps": len(steps)})


def run(name: str, lake: Path, folder: Path, steps: int, state: Any = None) -> list[dict[str, Any]]:
    config = {"lake": str(lake), "folder": str(folder), "name": name, "steps": steps, "state": state}
    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5})
    TorchTrainer(
        train,
        train_loop_config=config,
        scaling_config=scaling,
        run_config=RunConfig(name=name, storage_path=str(folder)),
    ).fit()
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.usefixtures("ray_session")
def test_workers_of_ray_train_share_out_a_table(tmp_path: Path) -> None:
    with ib.connect(tmp_path / "lake") as lake:
        lake.write("n.t", {"id": list(range(ROWS))}, "create")
    begun = run("begun", tmp_path / "lake", tmp_path, steps=10)
    assert begun[0]["state"] == begun[1]["state"]
    rest = run("rest", tmp_path / "lake", tmp_path, steps=1_000, state=begun[0]["state"])
    assert [len(one["steps"]) for one in begun + rest] == [10, 10, 15, 15]
    assert sorted(number for one in begun + rest for step in one["steps"] for number in step) == list(range(ROWS))
