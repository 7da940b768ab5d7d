"""Parquet files become part of a table where they lie, if they fit it, all of them or none."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from pyarrow import orc

import iceblink as ib
from contract.hand_made import loaded
from iceblink import _
from iceblink.errors import CommitConflict, NullInRequired, PlanError, SchemaMismatch, WriteError
from iceblink.run.adoption import adopted, folder_values


def put(path: Path, data: dict[str, Any] | pa.Table, **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data if isinstance(data, pa.Table) else pa.table(data), path, **options)
    return str(path)


class Kms(encryption.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Keeps no secrets."""

    def __init__(self, _config: Any) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key: bytes, _master: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, wrapped: bytes, _master: str) -> bytes:
        return base64.b64decode(wrapped)


def put_secret(path: Path, plaintext_footer: bool) -> str:
    keys = {"column_keys": {"k": ["id"]}, "plaintext_footer": plaintext_footer}
    properties = encryption.CryptoFactory(Kms).file_encryption_properties(
        encryption.KmsConnectionConfig(), encryption.EncryptionConfiguration(footer_key="k", **keys)
    )
    data = pa.table({"id": [1]})
    with pq.ParquetWriter(path, data.schema, encryption_properties=properties) as writer:
        writer.write_table(data)
    return str(path)


def test_files_are_added_once_where_they_lie(lake: ib.Lake, tmp_path: Path) -> None:
    nested = pa.struct([pa.field("a", pa.int32()), pa.field("b", pa.large_string())])
    data = pa.table(
        {
            "id": pa.array([3, 1, 2], pa.int32()),
            "name ü": pa.array(["x", None, "z"]).dictionary_encode(),
            "at": pa.array([dt.datetime(2026, 1, day) for day in (1, 2, 3)], pa.timestamp("ms")),
            "list": pa.array([[1], [], None], pa.list_(pa.int64())),
            "in": pa.array([{"a": 1, "b": "c"}, None, {"a": None, "b": "d"}], nested),
        }
    )
    path = put(tmp_path / "in" / "a b%20#1.parquet", data, row_group_size=2)
    before = Path(path).read_bytes()
    types = {"id": "long not null", "name ü": "string", "at": "timestamp", "list": "list<long>"}
    lake.create("n.t", types | {"in": "struct<a: int, b: string>", "more": "double"})
    lake.write("n.t", {"id": [9]})
    table = lake.add_files("n.t", str(tmp_path / "in"))
    expected = [row | {"more": None} for row in data.to_pylist()]
    assert table.filter(_.id < 9).to_pylist() == expected
    assert "1 of 2," in table.filter(_.id < 9).explain()
    assert lake.history("n.t").count() == 2
    with pytest.raises(WriteError, match="already"):
        lake.add_files("n.t", path)
    with loaded(lake, "n.t").pyiceberg.update_schema() as update:
        update.rename_column("name ü", "other")
        update.rename_column("id", "number")
    renamed = lake.table("n.t").filter(_.number < 9).to_pylist()
    assert [(row["number"], row["other"]) for row in renamed] == [(row["id"], row["name ü"]) for row in expected]
    lake.drop("n.t")
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    ("by", "inside", "fits"),
    [
        ("day", True, True),
        ("day", False, True),
        ("month(day)", True, True),
        ("month(day)", False, False),
        ("bucket(4, day)", True, True),
        ("truncate(2, id)", True, True),
        ("truncate(1, id)", True, False),
        ("bucket(2, id)", True, False),
    ],
)
def test_partitions_are_told_by_statistics_or_by_folders(
    lake: ib.Lake, tmp_path: Path, by: str, inside: bool, fits: bool
) -> None:
    lake.create("n.t", {"id": "long", "day": "date"}, partition_by=[by])
    day = dt.date(2026, 1, 31)
    data = {"id": [10, 11]} | ({"day": [day, day]} if inside else {})
    path = put(tmp_path / "day=2026-01-31" / "f.parquet", data)
    if not fits:
        with pytest.raises(SchemaMismatch) as caught:
            lake.add_files("n.t", path)
        assert caught.value.where == path
        return
    table = lake.add_files("n.t", path)
    assert table.to_pylist() == [{"id": 10, "day": day}, {"id": 11, "day": day}]
    lake.write("n.t", {"id": [90], "day": [dt.date(2024, 5, 5)]})
    assert "1 of 2," in lake.table("n.t").filter(_.day == day, _.id < 50).explain()


