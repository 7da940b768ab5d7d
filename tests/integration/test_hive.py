"""A Hive metastore, for real: names, locks, many at once, files, and servers that do not answer."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog

import iceblink as ib
from iceblink.errors import CatalogError, TableExists, WriteError
from iceblink.lake.commit import Commit
from iceblink.lake.write import TableWriter

pytestmark = pytest.mark.hive


@pytest.fixture
def lake(hive_uri: str, tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(uri=hive_uri, engine=ib.LocalEngine(spill_dir=str(tmp_path))) as opened:
        for name in opened.tables():  # what tests before left
            opened.drop(name)
        yield opened


def test_names_are_the_same_in_small_and_large_letters(lake: ib.Lake) -> None:
    lake.write("Shop.Orders", {"Id": [1]}, "create")
    assert lake.tables("shop") == ["shop.orders"]
    assert lake.table("SHOP.orders").to_pylist() == [{"Id": 1}]
    with pytest.raises(TableExists):
        lake.create("shop.ORDERS", {"id": "long"})


@pytest.mark.parametrize("name", ["shop.my orders", "shop.bestellungen_ü", "a.b.orders", "shöp.orders"])
def test_a_name_that_hive_does_not_take_is_refused_before_anything_is_written(
    lake: ib.Lake, hive_uri: str, name: str
) -> None:
    lake.write("shop.orders", {"id": [1]}, "create")
    (file,) = lake.session.catalog.load("shop.orders").files()
    before = sorted(Path(file.path.removeprefix("file:")).parents[2].rglob("*"))
    with pytest.raises(CatalogError):
        lake.create(name, {"id": "long"})
    with pytest.raises(CatalogError):
        lake.write(name, {"id": [1]}, "create")
    with pytest.raises(CatalogError):
        lake.rename("shop.orders", name)
    assert lake.table("shop.orders").count() == 1
    assert sorted(Path(file.path.removeprefix("file:")).parents[2].rglob("*")) == before
    assert before


def test_names_of_columns_and_all_types_come_back(lake: ib.Lake) -> None:
    words = {
        "a b ü": "long not null", "t": "timestamptz", "u": "uuid", "f": "fixed(3)", "d": "decimal(10,2)", "b": "binary",
        "s": "struct<x: int, z: list<string>>", "m": "map<string,double>", "when": "date", "v": "tensor<float>[2]",
    }  # fmt: skip
    made = lake.create("shop.types", words)
    assert lake.table("shop.types").schema == made.schema
    wide = {f"a_column_with_a_rather_long_name_{n}": "long" for n in range(300)}
    assert lake.create("shop.wide", wide).columns == list(wide)


def test_columns_change_as_far_as_hive_lets_them(lake: ib.Lake) -> None:
    lake.write("shop.orders", pa.table({"a": ["x"], "b": pa.array([1], pa.int32()), "c": [2.0]}), "create")
    for change in ("ADD COLUMN d date", "RENAME COLUMN a TO name", "ALTER COLUMN b TYPE bigint", "DROP COLUMN d"):
        lake.sql(f"ALTER TABLE shop.orders {change}")
    wanted = [{"name": "x", "b": 1, "c": 2.0}]
    assert lake.table("shop.orders").to_pylist() == wanted
    with pytest.raises(WriteError, match=r"disallow\.incompatible\.col\.type\.changes"):
        lake.sql("ALTER TABLE shop.orders DROP COLUMN name")  # then b would be where a string was
    with pytest.raises(WriteError, match=r"disallow\.incompatible\.col\.type\.changes"):
        lake.write("shop.orders", {"b": [1], "name": ["y"], "new": ["z"]}, "replace")
    assert lake.table("shop.orders").to_pylist() == wanted


def test_a_drop_with_purge_removes_the_files(lake: ib.Lake) -> None:
    lake.write("shop.purged", {"id": [1]}, "create")
    (file,) = lake.session.catalog.load("shop.purged").files()
    place = Path(file.path.removeprefix("file:"))
    assert place.exists()
    lake.session.catalog.drop("shop.purged", purge=True)
    assert [found for found in place.parents[1].rglob("*") if found.is_file()] == []


def test_many_threads_and_pickled_lakes_commit_every_row_once(lake: ib.Lake) -> None:
    lake.create("shop.crowd", {"id": "long"})
    elsewhere = pickle.loads(pickle.dumps(lake.session.catalog))

    def append(number: int) -> None:
        table = (elsewhere if number % 2 else lake.session.catalog).load("shop.crowd")
        with TableWriter(table, lake.session.engine.settings) as writer:
            writer.write(pa.record_batch({"id": [number]}).cast(table.schema))
            Commit(table).append(writer.finish()).run()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(append, range(12)))
    assert sorted(row["id"] for row in lake.table("shop.crowd").to_pylist()) == list(range(12))


def test_the_first_address_that_answers_is_taken(lake: ib.Lake, hive_uri: str) -> None:
    lake.write("shop.orders", {"id": [1]}, "create")
    with ib.connect(uri=f"thrift://127.0.0.1:1,{hive_uri}") as other:
        assert other.table("shop.orders").count() == 1
    with pytest.raises(CatalogError) as caught, ib.connect(uri="thrift://127.0.0.1:1") as nobody:
        nobody.tables()
    assert "127.0.0.1" in str(caught.value)


def test_what_others_keep_in_the_metastore_is_no_table_of_the_lake(lake: ib.Lake) -> None:
    lake.write("shop.orders", {"id": [1]}, "create")
    catalog: Any = load_catalog("other", **lake.session.catalog.properties)
    with catalog._client as client:
        table = client.get_table("shop", "orders")
        table.tableName, table.parameters = "of_hive", {"EXTERNAL": "TRUE"}
        client.create_table(table)
    try:
        assert lake.tables("shop") == ["shop.orders"]
        with pytest.raises(ib.IceblinkError):
            lake.table("shop.of_hive")
    finally:
        with catalog._client as client:
            client.drop_table("shop", "of_hive", False)


def test_who_waits_for_a_lock_gets_it_when_it_is_free(lake: ib.Lake) -> None:
    from hive_metastore.ttypes import UnlockRequest

    lake.write("shop.orders", {"id": [1]}, "create")
    catalog: Any = load_catalog("other", **lake.session.catalog.properties)
    with catalog._client as client:
        held = client.lock(catalog._create_lock_request("shop", "orders"))
        writer = threading.Thread(target=lambda: lake.write("shop.orders", {"id": [2]}))
        writer.start()
        writer.join(1.0)
        assert lake.table("shop.orders").count() == 1
        client.unlock(UnlockRequest(lockid=held.lockid))
        writer.join()
    assert lake.table("shop.orders").count() == 2
