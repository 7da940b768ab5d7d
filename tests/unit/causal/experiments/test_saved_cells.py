"""A report of saved cells that follow their table is that of all rows, whatever was done to the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink import causal as ci
from iceblink.causal.experiments.metrics import Metric
from iceblink.errors import ConfigError, PlanError, TypeMismatch

METRICS: list[Metric] = [
    ci.Mean("y"),
    ci.Mean("y", "x", name="cuped"),
    ci.Ratio("x", "z", name="ratio"),
    ci.Conversion("won"),
    ci.Mean("far"),
]
TEST = ci.ABTest("arm", 0, METRICS, segments=("new", "k"), strata="old", allocation={0: 1, 1: 1})
NUMBERS = ("control", "value", "difference", "std_error", "lower", "upper")


def drawn(seed: int, ids: Sequence[int]) -> pa.Table:
    draw = np.random.default_rng(seed)
    count = len(ids)
    x = draw.normal(size=count)
    k = draw.integers(0, 3, count)
    return pa.table(
        {
            "id": np.array(ids), "arm": draw.integers(0, 2, count), "old": draw.random(count) < 0.5,
            "k": [None if one == 2 else f"k{one}" for one in k], "new": draw.integers(0, 2, count),
            "x": x, "z": draw.uniform(1, 2, count).astype(np.float32), "y": x + draw.normal(size=count),
            "won": draw.integers(0, 2, count), "far": 1e6 + draw.normal(size=count),
        }
    )  # fmt: skip


@pytest.fixture
def lake(tmp_path: Any) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path) as lake:
        yield lake


def begin(lake: ib.Lake) -> None:
    """Make a table of 1,500 rows in three files."""
    lake.create("n.t", drawn(0, range(1)).schema)
    for first in range(0, 1500, 500):
        lake.write("n.t", drawn(first, range(first, first + 500)))


def same(found: ci.ABResult, expected: ci.ABResult) -> None:
    assert (found.rows, found.sample_ratio, found.left_out) == (
        expected.rows,
        expected.sample_ratio,
        expected.left_out,
    )
    mine, whole = ({(e.metric, e.by, e.segment): e for e in one.effects} for one in (found, expected))
    assert mine.keys() == whole.keys()
    for key, effect in whole.items():
        for name in NUMBERS:
            np.testing.assert_allclose(getattr(mine[key], name), getattr(effect, name), 1e-10, 1e-10, err_msg=str(key))


def test_a_refreshed_report_is_that_of_all_rows(lake: ib.Lake) -> None:
    begin(lake)
    saved = TEST.cells(lake.table("n.t"))
    lake.write("n.t", drawn(1, range(1500, 1600)).set_column(4, "new", pa.array([7] * 100)))
    lake.delete("n.t", (_.id >= 700) & (_.id < 760))
    saved = ci.SavedCells.from_arrow(TEST.cells(lake.table("n.t"), saved=saved).to_arrow())
    lake.update("n.t", {"y": _.y + 1, "far": _.far + 3}, where=_.id < 40)
    lake.write("n.t", drawn(2, [*range(30, 50), 1700]), "upsert", on="id")
    lake.compact("n.t", min_files=2)
    now = lake.table("n.t")
    refreshed = ci.SavedCells.from_arrow(TEST.cells(now, saved=saved).to_arrow())
    assert (saved.refreshes, refreshed.refreshes, refreshed.rows) == (1, 2, 1541)
    assert refreshed.snapshot_id == TEST.cells(now).snapshot_id
    assert TEST.cells(now, saved=refreshed) is refreshed
    same(TEST.fit(now, saved=refreshed), TEST.fit(now))


def test_filters_missing_values_and_segments_that_went(lake: ib.Lake) -> None:
    begin(lake)
    lake.update("n.t", {"y": None}, where=_.id % 7 == 0)
    test = ci.ABTest("arm", 0, [ci.Mean("y"), ci.Mean("twice")], segments="k", missing="drop")

    def seen() -> ib.Dataset:
        return lake.table("n.t").filter(_.x > -1).mutate(twice=_.x * 2)

    saved = test.cells(seen())
    lake.delete("n.t", (_.k == "k0") & (_.id < 1400))
    lake.delete("n.t", _.k == "k0")
    found = test.fit(seen(), saved=saved)
    assert {one.segment for one in found.effects if one.by} == {"k1", None}
    same(found, test.fit(seen()))


def test_all_rows_are_read_where_rounding_would_tell(lake: ib.Lake) -> None:
    begin(lake)
    test = ci.ABTest("arm", 0, [ci.Mean("y")])
    saved = test.cells(lake.table("n.t"))
    lake.write(
        "n.t", drawn(3, range(1500, 1600)).set_column(7, "y", pa.array(np.random.default_rng(3).normal(1e8, 1, 100)))
    )
    huge = test.cells(lake.table("n.t"), saved=saved)
    lake.delete("n.t", _.id >= 1500)
    now = test.cells(lake.table("n.t"), saved=huge)
    assert now.refreshes == 0
    same(test.fit(lake.table("n.t"), saved=huge), test.fit(lake.table("n.t")))


def test_an_empty_table_begins(lake: ib.Lake) -> None:
    lake.create("n.t", drawn(0, range(1)).schema)
    nothing = ci.SavedCells.from_arrow(TEST.cells(lake.table("n.t")).to_arrow())
    assert (nothing.rows, nothing.snapshot_id) == (0, None)
    assert repr(nothing).endswith("0 rows at snapshot None, refreshed 0 times")
    with pytest.raises(PlanError, match="no rows"):
        TEST.fit(lake.table("n.t"), saved=nothing)
    lake.write("n.t", drawn(0, range(300)))
    same(TEST.fit(lake.table("n.t"), saved=nothing), TEST.fit(lake.table("n.t")))


def test_keys_that_texts_do_not_tell_are_refused(lake: ib.Lake) -> None:
    table = pa.table({"arm": [0, 1], "y": [1.0, 2.0], "k": [b"\xff", None]})
    with pytest.raises(TypeMismatch, match="binary"):
        ci.ABTest("arm", 0, [ci.Mean("y")], segments="k").cells(lake.from_arrow(table))


@pytest.mark.parametrize(
    "given",
    [
        {"unit": "id"},
        {"cluster": "id"},
        {"metrics": [ci.Quantile("y")]},
        {"metrics": [ci.Mean("y", "x", method="lin")]},
    ],
)
def test_what_only_all_rows_can_tell_does_not_follow(lake: ib.Lake, given: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"arm": "arm", "control": 0, "metrics": [ci.Mean("y")]}
    test = ci.ABTest(**asked | given)
    with pytest.raises(ConfigError, match="only all rows"):
        test.cells(lake.from_arrow(drawn(0, range(9))))


def test_what_is_not_theirs_is_refused(lake: ib.Lake) -> None:
    begin(lake)
    lake.write("n.u", drawn(0, range(100)), "create")
    data = lake.table("n.t")
    saved = TEST.cells(data)
    for test, rows, said in [
        (TEST, lake.table("n.u"), "another table"),
        (TEST, data.filter(_.x > 0), "another statement"),
        (TEST, lake.from_arrow(drawn(0, range(9))), "one table"),
        (ci.ABTest("arm", 0, [ci.Mean("y")]), data, "of other metrics"),
        (ci.ABTest("arm", 0, METRICS, segments="new", strata="old"), data, "of other metrics"),
    ]:
        with pytest.raises(PlanError, match=said):
            test.fit(rows, saved=saved)
    with pytest.raises(PlanError, match="'subject' is missing"):
        ci.SavedCells.from_arrow(pa.table({"a": [1]}))
