"""Estimates on Ray are those of one process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ray.util import placement_group_table

import iceblink as ib
from iceblink import _
from iceblink import causal as ci
from iceblink.causal.doubt.refute import Refuter
from iceblink.causal.experiments.metrics import Metric
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.models import Equals, Target, Task
from iceblink.causal.passes import Folds
from iceblink.causal.regression import projections
from iceblink.errors import ConfigError, FunctionError, PlanError
from iceblink.run.ray.session import Session

ROWS = 70_000
"""More than a block."""
Lakes = tuple[ib.Lake, ib.Lake]


@pytest.fixture(scope="module")
def lakes(ray_session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakes]:
    """The same tables in one process and on Ray, where all rows are exchanged, by hosts that serve all tests."""
    folder: Path = tmp_path_factory.mktemp("lake")
    engine = ib.RayEngine(small_bytes=0, split_bytes=400_000, broadcast_bytes=0, memory_bytes=2 << 30)
    with ib.connect(folder) as local, ib.connect(folder, engine=engine) as on_ray:
        properties = {"write.parquet.row-group-limit": "5000", "write.delete.mode": "merge-on-read"}
        local.write("n.people", people(), "create", properties=properties)
        local.write("n.panel", panel().slice(0, 700), "create")
        local.write("n.panel", panel().slice(700))
        yield local, on_ray


def people() -> pa.Table:
    """Draw rows of a study: a dose by z, an arm by lot, of which one has to do with x."""
    draw = np.random.default_rng(3)
    x, z, m = draw.normal(size=(3, ROWS))
    g, arm = draw.integers(0, 500, ROWS), draw.integers(0, 3, ROWS)
    dose = 0.5 * z + draw.normal(size=ROWS)
    y = 2 * dose + z + m + x + arm * (1 + x) + draw.normal(size=ROWS)
    bought = draw.uniform(size=ROWS) < 0.3 + 0.2 * (arm == 1) * (x > 0)
    return pa.table(
        {
            "id": np.arange(ROWS), "g": g, "k": g % 3, "x": x, "z": z, "dose": dose, "y": y, "bought": bought,
            "arm": np.array(["no", "pill", "shot"])[arm], "t": (arm == 1).astype(int), "effect": np.round(1 + x, 2),
        }
    )  # fmt: skip


def panel() -> pa.Table:
    """Draw 300 units in five periods, some treated from the third or fourth on, others never."""
    draw = np.random.default_rng(4)
    unit, time = np.repeat(np.arange(300), 5), np.tile(np.arange(2001, 2006), 300)
    first = draw.choice([2003, 2004, 0], 300)[unit]
    treated, x = (first > 0) & (time >= first), draw.normal(size=1_500)
    y = x + treated * (1 + x) + draw.normal(size=300)[unit] + 0.1 * time + draw.normal(size=1_500)
    place = np.array([f"Gegend {at}" for at in unit % 7])
    return pa.table({"y": y, "x": x, "treated": treated, "unit": unit, "time": time, "first": first, "place": place})


def close(left: ci.Estimates, right: ci.Estimates) -> None:
    assert (left.names, left.rows) == (right.names, right.rows)
    np.testing.assert_allclose(left.values, right.values, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(left.errors, right.errors, rtol=1e-10)


def test_regressions(lakes: Lakes) -> None:
    for model in (ci.OLS("y ~ dose + z + i(k)"), ci.LinearPLR("y", "dose", ["z"], key="id")):
        here, there = (model.fit(lake.table("n.people").filter(_.x < 1)) for lake in lakes)
        np.testing.assert_array_equal(here.values, there.values)
        np.testing.assert_array_equal(here.covariance, there.covariance)
        assert there.provenance == here.provenance
        assert here.provenance.sources[0].name == "n.people"
    here, there = (ci.OLS("y ~ dose", cluster="g").fit(lake.table("n.people")) for lake in lakes)
    np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-10)  # groups are added in another order


def test_moments_that_follow_a_table(lakes: Lakes) -> None:
    local, _on_ray = lakes
    local.write("n.changed", people().slice(0, 5_000), "create", properties={"write.delete.mode": "merge-on-read"})
    linear = ci.LinearPLR("y", "dose", ["z"], key="id")
    before = linear.moments(local.table("n.changed"))
    local.write("n.changed", people().slice(5_000, 1_000), "append")
    local.delete("n.changed", _.id == 4_000)
    here, there = (linear.moments(lake.table("n.changed"), saved=before) for lake in lakes)
    assert (there.rows, there.refreshes) == (5_999, 1)
    np.testing.assert_array_equal(there.moments.products, here.moments.products)


def test_saved_cells_that_follow_a_table(lakes: Lakes) -> None:
    local, _on_ray = lakes
    local.write("n.cells", people().slice(0, 5_000), "create", properties={"write.delete.mode": "merge-on-read"})
    metrics: list[Metric] = [ci.Mean("y", "x"), ci.Ratio("dose", "y"), ci.Conversion("bought")]
    test = ci.ABTest("arm", "no", metrics, segments="k")
    before = [test.cells(lake.table("n.cells")) for lake in lakes]
    local.write("n.cells", people().slice(5_000, 1_000), "append")
    local.delete("n.cells", _.id == 4_000)
    after = [test.cells(lake.table("n.cells"), saved=saved) for lake, saved in zip(lakes, before, strict=True)]
    for (here, there), rows in ((before, 5_000), (after, 5_999)):
        assert (there.rows, there.refreshes) == (here.rows, here.refreshes) == (rows, int(rows > 5_000))
    reports = [test.fit(lake.table("n.cells"), saved=one) for lake, one in zip(lakes, after, strict=True)]
    for one in test.fit(local.table("n.cells")).effects:
        for report in reports:
            same = report.effect(one.metric, one.arm, by=one.by, segment=one.segment)
            assert (same.difference, same.std_error) == pytest.approx((one.difference, one.std_error), rel=1e-9)
    assert reports[1].sample_ratio == reports[0].sample_ratio


def test_learners(lakes: Lakes) -> None:
    learner = ci.DRLearner("y", "arm", "x", key="id", folds=2, propensity={"pill": 1 / 3, "shot": 1 / 3})
    fitted = [learner.fit(lake.table("n.people")) for lake in lakes]
    here, there = (learnt.ate() for learnt in fitted)
    np.testing.assert_allclose(there.values, here.values, rtol=1e-13)
    np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-12)
    scored = [learnt.effect(lake.table("n.people"), error="se") for lake, learnt in zip(lakes, fitted, strict=True)]
    expected, effects = (
        one.sql('SELECT "effect[shot]", "se[pill]" FROM this ORDER BY id').to_arrow() for one in scored
    )
    for column in ("effect[shot]", "se[pill]"):
        np.testing.assert_allclose(effects[column].to_numpy(), expected[column].to_numpy(), rtol=1e-11)


def test_double_machine_learning_of_trees(lakes: Lakes) -> None:
    trees = ci.models.XGBoost(rounds=5, depth=2, threads=1)
    model = ci.PLR("y", "dose", ["z"], key="id", folds=2, outcome_model=trees)
    here, there = (model.fit(lake.table("n.people")) for lake in lakes)
    np.testing.assert_allclose(there.values, here.values, rtol=1e-12)
    np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-12)


def test_trees_of_several_classes(lakes: Lakes) -> None:
    trees = ci.models.XGBoost(rounds=4, depth=2, threads=1)
    learner = ci.DRLearner("y", "arm", ["x", "z"], key="id", folds=2, outcome_model=trees, propensity=trees)
    fitted = [learner.fit(lake.table("n.people").filter(_.id < 6_000)) for lake in lakes]
    close(*(learnt.ate() for learnt in fitted))


def test_workers_that_are_together_end_together(lakes: Lakes) -> None:
    class Fragile:
        """Of two the second dies, which Ray says later than that the first has failed for want of it."""

        def __init__(self, number: int) -> None:
            self.number = number

        def meet(self) -> None:
            if self.number == 0:
                raise ValueError("the other one does not answer")
            os.kill(os.getpid(), signal.SIGKILL)

    class Unmade:
        def __init__(self, number: int) -> None:
            raise ConfigError("something is not installed", "a test")

    engine = lakes[1].from_arrow(people().slice(0, 1)).session.engine
    with pytest.raises(FunctionError, match="is gone"), engine.gang("a test", 2, 1, Fragile) as gang:
        gang.ask_all("meet")
    with pytest.raises(ConfigError, match="not installed"):
        engine.gang("a test", 1, 1, Unmade)
    with pytest.raises(ConfigError, match="the cluster has room for 2"):
        engine.gang("a test", 3, 1, Fragile)
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}


@pytest.mark.usefixtures("ray_session")
def test_who_waits_for_workers_of_an_engine_that_is_closed_is_told(tmp_path: Path) -> None:
    class Busy:
        def __init__(self, number: int) -> None:
            pass

        def rest(self, seconds: float) -> None:
            threading.Event().wait(seconds)

    with ib.connect(tmp_path, engine=ib.RayEngine(memory_bytes="1GiB")) as lake:
        engine = lake.from_arrow(people().slice(0, 1)).session.engine
        with engine.gang("a test", 1, 1, Busy) as gang:
            closing = threading.Timer(0.5, engine.close)
            closing.start()
            with pytest.raises(PlanError, match="closed meanwhile"):
                gang.ask_all("rest", 30.0)
            with pytest.raises(PlanError, match="closed meanwhile"):
                gang.ask(0, "rest", 0.0)
            closing.join()
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}


def test_trees_that_workers_train_together(lakes: Lakes) -> None:
    few = "SELECT id, t, k, y, round(x, 1) AS x, round(z, 1) AS z FROM n.people WHERE id < 3000"  # each is a bin
    local, on_ray = (lake.sql(few) for lake in lakes)
    features = Matrix((Number("x"), Number("z")))
    targets = (Target("y", rows=Equals("t", 1)), Target("y"), Target("k", classes=("no", "one", "two")))
    task = Task(features, targets, Folds(("id",), 2), "a test")
    trees = ci.models.XGBoost(rounds=5, depth=2, threads=1)
    alone, together = trees.fit(local, task), replace(trees, workers=2).fit(on_ray, task)
    (batch,) = local.to_arrow().combine_chunks().to_batches()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.predict(batch), one.predict(batch), rtol=1e-5, atol=1e-5)
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}


def test_forests(lakes: Lakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.causal.forests.rows.KEPT_BYTES", 0)  # so that each level is read by the cluster
    monkeypatch.setattr("iceblink.causal.forests.growth.LEVEL_ROWS", 5_000)
    forest = ci.CausalForest("bought", "t", ["x", "k"], "id", trees=4, bag=2, depth=1)
    here, there = (forest.fit(lake.table("n.people").filter(_.id < 20_000)) for lake in lakes)
    for one, other in zip(here.trees, there.trees, strict=True):
        np.testing.assert_array_equal(one.goes_left, other.goes_left)
        np.testing.assert_array_equal(one.gain, other.gain)
    np.testing.assert_array_equal(np.concatenate(here.sums), np.concatenate(there.sums))


def test_judges_and_policies(lakes: Lakes) -> None:
    found = []
    for lake in lakes:
        rows = lake.table("n.people").filter(_.id < 10_000)
        judged = ci.DoublyRobust("id", 1 / 3).fit(ci.Problem(rows, "y", "t", "x")).scored()
        curve = ci.TOC("effect", "score", key="id").fit(judged)
        spending = ci.Budget("effect", 1_000, "id").fit(rows)
        found.append((str(spending), [*curve.areas.values, *curve.areas.errors]))
    assert found[1][0] == found[0][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-10)


@pytest.mark.parametrize("interactions", [None, "x"], ids=["a model for each arm", "one model"])
def test_observational_studies(lakes: Lakes, interactions: str | None) -> None:
    found = []
    for lake in lakes:
        problem = ci.Problem(
            lake.table("n.panel"), "y", "treated", "x + i(time)", cluster="unit", interactions=interactions
        )
        effects = ci.RegressionAdjustment().fit(problem)
        found.append(np.concatenate([effects.values, effects.errors]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)


@pytest.mark.parametrize("few", [64, 0], ids=["dummies", "conjugate gradients"])
def test_fixed_effects(lakes: Lakes, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(projections, "FEW_LEVELS", few)
    model = ci.FixedEffects("y ~ x + treated | unit + time", cluster="place")
    close(*(model.fit(lake.table("n.panel")) for lake in lakes))


def test_staggered_adoption(lakes: Lakes) -> None:
    model = ci.Staggered("y", "unit", "time", "first", cluster="place")
    here, there = (model.read(lake.table("n.panel")) for lake in lakes)
    close(here.two_stage(), there.two_stage())
    close(here.event_study(), there.event_study())
    here, there = (ci.Staggered("y", "unit", "time", "first").read(lake.table("n.panel")) for lake in lakes)
    close(here.group_time().aggregate("dynamic"), there.group_time().aggregate("dynamic"))


def test_synthetic_did(lakes: Lakes) -> None:
    model = ci.SyntheticDiD("y", "place", "time", "once", replications=5)
    once = "SELECT *, place = 'Gegend 0' AND time > 2003 AS once FROM n.panel"
    close(*(model.fit(lake.sql(once)) for lake in lakes))


def test_doubt(lakes: Lakes) -> None:
    asked: tuple[Refuter, ...] = ("placebo", "subset")
    here, there = (
        ci.refute(ci.OLS("y ~ dose + z"), lake.table("n.people"), asked, treatment="dose", key="id", draws=2)
        for lake in lakes
    )
    assert here.effects().equals(there.effects())
    plr = ci.LinearPLR("y", "dose", ["z"], key="id")
    one, other = (ci.sensitivity(plr, lake.table("n.people")).bounds(0.1, 0.1).interval for lake in lakes)
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_several_arms_clusters_and_repeats(lakes: Lakes) -> None:
    learner = ci.DRLearner("y", "arm", "x", key="id", cluster="g", folds=2, propensity=ci.models.Linear())
    plr = ci.LinearPLR("y", "dose", ["z"], key="id", folds=2, repeats=2)
    rows = [lake.table("n.people").filter(_.id < 4_000) for lake in lakes]
    here, there = (learner.fit(of) for of in rows)
    close(here.coefficients("pill"), there.coefficients("pill"))
    close(here.ate(), there.ate())
    close(*(plr.fit(of) for of in rows))
