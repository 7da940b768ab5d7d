"""Catalogs: names, what they hold, and errors that say how to go on."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import TableAlreadyExistsError as PyIcebergTableExists

from iceblink.errors import (
    CatalogError,
    ColumnNotFound,
    ConfigError,
    DataCorrupt,
    DuplicateColumn,
    IceblinkError,
    NamespaceNotFound,
    TableExists,
    TableNotFound,
    TypeMismatch,
)
from iceblink.lake.catalog import Catalog
from iceblink.types import to_schema


@pytest.mark.parametrize(
    "name", ["demo.t", "a.b.c.t", "my shop.täble \U0001f600", "x.50% off?#1", "UPPER.lower", "a_b.c_d"]
)
def test_any_name_works_and_comes_back(lake: Catalog, name: str) -> None:
    made = lake.create(name, {"id": "long not null"})
    assert made.name == name
    assert lake.tables() == [name]
    assert lake.exists(name)
    assert lake.load(name).uuid == made.uuid
    namespace = name.rpartition(".")[0]
    assert namespace in lake.namespaces()
    assert lake.tables(namespace) == [name]


@pytest.mark.parametrize("name", ["t", "", ".t", "a.", "a..t", "a/b.t", "a. "])
def test_a_name_that_is_none_is_refused(lake: Catalog, name: str) -> None:
    for ask in (lake.load, lake.exists, lake.drop, lambda given: lake.create(given, {"id": "long"})):
        with pytest.raises(CatalogError, match="is no name of a table") as caught:
            ask(name)
        assert "namespace.table" in caught.value.hint


def test_names_that_look_like_patterns_are_kept_apart(lake: Catalog) -> None:
    for name in ("a_b.t", "axb.t", "a%.t"):
        lake.create(name, {"id": "long"})
    assert lake.tables("a_b") == ["a_b.t"]
    assert lake.tables("a%") == ["a%.t"]
    assert lake.namespaces() == ["a%", "a_b", "axb"]


def test_what_was_made_is_what_was_asked(lake: Catalog) -> None:
    made = lake.create(
        "demo.t",
        {"id": "long not null", "ts": "timestamptz", "v": "tensor<float>[2,3]", "s": pa.int8()},
        partition_by=["day(ts)", "bucket(16, id)"],
        sort_by=["-id"],
        properties={"write.parquet.compression-codec": "zstd"},
    )
    for table in (made, lake.load("demo.t")):
        assert table.schema.equals(
            to_schema({"id": "long not null", "ts": "timestamptz", "v": "tensor<float>[2,3]", "s": "int"})
        )
        assert (table.partition_by, table.sort_by) == (("day(ts)", "bucket(16, id)"), ("id desc",))
        assert table.properties["write.parquet.compression-codec"] == "zstd"
        assert (table.snapshot_id, table.file_count, table.row_count) == (None, 0, 0)


ASKS: list[tuple[Callable[[Catalog], Any], type[IceblinkError], str]] = [
    (lambda c: c.load("demo.ordres"), TableNotFound, "'demo.orders'"),
    (lambda c: c.drop("demo.ordres"), TableNotFound, "'demo.orders'"),
    (lambda c: c.rename("demo.ordres", "demo.x"), TableNotFound, "'demo.orders'"),
    (lambda c: c.rename("demo.orders", "demo.items"), TableExists, "drop"),
    (lambda c: c.create("demo.orders", {"id": "long"}), TableExists, "append"),
    (lambda c: c.tables("dmeo"), NamespaceNotFound, "'demo'"),
    (lambda c: c.drop_namespace("dmeo"), NamespaceNotFound, "'demo'"),
    (lambda c: c.drop_namespace("demo"), CatalogError, "demo.orders"),
    (lambda c: c.create("demo.x", {"a": "lng"}), TypeMismatch, "'long'"),
    (lambda c: c.create("demo.x", {"a": pa.uint64()}), TypeMismatch, "decimal(20,0)"),
    (lambda c: c.create("demo.x", pa.schema([("a", pa.int8())] * 2)), DuplicateColumn, "rename"),
    (lambda c: c.create("demo.x", {"a": "long"}, partition_by=["day(b)"]), ColumnNotFound, "a"),
    (lambda c: c.create("demo.x", {"a": "long"}, sort_by=["b"]), ColumnNotFound, "a"),
    (lambda c: c.create("demo.x", {"a": "long"}, properties={"format-version": "4"}), ConfigError, "left out"),
]


@pytest.mark.parametrize(("ask", "error", "hint"), ASKS)
def test_what_cannot_be_done_says_how_to_go_on(
    lake: Catalog, ask: Callable[[Catalog], Any], error: type[IceblinkError], hint: str
) -> None:
    lake.create("demo.orders", {"id": "long"})
    lake.create("demo.items", {"id": "long"})
    with pytest.raises(error) as caught:
        ask(lake)
    assert hint in caught.value.hint
    assert lake.tables() == ["demo.items", "demo.orders"]


def test_a_table_moves_to_another_namespace_and_its_name_is_free(lake: Catalog) -> None:
    first = lake.create("demo.t", {"id": "long"})
    moved = lake.rename("demo.t", "else.where.u")
    assert moved.uuid == first.uuid
    second = lake.create("demo.t", {"name": "string"})
    assert second.location != moved.location
    lake.drop("demo.t")
    assert lake.load("else.where.u").schema.names == ["id"]


def test_dropping_removes_the_files_unless_asked_not_to(lake: Catalog) -> None:
    kept, gone = lake.create("demo.kept", {"id": "long"}), lake.create("demo.gone", {"id": "long"})
    assert Path(gone.location).is_dir()
    lake.drop("demo.gone")
    lake.drop("demo.kept", purge=False)
    assert lake.tables() == []
    assert not Path(gone.location).exists()
    assert Path(kept.location).is_dir()
    lake.drop_namespace("demo")
    assert lake.namespaces() == []


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text('{"format-ver')])
def test_a_damaged_metadata_file_is_named_with_the_one_before(lake: Catalog, damage: Callable[[Path], Any]) -> None:
    before = lake.create("demo.t", {"id": "long"}).pyiceberg
    with before.transaction() as transaction:
        transaction.set_properties(a="b")
    location = lake.load("demo.t").pyiceberg.metadata_location
    damage(Path(location))
    with pytest.raises(DataCorrupt, match=r"demo\.t") as caught:
        lake.load("demo.t")
    assert caught.value.where == location
    assert Path(caught.value.hint.partition("before it is ")[2]).exists()
    lake.drop("demo.t")  # even so
    assert lake.tables() == []
    assert not Path(location).exists()


def test_what_another_process_commits_is_seen_at_the_next_load(lake: Catalog) -> None:
    lake.create("demo.t", {"id": "long"})
    first, again = lake.load("demo.t"), lake.load("demo.t")
    assert again.pyiceberg.metadata is first.pyiceberg.metadata  # parsed once
    assert again.pyiceberg is not first.pyiceberg
    script = """
