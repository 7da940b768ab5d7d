"""Many at once: two writers of the same rows, and thousands of tiny files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink.lake.commit import Commit
from iceblink.lake.write import TableWriter

UPSERT = """
import sys
import iceblink as ib

folder, name, *keys = sys.argv[1:]
lake = ib.connect(folder)
def meanwhile(batch):  # the table was read by then
    print("ready", flush=True)
    sys.stdin.readline()
    return batch
rows = lake.from_arrow({"id": [int(key) for key in keys], "by": [name] * len(keys)})
try:
    lake.write("n.t", rows.map_batches(meanwhile, schema={"id": "long", "by": "string"}), "upsert", on="id")
    print("done")
except ib.IceblinkError as error:
    print(error.code)
"""


@pytest.mark.parametrize("keys", [("1 2", "2 3"), ("7 8", "8 9")])
def test_of_two_upserts_of_one_row_one_lands_whole_and_the_other_is_told(tmp_path: Path, keys: tuple[str, str]) -> None:
    with ib.connect(tmp_path) as lake:
        lake.write("n.t", {"id": [1, 2, 3], "by": ["old"] * 3}, "create")
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", UPSERT, str(tmp_path), name, *numbers.split()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, numbers in zip("AB", keys, strict=True)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        said = [writer.communicate("go\n")[0].split()[-1] for writer in writers]
        assert sorted(said) == ["commit-conflict", "done"]
        winner = said.index("done")
        expected = {1: "old", 2: "old", 3: "old"} | dict.fromkeys(map(int, keys[winner].split()), "AB"[winner])
        assert {row["id"]: row["by"] for row in lake.table("n.t").to_pylist()} == expected
        assert len(list(tmp_path.rglob("*.parquet"))) == 2  # the loser's file is gone
        assert not list(tmp_path.rglob("iceblink-write-*"))


def test_a_table_of_more_files_than_footers_are_read_is_read_and_changed(lake: ib.Lake) -> None:
    many = 600
    lake.create("n.t", {"id": "long", "text": "string"}, partition_by=["id"])
    table = lake.session.catalog.load("n.t")
    with TableWriter(table, lake.session.engine.settings) as writer:
        writer.write(pa.record_batch({"id": range(many), "text": [str(number) for number in range(many)]}))
        Commit(table).append(writer.finish()).run()
    found = lake.table("n.t")
    assert sorted(row["id"] for row in found.to_pylist()) == list(range(many))
    assert found.agg(total=_.id.sum(), last=_.text.max()).to_pylist() == [{"total": 179700, "last": "99"}]
    assert found.filter(_.text == "7").to_pylist() == found.filter(_.id == 7).to_pylist() == [{"id": 7, "text": "7"}]
    assert found.map_batches(lambda batch: batch.slice(0, 1)).count() == many
    after = lake.write("n.t", {"id": [1, many], "text": ["new"] * 2}, "upsert", on="id")
    assert after.filter(_.text == "new").count() == 2
    assert after.count() == many + 1
