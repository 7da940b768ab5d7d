"""Estimates on Ray are those of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink import causal as ci

ROWS = 150_000
PROPERTIES = {"write.parquet.row-group-limit": "20000", "write.delete.mode": "merge-on-read"}


@pytest.mark.usefixtures("ray_session")
def test_estimates_on_ray_are_those_of_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    z, g = draw.normal(size=ROWS), draw.integers(0, 500, ROWS)
    t = 0.5 * z + draw.normal(size=ROWS)
    y = 2 * t + z + draw.normal(size=ROWS)
    rows = pa.table({"id": np.arange(ROWS), "g": g, "k": g % 3, "t": t, "z": z, "y": y})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties=PROPERTIES)
        for model in (ci.OLS("y ~ t + z + i(k)"), ci.LinearPLR("y", "t", ["z"], key="id")):
            here, there = (model.fit(lake.table("n.t")) for lake in (local, on_ray))
            np.testing.assert_array_equal(here.values, there.values)
            np.testing.assert_array_equal(there.covariance, here.covariance)
        here, there = (ci.OLS("y ~ t", cluster="g").fit(lake.table("n.t")) for lake in (local, on_ray))
        np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-10)  # groups are added in another order
        linear = ci.LinearPLR("y", "t", ["z"], key="id")
        before = linear.moments(local.table("n.t"))
        local.write("n.t", rows.slice(0, 1_000), "append")
        local.delete("n.t", _.id == 140_000)
        refreshed, over_workers = (linear.moments(lake.table("n.t"), before) for lake in (local, on_ray))
        assert (over_workers.rows, over_workers.refreshes) == (150_999, 1)
        np.testing.assert_array_equal(over_workers.moments.products, refreshed.moments.products)


@pytest.mark.usefixtures("ray_session")
def test_effects_of_learners_on_ray_are_those_of_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    x, arm = draw.normal(size=ROWS), draw.integers(0, 3, ROWS)
    y = x + arm * (1 + x) + draw.normal(size=ROWS)
    rows = pa.table({"id": np.arange(ROWS), "arm": np.array(["no", "pill", "shot"])[arm], "x": x, "y": y})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    learner = ci.DRLearner("y", "arm", "x", key="id", folds=2, propensity={"pill": 1 / 3, "shot": 1 / 3})
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "50000"})
        here, there = (learner.fit(lake.table("n.t")) for lake in (local, on_ray))
        np.testing.assert_allclose(there.ate().values, here.ate().values, rtol=1e-13)
        np.testing.assert_allclose(there.ate().covariance, here.ate().covariance, rtol=1e-12)
        found = [learnt.effect(lake.table("n.t"), error="se") for lake, learnt in ((local, here), (on_ray, there))]
        expected, effects = (one.sql('SELECT id, "effect[shot]", "se[pill]" FROM this ORDER BY id') for one in found)
        for column in ("effect[shot]", "se[pill]"):
            np.testing.assert_allclose(
                effects.to_arrow()[column].to_numpy(), expected.to_arrow()[column].to_numpy(), rtol=1e-11
            )


@pytest.mark.usefixtures("ray_session")
def test_forests_on_ray_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.causal.forests.rows.KEPT_BYTES", 0)  # so that each level is read by the cluster
    monkeypatch.setattr("iceblink.causal.forests.growth.LEVEL_ROWS", 5_000)
    draw = np.random.default_rng(5)
    count = 20_000
    x, g, t = draw.normal(size=count), draw.integers(0, 9, count), draw.integers(0, 2, count)
    y = draw.uniform(size=count) < 0.3 + 0.2 * t * (x > 0)
    rows = pa.table({"id": np.arange(count), "x": x, "g": g, "t": t, "y": y})
    engine = ib.RayEngine(small_bytes=0, split_bytes=100_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "5000"})
        forest = ci.CausalForest("y", "t", ["x", "g"], "id", trees=4, bag=2, depth=1)
        here, there = (forest.fit(lake.table("n.t")) for lake in (local, on_ray))
    for one, other in zip(here.trees, there.trees, strict=True):
        np.testing.assert_array_equal(one.goes_left, other.goes_left)
        np.testing.assert_array_equal(one.gain, other.gain)
    np.testing.assert_array_equal(np.concatenate(here.sums), np.concatenate(there.sums))


@pytest.mark.usefixtures("ray_session")
def test_effects_are_judged_and_used_on_ray_as_in_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    x, t = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    y = x + t * (0.3 + 0.5 * x) + draw.normal(size=ROWS)
    rows = pa.table({"id": np.arange(ROWS), "t": t, "x": x, "y": y, "effect": np.round(x + draw.normal(size=ROWS), 2)})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    found = []
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        for lake in (local, on_ray):
            problem = ci.Problem(lake.table("n.t"), "y", "t", "x")
            judged = ci.DoublyRobust("id", 0.5).fit(problem).scored()
            curve = ci.TOC("effect", "score", key="id").fit(judged)
            spending = ci.Budget("effect", 1_000, "id").fit(lake.table("n.t"))
            found.append((str(spending), [*curve.areas.values, *curve.areas.errors]))
    assert found[1][0] == found[0][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-10)


@pytest.mark.usefixtures("ray_session")
def test_a_result_on_ray_comes_from_the_same_snapshot(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    x, t = draw.normal(size=3_000), draw.integers(0, 2, 3_000)
    rows = {"id": np.arange(3_000), "x": x, "t": t, "y": x + t + draw.normal(size=3_000)}
    engine = ib.RayEngine(small_bytes=0, split_bytes=20_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "1000"})
        here, there = (
            ci.LinearPLR("y", "t", ["x"], key="id", folds=2).fit(lake.table("n.t").filter(ib._.x < 1))
            for lake in (local, on_ray)
        )
    assert there.provenance == here.provenance
    assert here.provenance.sources[0].name == "n.t"
    assert there.summary().splitlines()[-1] == here.summary().splitlines()[-1]


@pytest.mark.usefixtures("ray_session")
def test_models_are_fitted_on_ray_as_in_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    count = 70_000  # more than a block
    x = draw.normal(size=count)
    d = 0.5 * x + draw.normal(size=count)
    rows = pa.table({"id": np.arange(count), "x": x, "d": d, "y": d + x**2 + draw.normal(size=count)})
    trees = ci.models.XGBoost(rounds=5, depth=2, threads=1)
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        model = ci.PLR("y", "d", ["x"], key="id", folds=2, outcome_model=trees)
        here, there = (model.fit(lake.table("n.t")) for lake in (local, on_ray))
        np.testing.assert_allclose(there.values, here.values, rtol=1e-12)
        np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-12)


@pytest.mark.usefixtures("ray_session")
def test_one_model_for_all_arms_and_clusters_of_units_on_ray(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    unit, time = np.repeat(np.arange(600), 5), np.tile(np.arange(1, 6), 600)
    first = draw.choice([3.0, 4.0, np.nan], 600)[unit]
    arm, x = (time >= first) * 1, draw.normal(size=3_000)
    y = arm * (1 + x) + x + draw.normal(size=3_000)
    rows = pa.table({"y": y, "arm": arm, "x": x, "unit": unit, "time": time, "first": first, "place": unit % 30})
    engine = ib.RayEngine(small_bytes=0, split_bytes=20_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "1000"})
        found = []
        for lake in (local, on_ray):
            data = lake.table("n.t")
            modelled = ci.RegressionAdjustment().fit(ci.Problem(data, "y", "arm", "x", interactions="x"))
            stages = ci.Staggered("y", "unit", "time", "first", cluster="place").read(data).two_stage()
            found.append(np.concatenate([modelled.values, modelled.errors, stages.values, stages.errors]))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-10)


@pytest.mark.usefixtures("ray_session")
def test_doubt_on_ray_is_that_of_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    x, m, t = draw.normal(size=(3, 70_000))
    rows = pa.table({"id": np.arange(len(x)), "x": x, "t": t + x, "m": m + t + x, "y": m + t + x})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        here, there = (
            ci.refute(ci.OLS("y ~ t + x"), lake.table("n.t"), ["placebo", "subset"], treatment="t", key="id", draws=2)
            for lake in (local, on_ray)
        )
        assert here.effects().equals(there.effects())
        bounds = [
            ci.sensitivity(ci.LinearPLR("y", "t", ["x"], key="id"), lake.table("n.t")).bounds(0.1, 0.1)
            for lake in (local, on_ray)
        ]
        np.testing.assert_allclose(bounds[0].interval, bounds[1].interval, rtol=1e-12)
