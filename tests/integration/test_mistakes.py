"""Mistakes a person makes: each is told at once, where it was made, with what to do."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    AmbiguousColumn,
    BatchContractBroken,
    ColumnNotFound,
    ConfigError,
    DataCorrupt,
    DuplicateColumn,
    FunctionError,
    PlanError,
    QueryError,
    SchemaMismatch,
    SqlError,
    TableNotFound,
    TypeMismatch,
)


@pytest.fixture
def t(lake: ib.Lake) -> ib.Dataset:
    return lake.write(
        "shop.orders", {"id": [1, 2, 3], "price": [9.5, 4.0, None], "city": ["Oslo", "Rome", "x"]}, "create"
    )


MISTAKES: dict[str, tuple[Callable[[ib.Dataset], Any], type[ib.IceblinkError], str]] = {
    "a column that is not there": (lambda t: t.filter(_.prise > 3), ColumnNotFound, "did you mean 'price'"),
    "in select": (lambda t: t.select("id", "cty"), ColumnNotFound, "did you mean 'city'"),
    "in SQL": (lambda t: t.sql("SELECT prise FROM this"), ColumnNotFound, "did you mean 'price'"),
    "in order_by": (lambda t: t.order_by("-prise"), ColumnNotFound, "did you mean 'price'"),
    "in group_by": (lambda t: t.group_by("town").agg(n=_.count()), ColumnNotFound, "the columns are"),
    "text for a condition": (lambda t: t.filter("price > 3"), TypeMismatch, r"write _\.price > 3"),
    "no condition": (lambda t: t.filter(_.price + 1), TypeMismatch, "a filter needs booleans"),
    "types that cannot be added": (lambda t: t.mutate(x=_.id + _.city), TypeMismatch, r"id \(long\), city \(string\)"),
    "in SQL, types": (lambda t: t.sql("SELECT id + city FROM this"), TypeMismatch, "argument types"),
    "no aggregate": (lambda t: t.group_by("city").agg(p=_.price), TypeMismatch, "agg\\(\\) needs aggregates"),
    "two columns of one name": (lambda t: t.sql("SELECT id, id FROM this"), DuplicateColumn, "alias"),
    "a join of equal names": (lambda t: t.join(t, on="id"), DuplicateColumn, "rename or drop"),
    "an ambiguous column": (
        lambda t: t.sql("SELECT price FROM this a JOIN this b USING (id)"),
        AmbiguousColumn,
        "write 'a.price' or 'b.price'",
    ),
    "a key that is not there": (lambda t: t.join(t.select("id"), on="nr"), ColumnNotFound, "join"),
    "a union of other columns": (lambda t: t.union(t.select("id")), SchemaMismatch, "has no column 'city'"),
    "a union of other types": (
        lambda t: t.select("id").union(t.select(id=_.city)),
        TypeMismatch,
        "long here and string there",
    ),
    "a misspelt keyword": (lambda t: t.sql("SELECT id FORM this"), SqlError, "did you mean FROM"),
    "an open quote": (lambda t: t.sql("SELECT 'id FROM this"), SqlError, "quote"),
    "a table that is not there": (lambda t: t.sql("SELECT * FROM shop.order"), TableNotFound, "shop.orders"),
    "a function that is not there": (lambda t: t.sql("SELECT lenght(city) FROM this"), SqlError, "length"),
    "a cast that fails": (lambda t: t.cast(city="long").to_arrow(), QueryError, "TRY_CAST"),
    "a type that is not there": (lambda t: t.cast(city="strng"), TypeMismatch, "did you mean 'string'"),
    "a batch format that is not there": (
        lambda t: t.map_batches(len, batch_format="panda"),  # type: ignore[arg-type]
        ConfigError,
        "pandas",
    ),
    "a function that raises": (
        lambda t: t.map_batches(lambda batch: 1 // 0).to_arrow(),
        FunctionError,
        r"ZeroDivisionError.*\n  at    map_batches\(.*rows 0 to 2.*test_mistakes\.py:\d+",
    ),
    "a function that returns no batch": (lambda t: t.map_batches(len).to_arrow(), BatchContractBroken, "int"),
    "a function of another type than declared": (
        lambda t: t.map_batches(lambda batch: {"n": ["x"]}, schema={"n": "long"}).to_arrow(),
        BatchContractBroken,
        "expected long, got string",
    ),
    "a function that adds a column": (
        lambda t: t.map_batches(lambda batch: batch, schema={"id": "long", "price": "double"}).to_arrow(),
        BatchContractBroken,
        "'city' is not expected",
    ),
    "nulls for NumPy": (
        lambda t: t.map_batches(lambda batch: batch, batch_format="numpy").to_arrow(),
        TypeMismatch,
        r"column 'price' has 1 nulls.*\n  at    map_batches\(",
    ),
    "a class that cannot be called": (lambda t: t.map_batches(PlainClass), ConfigError, "__call__"),
    "no column at all": (lambda t: t.select(), PlanError, "name one"),
    "every column dropped": (lambda t: t.drop("id", "price", "city"), PlanError, "all columns"),
    "no condition at all": (lambda t: t.filter(), PlanError, "no condition"),
    "no key to order by": (lambda t: t.order_by(), PlanError, "no key"),
    "no aggregate at all": (lambda t: t.agg(), ConfigError, r"\.agg\(n=_\.count\(\)\)"),
    "a negative limit": (lambda t: t.limit(-1), ConfigError, "negative"),
}


class PlainClass:
    """Not a function."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(t: ib.Dataset, mistake: str) -> None:
    make, kind, told = MISTAKES[mistake]
    with pytest.raises(kind, match=f"(?s){told}") as caught:
        make(t)
    assert caught.value.code == kind.code


