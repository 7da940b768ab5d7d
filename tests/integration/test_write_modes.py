"""Every way to write, against a model in plain Python: the table holds what the model holds, after every step."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    ColumnNotFound,
    CommitConflict,
    ConfigError,
    NullInRequired,
    PlanError,
    SchemaMismatch,
    TableExists,
    TableNotFound,
    TypeMismatch,
    WriteError,
)
from iceblink.lake.metadata_tables import KINDS
from iceblink.lake.table import Table

SCHEMA = {"id": "long not null", "g": "string", "v": "double"}
ARROW = pa.schema([pa.field("id", pa.int64(), False), ("g", pa.string()), ("v", pa.float64())])
Row = tuple[int, str | None, float | None]

rows = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["a", "b", "c d", None]), st.none() | st.floats(-9, 9, width=16)),
    max_size=8,
)
steps = st.lists(
    st.tuples(st.sampled_from(["append", "overwrite", "where", "dynamic", "upsert", "replace"]), rows), max_size=5
)


def arrow(data: list[Row]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(ARROW.names, row, strict=True)) for row in data], ARROW)


def scanned(dataset: ib.Dataset) -> Table:
    return dataset.plan.table  # type: ignore[attr-defined,no-any-return]


def held(dataset: ib.Dataset) -> Counter[Row]:
    return Counter(tuple(row.values()) for row in dataset.to_pylist())


def unique(data: list[Row]) -> list[Row]:
    return list({row[0]: row for row in data}.values())


def model(state: Counter[Row], mode: str, data: list[Row]) -> Counter[Row]:
    if mode == "append":
        return state + Counter(data)
    if mode == "where":
        return Counter({row: n for row, n in state.items() if not row[0] >= 5}) + Counter(data)
    if mode == "dynamic":
        partitions = {row[1] for row in data}
        return Counter({row: n for row, n in state.items() if row[1] not in partitions}) + Counter(data)
    if mode == "upsert":
        keys = {row[0] for row in unique(data)}
        return Counter({row: n for row, n in state.items() if row[0] not in keys}) + Counter(unique(data))
    return Counter(data)


def write(lake: ib.Lake, mode: str, data: list[Row], **shape: Any) -> ib.Dataset:
    if mode == "where":
        return lake.write("n.t", arrow(data), "overwrite", where=_.id >= 5)
    if mode == "dynamic":
        return lake.write("n.t", arrow(data), "overwrite", partitions="dynamic")
    if mode == "upsert":
        return lake.write("n.t", arrow(unique(data)), "upsert", on="id")
    return lake.write("n.t", arrow(data), mode, **(shape if mode == "replace" else {}))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=steps,
    partition_by=st.sampled_from([["g"], ["bucket(3, g)", "g"]]),
    sort_by=st.sampled_from([[], ["-id"]]),
)
def test_the_table_holds_what_the_model_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, partition_by: list[str], sort_by: list[str]
) -> None:
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.create("n.t", SCHEMA, partition_by=partition_by, sort_by=sort_by)
        state: Counter[Row] = Counter()
        versions = []
        for mode, data in steps:
            state = model(state, mode, data)
            table = write(lake, mode, data, partition_by=partition_by, sort_by=sort_by)
            assert held(table) == state
            versions.append((table.plan.table.snapshot_id, state))  # type: ignore[attr-defined]
        for snapshot, expected in versions:
            if snapshot is not None:
                assert held(lake.table("n.t", snapshot=snapshot)) == expected


def test_overwriting_with_nothing_empties_the_table(lake: ib.Lake) -> None:
    lake.write("n.t", {"a": [1, 2]}, "create")
    assert lake.write("n.t", pa.table({"a": pa.array([], pa.int64())}), "overwrite").count() == 0
    assert lake.table("n.t").to_pylist() == []


def test_evolve_adds_columns_and_widens_types_in_the_same_commit(lake: ib.Lake) -> None:
    lake.create("n.t", {"a": "int", "b": "string"})
    lake.write("n.t", pa.table({"a": pa.array([1], pa.int32()), "b": ["x"]}))
    before = lake.table("n.t.metadata_log_entries").count()
    grown = lake.write("n.t", {"a": [2**40], "b": ["y"], "c": [[1.5]]}, evolve=True)
    assert lake.table("n.t.metadata_log_entries").count() == before + 1
    assert grown.schema.field("a").type == pa.int64()
    assert grown.order_by("b").to_pylist() == [{"a": 1, "b": "x", "c": None}, {"a": 2**40, "b": "y", "c": [1.5]}]


def test_replace_puts_another_table_in_its_place_in_one_commit(lake: ib.Lake) -> None:
    shape = {"a": "long", "b": "string", "c": "double", "day": "date"}
    lake.create("n.t", shape, partition_by=["b", "day(day)"], sort_by=["a"], properties={"keep": "me"})
    old_rows = [{"a": n, "b": "xy"[n % 2], "c": n / 2, "day": dt.date(2026, 1, n + 1)} for n in range(4)]
    old = lake.write("n.t", old_rows)
    before, snapshot = lake.table("n.t.metadata_log_entries").count(), scanned(old).snapshot_id
    new_rows = [{"c": n / 4, "a": f"text {n}", "e": [n]} for n in range(6)]
    new = lake.write("n.t", new_rows, "replace", partition_by=["truncate(6, a)"], sort_by=["-c"])
    assert lake.table("n.t.metadata_log_entries").count() == before + 1
    for found in (new, lake.table("n.t")):
        assert sorted(found.to_pylist(), key=lambda row: row["c"]) == new_rows
        assert scanned(found).partition_by == ("truncate(6, a)",)
        assert scanned(found).sort_by == ("c desc",)
        assert scanned(found).properties["keep"] == "me"
        assert found.filter(_.a == "text 3", _.c > 0).to_pylist() == [new_rows[3]]
        assert (found.count(), scanned(found).row_count) == (6, 6)
    then = lake.table("n.t", snapshot=snapshot)
    assert then.schema.equals(old.schema)
    assert then.order_by("a").to_pylist() == old_rows
    assert then.filter(_.b == "x", _.a > 0).to_pylist() == [old_rows[2]]
    ids = {name: new.schema.field(name).metadata[b"PARQUET:field_id"] for name in new.schema.names}
    assert ids["c"] == old.schema.field("c").metadata[b"PARQUET:field_id"]  # the same name and type
    assert not {ids["a"], ids["e"]} & {item.metadata[b"PARQUET:field_id"] for item in old.schema}
    assert lake.table("n.t.history").count() == 2
    for kind in KINDS:
        assert lake.table(f"n.t.{kind}").count() >= (kind not in {"delete_files", "statistics"})


def test_a_replaced_table_is_written_to_like_any_other(lake: ib.Lake) -> None:
    lake.create("n.t", {"a": "long", "b": "string"}, partition_by=["b"])
    lake.write("n.t", {"a": [1, 2], "b": ["x", "y"]})
    lake.write("n.t", {"b": [1, 2, 3], "v": ["p", "q", "p"]}, "replace", partition_by=["b"])
    lake.write("n.t", {"b": [2], "v": ["z"]}, "overwrite", partitions="dynamic")
    lake.write("n.t", {"b": [3, 4], "v": ["u", "w"]}, "upsert", on="b")
    lake.write("n.t", {"b": [9], "v": ["gone"]}, "overwrite", where=_.b == 1)
    held_now = [{"b": 2, "v": "z"}, {"b": 3, "v": "u"}, {"b": 4, "v": "w"}, {"b": 9, "v": "gone"}]
    assert lake.table("n.t").order_by("b").to_pylist() == held_now
    lake.write("n.t", {"a": [1], "b": ["x"]}, "replace", partition_by=["b"])
    assert lake.table("n.t").to_pylist() == [{"a": 1, "b": "x"}]
    lake.write("n.t", pa.table({"a": pa.array([], pa.int64())}), "replace")
    assert (lake.table("n.t").to_pylist(), scanned(lake.table("n.t")).partition_by) == ([], ())


def test_a_failed_replace_leaves_the_old_table(lake: ib.Lake, tmp_path: Path) -> None:
    lake.write("n.t", {"a": [1]}, "create", sort_by=["a"])
    before = sorted(tmp_path.rglob("*.*"))

    def fails(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError("no")

    with pytest.raises(ib.IceblinkError):
        lake.from_arrow({"b": [1]}).map_batches(fails, schema={"b": "long"}).write("n.t", "replace")
    with pytest.raises(ColumnNotFound):
        lake.write("n.t", {"b": [1]}, "replace", partition_by=["a"])
    assert sorted(tmp_path.rglob("*.*")) == before
    assert lake.table("n.t").to_pylist() == [{"a": 1}]
    assert scanned(lake.table("n.t")).sort_by == ("a",)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ({"a": [3]}, {}),
        ({"a": [3]}, {"mode": "overwrite"}),
        ({"a": [1]}, {"mode": "upsert", "on": "a"}),
        ({"b": [3]}, {"mode": "replace"}),
    ],
)
def test_a_write_to_what_was_replaced_meanwhile_is_a_conflict(
    lake: ib.Lake, data: dict[str, Any], options: dict[str, Any]
) -> None:
    lake.write("n.t", {"a": [1, 2]}, "create")

    def others_replace(batch: pa.RecordBatch) -> pa.RecordBatch:
        lake.write("n.t", {"a": ["other"]}, "replace")
        return batch

    (name,) = data
    rows = lake.from_arrow(data).map_batches(others_replace, schema={name: "long"})
    with pytest.raises(CommitConflict):
        rows.write("n.t", **options)
    assert lake.table("n.t").to_pylist() == [{"a": "other"}]


def test_optional_columns_that_are_absent_become_null(lake: ib.Lake) -> None:
    lake.create("n.t", {"a": "long", "b": "string", "u": "uuid"})
    assert lake.write("n.t", {"a": [1]}).to_pylist() == [{"a": 1, "b": None, "u": None}]


def test_a_token_is_committed_once(lake: ib.Lake) -> None:
    lake.write("n.t", {"a": [1]}, "create")
    for _attempt in range(2):
        assert lake.write("n.t", {"a": [2]}, token="job-7").count() == 2
    assert sorted(row["a"] for row in lake.table("n.t").to_pylist()) == [1, 2]


def test_a_failed_create_leaves_no_table(lake: ib.Lake) -> None:
    def fails(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError("no")

    with pytest.raises(ib.IceblinkError):
        lake.from_arrow({"a": [1]}).map_batches(fails, schema={"a": "long"}).write("n.t", "create")
    assert lake.tables() == []


def test_a_failed_append_leaves_no_file(lake: ib.Lake, tmp_path: Path) -> None:
    lake.write("n.t", {"a": [1]}, "create")
    before = sorted(tmp_path.rglob("*.parquet"))

    def fails(row: dict[str, Any]) -> dict[str, Any]:
        return {"a": row["a"] // (row["a"] - 1000)}

    with pytest.raises(ib.IceblinkError, match="ZeroDivisionError"):
        lake.from_arrow({"a": list(range(2000))}).map(fails).write("n.t")
    assert sorted(tmp_path.rglob("*.parquet")) == before
    assert lake.table("n.t").count() == 1


def test_a_table_can_be_overwritten_by_a_query_over_itself(lake: ib.Lake) -> None:
    lake.write("n.t", {"a": [1, 2, 3]}, "create")
    assert lake.table("n.t").filter(_.a > 1).write("n.t", "overwrite").to_pylist() == [{"a": 2}, {"a": 3}]


def test_a_sorted_table_has_sorted_files_with_disjoint_ranges(lake: ib.Lake) -> None:
    sizes = {"write.target-file-size-bytes": "20000", "write.parquet.row-group-size-bytes": "80000"}
    lake.create("n.t", {"a": "long"}, sort_by=["-a"], properties=sizes)
    lake.write("n.t", {"a": [i * 7919 % 100_003 for i in range(100_003)]})
    assert lake.table("n.t.files").count() > 3
    assert [row["a"] for row in lake.table("n.t").to_pylist()] == sorted(range(100_003), reverse=True)


@pytest.mark.parametrize(
    ("mode", "data", "options", "error"),
    [
        ("append", {"id": [1], "g": ["x"], "w": [1.0]}, {}, SchemaMismatch),
        ("append", {"g": ["x"]}, {}, SchemaMismatch),
        ("append", {"id": ["1"]}, {}, SchemaMismatch),
        ("append", {"id": [1, None]}, {}, NullInRequired),
        ("append", {"id": [1.5]}, {}, SchemaMismatch),
        ("append", {"id": [1], "v": ["x"]}, {"evolve": True}, SchemaMismatch),
        ("create", {"id": [1]}, {}, TableExists),
        ("upsert", {"id": [1, 1]}, {"on": "id"}, WriteError),
        ("upsert", {"id": [1], "g": [None]}, {"on": ["id", "g"]}, NullInRequired),
        ("upsert", {"id": [1]}, {"on": "key"}, ColumnNotFound),
        ("upsert", {"id": [1]}, {}, ConfigError),
        ("append", {"id": [1]}, {"on": "id"}, ConfigError),
        ("appendd", {"id": [1]}, {}, ConfigError),
        ("overwrite", {"id": [1]}, {"where": _.nope > 1}, ColumnNotFound),
        ("overwrite", {"id": [1]}, {"where": _.id > _.id.mean()}, PlanError),
        ("overwrite", {"id": [1]}, {"where": "nope > 1"}, ColumnNotFound),
        ("upsert", {"id": ["one"]}, {"on": "id"}, TypeMismatch),
        ("append", {"id": [1]}, {"where": _.id > 1}, ConfigError),
        ("overwrite", {"id": [1]}, {"partitions": "dynamic"}, ConfigError),  # the table has no partitions
        ("append", {"id": [1]}, {"partition_by": ["id"]}, ConfigError),
    ],
)
def test_a_write_that_does_not_fit_is_refused_and_changes_nothing(
    lake: ib.Lake, mode: Any, data: dict[str, Any], options: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    lake.create("n.t", SCHEMA)
    lake.write("n.t", {"id": [0]})
    with pytest.raises(error):
        lake.write("n.t", data, mode, **options)
    assert lake.table("n.t").to_pylist() == [{"id": 0, "g": None, "v": None}]
    assert len(list(tmp_path.rglob("data/**/*.parquet"))) == 1


def test_writing_to_a_table_that_is_not_there_names_the_nearest(lake: ib.Lake) -> None:
    lake.write("shop.orders", {"a": [1]}, "create")
    with pytest.raises(TableNotFound, match=r"did you mean 'shop.orders'\?; mode='create' makes it"):
        lake.write("shop.order", {"a": [1]})


def test_overwriting_what_others_changed_meanwhile_is_a_conflict(lake: ib.Lake) -> None:
    lake.write("n.t", {"a": [1, 2]}, "create")

    def others_write(batch: pa.RecordBatch) -> pa.RecordBatch:
        lake.write("n.t", {"a": [3]})
        return batch

    with pytest.raises(CommitConflict):
        lake.from_arrow({"a": [9]}).map_batches(others_write, schema={"a": "long"}).write("n.t", "overwrite")
    assert sorted(row["a"] for row in lake.table("n.t").to_pylist()) == [1, 2, 3]


def test_what_replaces_a_damaged_table_does_not_fail_for_its_counts(lake: ib.Lake) -> None:
    insert, replace = "INSERT OVERWRITE n.t SELECT 5 AS id", "CREATE OR REPLACE TABLE n.t AS SELECT 5 AS id"
    for change in (insert, replace, "TRUNCATE TABLE n.t"):
        lake.create("n.t", {"id": "long"}, properties={"write.delete.mode": "merge-on-read"})
        lake.write("n.t", {"id": [1, 2, 3]})
        lake.delete("n.t", _.id == 2)
        (file,) = lake.session.catalog.load("n.t").files()
        (delete,) = file.deletes
        Path(delete.path).unlink()
        (told,) = lake.sql(change).to_pylist()
        assert (told["rows_deleted"], told["snapshot_id"]) == (None, lake.history("n.t").to_pylist()[-1]["snapshot_id"])
        assert [row["id"] for row in lake.table("n.t").to_pylist()] == ([] if change.startswith("TRUN") else [5])
        lake.drop("n.t")
