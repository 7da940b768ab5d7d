"""Doubly robust scores, and what groups and regressions make of them, against NumPy and statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm
from scipy import stats

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.passes import Folds
from iceblink.errors import ConfigError, DuplicateColumn, PlanError, QueryError

ROWS = 600


def drawn() -> dict[str, Any]:
    draw = np.random.default_rng(4)
    x, z, arm = draw.normal(size=ROWS), draw.integers(0, 3, ROWS), draw.integers(0, 3, ROWS)
    y = 1_000 + x + z + (arm == 1) * (0.5 + x) + (arm == 2) * z + draw.normal(size=ROWS)
    chance = draw.uniform(0.3, 0.7, ROWS)
    return {
        "id": [f"unit {n}" for n in range(ROWS)],
        "x": x,
        "z": z,
        "city": np.array(["Oslo", "Århus", "Rome"])[z],
        "arm": np.array(["none", "call", "letter"])[arm],
        "t": (arm == 1).astype(int),
        "chance": chance,
        "y": y,
        "score": 0.5 + x + draw.normal(size=ROWS) * 2,
        "effect": 0.4 + 0.5 * x,
        "few": np.round(x).astype(int),
        "shop": draw.integers(0, 25, ROWS),
    }


@pytest.fixture(scope="module")
def data(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.table(drawn()))


def expected(rows: dict[str, Any], arm: Any, arms: int, chances: Any, columns: list[Any]) -> Any:
    """Return scores (arms - 1, n) by least squares, fold by fold."""
    fold = Folds(("id",), 3, 7).numbers(pa.RecordBatch.from_pydict({"id": rows["id"]}))
    design = np.column_stack([np.ones(ROWS), *columns])
    means = np.zeros((arms, ROWS))
    for k in range(3):
        for j in range(arms):
            some = (fold != k) & (arm == j)
            beta = np.linalg.lstsq(design[some], rows["y"][some], rcond=None)[0]
            means[j, fold == k] = design[fold == k] @ beta
    for j in range(arms):
        means[j] += (arm == j) * (rows["y"] - means[j]) / chances[j]
    return means[1:] - means[0]


@pytest.mark.parametrize("propensity", [0.25, "chance"])
def test_scores_of_an_experiment(data: ib.Dataset, propensity: Any) -> None:
    rows = drawn()
    problem = ci.Problem(data, "y", "t", "x + i(z)")
    found = ci.DoublyRobust("id", propensity, folds=3, seed=7).fit(problem).scored("gain").to_arrow()
    chance = rows["chance"] if propensity == "chance" else np.full(ROWS, 0.25)
    dummies = [rows["x"], rows["z"] == 1, rows["z"] == 2]
    (wanted,) = expected(rows, rows["t"], 2, [1 - chance, chance], dummies)
    assert found.column_names == [*rows, "gain"]
    np.testing.assert_allclose(found["gain"].to_numpy(), wanted, rtol=1e-8, atol=1e-8)


def test_scores_of_a_study_of_several_arms(data: ib.Dataset) -> None:
    rows = drawn()
    problem = ci.Problem(data, "y", "arm", "x", control="none")
    found = ci.DoublyRobust("id", folds=3, seed=7).fit(problem).scored().to_arrow()
    arm = np.array([["none", "call", "letter"].index(one) for one in rows["arm"]])
    design = sm.add_constant(rows["x"])
    chances = sm.MNLogit(arm, design).fit(disp=0).predict(design).T
    wanted = expected(rows, arm, 3, chances, [rows["x"]])
    for name, values in zip(("call", "letter"), wanted, strict=True):
        np.testing.assert_allclose(found[f"score[{name}]"].to_numpy(), values, rtol=1e-5, atol=1e-5)


def test_known_chances_of_several_arms_are_named_by_value(data: ib.Dataset) -> None:
    rows = drawn()
    problem = ci.Problem(data, "y", "arm", "x", control="none")
    chances = {"letter": 0.5, "none": 0.3, "call": 0.2}
    found = ci.DoublyRobust("id", chances, folds=3, seed=7).fit(problem).scored().to_arrow()
    arm = np.array([["none", "call", "letter"].index(one) for one in rows["arm"]])
    wanted = expected(rows, arm, 3, [0.3, 0.2, 0.5], [rows["x"]])
    np.testing.assert_allclose(found["score[letter]"].to_numpy(), wanted[1], rtol=1e-8, atol=1e-8)
    with pytest.raises(ConfigError, match="no row has arm 'calls'"):
        ci.DoublyRobust("id", {"none": 0.5, "calls": 0.5}).fit(problem)
    with pytest.raises(ConfigError, match="3 arms"):
        ci.DoublyRobust("id", 0.5).fit(problem)


def test_scores_are_refused_where_they_cannot_be(data: ib.Dataset) -> None:
    problem = ci.Problem(data, "y", "t", "x")
    with pytest.raises(DuplicateColumn):
        ci.DoublyRobust("id", 0.3).fit(problem).scored("score")
    with pytest.raises(QueryError, match="with a chance of"):
        ci.DoublyRobust("id", "x").fit(problem).scored("new").to_arrow()
    lacking = data.sql("SELECT *, CASE WHEN id <> 'unit 7' THEN chance END AS p FROM this")
    with pytest.raises(QueryError, match="p is missing"):
        ci.DoublyRobust("id", "p").fit(ci.Problem(lacking, "y", "t", "x")).scored("new").to_arrow()
    with pytest.raises(PlanError, match="interactions"):
        ci.DoublyRobust("id", 0.3).fit(ci.Problem(data, "y", "t", "x", interactions=()))
    with pytest.raises(PlanError, match="weights"):
        ci.DoublyRobust("id", 0.3).fit(ci.Problem(data, "y", "t", "x", weight="chance"))
    few = ci.Problem(data.sql("SELECT * FROM this WHERE t = 0 OR id LIKE 'unit 1_'"), "y", "t", "x + i(z)")
    with pytest.raises(PlanError, match="too few for 3 coefficients"):
        ci.DoublyRobust("id", 0.3).fit(few)


def test_the_best_linear_predictor_is_a_regression_on_the_centred_prediction(data: ib.Dataset) -> None:
    rows = drawn()
    design = sm.add_constant(rows["effect"] - rows["effect"].mean())
    theirs = sm.OLS(rows["score"], design)
    for kind in ("HC1", "HC3"):
        ours = ci.BestLinearPredictor("effect", "score", errors=kind).fit(data)
        np.testing.assert_allclose(ours.values, theirs.fit().params, rtol=1e-10)
        np.testing.assert_allclose(ours.errors, theirs.fit(cov_type=kind).bse, rtol=1e-9)
    clustered = ci.BestLinearPredictor("effect", "score", cluster="city").fit(data)
    same = theirs.fit(cov_type="cluster", cov_kwds={"groups": rows["z"]})
    np.testing.assert_allclose(clustered.errors, same.bse, rtol=1e-8)
    assert ours.names == ("average effect", "heterogeneity")


def test_calibration_compares_groups_with_what_was_predicted(data: ib.Dataset) -> None:
    rows = drawn()
    found = ci.Calibration("effect", "score", groups=4).fit(data)
    group = np.searchsorted(np.sort(rows["effect"])[[149, 299, 449]], rows["effect"])
    total = 0.0
    for at in range(4):
        score, effect = rows["score"][group == at], rows["effect"][group == at]
        assert found.values[at] == pytest.approx(score.mean())
        assert found.errors[at] == pytest.approx(score.std(ddof=1) / np.sqrt(len(score)))
        assert found.predicted is not None
        assert found.predicted[at] == pytest.approx(effect.mean())
        total += stats.ttest_1samp(score - effect, 0).statistic ** 2
    assert found.counts.tolist() == [150] * 4
    assert found.facts["p calibrated"] == pytest.approx(stats.chi2.sf(total, 4))
    assert "predicted" in found.summary().split("\n")[1]


def test_equal_predictions_are_in_one_group(data: ib.Dataset) -> None:
    found = ci.Calibration("few", "score", groups=10).fit(data)
    values = np.array(drawn()["few"])
    assert found.counts.sum() == ROWS
    assert len(found.names) < 10
    ends = found.counts.cumsum()[:-1]
    assert (np.sort(values)[ends - 1] < np.sort(values)[ends]).all()


def test_groups_have_means_and_joint_intervals(data: ib.Dataset) -> None:
    rows = drawn()
    found = ci.GroupEffects(["city", "t"], "score").fit(data)
    for city in ("Oslo", "Rome", "Århus"):
        for t in (0, 1):
            score = rows["score"][(rows["city"] == city) & (rows["t"] == t)]
            assert found[f"city={city}, t={t}"] == pytest.approx(score.mean())
            assert found.error(f"city={city}, t={t}") == pytest.approx(score.std(ddof=1) / np.sqrt(len(score)))
    reach = stats.norm.ppf((1 + 0.95 ** (1 / 6)) / 2) * found.errors
    np.testing.assert_allclose(found.joint_interval()[:, 1], found.values + reach)
    apart = found.difference("city=Rome, t=0", "city=Oslo, t=1")
    assert apart.errors[0] == pytest.approx(np.hypot(found.error("city=Rome, t=0"), found.error("city=Oslo, t=1")))
    assert found.to_arrow()["rows"].to_pylist() == found.counts.tolist()


def test_equal_effects_are_told_by_cochrans_q(data: ib.Dataset) -> None:
    found = ci.GroupEffects("city", "score").fit(data)
    weights = 1 / found.errors**2
    q = (weights * (found.values - np.average(found.values, weights=weights)) ** 2).sum()
    assert found.equal == pytest.approx(stats.chi2.sf(q, 2))


def test_folds_are_those_of_keys_and_not_those_of_nuisances(data: ib.Dataset) -> None:
    found = ci.folded(data, "id", 2).to_arrow()
    again = ci.folded(data.order_by("y"), "id", 2).to_arrow()
    assert dict(zip(*(found[c].to_pylist() for c in ("id", "fold")), strict=True)) == dict(
        zip(*(again[c].to_pylist() for c in ("id", "fold")), strict=True)
    )
    fold = found["fold"].to_numpy()
    nuisance = Folds(("id",), 2).numbers(pa.RecordBatch.from_pydict({"id": drawn()["id"]}))
    assert 0.4 < (fold == nuisance).mean() < 0.6
    assert set(fold.tolist()) == {0, 1}
    with pytest.raises(DuplicateColumn):
        ci.folded(data, "id", column="x")


def test_chances_near_0_are_clipped(data: ib.Dataset) -> None:
    problem = ci.Problem(data, "y", "t", "x")
    rare, least, lower = (
        ci.DoublyRobust("id", chance, folds=3, clip=clip).fit(problem).scored("new").to_arrow()["new"].to_numpy()
        for chance, clip in ((1e-6, 0.01), (0.01, 0.01), (1e-6, 1e-7))
    )
    np.testing.assert_array_equal(rare, least)
    assert np.abs(lower).max() > 100 * np.abs(rare).max()


def test_a_notebook_shows_what_was_predicted(data: ib.Dataset) -> None:
    found = ci.Calibration("effect", "score", groups=4).fit(data)
    assert found.predicted is not None
    shown = found._repr_html_()
    for cell in ("predicted", f"{found.predicted[3]:.6g}"):
        assert f">{cell}</t" in shown
    assert "predicted" not in ci.GroupEffects("city", "score").fit(data)._repr_html_()


def test_a_cluster_is_called_by_its_column_even_if_that_is_score(data: ib.Dataset) -> None:
    named = ci.BestLinearPredictor("effect", "score", cluster="city").fit(data)
    assert named.convention == "CR1 by city (3)"
    renamed = data.rename(s="score", score="city", Heterogeneity="few")
    found = ci.BestLinearPredictor("effect", "s", cluster=["score"]).fit(renamed)
    np.testing.assert_allclose(found.errors, named.errors, 1e-12)  # clusters are added up in any order
    assert ci.BestLinearPredictor("effect", "s", cluster="Heterogeneity").fit(renamed).names == found.names


def test_a_segment_of_null_is_not_one_of_the_text_none(lake: ib.Lake) -> None:
    table = pa.table({"who": ["None", None] * 10, "score": np.arange(20.0)})
    assert set(ci.GroupEffects("who", "score").fit(lake.from_arrow(table)).names) == {"who=None", "who is null"}


def test_groups_that_cannot_be_told_apart_by_clusters_have_no_joint_test(lake: ib.Lake) -> None:
    draw = np.random.default_rng(0)
    u, v = draw.normal(size=(2, 30))
    scores = {"who": np.repeat([0, 1, 2], 30), "one": [0] * 90, "score": np.concatenate([u, v, (u + v) / 2])}
    data = lake.from_arrow(pa.table({**scores, "shop": np.tile(np.arange(30), 3)}))
    assert np.isnan(ci.GroupEffects("who", "score", cluster="shop").fit(data).equal)
    for cluster in (None, "shop"):
        assert np.isnan(ci.GroupEffects("one", "score", cluster=cluster).fit(data).equal)


def by_shop(rows: dict[str, Any], dummies: Any, of: str | None = None) -> Any:
    """Return statsmodels' regression of scores (less a column) on groups, with errors by shop."""
    outcome = rows["score"] - (0 if of is None else rows[of])
    return sm.OLS(outcome, dummies).fit(cov_type="cluster", cov_kwds={"groups": rows["shop"]}, use_t=True)


