"""One data file: what is in it, what a commit learns of it, and what is left when it fails."""

from __future__ import annotations

import datetime as dt
import pickle
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import PrimitiveType

from iceblink.errors import ConfigError, WriteError
from iceblink.lake.catalog import Catalog
from iceblink.lake.files import FileKind, NewFile, ParquetFile
from iceblink.lake.table import Table


def make_table(
    folder: Path, schema: Any, properties: dict[str, str] | None = None, sort_by: tuple[str, ...] = ()
) -> Table:
    return Catalog.embedded(folder / "lake").create("demo.t", schema, sort_by=sort_by, properties=properties or {})


def data_file(table: Table, path: Path, is_sorted: bool = False) -> ParquetFile:
    iceberg = table.pyiceberg
    order = iceberg.sort_order() if is_sorted else UNSORTED_SORT_ORDER
    kind = FileKind(table.name, "token", table.storage, iceberg.schema(), iceberg.properties, 0, order)
    return ParquetFile(kind, str(path), ())


def write(table: Table, path: Path, *groups: dict[str, Any], is_sorted: bool = False) -> NewFile:
    file = data_file(table, path, is_sorted)
    for group in groups:
        file.write(pa.Table.from_pydict(group, schema=table.schema))
    return file.close()


def test_each_write_is_one_row_group_with_field_ids_and_page_checksums(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"id": "long not null", "tags": "list<string>"})
    path = tmp_path / "f.parquet"
    new = write(table, path, {"id": [1, 2], "tags": [["a"], None]}, {"id": [3], "tags": [[]]})
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 1]
        assert file.schema_arrow.field("id").metadata[b"PARQUET:field_id"] == b"1"
        assert file.schema_arrow.field("tags").type.value_field.metadata[b"PARQUET:field_id"] == b"3"
        assert not file.schema_arrow.field("id").nullable
        assert file.metadata.row_group(0).column(0).has_column_index
        assert file.read().to_pydict() == {"id": [1, 2, 3], "tags": [["a"], None, []]}
    assert new.file_bytes == path.stat().st_size
    assert new.rows == 3
    assert len(new.metrics["split_offsets"]) == 2


def test_a_changed_byte_in_a_page_is_found(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"x": "double"}, {"write.parquet.compression-codec": "uncompressed"})
    path = tmp_path / "f.parquet"
    write(table, path, {"x": [float(i) for i in range(1000)]})
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.read_table(path, page_checksum_verification=True)


def physical(value: Any) -> Any:
    """Return a value as Iceberg stores it."""
    match value:
        case uuid.UUID():
            return value.bytes
        case dt.datetime():
            return round(value.timestamp()) * 1_000_000
        case dt.date():
            return (value - dt.date(1970, 1, 1)).days
        case dt.time():
            return value.hour * 3_600_000_000
        case _:
            return value


def test_metrics_hold_counts_and_bounds_by_field_id(tmp_path: Path) -> None:
    types = {
        "i": "int",
        "s": "string",
        "d": "date",
        "ts": "timestamptz",
        "dec": "decimal(9,2)",
        "u": "uuid",
        "f": "double",
        "t": "time",
    }
    table = make_table(tmp_path, types)
    low: dict[str, Any] = {
        "i": -3,
        "s": "a",
        "d": dt.date(1960, 1, 1),
        "ts": dt.datetime(1960, 1, 1, tzinfo=dt.UTC),
        "dec": Decimal("-1.50"),
        "u": uuid.UUID(int=7),
        "f": -0.5,
        "t": dt.time(1),
    }
    high: dict[str, Any] = {
        "i": 9,
        "s": "zz",
        "d": dt.date(2030, 1, 1),
        "ts": dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
        "dec": Decimal("99.25"),
        "u": uuid.UUID(int=2**127),
        "f": 8.0,
        "t": dt.time(23),
    }
    rows = {name: [high[name], None, low[name]] for name in types}
    rows["u"] = [value and value.bytes for value in rows["u"]]
    new = write(table, tmp_path / "f.parquet", rows)
    schema = table.pyiceberg.schema()
    for field in schema.fields:
        assert isinstance(field.field_type, PrimitiveType)
        assert new.metrics["value_counts"][field.field_id] == 3
        assert new.metrics["null_value_counts"][field.field_id] == 1
        for bound, expected in (("lower_bounds", low), ("upper_bounds", high)):
            stored = from_bytes(field.field_type, new.metrics[bound][field.field_id])
            value = physical(expected[field.name])
            assert stored == value, (field.name, bound)


def test_a_tensor_is_stored_as_a_list_and_a_uuid_as_a_uuid(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"x": "tensor<float>[2,2]", "u": "uuid"})
    tensors = pa.FixedShapeTensorArray.from_storage(
        table.schema.field("x").type, pa.array([[1, 2, 3, 4], None], pa.list_(pa.float32(), 4))
    )
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16)))
    path = tmp_path / "f.parquet"
    file = data_file(table, path)
    file.write(pa.Table.from_arrays([tensors, uuids], schema=table.schema))
    file.close()
    stored = pq.ParquetFile(path)
    assert stored.schema_arrow.field("x").type == pa.list_(pa.field("element", pa.float32()))
    assert stored.schema.column(1).logical_type.type == "UUID"
    assert stored.read().column("x").to_pylist() == [[1, 2, 3, 4], None]


