"""Killed writes: the table is as before or as after, and what was left is found and removed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from iceblink.config import MIB, Settings
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.leftovers import find_leftovers, remove_leftovers
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter

SMALL = Settings(threads=2, memory_bytes=64 * MIB)
BATCH = pa.record_batch({"id": pa.array(range(1000), pa.int64()), "k": pa.array([0, 1] * 500, pa.int64())})

KILLED = """
import os, signal, sys
import pyarrow as pa
from iceblink.config import MIB, Settings
from iceblink.events import observing
from iceblink.lake import commit, write
from iceblink.lake.catalog import Catalog

folder, step = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
table = Catalog.embedded(folder).load("demo.t")
catalog = table.pyiceberg.catalog
really_commit = catalog.commit_table
if step == "before the catalog":
    catalog.commit_table = die
if step == "after the catalog":
    catalog.commit_table = lambda *given: (really_commit(*given), die())
if step == "inside the catalog":
    really_write = catalog._write_metadata
    catalog._write_metadata = lambda **given: (really_write(**given), die())
batch = pa.record_batch({"id": pa.array(range(1000), pa.int64()), "k": pa.array([0, 1] * 500, pa.int64())})
with write.TableWriter(table, Settings(threads=2, memory_bytes=64 * MIB)) as writer:
    for n in range(20):
        writer.write(batch)
        if step == "with files open" and n == 19:
            writer._lanes[0].wait()
            die()
    with observing(die if step == "with some files closed" else lambda _: None):
        new = writer.finish()
    if step == "finished":
        die()
    commit.Commit(table, writer.token).append(new).run()
print("survived")
"""


def make(folder: Path) -> Table:
    small = {"write.parquet.row-group-size-bytes": "8000"}
    table = Catalog.embedded(folder).create("demo.t", {"id": "long", "k": "long"}, partition_by=["k"], properties=small)
    with TableWriter(table, SMALL) as writer:
        writer.write(BATCH)
        return Commit(table, writer.token).append(writer.finish()).run()


def snapshot_files(table: Table) -> set[str]:
    return {str(path) for path in Path(table.location).rglob("*.avro")}


def data_files(table: Table) -> set[str]:
    return {str(path) for path in Path(table.location).rglob("*.parquet")}


@pytest.mark.parametrize(
    ("step", "lands"),
    [
        ("with files open", False),
        ("with some files closed", False),
        ("finished", False),
        ("before the catalog", False),
        ("inside the catalog", False),
        ("after the catalog", True),
    ],
)
def test_a_write_killed_anywhere_is_whole_or_nothing_and_can_be_cleaned_up(
    tmp_path: Path, step: str, lands: bool
) -> None:
    before = make(tmp_path)
    manifests = snapshot_files(before)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), step], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = before.refresh()
    assert after.pyiceberg.scan().count() == (21_000 if lands else 1000)
    live = {file.path for file in after.files()}
    left = data_files(after) - live
    assert bool(left) is not lands
    found = find_leftovers(after, older_than_s=0)
    assert {path for path in found if path.endswith(".parquet")} == left
    assert remove_leftovers(after, older_than_s=0) == found
    assert data_files(after) == live
    assert find_leftovers(after, older_than_s=0) == []
    if not lands:
        assert snapshot_files(after) == manifests
    assert after.refresh().pyiceberg.scan().to_arrow().num_rows == (21_000 if lands else 1000)


def test_a_young_write_is_left_alone(tmp_path: Path) -> None:
    table = make(tmp_path)
    with TableWriter(table, SMALL) as writer:
        for _ in range(20):
            writer.write(BATCH)
        assert find_leftovers(table) == []
        assert find_leftovers(table, older_than_s=0) != []
        after = Commit(table, writer.token).append(writer.finish()).run()
    assert find_leftovers(after, older_than_s=0) == []


def test_files_of_a_committed_write_stay_even_if_its_marker_did(tmp_path: Path) -> None:
    table = make(tmp_path)
    [*_, file] = table.files()
    token = file.path.rpartition("/")[2].partition("-")[0]
    marker = Path(table.location, "metadata", f"iceblink-write-{token}.json")
    marker.write_text("")  # cut short
    assert remove_leftovers(table) == [str(marker)]
    assert table.refresh().pyiceberg.scan().to_arrow().num_rows == 1000


def test_files_of_others_are_never_leftovers(tmp_path: Path) -> None:
    table = make(tmp_path)
    stranger = Path(table.location, "data", "stranger.parquet")
    stranger.write_bytes(b"")
    assert remove_leftovers(table, older_than_s=0) == []
    assert stranger.exists()
