"""Moments that follow a table by its changes are those of all its rows, whatever was done to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink import causal as ci
from iceblink.causal.moments import Moments
from iceblink.causal.saved import _noise, _small
from iceblink.errors import PlanError, SnapshotNotFound

FORMATS: dict[str, dict[str, str]] = {
    "copy on write": {},
    "merge on read": {f"write.{what}.mode": "merge-on-read" for what in ("delete", "update", "merge")},
}
OLS = ci.OLS("y ~ t * x + i(k)", weight="w")
PLR = ci.LinearPLR("y", "t", ("x", "z z"), key="id")
IV = ci.TwoStage("y ~ x | t ~ `z z`", errors="classical")


def drawn(seed: int, ids: Sequence[int]) -> pa.Table:
    draw = np.random.default_rng(seed)
    count = len(ids)
    x, z = draw.normal(size=count), draw.normal(size=count)
    t = x + z + draw.normal(size=count)
    k = draw.integers(0, 3, count)
    return pa.table(
        {
            "id": np.array(ids), "k": [f"k{one}" for one in k], "w": draw.uniform(0.5, 2, count),
            "x": x, "z z": z, "t": t, "y": t + x + k + draw.normal(size=count),
        }
    )  # fmt: skip


@pytest.fixture
def lake(tmp_path: Any) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path) as lake:
        yield lake


def begin(lake: ib.Lake, properties: dict[str, str] | None = None) -> None:
    """Make a table of 500 rows in five files."""
    lake.create("n.t", drawn(0, range(1)).schema, properties=properties)
    for first in range(0, 500, 100):
        lake.write("n.t", drawn(first, range(first, first + 100)))


def same(found: ci.Estimates, expected: ci.Estimates, rtol: float = 1e-10) -> None:
    assert (found.names, found.rows, found.dropped) == (expected.names, expected.rows, expected.dropped)
    np.testing.assert_allclose(found.values, expected.values, rtol, rtol)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol)


def near(found: Moments, expected: Moments) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    sizes = np.sqrt(np.einsum("gii->gi", expected.products))
    deviations = sizes / np.sqrt(expected.weights)[:, np.newaxis]
    assert np.abs((found.means - expected.means) / deviations).max() < 1e-10
    assert np.abs((found.products - expected.products) / (sizes[:, :, np.newaxis] * sizes[:, np.newaxis])).max() < 1e-10


@pytest.mark.parametrize(("seed", "kind"), list(enumerate(FORMATS)))
def test_refreshed_moments_are_those_of_all_rows(lake: ib.Lake, kind: str, seed: int) -> None:
    begin(lake, FORMATS[kind])
    kept = {model: model.moments(lake.table("n.t")) for model in (OLS, PLR)}
    draw, followed = np.random.default_rng(seed), 0
    for step, done in enumerate(draw.permutation(["append", "delete", "update", "upsert"])):
        first, low = 500 + 100 * step, int(draw.integers(0, 400))
        match done:
            case "append":
                lake.write("n.t", drawn(step, range(first, first + 60)))
            case "delete":
                lake.delete("n.t", (_.id >= low) & (_.id < low + 30))
            case "update":
                lake.update("n.t", {"y": _.y + 1, "x": _.x * 1.5}, where=(_.id > low) & (_.id < low + 20))
            case "upsert":
                lake.write("n.t", drawn(step, [*range(low, low + 20), first]), "upsert", on="id")
        if step == 3:
            lake.compact("n.t", min_files=2)
        now = lake.table("n.t")
        for model, before in kept.items():
            kept[model] = ci.SavedMoments.from_arrow(model.moments(now, saved=before).to_arrow())
            assert kept[model].refreshes in (0, before.refreshes + 1)
            followed += kept[model].refreshes > 0
            near(kept[model].moments, model.moments(now).moments)
    assert followed >= 6  # of 8: a file of deletes may name many files, and all rows are read then
    same(OLS.fit(now, saved=kept[OLS]), OLS.fit(now))


def test_they_are_kept_in_the_lake_beside_what_they_are_of(lake: ib.Lake) -> None:
    lake.write("n.t", drawn(0, range(300)), "create")
    lake.write("audit.moments", OLS.moments(lake.table("n.t")).to_arrow(), "create")
    lake.write("n.t", drawn(1, range(300, 400)))
    before = ci.SavedMoments.from_arrow(lake.table("audit.moments").to_arrow())
    now = OLS.moments(lake.table("n.t"), saved=before)
    assert (before.rows, now.rows, now.refreshes) == (300, 400, 1)
    same(OLS.fit(lake.table("n.t"), saved=before), OLS.fit(lake.table("n.t")))
    with pytest.raises(PlanError, match="0 rows"):
        ci.SavedMoments.from_arrow(lake.table("audit.moments").filter(_.snapshot_id == 0).to_arrow())
    with pytest.raises(PlanError, match="'subject' is missing"):
        ci.SavedMoments.from_arrow(pa.table({"a": [1]}))


def test_filters_and_computed_columns_are_looked_through(lake: ib.Lake) -> None:
    begin(lake)

    def seen() -> ib.Dataset:
        return lake.table("n.t").filter(_.x > -1).mutate(s=_.x * _.x)

    model = ci.OLS("y ~ t + s + I(x ** 3)")
    before = model.moments(seen())
    lake.write("n.t", drawn(1, range(450, 550)), "upsert", on="id")
    assert model.moments(seen(), saved=before).refreshes == 1
    same(model.fit(seen(), saved=before), model.fit(seen()))


def test_just_what_changed_is_read(lake: ib.Lake) -> None:
    lake.write("n.t", drawn(0, range(300)), "create")
    old = next(iter(lake.table("n.t.files").to_pylist()))["file_path"].removeprefix("file://")
    before = IV.moments(lake.table("n.t"))
    lake.write("n.t", drawn(1, range(300, 400)))
    with open(old, "r+b") as file:
        file.truncate(10)
    assert IV.moments(lake.table("n.t"), saved=before).rows == 400
    assert IV.moments(lake.table("n.t", snapshot=before.snapshot_id), saved=before) is before


def test_all_rows_are_read_where_that_is_better(lake: ib.Lake) -> None:
    lake.write("n.t", drawn(0, range(300)), "create")
    before = OLS.moments(lake.table("n.t"))
    other = drawn(1, range(300, 310))
    lake.write("n.t", other.set_column(1, "k", [["new"] * 10]))  # a level that was not
    now = OLS.moments(lake.table("n.t"), saved=before)
    assert (now.refreshes, now.rows) == (0, 310)
    lake.delete("n.t", _.id >= 5)  # more went than are left
    assert PLR.moments(lake.table("n.t"), saved=PLR.moments(lake.table("n.t", snapshot=now.snapshot_id))).refreshes == 0


def test_rows_that_only_went_leave_categories_as_they_were(lake: ib.Lake) -> None:
    begin(lake, FORMATS["merge on read"])
    model = ci.OLS("y ~ t + i(k)")
    before = model.moments(lake.table("n.t"))
    lake.delete("n.t", _.id < 30)
    assert model.moments(lake.table("n.t"), saved=before).refreshes == 1


@pytest.mark.parametrize("gone", ["k0", "k2"])
def test_a_level_whose_last_row_went_is_compared_with_no_more(lake: ib.Lake, gone: str) -> None:
    levels = ["k0"] * 20 + ["k1"] * 180 + ["k2"] * 100
    lake.create("n.t", drawn(0, range(1)).schema, properties=FORMATS["merge on read"])
    lake.write("n.t", drawn(0, range(300)).set_column(1, "k", [levels]))
    model = ci.OLS("y ~ t + i(k)")
    before = model.moments(lake.table("n.t"))
    lake.delete("n.t", _.k == gone)
    now = model.moments(lake.table("n.t"), saved=before)
    if gone == "k0":
        assert now.refreshes == 0
    assert model.fit(lake.table("n.t"), saved=now).names == model.fit(lake.table("n.t")).names


def test_moments_are_taken_by_the_model_that_saved_them_alone(lake: ib.Lake) -> None:
    begin(lake)
    rows = lake.table("n.t")
    dropping = replace(PLR, missing="drop")
    before = dropping.moments(rows)
    with pytest.raises(PlanError, match="missing drop"):
        PLR.fit(rows, saved=before)
    same(dropping.fit(rows, saved=before), dropping.fit(rows))


@pytest.mark.parametrize("text", ["now()", "current_timestamp", "current_date", "random()", "uuid()", "localtimestamp"])
def test_a_statement_that_changes_by_itself_is_refused(lake: ib.Lake, text: str) -> None:
    begin(lake)
    rows = lake.table("n.t").sql(f"SELECT *, {text} AS other FROM this").filter(_.x > 0)
    with pytest.raises(PlanError, match="another value each time"):
        OLS.moments(rows)


def test_an_empty_table_begins(lake: ib.Lake) -> None:
    data = drawn(0, range(200))
    lake.create("n.t", data.schema)
    before = IV.moments(lake.table("n.t"))
    assert (before.rows, before.snapshot_id) == (0, None)
    lake.write("n.t", data)
    before = ci.SavedMoments.from_arrow(before.to_arrow())
    same(IV.fit(lake.table("n.t"), saved=before), IV.fit(lake.table("n.t")))
    lake.delete("n.t", _.id >= 0)
    with pytest.raises(PlanError, match="no rows"):
        IV.fit(lake.table("n.t"), saved=IV.moments(lake.table("n.t"), saved=before))


def test_what_is_not_theirs_is_refused(lake: ib.Lake) -> None:
    begin(lake)
    lake.write("n.u", drawn(0, range(300)), "create")
    data = lake.table("n.t")
    before = OLS.moments(data)
    for model, rows, what in (
        (ci.OLS("y ~ t", weight="w"), data, "of y, t, x"),
        (ci.OLS("y ~ t * x + i(k)"), data, "with weight w"),
        (OLS, lake.table("n.u"), "another table"),
        (OLS, data.filter(_.x > 0), "another statement"),
        (OLS, data.group_by("k").agg(y=_.y.mean()), "one table, row by row"),
        (OLS, lake.from_arrow(drawn(0, range(300))), "one table, row by row"),
    ):
        with pytest.raises(PlanError, match=what):
            model.moments(rows, saved=before)
    lake.write("n.t", drawn(1, range(500, 530)))
    again = OLS.moments(lake.table("n.t"))
    with pytest.raises(SnapshotNotFound):
        OLS.moments(data, saved=again)
    lake.rollback("n.t", snapshot=before.snapshot_id)
    with pytest.raises(PlanError, match="was not made from"):
        OLS.moments(lake.table("n.t"), saved=again)
    lake.write("n.t", drawn(1, range(500, 530)))
    lake.alter("n.t", rename={"x": "t", "t": "x"})
    with pytest.raises(PlanError, match="'t' is another one"):
        OLS.moments(lake.table("n.t"), saved=before)


def test_rounding_is_watched() -> None:
    draw = np.random.default_rng(0)
    few, many = draw.normal(size=(2, 10)), draw.normal(size=(2, 1000)) * [[1e6], [1.0]]
    left, went = (Moments.of(("a", "b"), one.copy()) for one in (few, many))
    both = left.merged(went)
    noise = _noise(both, went, both.removed(went))
    apart = np.abs(both.removed(went).products - left.products)[0]
    assert (np.diag(apart) <= noise).all()
    assert not _small(noise, both.removed(went))
    constant = Moments.of(("a",), np.full((1, 50), 0.1))
    assert _small(_noise(constant, constant.only(1), constant), constant)


def test_rows_that_lack_a_value_are_neither_added_nor_subtracted(lake: ib.Lake) -> None:
    draw = np.random.default_rng(2)
    size, ids = draw.normal(size=90), np.arange(90)
    y = pa.array(size + draw.normal(size=90), mask=ids % 4 == 0)
    rows = pa.table({"id": ids, "größe": size, "y": y})
    model = ci.OLS("y ~ größe", errors="classical", missing="drop")
    for first in (0, 30):
        lake.write("n.t", rows.slice(first, 30), "append" if first else "create")
    before = model.moments(lake.table("n.t"))
    lake.delete("n.t", _.id < 6)
    lake.write("n.t", rows.slice(60))
    now = model.moments(lake.table("n.t"), saved=before)
    assert (before.rows, now.refreshes, now.rows) == (45, 1, 63)
    near(now.moments, model.moments(lake.table("n.t")).moments)