def test_a_column_and_all_inside_it_may_have_a_codec_of_their_own(tmp_path: Path) -> None:
    properties = {
        "write.parquet.compression-level": "3",
        "write.parquet.compression-codec.column.s": "lz4",
        "write.parquet.compression-codec.column.s.b": "uncompressed",
        "write.parquet.compression-codec.column.gone": "gzip",
    }
    table = make_table(tmp_path, {"id": "long", "s": "struct<a: long, b: list<int>>"}, properties)
    path = tmp_path / "f.parquet"
    write(table, path, {"id": [1], "s": [{"a": 1, "b": [2]}]})
    group = pq.read_metadata(path).row_group(0)
    assert [group.column(place).compression for place in range(3)] == ["ZSTD", "LZ4", "UNCOMPRESSED"]


def test_properties_choose_codec_pages_and_bloom_filters(tmp_path: Path) -> None:
    properties = {
        "write.parquet.compression-codec": "gzip",
        "write.parquet.compression-level": "2",
        "write.parquet.page-size-bytes": "1024",
        "write.parquet.bloom-filter-enabled.column.id": "true",
        "write.parquet.bloom-filter-fpp.column.id": "0.001",
        "write.parquet.bloom-filter-enabled.column.name": "false",
        "write.parquet.bloom-filter-enabled.column.dropped": "true",
    }
    table = make_table(tmp_path, {"id": "long", "name": "string"}, properties)
    path = tmp_path / "f.parquet"
    write(table, path, {"id": list(range(5000)), "name": ["x"] * 5000})
    group = pq.read_metadata(path).row_group(0)
    assert group.column(0).compression == "GZIP"
    assert group.column(0).to_dict()["bloom_filter_length"] > 5000  # ten bits a value and more
    assert group.column(1).to_dict()["bloom_filter_length"] is None


def test_columns_whose_values_repeat_have_dictionaries(tmp_path: Path) -> None:
    kinds = {
        "name": "string",
        "x": "double",
        "u": "uuid",
        "empty": "string",
        "v": "list<float>",
        "s": "struct<y: double>",
    }
    for count in (100, 20_000):
        table = make_table(tmp_path / str(count), kinds)
        rows = range(count)
        for repeats, repeated in ((1, False), (4, True)):
            columns: dict[str, Any] = {
                "name": [f"n{i // repeats}" for i in rows],
                "x": [i % (count // repeats) / 7 for i in rows],
                "u": [uuid.UUID(int=i // repeats).bytes for i in rows],
                "empty": [None for _ in rows],
                "v": [[float(i)] for i in rows],
                "s": [{"y": float(i)} for i in rows],
            }
            write(table, tmp_path / "f.parquet", columns)
            group = pq.read_metadata(tmp_path / "f.parquet").row_group(0)
            found = [group.column(i).has_dictionary_page for i in range(6)]
            assert found == [repeated, repeated, repeated, True, False, True]


@pytest.mark.parametrize(
    "properties",
    [
        {"write.parquet.compression-codec": "best"},
        {"write.parquet.compression-level": "high"},
        {"write.parquet.page-size-bytes": "0"},
        {"write.parquet.bloom-filter-enabled.column.flag": "true"},
        {"write.parquet.bloom-filter-enabled.column.id": "true", "write.parquet.bloom-filter-fpp.column.id": "2"},
    ],
)
def test_a_property_that_cannot_be_is_refused(tmp_path: Path, properties: dict[str, str]) -> None:
    table = make_table(tmp_path, {"id": "long", "flag": "boolean"}, properties)
    with pytest.raises(ConfigError):
        write(table, tmp_path / "f.parquet", {"id": [1], "flag": [True]})
    assert not (tmp_path / "f.parquet").exists()


def test_a_sorted_file_says_by_what(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"a": "struct<x: int, y: int>", "b": "long"}, sort_by=("b",))
    rows = {"a": [None, None], "b": [1, 2]}
    assert write(table, tmp_path / "u.parquet", rows).sort_order_id is None
    new = write(table, tmp_path / "s.parquet", rows, is_sorted=True)
    assert new.sort_order_id == table.pyiceberg.sort_order().order_id
    [column] = pq.read_metadata(tmp_path / "s.parquet").row_group(0).sorting_columns
    assert column.column_index == 2  # the third leaf


def test_a_finished_file_travels_between_processes(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"id": "long"})
    new = write(table, tmp_path / "f.parquet", {"id": [1, 2]})
    there: NewFile = pickle.loads(pickle.dumps(new))
    assert there == new
    assert there.data_file().record_count == 2
    assert there.data_file().spec_id == 0


def test_nothing_exists_before_the_first_row_group(tmp_path: Path) -> None:
    file = data_file(make_table(tmp_path, {"id": "long"}), tmp_path / "f.parquet")
    assert file.file_bytes == 0
    file.abort()
    assert not (tmp_path / "f.parquet").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    file = data_file(make_table(tmp_path, {"id": "long"}), tmp_path / "taken" / "f.parquet")
    with pytest.raises(WriteError, match=r"taken/f\.parquet"):
        file.write(pa.table({"id": [1]}))
    file.abort()
