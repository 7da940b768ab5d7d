"""Jobs on a cluster whose stores and disks are full: ``python -m integration.ray_room FOLDER NAME...``."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import ray
from ray.experimental import get_local_object_locations

import iceblink as ib
from cluster_tool import SAYS, SPILL
from iceblink.config import MIB
from iceblink.errors import OutOfMemoryBudget
from iceblink.run.ray import room

ROWS = 700_000
WIDE = "SELECT i AS id, md5(i::VARCHAR) || md5((i + 1)::VARCHAR) || repeat('x', 100) AS s FROM range({}) t(i)"
LARGE = 8 * MIB
FILL = SPILL / "of somebody else"


class Filled:
    """A task of Ray on each node, which holds all that is free on the disk there, until it is told to let go."""

    def fill(self) -> None:
        disk = os.statvfs(SPILL)
        with FILL.open("ab", buffering=0) as file, suppress(OSError):  # somebody may spill at the same time
            file.write(bytes(max(0, disk.f_bavail * disk.f_frsize - MIB)))

    def free(self) -> None:
        FILL.unlink()


@contextmanager
def full_disks() -> Iterator[Callable[[], None]]:
    """Fill the disks of all nodes; give what frees them."""
    kind = ray.remote(num_cpus=0)(Filled)
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    fillers = [kind.options(scheduling_strategy=strategy(node, soft=False)).remote() for node in nodes]

    def free() -> None:
        ray.get([filler.free.remote() for filler in fillers])

    ray.get([filler.fill.remote() for filler in fillers])
    try:
        yield free
    finally:
        if FILL.exists():
            free()
        for filler in fillers:
            ray.kill(filler)


def files(folder: str) -> set[Path]:
    return set(Path(folder, "n").rglob("*.parquet"))


def a_write_ends(lake: ib.Lake, folder: str) -> None:
    """An exchange of more than the stores hold ends with an error that says where and why, and leaves nothing."""
    before = files(folder)
    with full_disks(), pytest.raises(OutOfMemoryBudget, match=f"node 10.* spill folder {SPILL} has") as caught:
        exchanged(lake).write("n.out", "create")
    assert caught.value.where.startswith("stage_")
    assert "--object-spilling-directory" in caught.value.hint
    assert lake.tables("n") == ["n.t"]
    assert files(folder) == before


def a_write_goes_on(lake: ib.Lake, folder: str) -> None:
    """The same when the disks are freed meanwhile."""
    with full_disks() as free:
        timer = threading.Timer(room.PATIENCE_S / 2, free)
        timer.start()
        exchanged(lake).write("n.out", "create")
        timer.join()
    assert lake.sql("SELECT count(*) AS n, sum(id) AS s FROM n.out").to_pylist() == [
        {"n": ROWS, "s": ROWS * (ROWS - 1) // 2}
    ]


def rows_that_were_spilled(lake: ib.Lake, folder: str) -> None:
    """They come back when there is room, and are not waited for without end before."""
    objects = [room.kept(os.urandom(LARGE), LARGE, "here") for _ in range(20)]
    with full_disks() as free:
        with suppress(OutOfMemoryBudget):
            while True:
                objects.append(room.kept(os.urandom(LARGE), LARGE, "here", patience_s=0))
        spilled = next(one for one, where in get_local_object_locations(objects).items() if where["did_spill"])
        with pytest.raises(OutOfMemoryBudget, match="no room for the rows"):
            room.brought(spilled, LARGE, "the rows", "here")
        free()
        assert len(room.brought(spilled, LARGE, "the rows", "here")) == LARGE


def exchanged(lake: ib.Lake) -> ib.Dataset:
    return lake.sql("SELECT id, count(*) OVER (PARTITION BY s) AS c, s FROM n.t")


SCENARIOS = {made.__name__: made for made in (a_write_ends, a_write_goes_on, rows_that_were_spilled)}

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    with ib.connect(folder) as local:
        local.sql(WIDE.format(ROWS)).write("n.t", "create")
    room.PATIENCE_S = 4.0
    with ib.connect(folder, engine=ib.RayEngine(small_bytes=0, split_bytes=10_000_000)) as lake:
        assert lake.table("n.t").count() == ROWS
        ray.init(ignore_reinit_error=True)
        for name in names:
            SCENARIOS[name](lake, folder)
            print(f"{SAYS}{name}", flush=True)
