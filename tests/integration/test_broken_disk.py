"""Disks and memory that are too small: a write leaves nothing behind, a query says which setting to change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import iceblink as ib
from iceblink.config import MIB
from iceblink.errors import OutOfMemoryBudget

FULL_DISK = """
import json, os, resource, signal, sys
import iceblink as ib
from iceblink import _

folder = sys.argv[1]
engine = ib.LocalEngine(memory_bytes=72 << 20, spill_dir=folder + "/spill", threads=2)
lake = ib.connect(folder + "/lake", engine=engine)
many = lake.sql("SELECT i AS id, hash(i)::VARCHAR || repeat('x', 200) AS text FROM range(300000) t(i)")
sort = "SELECT text || r AS long, id FROM this, range(2) t(r) ORDER BY long"
acts = {
    "append": lambda: many.write("n.t"),
    "create": lambda: many.write("n.new", "create"),
    "overwrite": lambda: many.write("n.t", "overwrite"),
    "upsert": lambda: many.write("n.t", "upsert", on="id"),
    "replace": lambda: many.write("n.t", "replace"),
    "sorted": lambda: many.write("n.new", "create", sort_by=["text"]),
    "parquet": lambda: many.write_parquet(folder + "/out"),
    "sort": lambda: list(many.sql(sort).to_batches()),
}
lake.write("n.t", {"id": [-1], "text": ["a"]}, "create")

def files():
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if "spill" not in at}

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for act, work in acts.items():
    before, said = files(), ["nothing"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        work()
    except ib.IceblinkError as error:
        said = [error.code, error.what, error.where, error.hint]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    left = sorted(files() - before)
    told = {"said": said, "left": left, "tables": lake.tables(), "rows": lake.table("n.t").count()}
    print(json.dumps([act, told]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Do all the work in one process, whose lake lives on from one full disk to the next."""
    folder = str(tmp_path_factory.mktemp("full"))
    done = subprocess.run([sys.executable, "-c", FULL_DISK, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("append", "write-error"),
        ("create", "write-error"),
        ("overwrite", "write-error"),
        ("upsert", "write-error"),
        ("replace", "write-error"),
        ("sorted", "out-of-memory-budget"),
        ("parquet", "write-error"),
        ("sort", "out-of-memory-budget"),
    ],
)
def test_a_full_disk_ends_the_work_and_leaves_nothing(told: dict[str, Any], act: str, code: str) -> None:
    found = told[act]
    said, what, where, hint = found["said"]
    assert (said, found["left"], found["tables"], found["rows"]) == (code, [], ["n.t"], 1), found
    assert "too large" in what
    assert where
    assert "space" in hint


def test_work_larger_than_memory_makes_the_folders_that_it_spills_to(tmp_path: Path) -> None:
    spill = tmp_path / "not" / "there yet"
    with ib.connect(tmp_path, engine=ib.LocalEngine(memory_bytes=128 * MIB, spill_dir=str(spill), threads=1)) as lake:
        rows = lake.sql("SELECT hash(i)::VARCHAR || repeat('x', 200) AS a FROM range(600000) t(i) ORDER BY a")
        last = ""
        for batch in rows.to_batches():
            assert batch["a"][0].as_py() >= last
            last = batch["a"][-1].as_py()
    assert spill.exists()


def test_a_join_that_memory_cannot_hold_names_the_knob(tmp_path: Path) -> None:
    with ib.connect(tmp_path, engine=ib.LocalEngine(memory_bytes=64 * MIB, spill_dir=str(tmp_path / "s"))) as lake:
        keys = "(SELECT i, repeat('x', 300) || i AS k FROM range(300000) t(i))"
        one = lake.sql(f"SELECT string_agg(a.k, '') AS all_keys FROM {keys} a JOIN {keys} b USING (k)")
        with pytest.raises(OutOfMemoryBudget) as caught:
            one.to_arrow()
        assert "ICEBLINK_MEMORY_BYTES" in caught.value.hint
        assert lake.sql("SELECT 1 AS a").to_pylist() == [{"a": 1}]  # and the lake can be used on
