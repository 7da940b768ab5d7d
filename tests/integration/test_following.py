"""A follower gets every snapshot's rows, writes what it makes of them once, and goes on where it was."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import iceblink as ib
from contract.hand_made import compact, expire, loaded
from ctrl_c import interrupted
from iceblink import _
from iceblink.errors import CommitConflict, ConfigError, PlanError


def ids(dataset: ib.Dataset) -> list[int]:
    return sorted(dataset.to_arrow()["id"].to_pylist())


def copied(lake: ib.Lake, **given: Any) -> list[str]:
    """Copy what there is from n.raw to n.clean, and return the positions of the steps."""
    positions = []
    for step in lake.follow("n.raw", into="n.clean", poll=None, **given):
        step.rows.mutate(twice=_.id * 2).write("n.clean", token=step.position)
        positions.append(step.position)
    return positions


@pytest.fixture
def both(lake: ib.Lake) -> ib.Lake:
    lake.write("n.raw", {"id": [1, 2]}, "create")
    lake.create("n.clean", {"id": "long", "twice": "long"})
    return lake


def test_each_snapshot_is_a_step_and_a_new_follower_goes_on(both: ib.Lake) -> None:
    assert len(copied(both)) == 1
    both.write("n.raw", {"id": [3]})
    compact(both, "n.raw")
    both.write("n.raw", {"id": [4]})
    assert len(copied(both)) == 2
    assert copied(both) == []
    assert ids(both.table("n.clean")) == [1, 2, 3, 4]
    assert both.history("n.clean").count() == 3


def test_a_follower_waits_until_it_is_closed(both: ib.Lake) -> None:
    seen: list[int] = []
    with both.follow("n.raw", poll=0.01) as steps:

        def listen() -> None:
            for step in steps:
                seen.extend(ids(step.rows))
                if len(seen) == 2:
                    both.write("n.raw", {"id": [9]})
                else:
                    steps.close()

        listener = threading.Thread(target=listen)
        listener.start()
        listener.join()
    assert seen == [1, 2, 9]
    assert list(steps) == []


def test_changes_are_followed_with_keys(both: ib.Lake) -> None:
    steps = both.follow("n.raw", changes=True, keys="id", poll=None)
    (first,) = steps
    assert {row["_change_type"] for row in first.rows.to_pylist()} == {"insert"}
    both.write("n.raw", {"id": [2, 7]}, "upsert", on="id")
    following = both.follow("n.raw", after=first.position, changes=True, keys="id", poll=None)
    (second,) = following
    assert [(row["id"], row["_change_type"]) for row in second.rows.to_pylist()] == [(7, "insert")]
    assert second.snapshot_id == loaded(both, "n.raw").snapshot_id
    with pytest.raises(PlanError, match="took rows out"):
        next(both.follow("n.raw", after=first.position, poll=None))


def test_two_followers_at_once_write_each_step_once(both: ib.Lake) -> None:
    one, other = (both.follow("n.raw", into="n.clean", poll=None) for _n in range(2))
    for follower in (one, other):
        step = next(follower)
        step.rows.write("n.clean", token=step.position)
    both.write("n.raw", {"id": [3]})
    both.write("n.raw", {"id": [4]})
    left_out, step = next(other), next(other)
    with pytest.raises(CommitConflict, match="has come to snapshot"):
        step.rows.write("n.clean", token=step.position)
    for step in one:
        step.rows.write("n.clean", token=step.position)
    left_out.rows.write("n.clean", token=left_out.position)  # late, and there already
    assert ids(both.table("n.clean")) == [1, 2, 3, 4]
    apart = both.follow("n.raw", into="n.clean", follower="another", poll=None)
    assert ids(next(apart).rows) == [1, 2, 3, 4]


def back(lake: ib.Lake, name: str, snapshot: int | None) -> None:
    loaded(lake, name).pyiceberg.manage_snapshots().set_current_snapshot(snapshot).commit()


def test_a_position_outlives_its_snapshot_and_not_what_was_rolled_back(both: ib.Lake) -> None:
    copied(both)
    first = loaded(both, "n.clean").snapshot_id
    both.write("n.raw", {"id": [3]})
    assert len(copied(both)) == 1
    back(both, "n.clean", first)
    assert len(copied(both)) == 1  # what was lost is done again
    assert ids(both.table("n.clean")) == [1, 2, 3]
    for number in (100, 101):
        both.write("n.clean", {"id": [number], "twice": [2 * number]})
    others = loaded(both, "n.clean").snapshot_id
    expire(both, "n.clean", keep=1)
    assert copied(both) == []
    both.write("n.raw", {"id": [4]})
    assert len(copied(both)) == 1
    assert ids(both.table("n.clean")) == [1, 2, 3, 4, 100, 101]
    back(both, "n.clean", others)
    with pytest.raises(PlanError, match="rolled back since"):
        copied(both)


def test_what_cannot_be_followed_is_said_at_once(both: ib.Lake) -> None:
    position = copied(both)[0]
    with pytest.raises(ConfigError):
        both.follow("n.raw", follower="a b")
    with pytest.raises(ConfigError):
        both.follow("n.raw", keys="id")
    with pytest.raises(ConfigError):
        both.follow("n.raw", poll=-1)
    steps = both.follow("n.raw", poll=None)
    both.drop("n.raw")
    both.write("n.raw", {"id": [1]}, "create")
    with pytest.raises(PlanError, match="made anew"):
        both.follow("n.raw", after=position)
    with pytest.raises(PlanError, match="made anew"):
        next(steps)


def test_ctrl_c_ends_a_wait(both: ib.Lake) -> None:
    program = f"""
        import iceblink as ib
        lake = ib.connect({both.session.catalog.folder!r})
        for step in lake.follow("n.raw", poll=600):
            print("working", flush=True)
    """
    assert interrupted(program)[0] == []


DRIVER = """
import os, signal, sys
import duckdb, pyiceberg.io.pyarrow, sqlglot.optimizer.qualify  # what is slow to import, before the forks
import pyarrow as pa, pyarrow.compute
import iceblink as ib
from iceblink.lake.write import TableWriter

