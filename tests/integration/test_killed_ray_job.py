"""A job with a checkpoint on Ray whose driver is killed: whoever goes on ends it as if nothing had been."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink.lake.leftovers import find_leftovers

ROWS = 6_000
DATA = pa.table({"id": pa.array(range(ROWS), pa.int64())})
KILLS = [("files", 2), ("commit", 1)]
"""Entries of the journal after which a driver dies, one after the other: in the second unit, and before the commit."""

DRIVER = """
import os, signal, sys
import iceblink as ib
from iceblink.run.checkpoint_journal import Journal

folder, kind, count = sys.argv[1:]
add = Journal.add


def deadly(journal, said, **values):
    add(journal, said, **values)
    if said == kind and len(journal.of(kind)) >= int(count):
        os.kill(os.getpid(), signal.SIGKILL)


def doubled(batch):
    return {"id": [2 * value for value in batch["id"].to_pylist()]}


Journal.add = deadly
with ib.connect(folder, engine=ib.RayEngine(split_bytes=9_000, threads=2, memory_bytes=500 << 20)) as lake:
    rows = lake.table("n.t").map_batches(doubled, schema={"id": "long"}, batch_size=500)
    rows.write("n.out", "create", checkpoint="job")
"""


@pytest.mark.alone
def test_a_job_whose_drivers_are_killed_is_one_commit_of_the_same_rows(tmp_path: Path) -> None:
    def status(kind: str, count: int) -> int:
        return subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path), kind, str(count)]).returncode

    with ib.connect(tmp_path) as lake:
        lake.write("n.t", DATA, "create", properties={"write.parquet.row-group-limit": "1000"})
        for kind, count in KILLS:
            assert status(kind, count) == -9, kind
            assert lake.tables("n") == ["n.t"]
        assert status("never", 1) == 0
        assert sorted(lake.table("n.out").to_arrow()["id"].to_pylist()) == list(range(0, 2 * ROWS, 2))
        assert lake.history("n.out").count() == 1
        made = lake.session.catalog.load("n.out")
        assert {str(path) for path in Path(made.location).rglob("*.parquet")} == {entry.path for entry in made.files()}
        assert find_leftovers(made, older_than_s=0) == []
    assert not (tmp_path / ".jobs").exists()