import sys
from iceblink.lake.catalog import Catalog
with Catalog.embedded(sys.argv[1]).load("demo.t").pyiceberg.transaction() as transaction:
    transaction.set_properties(color="blue")
"""
    subprocess.run([sys.executable, "-c", script, str(lake.folder)], check=True)
    assert lake.load("demo.t").properties["color"] == "blue"
    assert "color" not in first.properties


def test_what_is_done_with_a_loaded_table_stays_with_it(lake: Catalog) -> None:
    lake.create("demo.t", {"id": "long"}, properties={"color": "red"})
    first = lake.load("demo.t")
    dict.update(first.properties, color="blue")  # for reading only, but who knows
    with first.pyiceberg.transaction() as transaction:
        transaction.set_properties(color="green")
    assert first.properties["color"] == "green"
    assert first.refresh().properties["color"] == "green"
    before = first.pyiceberg.metadata.metadata_log[0].metadata_file
    assert first.catalog.load_from("demo.t", before, first.pyiceberg.io).properties == {"color": "red"}


def test_a_catalog_pickles_and_opens_where_it_is_needed(lake: Catalog) -> None:
    lake.create("demo.t", {"id": "long"})
    assert pickle.loads(pickle.dumps(lake)).tables() == ["demo.t"]


def test_a_folder_is_made_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Catalog.embedded("deep/er").create("demo.t", {"id": "long"})
    monkeypatch.chdir(tmp_path / "deep")
    assert Catalog.embedded("er").load("demo.t").location == str(tmp_path / "deep/er/demo/t")


def test_pyiceberg_sees_the_same_tables(tmp_path: Path) -> None:
    Catalog.embedded(tmp_path).create("demo.t", {"id": "long"})
    theirs = load_catalog("default", type="sql", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path))
    try:
        assert theirs.list_tables("demo") == [("demo", "t")]
        ours = Catalog.of(type="sql", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path))
        assert pickle.loads(pickle.dumps(ours)).load("demo.t").schema.names == ["id"]
        ours.drop("demo.t", purge=True)
        assert theirs.list_tables("demo") == []
        ours.pyiceberg.close()
    finally:
        theirs.close()


def test_a_folder_that_cannot_be_a_lake_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "catalog.db").write_text("not a database at all, but long enough to be looked at" * 50)
    for folder in ("file", "other"):
        with pytest.raises(CatalogError, match="cannot open the lake") as caught:
            Catalog.embedded(tmp_path / folder)
        assert str(tmp_path / folder) in caught.value.where


def test_a_catalog_that_is_not_configured_says_where_to() -> None:
    with pytest.raises(ConfigError) as caught:
        Catalog.configured("no such catalog")
    assert ".pyiceberg.yaml" in caught.value.hint


def test_many_may_open_a_new_folder_and_make_tables_at_once(tmp_path: Path) -> None:
    def make(number: int) -> None:
        Catalog.embedded(tmp_path / "lake").create(f"demo.t{number}", {"id": "long"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert Catalog.embedded(tmp_path / "lake").tables() == [f"demo.t{number}" for number in range(8)]


def test_readers_do_not_wait_for_a_writer(lake: Catalog, tmp_path: Path) -> None:
    lake.create("demo.t", {"id": "long"})
    assert lake.folder is not None
    writer = sqlite3.connect(f"{lake.folder}/catalog.db", isolation_level=None)
    try:
        writer.execute("BEGIN EXCLUSIVE")
        assert lake.load("demo.t").name == "demo.t"
    finally:
        writer.close()


def test_registering_puts_other_metadata_in_the_place_of_a_table_only_when_asked_to(lake: Catalog) -> None:
    first, second = (lake.create(name, {"id": "long"}).pyiceberg for name in ("demo.a", "demo.b"))
    with pytest.raises(PyIcebergTableExists):
        lake.pyiceberg.register_table("demo.a", second.metadata_location)
    lake.pyiceberg.register_table("demo.a", second.metadata_location, overwrite=True)
    assert lake.load("demo.a").uuid == str(second.metadata.table_uuid) != str(first.metadata.table_uuid)
    lake.pyiceberg.register_table("demo.c", first.metadata_location, overwrite=True)
    assert lake.load("demo.c").uuid == str(first.metadata.table_uuid)


@pytest.mark.parametrize("kind", ["embedded", "sql"])
def test_a_table_with_defaults_that_is_there_already_is_refused_like_any_other(tmp_path: Path, kind: str) -> None:
    where = {"uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}/house"}
    catalog = Catalog.embedded(tmp_path / "lake") if kind == "embedded" else Catalog.of(type="sql", **where)
    schema = pa.schema([pa.field("id", pa.int64(), metadata={"iceblink:write-default": "7"})])
    catalog.create("n.t", schema, properties={"format-version": "3"})
    with pytest.raises(TableExists):
        catalog.create("n.t", schema, properties={"format-version": "3"})
