"""Datasets become Ray's and come back: rows, types, deletes, filters, and as many tasks as were asked for."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data
from pyiceberg import expressions
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions.parser import parse
from ray.data.expressions import col

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    ConfigError,
    DataCorrupt,
    FunctionError,
    PlanError,
    SchemaMismatch,
    TypeMismatch,
)
from iceblink.lake.row_filters import sql_of
from integration.test_format_v3 import upgrade

FILES, ROWS = 10, 100
EXPECTED: list[dict[str, Any]] = [
    {"k": k, "s": None if k % 3 == 0 else f"v{k % 7}", "x": k / 4, "day": dt.date(2026, 1, 1 + k // 100)}
    for k in range(FILES * ROWS)
]

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(autouse=True)
def quiet() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


@pytest.fixture
def t(lake: ib.Lake) -> ib.Dataset:
    table = lake.create("n.t", {"k": "long not null", "s": "string", "x": "double", "day": "date"})
    for first in range(0, len(EXPECTED), ROWS):
        table = lake.write("n.t", pa.Table.from_pylist(EXPECTED[first : first + ROWS], table.schema))
    return table


def rows(dataset: ray.data.Dataset) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dataset.take_all()
    return found


def test_ten_splits_are_read_by_the_two_tasks_asked_for(t: ib.Dataset) -> None:
    dataset = t.to_ray(tasks=2)
    assert sorted(rows(dataset), key=lambda row: row["k"]) == EXPECTED
    source = dataset._logical_plan.dag.datasource
    tasks = source.get_read_tasks(2)
    assert [task.metadata.num_rows for task in tasks] == [500, 500]
    assert len(source.get_read_tasks(200)) == FILES
    found = [sum(block.nbytes for block in task()) for task in tasks]
    assert [task.metadata.size_bytes for task in tasks] == pytest.approx(found, rel=0.1)
    assert all("pyiceberg" not in type(part).__module__ for part in vars(source).values())


def test_rows_are_counted_by_metadata_and_with_deletes_by_reading(t: ib.Dataset, lake: ib.Lake) -> None:
    assert t.to_ray().count() == 1000
    lake.write("n.v", {"k": range(6)}, "create")
    upgrade(lake, "n.v", deleted=[0, 4], columns=[])
    left = lake.table("n.v").to_ray()
    assert left.count() == 4
    assert rows(left) == [{"k": 1}, {"k": 2}, {"k": 3}, {"k": 5}]


def test_what_looks_at_one_row_at_a_time_is_computed_in_the_read_tasks(t: ib.Dataset) -> None:
    dataset = t.filter(_.k >= 950, _.s.notnull()).mutate(twice=_.k * 2).select("twice", "s").to_ray()
    assert dataset._logical_plan.dag.name == "ReadIceblink"
    expected = [{"twice": 2 * row["k"], "s": row["s"]} for row in EXPECTED if row["k"] >= 950 and row["s"]]
    assert sorted(rows(dataset), key=lambda row: row["twice"]) == expected
    assert dataset.count() == len(expected)
    assert rows(dataset.select_columns(["s"]).limit(2)) == [{"s": row["s"]} for row in expected[:2]]


def test_columns_and_filters_of_ray_reach_the_plan(t: ib.Dataset) -> None:
    dataset = t.to_ray().filter(expr=(col("k") >= 950) & col("s").is_not_null() & (col("x") * 2 > 480))
    dataset = dataset.select_columns(["s"])
    expected = [{"s": row["s"]} for row in EXPECTED if row["k"] >= 961 and row["s"]]
    assert rows(dataset) == expected
    assert dataset.count() == len(expected)
    source = t.to_ray()._logical_plan.dag.datasource
    pruned = source.apply_predicate((col("k") >= 950) | (col("k") == 5)).apply_projection({"s": "s"})
    assert len(pruned.get_read_tasks(10)) == 2, "row groups that hold no such row are not read"
    assert len(source.get_read_tasks(10)) == 10
    assert pruned.get_read_tasks(10)[0].schema.names == ["s"]


@pytest.mark.parametrize(
    "condition",
    [col("k") == 5.5, col("s") == "v1", col("k").is_in([1, 2, 999]), col("day") < dt.date(2026, 1, 3), ~(col("k") > 4)],
)
def test_a_filter_of_ray_means_what_ray_says(t: ib.Dataset, condition: object) -> None:
    read = pa.Table.from_batches(list(t.to_batches()))
    expected = read.filter(condition.to_pyarrow()).sort_by("k").to_pylist()  # type: ignore[attr-defined]
    assert sorted(rows(t.to_ray().filter(expr=condition)), key=lambda row: row["k"]) == expected


def test_an_empty_table_keeps_its_schema(lake: ib.Lake) -> None:
    empty = lake.create("n.e", {"a": "long", "v": "tensor<float>[2,3]"})
    dataset = empty.to_ray()
    assert (dataset.count(), dataset.schema().names) == (0, ["a", "v"])
    assert lake.from_ray(dataset).to_arrow().num_rows == 0
    assert empty.filter(_.a > 0).to_ray().schema().names == ["a", "v"]
    grouped = empty.group_by("a").agg(n=_.count()).to_ray()
    assert (grouped.count(), grouped.schema().names) == (0, ["a", "n"])


def test_tensors_and_nested_types_go_there_and_back(lake: ib.Lake) -> None:
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    data = pa.table({"v": images, "tags": [["a"], None], "at": pa.array([1, None], pa.timestamp("us", "UTC"))})
    written = lake.write("n.v", data, "create")
    back = lake.from_ray(written.to_ray())
    assert back.schema.types == written.schema.types
    assert back.to_pylist() == written.to_pylist()


def test_what_looks_at_several_rows_is_run_by_the_engine(t: ib.Dataset) -> None:
    dataset = t.group_by("s").agg(n=_.count()).to_ray()
    expected: dict[object, int] = {}
    for row in EXPECTED:
        expected[row["s"]] = expected.get(row["s"], 0) + 1
    assert {row["s"]: row["n"] for row in rows(dataset)} == expected
    mapped = t.map_batches(lambda batch: batch.slice(0, 1), batch_size=100).to_ray()
    assert mapped.count() == 10


def test_a_ray_engine_gives_its_rows_to_ray(t: ib.Dataset, tmp_path: Path) -> None:
    with ib.connect(tmp_path / "my lake ü", engine=ib.RayEngine()) as lake:
        assert lake.table("n.t").to_ray().count() == 1000
        assert lake.sql("SELECT sum(k) AS n FROM n.t").to_ray().take_all() == [{"n": 499500}]


def test_trainers_share_the_splits(t: ib.Dataset) -> None:
    (shard,) = t.to_ray().streaming_split(1)
    assert sum(len(batch["k"]) for batch in shard.iter_batches()) == 1000


def test_damage_is_told_by_the_task_that_meets_it(t: ib.Dataset, lake: ib.Lake) -> None:
    dataset = t.to_ray()
    path = Path(lake.table("n.t.files").to_pylist()[0]["file_path"].removeprefix("file://"))
    content = bytearray(path.read_bytes())
    content[20:60] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=r"n\.t"):
        lake.from_ray(dataset).to_arrow()


def test_a_ray_dataset_is_written_in_one_commit(lake: ib.Lake) -> None:
    dataset = ray.data.range(1000).map_batches(lambda batch: {"id": batch["id"], "half": batch["id"] / 2})
    written = lake.from_ray(dataset).write("n.r", "create")
    assert (written.count(), lake.history("n.r").count()) == (1000, 1)
    assert written.sql("SELECT sum(half) AS half FROM this").to_pylist() == [{"half": 249750.0}]


def test_blocks_of_different_schemas_are_an_error_that_names_the_block(lake: ib.Lake) -> None:
    def mix(batch: pa.Table) -> pa.Table:
        return batch.cast(pa.schema({"id": pa.string()})) if batch["id"][0].as_py() else batch

    mixed = ray.data.range(2, override_num_blocks=2).map_batches(mix, batch_format="pyarrow")
    with pytest.raises(SchemaMismatch, match=r"block \d of the Ray dataset"):
        lake.from_ray(mixed).write("n.m", "create")
    assert lake.tables() == []
    known = ray.data.from_arrow([pa.table({"x": [1, 2]}), pa.table({"x": ["a"]})])
    with pytest.raises(SchemaMismatch, match="int64 vs string"):
        lake.from_ray(known)


def test_tensors_of_ray_are_tensors_and_objects_are_refused(lake: ib.Lake) -> None:
    vectors = ray.data.from_numpy(np.arange(12.0).reshape(4, 3))
    assert lake.from_ray(vectors).schema.field("data").type == pa.fixed_shape_tensor(pa.float64(), [3])
    assert lake.from_ray(vectors).to_pylist()[1]["data"] == [3.0, 4.0, 5.0]
    with pytest.raises(TypeMismatch, match="column 'o'"):
        lake.from_ray(ray.data.from_items([{"o": Path("a")}]))
    with pytest.raises(TypeMismatch, match=r"no ray\.data\.Dataset"):
        lake.from_ray([1, 2])


def test_what_fails_inside_ray_is_an_error_of_ours(lake: ib.Lake) -> None:
    def fail(batch: dict[str, object]) -> dict[str, object]:
        raise RuntimeError("no such luck")

    known = ray.data.range(10).map_batches(fail)
    with pytest.raises(FunctionError, match="no such luck"):
        lake.from_ray(known).to_arrow()


def test_read_iceberg_is_the_same_words(tmp_path: Path, session_lake: str) -> None:
    arguments: dict[str, Any] = {
        "catalog_kwargs": {"name": "c", "type": "sql", "uri": session_lake},
        "table_identifier": "n.t",
    }
    everything = ib.ray.read_iceberg(**arguments)
    assert everything.count() == 6
    some = ib.ray.read_iceberg(row_filter="a > 1 and s is not null", selected_fields=("s",), **arguments)
    with warnings.catch_warnings(action="ignore"):  # for there both arguments are old-fashioned
        theirs = ray.data.read_iceberg(row_filter=parse("a > 1 and s is not null"), selected_fields=("s",), **arguments)
        assert rows(some) == rows(theirs) == [{"s": "z"}, {"s": "z"}]
    first = SqlCatalog("c", uri=session_lake).load_table("n.t").history()[0].snapshot_id
    assert ib.ray.read_iceberg(snapshot_id=first, override_num_blocks=1, **arguments).count() == 3
    with pytest.raises(ConfigError, match="limit"):
        ib.ray.read_iceberg(scan_kwargs={"limit": 3}, **arguments)


@pytest.fixture
def session_lake(tmp_path: Path) -> str:
    uri = f"sqlite:///{tmp_path}/c.db"
    catalog = SqlCatalog("c", uri=uri, warehouse=str(tmp_path))
    catalog.create_namespace("n")
    data = pa.table({"a": [1, 2, 3], "s": ["x", None, "z"]})
    table = catalog.create_table("n.t", data.schema)
    table.append(data)
    table.append(data)
    catalog.close()
    return uri


def test_row_filters_become_sql() -> None:
    e: Any = expressions  # mypy sees pydantic's constructors there
    assert (
        sql_of(e.And(e.Not(e.EqualTo("s", "it's")), e.GreaterThan("a.b", 3)))
        == """(NOT ("s" = 'it''s') AND "a"."b" > 3)"""
    )
    assert sql_of(e.In("k", [2, 1])) == '"k" IN (1, 2)'
    assert sql_of(e.And(e.IsNull("a"), e.StartsWith("s", "x"))) == """("a" IS NULL AND starts_with("s", 'x'))"""
    assert sql_of("k >= 5") == '"k" >= 5'
    with pytest.raises(PlanError, match="cannot read the filter"):
        sql_of("k >=")
    with pytest.raises(TypeMismatch):
        sql_of(3)  # type: ignore[arg-type]
