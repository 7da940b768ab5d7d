"""A job with a checkpoint, killed at every step and at any time: what goes on ends as if nothing had been."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import iceblink as ib
from iceblink.lake.leftovers import find_leftovers

DRIVER = """
import os, random, signal, sys, time
import duckdb, pyiceberg.io.pyarrow, sqlglot.optimizer.qualify  # what is slow to import, before the forks
import pyarrow as pa, pyarrow.compute, pyarrow.dataset
import iceblink as ib
from iceblink.lake.write import TableWriter
from iceblink.run.checkpoint_journal import Journal

folder, how = sys.argv[1:]
lakes = ib.connect


def doubled(batch):
    if how == "at any time":
        time.sleep(0.002)
    if pa.compute.any(pa.compute.equal(batch["id"], 777)).as_py():
        raise ValueError("refused")
    return batch.set_column(1, "x", pa.compute.multiply(batch["x"], 2))


def job(lake, name):
    rows = lake.sql("SELECT * FROM n.source WHERE id >= 10").map_batches(
        doubled, schema={"id": "long", "x": "double"}, batch_size=70,
        on_error="quarantine", quarantine=name + "_refused",
    )
    kept = rows.sql("SELECT * FROM this WHERE id % 10 <> 3")
    kept.write(name, "create", checkpoint="job of " + name, partition_by=["truncate(500, id)"])


def forked(name, last_step=None, ends_s=None):
    pid = os.fork()
    if pid:
        if ends_s is not None:
            time.sleep(ends_s)
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]
    try:
        lake = lakes(folder, engine=ib.LocalEngine(split_bytes=9_000, threads=2))
        steps = 0

        def step():
            nonlocal steps
            steps += 1
            if steps == last_step:
                os.kill(os.getpid(), signal.SIGKILL)

        def stepping(owner, name):
            really = getattr(owner, name)
            def patched(*given, **named):
                found = really(*given, **named)
                step()
                return found
            setattr(owner, name, patched)

        stepping(Journal, "add")
        stepping(Journal, "remove")
        stepping(TableWriter, "finish")
        stepping(lake.session.catalog.pyiceberg, "commit_table")
        stepping(lake.session.catalog.pyiceberg, "_write_metadata")
        job(lake, name)
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)


if how == "at every step":
    number = 0
    while True:
        number += 1
        name = f"n.t{number}"
        if forked(name, number) == 0:
            break
        assert forked(name) == 0, number
else:
    chosen = random.Random(5)
    kills = 0
    name = "n.t1"
    while kills < 8:
        status = forked(name, ends_s=chosen.uniform(0.02, 0.6))
        if status == 0:
            name = f"n.t{int(name[3:]) + 1}"
        else:
            assert status == signal.SIGKILL
            kills += 1
    assert forked(name) == 0
assert forked("n.whole") == 0
print(int(name[3:]))
"""


def expected() -> list[dict[str, object]]:
    """Rows that come through, whatever happens; of the batch with row 777 only that one is refused."""
    return [{"id": n, "x": n / 2 * 2} for n in range(10, 2_000) if n != 777 and n % 10 != 3]


def run(folder: Path, how: str) -> int:
    """Run the driver, which forks the process that is killed: an import for each would take most of the time."""
    done = subprocess.run([sys.executable, "-c", DRIVER, str(folder), how], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("how", ["at every step", "at any time"])
def test_a_job_killed_again_and_again_ends_as_if_it_never_was(tmp_path: Path, how: str) -> None:
    with ib.connect(tmp_path) as lake:
        rows = {"id": list(range(2_000)), "x": [n / 2 for n in range(2_000)]}
        lake.write("n.source", rows, "create", properties={"write.parquet.row-group-limit": "500"})
        count = run(tmp_path, how)
        whole = lake.table("n.whole")
        assert whole.order_by("id").to_pylist() == expected()
        assert count > 12 if how == "at every step" else count >= 1
        for name in [f"n.t{number}" for number in range(1, count + 1)]:
            assert lake.table(name).to_arrow() == whole.to_arrow(), name
            assert lake.history(name).count() == 1
            assert lake.table(f"{name}_refused").select("id").to_pylist() == [{"id": 777}], name
            assert lake.history(f"{name}_refused").count() == 1
            for made in (name, f"{name}_refused"):
                found = lake.session.catalog.load(made)
                files = {str(path) for path in Path(found.location).rglob("*.parquet")}
                assert files == {entry.path for entry in found.files()}
                assert len(list(Path(found.location).rglob("*.avro"))) == 2, "a manifest list and a manifest"
                assert find_leftovers(found, older_than_s=0) == []
        assert not (tmp_path / ".jobs").exists()
