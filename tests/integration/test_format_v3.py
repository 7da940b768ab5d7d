"""Tables of format version 3, as other engines make them: read whole, and refused where they have types of its own.

They are made here by hand, of PyIceberg's parts.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table as IcebergTable
from pyiceberg.typedef import Record
from pyroaring import BitMap64

import iceblink as ib
from contract.elsewhere import elsewhere
from iceblink import _
from iceblink.config import Settings
from iceblink.errors import ConfigError, DataCorrupt, WriteError
from iceblink.mapped import here
from iceblink.predicate import Compare
from iceblink.scan.plan import plan_scan

SNAPSHOT = 4242
NEW_COLUMNS: list[dict[str, Any]] = [
    {"id": 101, "name": "n", "type": "long", "initial-default": 7},
    {"id": 102, "name": "day", "type": "date", "initial-default": "2026-01-31"},
    {"id": 103, "name": "at", "type": "timestamp_ns", "initial-default": "2026-01-31T12:00:00.123456789"},
    {"id": 104, "name": "zoned", "type": "timestamptz_ns", "initial-default": "2026-01-31T12:00:00.000000001+00:00"},
    {"id": 105, "name": "price", "type": "decimal(9,2)", "initial-default": "1.25"},
    {"id": 106, "name": "none", "type": "timestamp_ns"},
    {"id": 107, "name": "shape", "type": "geometry"},
    {"id": 108, "name": "nothing", "type": "unknown"},
]


class ManifestWriterV3(ManifestWriterV2):
    """PyIceberg's writer of version 2 with the fields of version 3: row ids, and what places a deletion vector."""

    kind = ManifestContent.DATA

    def content(self) -> ManifestContent:
        return self.kind

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = self._with_partition(3)
        meta = {**self._meta, "content": "data" if self.kind == ManifestContent.DATA else "deletes"}
        return AvroOutputFile(self._output_file, schema, "manifest_entry", schema, {**meta, "format-version": "3"})


class DeleteManifestWriterV3(ManifestWriterV3):
    kind = ManifestContent.DELETES


def upgrade(lake: ib.Lake, name: str, deleted: list[int], columns: list[dict[str, Any]]) -> None:
    """Make a table of one file one of version 3: some rows deleted by a vector, some columns added with defaults."""
    table = lake.session.catalog.load(name).pyiceberg
    (manifest,) = table.current_snapshot().manifests(table.io)  # type: ignore[union-attr]
    (entry,) = manifest.fetch_manifest_entry(table.io)
    fields = {field.name: entry.data_file[place] for place, field in enumerate(DATA_FILE_TYPE[2].fields)}
    data = DataFile.from_args(3, **fields, first_row_id=0)
    manifests = [
        written(table, ManifestWriterV3, data),
        written(table, DeleteManifestWriterV3, vector(table, data.file_path, deleted)),
    ]
    path = f"{table.location()}/metadata/snap-{SNAPSHOT}-v3.avro"
    schema = MANIFEST_LIST_FILE_SCHEMAS[3]
    output = table.io.new_output(path)
    with AvroOutputFile[ManifestFile](output, schema, "manifest_file", schema, {"format-version": "3"}) as listing:
        listing.write_block([listed(one, 0 if one.content == ManifestContent.DATA else None) for one in manifests])
    commit(lake, name, table, path, columns)


def vector(table: IcebergTable, target: str, deleted: list[int]) -> DataFile:
    body = b"\xd1\xd3\x39\x64" + BitMap64(deleted).serialize()
    blob = len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    path = Path(table.location(), "data", "deletes.puffin")
    path.write_bytes(b"PFA1" + blob + b"PFA1")
    return DataFile.from_args(
        3,
        content=DataFileContent.POSITION_DELETES,
        file_path=str(path),
        file_format=FileFormat.PUFFIN,
        partition=Record(),
        record_count=len(deleted),
        file_size_in_bytes=path.stat().st_size,
        referenced_data_file=target,
        content_offset=4,
        content_size_in_bytes=len(blob),
    )