def test_a_file_that_does_not_fit_refuses_all(lake: ib.Lake, tmp_path: Path) -> None:
    lake.create("n.t", {"id": "long not null", "at": "timestamp", "x": "int"})
    good = put(tmp_path / "good.parquet", {"id": [1]})
    now = dt.datetime(2026, 1, 1)
    odd: dict[str, tuple[Any, type[Exception]]] = {
        "another type": ({"id": ["a"]}, SchemaMismatch),
        "narrower": ({"id": [1], "x": pa.array([1], pa.int64())}, SchemaMismatch),
        "a column more": ({"id": [1], "y": [1]}, SchemaMismatch),
        "a column less": ({"x": pa.array([1], pa.int32())}, SchemaMismatch),
        "null": ({"id": [1, None]}, NullInRequired),
        "nanoseconds": ({"id": [1], "at": pa.array([now], pa.timestamp("ns"))}, SchemaMismatch),
        "no rows": ({"id": pa.array([], pa.int64())}, WriteError),
    }
    for name, (data, error) in odd.items():
        with pytest.raises(error):
            lake.add_files("n.t", [good, put(tmp_path / f"{name}.parquet", data)])
    for name, content in {"short": b"PAR1", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WriteError, match="cannot be added"):
            lake.add_files("n.t", [good, str(tmp_path / name)])
    for name, plain in (("secret.parquet", False), ("secret columns.parquet", True)):
        with pytest.raises(WriteError, match=r"encrypted.*cannot be added"):
            lake.add_files("n.t", [good, put_secret(tmp_path / name, plain)])
    with pytest.raises(PlanError, match="no file matches"):
        lake.add_files("n.t", str(tmp_path / "nothing*"))
    foreign = lake.write("n.other", {"x": [1], "id": [2]}, "create")
    (file,) = loaded(lake, "n.other").files()
    with pytest.raises(SchemaMismatch, match="another table"):
        lake.add_files("n.t", file.path)
    assert foreign.count() == 1
    assert lake.history("n.t").count() == 0
    assert Path(good).exists()


def test_two_who_add_a_file_at_once_add_it_once(lake: ib.Lake, tmp_path: Path) -> None:
    lake.create("n.t", {"id": "long"})
    path = put(tmp_path / "f.parquet", {"id": [1]})
    table = loaded(lake, "n.t")
    lake.add_files("n.t", path)
    with pytest.raises(WriteError, match="already"):
        adopted(loaded(lake, "n.t"), [path])
    with pytest.raises(CommitConflict, match="others added"):
        adopted(table, [path])
    assert lake.table("n.t").to_pylist() == [{"id": 1}]
    assert Path(path).exists()


def test_folders_are_columns_of_what_is_read(lake: ib.Lake, tmp_path: Path) -> None:
    for day, number in (("2026-01-30", 1), ("2026-01-31", 2)):
        put(tmp_path / "in" / f"day={day}" / "k=a%20b" / "f.parquet", {"id": [number]})
    put(tmp_path / "in" / "_tmp" / "day=x" / "f.parquet", {"id": [0]})
    for given in ("in", "in/day=*/*/*.parquet"):
        rows = lake.read_parquet(str(tmp_path / given)).order_by("id").to_pylist()
        assert rows == [
            {"id": 1, "day": dt.date(2026, 1, 30), "k": "a b"},
            {"id": 2, "day": dt.date(2026, 1, 31), "k": "a b"},
        ]
    assert lake.read_parquet(str(tmp_path / "in"), hive=False).columns == ["id"]
    assert lake.read_parquet(str(tmp_path / "in" / "day=2026-01-30" / "k=a%20b" / "f.parquet")).columns == ["id"]
    assert folder_values("/x/a=1/b=x%2Fy/c=__HIVE_DEFAULT_PARTITION__/f=g.parquet") == {"a": "1", "b": "x/y", "c": None}


def test_orc_is_read_in_batches_as_often_as_asked(lake: ib.Lake, tmp_path: Path) -> None:
    for number in range(2):
        orc.write_table(
            pa.table({"id": [number], "s": [None]}, pa.schema({"id": "int64", "s": "string"})),
            tmp_path / f"{number}.orc",
        )
    rows = lake.read_orc(str(tmp_path / "*.orc"))
    assert rows.filter(_.id > 0).to_pylist() == [{"id": 1, "s": None}]
    lake.write("n.t", rows, "create")
    assert lake.table("n.t").count() == 2