folder = sys.argv[1]


def follower(last_step):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        lake = ib.connect(folder, engine=ib.LocalEngine(threads=2))
        steps = 0

        def stepping(owner, name):
            really = getattr(owner, name)
            def patched(*given, **named):
                nonlocal steps
                found = really(*given, **named)
                steps += 1
                if steps == last_step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found
            setattr(owner, name, patched)

        stepping(TableWriter, "finish")
        stepping(lake.session.catalog.pyiceberg, "_write_metadata")
        stepping(lake.session.catalog.pyiceberg, "commit_table")
        for step in lake.follow("n.raw", into="n.clean", poll=None):
            rows = step.rows.map_batches(lambda batch: batch, schema={"id": "long"})
            rows.write("n.clean", token=step.position)
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)


kills = 0
while (status := follower(kills % 4 + 1)) != 0:  # the place wanders over the steps of a commit
    assert status == signal.SIGKILL, status
    kills += 1
print(kills)
"""


def test_a_follower_killed_at_every_step_doubles_and_loses_nothing(lake: ib.Lake) -> None:
    lake.write("n.raw", {"id": [0, 1]}, "create")
    for n in range(2, 8):
        lake.write("n.raw", {"id": [n]})
    lake.create("n.clean", {"id": "long"})
    folder = lake.session.catalog.folder
    assert folder is not None
    start = lake.follow("n.raw", after=lake.history("n.raw").to_pylist()[0]["snapshot_id"], poll=None)
    done = subprocess.run([sys.executable, "-c", DRIVER, str(Path(folder))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    assert Counter(ids(lake.table("n.clean"))) == Counter(range(8))
    assert len(list(start)) == 6
