"""Delta tables, made by Delta's own writer and by hand: the same rows, or a refusal that says why."""

from __future__ import annotations

import base64
import datetime as dt
import json
import struct
import uuid
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

import iceblink as ib
from iceblink import _
from iceblink.errors import DataCorrupt, PlanError, SchemaMismatch, WriteError
from iceblink.lake.table import Table

ROWS: list[dict[str, Any]] = [
    {"id": 1, "p": "a", "day": dt.date(2026, 1, 30), "v": 1.5},
    {"id": 2, "p": "b ü", "day": dt.date(2026, 1, 30), "v": None},
    {"id": 3, "p": "c/d=%", "day": dt.date(2026, 1, 31), "v": 2.5},
    {"id": 4, "p": None, "day": None, "v": 3.5},
    {"id": 5, "p": "a", "day": dt.date(2026, 1, 31), "v": 4.5},
]
SCHEMA = pa.schema({"id": pa.int64(), "p": pa.string(), "day": pa.date32(), "v": pa.float64()})


@pytest.fixture
def path(tmp_path: Path) -> str:
    made = str(tmp_path / "a delta ü")
    write_deltalake(made, pa.Table.from_pylist(ROWS[:3], SCHEMA), partition_by=["p", "day"])
    write_deltalake(made, pa.Table.from_pylist(ROWS[3:], SCHEMA), mode="append")
    return made


def by_id(rows: Any) -> list[dict[str, Any]]:
    return sorted(rows.to_pylist(), key=lambda row: row["id"])


def test_rows_are_those_of_the_version_that_was_asked_for(lake: ib.Lake, path: str) -> None:
    now, first = lake.read_delta(path), lake.read_delta(path, version=0)
    assert now.schema == SCHEMA
    assert by_id(now) == ROWS
    assert by_id(first) == ROWS[:3]
    DeltaTable(path).delete("id = 1")
    assert by_id(now) == ROWS  # pinned
    assert by_id(lake.read_delta(path)) == ROWS[1:]
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    assert by_id(lake.read_delta(path, version=later)) == ROWS[1:]
    assert by_id(lake.read_delta(path, version=later.isoformat())) == ROWS[1:]
    assert lake.read_delta(path).filter(_.v > 2).agg(n=_.id.count()).to_pylist() == [{"n": 3}]
    lake.write("n.copy", now, "create", partition_by=["p"])
    assert by_id(lake.table("n.copy")) == ROWS


def test_files_become_those_of_a_table_where_they_lie(lake: ib.Lake, path: str) -> None:
    added = lake.add_delta("n.t ü", path)
    assert by_id(added) == ROWS
    table = lake.session.catalog.load("n.t ü")
    assert table.partition_by == ("p", "day")
    assert {file.path for file in table.files()} == {str(one) for one in Path(path).rglob("*.parquet")}
    assert lake.history("n.t ü").count() == 1
    assert by_id(lake.table("n.t ü").filter(_.p == "c/d=%")) == ROWS[2:3]
    assert by_id(lake.table("n.t ü").filter(_.day.isnull())) == ROWS[3:4]
    with pytest.raises(WriteError):
        lake.add_delta("n.t ü", path)  # they are in the table already
    lake.write("n.t ü", [{**ROWS[0], "id": 9}])
    assert lake.table("n.t ü").count() == 6
    lake.drop("n.t ü")
    assert by_id(lake.read_delta(path)) == ROWS


def test_a_table_that_is_there_takes_them_if_they_fit(lake: ib.Lake, path: str) -> None:
    lake.create("n.t", SCHEMA, partition_by=["p", "day"])
    assert by_id(lake.add_delta("n.t", path, version=0)) == ROWS[:3]
    lake.create("n.other", {"id": "string", "p": "string", "day": "date", "v": "double"}, partition_by=["p", "day"])
    with pytest.raises(SchemaMismatch):
        lake.add_delta("n.other", path)
    assert lake.table("n.other").count() == 0


# tables that only other engines write: the log is made by hand


def positions(deleted: list[int]) -> bytes:
    """Return the bitmap of a deletion vector: one 32-bit bitmap of one array."""
    header = struct.pack("<QIIIHHI", 1, 0, 12346, 1, 0, len(deleted) - 1, 16)
    return struct.pack("<I", 1681511377) + header + struct.pack(f"<{len(deleted)}H", *deleted)


def z85(content: bytes) -> str:
    return (
        base64.b85encode(content)
        .decode()
        .translate(
            str.maketrans(
                "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~",
                "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
            )
        )
    )


