"""A training job as a user writes it, started by tests: ranks that find each other, and a state that is saved."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import iceblink as ib
import iceblink.load.units


def main() -> None:
    """Train to the end of the second epoch, from the state that an earlier job saved."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lake", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--group-rows", type=int, required=True)
    parser.add_argument("--killed-at", type=int)
    given = parser.parse_args()

    iceblink.load.units.PACKED_ROWS = given.group_rows  # a unit for each row group of a small table
    meeting = f"file://{given.out}/meeting-{given.run}"
    dist.init_process_group("gloo", init_method=meeting, rank=given.rank, world_size=given.world)
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    with ib.connect(given.lake) as lake:
        loader = lake.table("n.t").to_torch(
            given.batch_size, columns=["id", "emb"], shuffle=True, quality="window", drop_last=True
        )
        saved = given.out / "state.json"
        if saved.exists():
            loader.load_state_dict(json.loads(saved.read_text()))
        dist.barrier()  # nobody saves before all have loaded
        done = 0
        with (given.out / f"{given.run}-{given.rank}.jsonl").open("w") as log:
            while loader.epoch < 2:
                for batch in loader:
                    model(batch["emb"]).mean().backward()
                    optimizer.step()
                    done += 1
                    state = loader.state_dict()
                    print(json.dumps([state["epoch"], state["step"], batch["id"].tolist()]), file=log, flush=True)
                    if done == given.killed_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    if done % 10 == 0 and given.rank == 0:
                        Path(f"{saved}.new").write_text(json.dumps(state))
                        Path(f"{saved}.new").rename(saved)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