def test_a_stream_that_is_left_early_outlives_its_lake(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        batches = lake.sql("SELECT * FROM range(3000000)").to_batches()
        next(batches)
    batches.close()
    assert lake.sql("SELECT 1 AS a").to_pylist() == [{"a": 1}]  # and the lake opens again


def test_a_lake_that_is_closed_ends_what_it_streams(tmp_path: Path) -> None:
    lake = ib.connect(tmp_path)
    begun = threading.Event()

    def read() -> None:
        for batch in lake.sql("SELECT * FROM range(1000000000000)").to_batches():
            assert batch.num_rows
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        begun.wait()
        lake.close()
        with pytest.raises(PlanError, match="cancelled"):
            reading.result()


def test_a_stream_can_be_read_once(lake: ib.Lake) -> None:
    schema = pa.schema([("a", pa.int64())])
    stream = lake.from_arrow(pa.RecordBatchReader.from_batches(schema, iter([])))
    assert stream.to_pylist() == []
    with pytest.raises(PlanError, match="read already"):
        stream.to_pylist()


def test_ragged_csv_is_refused(lake: ib.Lake, tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(PlanError, match="same number of fields"):
        lake.read_csv(str(path))
    path.write_text("a,b\n1,NA\n3,4\n")
    assert lake.read_csv(str(path), null="NA").to_pylist() == [{"a": 1, "b": None}, {"a": 3, "b": 4}]


def test_a_file_that_is_no_parquet_is_named(lake: ib.Lake, tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"x" * 100)
    with pytest.raises(DataCorrupt, match=r"broken\.parquet"):
        lake.read_parquet(str(path))


@pytest.mark.parametrize("data", [{"x": 1}, [], [1, 2], 3, "text"])
def test_what_holds_no_rows_is_refused(lake: ib.Lake, data: object) -> None:
    with pytest.raises(TypeMismatch):
        lake.write("n.t", data, "create")
    assert lake.tables() == []


@pytest.mark.parametrize("word", ["timestamp_ns", "timestamptz_ns", "list<timestamp_ns>", "struct<at: timestamp_ns>"])
def test_nanoseconds_asked_for_are_refused_and_those_of_data_are_kept_or_refused(lake: ib.Lake, word: str) -> None:
    with pytest.raises(TypeMismatch, match="format version 3") as caught:
        lake.create("n.t", {"at": word})
    assert "microseconds" in caught.value.hint
    assert lake.tables() == []
    micro, nano = (pa.table({"at": pa.array([value], pa.timestamp("ns"))}) for value in (1000, 1001))
    assert lake.write("n.micro", micro, "create").to_pylist() == [{"at": dt.datetime(1970, 1, 1, 0, 0, 0, 1)}]
    with pytest.raises(SchemaMismatch, match="does not fit"):
        lake.write("n.nano", nano, "create")


def test_moments_with_a_zone_reach_the_metadata(lake: ib.Lake) -> None:
    days = [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in range(1, 11)]
    lake.write("n.t", {"at": days}, "create", partition_by=["day(at)"])
    limit = dt.datetime(2026, 1, 3, tzinfo=dt.UTC)
    for narrowed in (
        lake.table("n.t").filter(_.at < limit),
        lake.sql("SELECT * FROM n.t WHERE at < TIMESTAMPTZ '2026-01-03 00:00:00+00'"),
        lake.sql("SELECT * FROM n.t WHERE at < '2026-01-03'"),
    ):
        assert "files      2 of 10" in narrowed.explain()
        assert narrowed.count() == 2
