"""Data files that were not written for Iceberg: without field ids, the table's name mapping tells the columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table as IcebergTable
from pyiceberg.types import LongType

import iceblink as ib
from iceblink import _
from iceblink.errors import DataCorrupt

SCHEMA = {
    "id": "long",
    "name": "string",
    "at": "struct<x: double, y: double>",
    "tags": "list<string>",
    "prices": "map<string, double>",
}
MAPPING = "schema.name-mapping.default"


def row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"n{number}",
        "at": {"x": number / 2, "y": -1.0},
        "tags": [str(number)] * (number % 3),
        "prices": [("a", 1.0 * number)],
    }


def rows(*numbers: int) -> pa.Table:
    """Rows with pyarrow's own types: no field ids."""
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("name", pa.string()),
            ("at", pa.struct([("x", pa.float64()), ("y", pa.float64())])),
            ("tags", pa.list_(pa.string())),
            ("prices", pa.map_(pa.string(), pa.float64())),
        ]
    )
    return pa.Table.from_pylist([row(number) for number in numbers], schema)


def iceberg(lake: ib.Lake) -> IcebergTable:
    return lake.session.catalog.load("n.t").pyiceberg


@pytest.fixture
def added(lake: ib.Lake, tmp_path: Path) -> ib.Lake:
    """A table with five rows of ours, and five of a file that PyIceberg added."""
    lake.create("n.t", SCHEMA)
    lake.write("n.t", rows(0, 1, 2, 3, 4))
    pq.write_table(rows(5, 6, 7, 8, 9), tmp_path / "plain.parquet")
    iceberg(lake).add_files([str(tmp_path / "plain.parquet")])
    return lake


def test_added_files_are_read_whole(added: ib.Lake) -> None:
    expected = [row(number) for number in range(10)]
    assert sorted(added.table("n.t").to_pylist(), key=lambda one: int(one["id"])) == expected
    assert added.sql("SELECT count(*) AS n, sum(id) AS s, max(at.x) AS x FROM n.t").to_pylist() == [
        {"n": 10, "s": 45, "x": 4.5}
    ]


def test_added_files_are_read_and_pruned_by_their_own_names_after_a_rename(added: ib.Lake) -> None:
    with iceberg(added).update_schema() as update:
        update.rename_column("id", "key")
        update.rename_column("at.x", "across")
        update.rename_column("name", "title")
        update.add_column("new", LongType())
    found = added.table("n.t")
    assert sorted(found.select("key", "title").to_pylist(), key=str) == [
        {"key": number, "title": f"n{number}"} for number in range(10)
    ]
    assert found.filter(_.key == 7).select("key", "at", "new").to_pylist() == [
        {"key": 7, "at": {"across": 3.5, "y": -1.0}, "new": None}
    ]
    assert found.filter(_.key > 4).count() == 5
    assert added.sql("SELECT sum(n.at.across) AS s FROM n.t n WHERE key >= 8").to_pylist() == [{"s": 8.5}]


def test_rows_of_added_files_are_overwritten_and_upserted(added: ib.Lake) -> None:
    new = added.from_arrow(rows(7, 11))
    added.write("n.t", new.mutate(name=_.name + "!"), "upsert", on="id")
    added.write("n.t", new.filter(_.id == 0), "overwrite", where=_.id == 8)
    names = {one["id"]: one["name"] for one in added.table("n.t").to_pylist()}
    assert names == {n: f"n{n}" for n in range(10) if n != 8} | {7: "n7!", 11: "n11!"}


def test_a_column_that_the_mapping_leaves_out_is_not_in_the_file(added: ib.Lake) -> None:
    with iceberg(added).transaction() as change:
        change.set_properties({MAPPING: '[{"field-id": 1, "names": ["id", "nr"]}]'})
    found = added.table("n.t").filter(_.id >= 4).select("id", "name").to_pylist()
    assert sorted(found, key=str) == [{"id": 4, "name": "n4"}, *({"id": n, "name": None} for n in range(5, 10))]


def test_without_a_mapping_added_files_are_refused(added: ib.Lake) -> None:
    with iceberg(added).transaction() as change:
        change.remove_properties(MAPPING)
    for reading in (added.table("n.t").to_arrow, added.sql("SELECT max(id) FROM n.t").to_arrow):
        with pytest.raises(DataCorrupt, match=r"plain\.parquet") as caught:
            reading()
        assert MAPPING in caught.value.hint
    assert added.table("n.t").filter(_.id < 3).count() == 3  # no file of theirs is read


def test_a_mapping_that_is_none_is_told(added: ib.Lake) -> None:
    with iceberg(added).transaction() as change:
        change.set_properties({MAPPING: '{"id": 1}'})
    with pytest.raises(DataCorrupt, match=MAPPING):
        added.table("n.t")