def written(table: IcebergTable, kind: type[ManifestWriterV3], file: DataFile) -> ManifestFile:
    output = table.io.new_output(f"{table.location()}/metadata/{kind.__name__}.avro")
    with kind(table.spec(), table.schema(), output, SNAPSHOT, "null") as writer:
        writer.add_entry(
            ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=SNAPSHOT, data_file=file)
        )
    return writer.to_manifest_file()


def listed(manifest: ManifestFile, first_row_id: int | None) -> ManifestFile:
    fields = {field.name: manifest[place] for place, field in enumerate(MANIFEST_LIST_FILE_SCHEMAS[2].fields)}
    fields |= {"sequence_number": 2, "min_sequence_number": 2, "first_row_id": first_row_id}
    return ManifestFile.from_args(3, **fields)


def commit(lake: ib.Lake, name: str, table: IcebergTable, manifest_list: str, columns: list[dict[str, Any]]) -> None:
    before = table.metadata_location
    metadata = json.loads(Path(before).read_text())
    rows = int(metadata["snapshots"][-1]["summary"]["total-records"])
    metadata |= {
        "format-version": 3,
        "next-row-id": rows,
        "last-sequence-number": 2,
        "current-snapshot-id": SNAPSHOT,
        "last-column-id": 108,
        "refs": {"main": {"snapshot-id": SNAPSHOT, "type": "branch"}},
    }
    metadata["schemas"][-1]["fields"] += [{"required": False, **column} for column in columns]
    metadata["snapshots"].append(
        {
            "snapshot-id": SNAPSHOT,
            "sequence-number": 2,
            "timestamp-ms": metadata["last-updated-ms"],
            "manifest-list": manifest_list,
            "summary": {"operation": "overwrite", "total-records": str(rows), "total-delete-files": "1"},
            "schema-id": metadata["schemas"][-1]["schema-id"],
            "first-row-id": 0,
            "added-rows": rows,
        }
    )
    after = f"{before.rpartition('/')[0]}/00009-v3.metadata.json"
    Path(after).write_text(json.dumps(metadata))
    folder = lake.session.catalog.folder
    with sqlite3.connect(f"{folder}/catalog.db") as catalog:
        catalog.execute("UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = ?", (after, name[2:]))
    catalog.close()


@pytest.fixture
def third(lake: ib.Lake) -> ib.Lake:
    """A table of version 3 with ten rows, three of which a deletion vector takes out."""
    lake.write("n.t", {"id": list(range(10)), "s": [f"s{number}" for number in range(10)]}, "create")
    upgrade(lake, "n.t", [0, 4, 9], NEW_COLUMNS)
    return lake


LEFT = [1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.to_arrow()["id"].to_pylist(),
        lambda t: t.sql("SELECT id FROM this ORDER BY id").to_arrow()["id"].to_pylist(),
        lambda t: t.filter(_.id >= 0, _.n == 7).select("id").to_arrow()["id"].to_pylist(),
        lambda t: t.map_batches(lambda batch: batch.select(["id"])).to_arrow()["id"].to_pylist(),
        lambda t: list(range(1, 4)) + list(range(5, 9)) if t.count() == len(LEFT) else None,
    ],
)
def test_a_deletion_vector_takes_out_its_rows(third: ib.Lake, read: Callable[[ib.Dataset], list[int]]) -> None:
    assert read(third.table("n.t")) == LEFT


def test_a_plan_has_the_vector_and_the_new_columns_wherever_it_is_made(third: ib.Lake) -> None:
    table = third.session.catalog.load("n.t")
    plans = [plan_scan(table, None, Compare("id", ">", 2), Settings(), mapped) for mapped in (here, elsewhere)]
    assert plans[0] == plans[1]
    assert [[delete.kind for delete in piece.deletes] for piece in plans[1].pieces] == [["vector"]]
    assert plans[1].schema.names == ["id", "s", *(column["name"] for column in NEW_COLUMNS)]