def hand_made(folder: Path, features: list[str], vector: dict[str, Any] | None, names: dict[str, str]) -> str:
    """Write a Delta table of ids 0 to 9; `names` are what its columns are called in the file, where that is mapped."""
    (folder / "_delta_log").mkdir(parents=True)
    pq.write_table(pa.table({names.get("id", "id"): pa.array(range(10), pa.int64())}), folder / "f.parquet")
    mapped = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": names["id"]} if names else {}
    fields = [{"name": "id", "type": "long", "nullable": True, "metadata": mapped}]
    configuration = {"delta.columnMapping.mode": "name"} if names else {}
    if "deletionVectors" in features:
        configuration["delta.enableDeletionVectors"] = "true"
    actions: list[dict[str, Any]] = [
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
        },
        {
            "metaData": {
                "id": str(uuid.uuid4()),
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": [],
                "configuration": configuration,
            }
        },
        {
            "add": {
                "path": "f.parquet",
                "partitionValues": {},
                "size": (folder / "f.parquet").stat().st_size,
                "modificationTime": 0,
                "dataChange": True,
                "stats": json.dumps({"numRecords": 10}),
                **({"deletionVector": vector} if vector else {}),
            }
        },
    ]
    log = "\n".join(map(json.dumps, actions))
    (folder / "_delta_log" / f"{0:020}.json").write_text(log)
    return str(folder)


def with_vector(folder: Path, deleted: list[int]) -> str:
    """Write a table with a deletion vector in a file of its own, as Spark does."""
    name, content = uuid.uuid4(), positions(deleted)
    folder.mkdir()
    framed = struct.pack(">I", len(content)) + content + struct.pack(">I", zlib.crc32(content))
    (folder / f"deletion_vector_{name}.bin").write_bytes(b"\x01" + framed)
    vector = {
        "storageType": "u",
        "pathOrInlineDv": z85(name.bytes),
        "offset": 1,
        "sizeInBytes": len(content),
        "cardinality": len(deleted),
    }
    return hand_made(folder, ["deletionVectors"], vector, {})


def test_rows_that_deletion_vectors_take_out_are_not_read_and_such_files_not_taken(
    lake: ib.Lake, tmp_path: Path
) -> None:
    path = with_vector(tmp_path / "with a vector", [0, 3, 9])
    assert by_id(lake.read_delta(path)) == [{"id": number} for number in (1, 2, 4, 5, 6, 7, 8)]
    with pytest.raises(PlanError, match="read_delta"):
        lake.add_delta("n.t", path)
    assert lake.tables() == []


def test_columns_have_the_names_of_the_table_and_files_with_others_are_not_taken(lake: ib.Lake, tmp_path: Path) -> None:
    path = hand_made(tmp_path / "mapped", ["columnMapping"], None, {"id": "col-7f3a"})
    assert by_id(lake.read_delta(path)) == [{"id": number} for number in range(10)]
    with pytest.raises(PlanError, match="read_delta"):
        lake.add_delta("n.t", path)


def test_vectors_that_are_allowed_and_not_there_are_no_hindrance(lake: ib.Lake, tmp_path: Path) -> None:
    path = hand_made(tmp_path / "none yet", ["deletionVectors"], None, {})
    assert by_id(lake.add_delta("n.t", path)) == [{"id": number} for number in range(10)]


def test_what_is_not_there_or_wants_more_is_refused_when_it_is_asked_for(
    lake: ib.Lake, path: str, tmp_path: Path
) -> None:
    odd = hand_made(tmp_path / "odd", ["somethingNew"], None, {})
    for wrong, version in ((str(tmp_path), None), (path, 99), (odd, None), (str(tmp_path / "nowhere"), None)):
        with pytest.raises(PlanError) as caught:
            lake.read_delta(wrong, version=version).to_arrow()
        assert wrong in caught.value.where


def test_a_missing_file_is_damage_and_no_rows(lake: ib.Lake, path: str) -> None:
    rows = lake.read_delta(path)
    next(Path(path).rglob("*.parquet")).unlink()
    with pytest.raises(DataCorrupt):
        rows.to_arrow()
    with pytest.raises(WriteError):
        lake.add_delta("n.t", path)
    assert lake.tables() == []
    assert not list(Path(lake.session.catalog.folder or "").rglob("*.metadata.json"))


def test_an_empty_table_is_read_as_no_rows_and_has_nothing_to_take(lake: ib.Lake, tmp_path: Path) -> None:
    empty = str(tmp_path / "empty")
    DeltaTable.create(empty, pa.schema({"id": pa.int64()}))
    assert lake.read_delta(empty).to_arrow().num_rows == 0
    with pytest.raises(PlanError):
        lake.add_delta("n.t", empty)
    assert isinstance(lake.create("n.t", {"id": "long"}).plan.table, Table)  # type: ignore[attr-defined]  # a scan