def test_groups_of_clusters_have_the_errors_of_a_regression_on_groups(data: ib.Dataset) -> None:
    rows = drawn()
    dummies = (rows["z"][:, np.newaxis] == np.array([0, 2, 1])).astype(float)  # Oslo, Rome, Århus
    theirs, found = by_shop(rows, dummies), ci.GroupEffects("city", "score", cluster="shop").fit(data)
    assert found.convention == "CR1 by shop (25)"
    np.testing.assert_allclose(found.values, theirs.params, rtol=1e-10)
    np.testing.assert_allclose(found.covariance, theirs.cov_params(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.interval(), theirs.conf_int(), rtol=1e-9)
    alike = theirs.f_test([[1, -1, 0], [1, 0, -1]])
    assert found.equal == pytest.approx(float(alike.pvalue), rel=1e-8)
    apart = theirs.t_test([1, -1, 0])
    assert found.difference("city=Oslo", "city=Rome").p_values[0] == pytest.approx(float(apart.pvalue), rel=1e-8)


def test_a_calibration_of_clusters(data: ib.Dataset) -> None:
    rows = drawn()
    found = ci.Calibration("effect", "score", groups=4, cluster="shop").fit(data)
    part = np.searchsorted(np.sort(rows["effect"])[[149, 299, 449]], rows["effect"])
    dummies = (part[:, np.newaxis] == np.arange(4)).astype(float)
    np.testing.assert_allclose(found.errors, by_shop(rows, dummies).bse, rtol=1e-9)
    right = by_shop(rows, dummies, of="effect").f_test(np.eye(4))
    assert found.facts["p calibrated"] == pytest.approx(float(right.pvalue), rel=1e-8)
    few = ci.Calibration("effect", "score", groups=4, cluster="z").fit(data)
    assert np.isnan(few.facts["p calibrated"])  # of three clusters nothing can be said of four groups
    with pytest.raises(ConfigError, match="groups is 101"):
        ci.Calibration("effect", "score", groups=101, cluster="shop")
    with pytest.raises(PlanError, match="more than 100 segments of clusters"):
        ci.GroupEffects("id", "score", cluster="shop").fit(data)


def test_clusters_decide_folds_of_scores_and_parts_of_curves(data: ib.Dataset) -> None:
    of_problem, of_key = (
        ci.DoublyRobust(key, 0.3).fit(ci.Problem(data, "y", "t", "x", cluster=cluster)).scored("new").to_arrow()["new"]
        for key, cluster in (("id", "shop"), ("shop", None))
    )
    assert of_problem.equals(of_key)
    for asked, same in (
        (ci.TOC("effect", "score", "id", 5, cluster="shop"), ci.TOC("effect", "score", "shop", 5)),
        (ci.UpliftCurve("effect", "y", "t", "id", 5, cluster="shop"), ci.UpliftCurve("effect", "y", "t", "shop", 5)),
    ):
        np.testing.assert_array_equal(asked.fit(data).areas.errors, same.fit(data).areas.errors)
