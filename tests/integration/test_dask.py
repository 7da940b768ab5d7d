"""Datasets become Dask's and come back: rows, deletes, divisions, and Dask's work on Ray."""

from __future__ import annotations

from typing import Any

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, SchemaMismatch, TypeMismatch
from integration.test_format_v3 import upgrade

ROWS = [{"k": k, "s": None if k % 3 == 0 else f"v{k % 7}", "f": k / 4} for k in range(400)]


@pytest.fixture
def t(lake: ib.Lake) -> ib.Dataset:
    table = lake.create("n.t", {"k": "long not null", "s": "string", "f": "double"}, sort_by=["k"])
    for first in range(0, 400, 100):
        table = lake.write("n.t", ROWS[first : first + 100])
    return table


def rows(frame: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa.Table.from_pandas(
        frame.compute(scheduler="sync"), preserve_index=False
    ).to_pylist()
    return found


def test_partitions_are_splits_and_columns_are_those_of_arrow(t: ib.Dataset) -> None:
    frame = t.to_dask(4)
    assert frame.npartitions == 4
    assert [str(dtype) for dtype in frame.dtypes] == ["int64[pyarrow]", "string[pyarrow]", "double[pyarrow]"]
    assert sorted(rows(frame), key=lambda row: row["k"]) == ROWS
    assert t.to_dask().npartitions == 1, "a small table is not divided"


def test_filters_and_columns_are_read_in_the_partitions(t: ib.Dataset) -> None:
    frame = t.filter(_.k >= 300).mutate(twice=_.k * 2).select("twice").to_dask(4)
    assert frame.npartitions == 1
    assert rows(frame) == [{"twice": 2 * k} for k in range(300, 400)]


def test_a_sample_is_the_same_rows_in_partitions(t: ib.Dataset) -> None:
    sampled = t.filter(_.k >= 100).sample(0.3, seed=1)
    assert rows(sampled.to_dask(4)) == sampled.to_pylist()


def test_deletes_apply(lake: ib.Lake) -> None:
    lake.write("n.v", {"k": range(6)}, "create")
    upgrade(lake, "n.v", deleted=[0, 4], columns=[])
    assert rows(lake.table("n.v").to_dask()) == [{"k": 1}, {"k": 2}, {"k": 3}, {"k": 5}]


def test_divisions_are_known_when_statistics_say_that_splits_follow_each_other(t: ib.Dataset, lake: ib.Lake) -> None:
    frame = t.to_dask(4, index="k")
    assert frame.divisions == (0, 100, 200, 300, 399)
    assert frame.loc[99:101].compute(scheduler="sync")["f"].tolist() == [24.75, 25.0, 25.25]
    assert not t.to_dask(4, index="s").known_divisions, "text bounds may be cut"
    lake.write("n.t", [{"k": 50, "s": "again", "f": 0.0}])
    assert not lake.table("n.t").to_dask(5, index="k").known_divisions
    with pytest.raises(ColumnNotFound):
        t.to_dask(index="kk")


def test_what_looks_at_several_rows_has_no_partitions(t: ib.Dataset) -> None:
    with pytest.raises(PlanError, match="write it to a table first"):
        t.group_by("s").agg(n=_.count()).to_dask()


def test_an_empty_table_is_an_empty_frame(lake: ib.Lake) -> None:
    frame = lake.create("n.e", {"a": "long", "v": "tensor<float>[2]"}).to_dask(index="a")
    assert len(frame) == 0
    assert list(frame.columns) == ["v"]
    assert lake.from_dask(frame).columns == ["a", "v"]


def test_a_dask_frame_is_written_in_one_commit(t: ib.Dataset, lake: ib.Lake) -> None:
    frame = t.to_dask(4, index="k")
    written = lake.from_dask(frame[["f"]] * 2).write("n.d", "create")
    assert written.to_pylist() == [{"k": row["k"], "f": row["f"] * 2} for row in ROWS]  # type: ignore[operator]
    assert lake.history("n.d").count() == 1


def test_plain_pandas_columns_find_their_type_and_keep_it(lake: ib.Lake) -> None:
    parts = [pd.DataFrame({"o": ["a", None]}), pd.DataFrame({"o": [1, 2]})]
    same = dd.from_map(lambda part: parts[0], [0, 1], meta=parts[0].iloc[:0])
    assert lake.from_dask(same).to_pylist() == [{"o": "a"}, {"o": None}] * 2
    differing = dd.from_map(lambda part: parts[part], [1, 0], meta=parts[1].iloc[:0], enforce_metadata=False)
    with pytest.raises(SchemaMismatch, match="partition 1 of the Dask data frame"):
        lake.from_dask(differing).write("n.m", "create")
    assert lake.tables() == []
    with pytest.raises(TypeMismatch, match=r"no dask\.dataframe"):
        lake.from_dask(pd.DataFrame({"a": [1]}))


@pytest.mark.usefixtures("ray_session")
def test_dask_works_on_ray(t: ib.Dataset, lake: ib.Lake) -> None:
    from ray.util.dask import ray_dask_get

    frame = t.to_dask(4)
    sums = frame.groupby("s").f.sum().compute(scheduler=ray_dask_get)
    assert sums.loc["v1"] == sum(row["f"] for row in ROWS if row["s"] == "v1")  # type: ignore[misc]


def test_without_dask_the_extra_is_named(t: ib.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dask.dataframe", None)
    with pytest.raises(ConfigError, match=r"iceblink\[dask\]"):
        t.to_dask()