def test_columns_that_a_file_lacks_have_their_defaults(third: ib.Lake) -> None:
    found = third.table("n.t").limit(1).to_arrow()
    assert found.schema.field("at").type == pa.timestamp("ns")
    assert found.schema.field("zoned").type == pa.timestamp("ns", "UTC")
    assert found["n"].to_pylist() == [7]
    assert found["day"].to_pylist() == [datetime(2026, 1, 31, tzinfo=UTC).date()]
    noon = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()) * 10**9
    assert found["at"].cast(pa.int64()).to_pylist() == [noon + 123456789]
    assert found["zoned"].cast(pa.int64()).to_pylist() == [noon + 1]
    assert [str(value) for value in found["price"].to_pylist()] == ["1.25"]
    assert found["none"].to_pylist() == found["shape"].to_pylist() == found["nothing"].to_pylist() == [None]


def test_defaults_are_compared_as_values(third: ib.Lake) -> None:
    assert third.sql("SELECT id FROM n.t WHERE at > '2026-01-31 12:00:00.123456788'").count() == len(LEFT)
    assert third.sql("SELECT id FROM n.t WHERE at > '2026-01-31 12:00:00.123456789'").count() == 0
    assert third.table("n.t").filter(_.day > datetime(2026, 2, 1).date()).count() == 0


def test_history_and_metadata_tables_are_read(third: ib.Lake) -> None:
    assert third.history("n.t").to_arrow()["snapshot_id"].to_pylist()[-1] == SNAPSHOT
    assert third.table("n.t", snapshot=SNAPSHOT).count() == len(LEFT)
    kinds = {one["content"] for one in third.table("n.t.all_files").to_pylist()}
    assert kinds == {0, 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda lake: lake.write("n.t", {"id": [1]}),
        lambda lake: lake.write("n.t", {"id": [1]}, "overwrite"),
        lambda lake: lake.write("n.t", {"id": [1]}, "overwrite", where=_.id == 1),
        lambda lake: lake.write("n.t", {"id": [1]}, "upsert", on="id"),
        lambda lake: lake.write("n.t", {"id": [1]}, "replace"),
        lambda lake: lake.write("n.t", {"id": [1], "new": [1]}, evolve=True),
    ],
)
def test_a_write_is_refused_before_anything_is_done(
    third: ib.Lake, tmp_path: Path, change: Callable[[ib.Lake], object]
) -> None:
    before = {path for path in tmp_path.rglob("*") if "catalog.db" not in path.name}
    with pytest.raises(WriteError, match=r"geometry, which is read but not written(.|\n)*n\.t(.|\n)*hint"):
        change(third)
    assert {path for path in tmp_path.rglob("*") if "catalog.db" not in path.name} == before
    assert third.table("n.t").count() == len(LEFT)


@pytest.mark.parametrize("version", ["4", "0", "two", ""])
def test_a_version_that_cannot_be_written_is_refused(lake: ib.Lake, version: str) -> None:
    with pytest.raises(ConfigError, match="format version"):
        lake.create("n.t", {"id": "long"}, properties={"format-version": version})
    with pytest.raises(ConfigError, match="format version"):
        lake.write("n.t", {"id": [1]}, "create", properties={"format-version": version})
    assert lake.tables() == []


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_replacement_cannot_change_the_version(lake: ib.Lake, version: str) -> None:
    lake.write("n.t", {"id": [1]}, "create", properties={"format-version": "1"})
    with pytest.raises(ConfigError, match="format version"):
        lake.write("n.t", {"id": [2]}, "replace", properties={"format-version": version})
    lake.write("n.t", {"id": [1]}, "replace", properties={"format-version": "1"})  # which it has
    assert lake.table("n.t").to_pylist() == [{"id": 1}]


def test_a_type_that_nobody_here_knows_is_named(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    upgrade(lake, "n.t", [0], [{"id": 101, "name": "v", "type": "variant"}])
    with pytest.raises(DataCorrupt, match="variant"):
        lake.table("n.t")
