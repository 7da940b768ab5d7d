"""EconML's words give the numbers of the estimators that they are put on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import stats

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.arrays import Roles
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

ROWS = 400


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    draw = np.random.default_rng(4)
    x, w = draw.normal(size=(ROWS, 2)), draw.normal(size=(ROWS, 3))
    t = w[:, 0] + draw.normal(size=ROWS)
    return {"Y": (1 + x[:, 0]) * t + w @ [1.0, 2.0, 3.0] + draw.normal(size=ROWS), "T": t, "X": x, "W": w}


@pytest.fixture(scope="module")
def linear(drawn: dict[str, Any]) -> ci.OnArrays:
    return ci.OnArrays(ci.LinearDML).fit(**drawn)


def ols(names: Roles) -> ci.OLS:
    terms = " + ".join(f"`{name}`" for name in (names.treatment, *names.controls))
    return ci.OLS(f"`{names.outcome}` ~ {terms}")


def test_effects_of_rows_are_those_of_the_estimator(drawn: dict[str, Any], linear: ci.OnArrays) -> None:
    found, x = linear.result, drawn["X"][:5]
    assert linear.roles == Roles("y", "t", ("x0", "x1"), ("w0", "w1", "w2"), "row")
    expected = found["t"] + x @ [found["t:x0"], found["t:x1"]]
    np.testing.assert_allclose(linear.effect(x), expected, rtol=1e-12)
    np.testing.assert_allclose(linear.const_marginal_effect(x), expected, rtol=1e-12)
    np.testing.assert_allclose(linear.effect(x, T0=3, T1=1), -2 * expected, rtol=1e-12)
    assert linear.ate(x) == pytest.approx(expected.mean(), rel=1e-12)
    low, high = linear.effect_interval(x, alpha=0.1)
    beside = np.column_stack([np.ones(5), x])
    errors = np.sqrt(np.einsum("nk,kl,nl->n", beside, found.covariance, beside))
    np.testing.assert_allclose(high - low, 2 * stats.norm.ppf(0.95) * errors, rtol=1e-9)
    np.testing.assert_allclose((high + low) / 2, expected, rtol=1e-9)
    assert "data 400 rows in memory, folds 5" in linear.summary()


def test_econml_has_the_same_effects_and_intervals(drawn: dict[str, Any], linear: ci.OnArrays) -> None:
    # econml 0.17.0: LinearDML(model_y=LinearRegression(), model_t=LinearRegression(), cv=folds).fit(Y, T, X=X, W=W),
    # with the folds of Folds(("row",), 5, 0); then effect(X[:3]), effect_interval(X[:3], alpha=0.1), ate(X)
    x = drawn["X"]
    np.testing.assert_allclose(linear.effect(x[:3]), [0.27145359, 2.78467709, -0.73628633], rtol=1e-7)
    low, high = linear.effect_interval(x[:3], alpha=0.1)
    np.testing.assert_allclose(low, [0.11294767, 2.46094322, -1.01481856], rtol=1e-7)
    np.testing.assert_allclose(high, [0.4299595, 3.10841095, -0.4577541], rtol=1e-7)
    assert linear.ate(x) == pytest.approx(0.9630631431108749, rel=1e-12)


def test_settings_and_the_names_of_parameters_reach_the_estimator(drawn: dict[str, Any]) -> None:
    three = ci.OnArrays(ci.LinearDML, folds=3, seed=2).fit(**drawn)
    assert (three.result.provenance.folds, three.result.provenance.seed) == (3, 2)
    both = ci.OnArrays(ci.PLR).fit(**drawn).result
    alone = ci.OnArrays(lambda c, folds: ci.PLR(c.outcome, c.treatment, c.controls, c.key, folds=folds), folds=5)
    np.testing.assert_array_equal(alone.fit(**drawn).result.values, both.values)
    with pytest.raises(ConfigError, match="OLS has no parameter 'outcome'"):
        ci.OnArrays(ci.OLS).fit(**drawn)
    with pytest.raises(ConfigError, match="OfFeatures has no parameter 'confounders'"):
        ci.OnArrays(OfFeatures).fit(**drawn)
    assert ci.OnArrays(OfFeatures).fit(drawn["Y"], drawn["T"], drawn["X"]).effect(drawn["X"]).shape == (ROWS,)


@dataclass(frozen=True)
class OfFeatures:
    """An estimator whose columns are features, as those of learners are."""

    outcome: str
    treatment: str
    features: tuple[str, ...]

    def fit(self, data: ib.Dataset) -> ci.Estimates:
        return ci.OLS(f"{self.outcome} ~ {' + '.join((self.treatment, *self.features))}").fit(data)


def test_a_dataset_of_the_same_columns_gives_the_same_numbers(drawn: dict[str, Any], tmp_path: Any) -> None:
    rows = {"y": drawn["Y"], "t": drawn["T"], "id": np.arange(ROWS)}
    rows |= {f"w{at}": drawn["W"][:, at] for at in range(3)}
    names = [f"w{at}" for at in range(3)]
    arrays = {name: drawn[name] for name in ("Y", "T", "W")}
    with ib.connect(tmp_path) as lake:
        theirs = ci.PLR("y", "t", names, "id").fit(lake.from_arrow(rows))
        given = ci.OnArrays(ci.PLR, lake).fit(**arrays)
    alone = ci.OnArrays(ci.PLR).fit(**arrays)
    for ours in (given, alone):
        np.testing.assert_array_equal(ours.result.values, theirs.values)
        np.testing.assert_array_equal(ours.result.covariance, theirs.covariance)
    assert alone.effect() == theirs.values
    assert (alone.effect(np.zeros((7, 2))) == theirs["t"]).all()
    np.testing.assert_allclose(np.ravel(alone.effect_interval()), theirs.interval()[0], rtol=1e-12)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_keep_their_names(frame: Any, drawn: dict[str, Any]) -> None:
    x = frame({"größe": drawn["X"][:, 0], "x 2": drawn["X"][:, 1]})
    spent = frame({"spent $": drawn["Y"]})["spent $"]
    ours = ci.OnArrays(ols).fit(spent, frame({"coupon": drawn["T"]}), X=x, W=drawn["W"].tolist())
    assert ours.roles == Roles("spent $", "coupon", ("größe", "x 2"), ("w0", "w1", "w2"), "row")
    assert ours.result.names == ("(Intercept)", "coupon", "größe", "x 2", "w0", "w1", "w2")
    columns = np.column_stack([np.ones(ROWS), drawn["T"], drawn["X"], drawn["W"]])
    np.testing.assert_allclose(ours.result.values, np.linalg.lstsq(columns, drawn["Y"])[0], rtol=1e-9)
    assert ours.ate(x) == pytest.approx(ours.result["coupon"])


def test_columns_of_a_frame_are_found_by_name(drawn: dict[str, Any]) -> None:
    x = pd.DataFrame({"a": drawn["X"][:, 0], "b": drawn["X"][:, 1]})
    ours = ci.OnArrays(ci.LinearDML).fit(drawn["Y"], drawn["T"], x, drawn["W"])
    expected = ours.effect(x)
    np.testing.assert_array_equal(ours.effect(x[["b", "a"]]), expected)
    np.testing.assert_array_equal(ours.effect(x.to_numpy()), expected)
    with pytest.raises(ColumnNotFound):
        ours.effect(x.rename(columns={"a": "A"}))
    with pytest.raises(ColumnNotFound):
        ours.effect(x.to_numpy()[:, :1])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"Y": np.zeros(3)}, PlanError, "different numbers"),
        ({"Y": [], "T": [], "X": None, "W": None}, PlanError, "no rows"),
        ({"T": np.zeros((ROWS, 2))}, PlanError, "T has 2 columns"),
        ({"Y": None}, PlanError, "Y has 0 columns"),
        ({"W": np.zeros((ROWS, 1, 1))}, PlanError, "3 dimensions"),
        ({"W": pd.DataFrame(np.zeros((ROWS, 2)), columns=["a", "a"])}, PlanError, "called 'a'"),
        ({"W": pd.DataFrame({"t": np.zeros(ROWS)})}, PlanError, "called 't'"),
        ({"W": np.array(["a"] * ROWS)}, TypeMismatch, "w0"),
        ({"W": np.array([{}, 1] * (ROWS // 2))}, QueryError, "w0|cannot|Could not"),
        ({"Y": np.full(ROWS, np.nan)}, QueryError, "missing"),
        ({"T": np.ones(ROWS)}, PlanError, "t"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    drawn: dict[str, Any], given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ci.OnArrays(ci.PLR).fit(**{**drawn, **given})


def test_what_was_not_fitted_or_has_no_effects_of_rows_says_so(linear: ci.OnArrays, drawn: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nothing was fitted"):
        ci.OnArrays(ci.PLR).ate()
    with pytest.raises(PlanError, match="none is given"):
        linear.effect()
    panel = ci.OnArrays(lambda names: ci.ABTest("t", 0, [ci.Mean(names.outcome)]))
    panel.fit(drawn["Y"], np.arange(ROWS) % 2)
    with pytest.raises(ConfigError, match="no effect of a row"):
        panel.effect()


def test_settings_that_no_estimator_can_take_are_refused(drawn: dict[str, Any]) -> None:
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (ci.LinearDML, {"fold": 3}, "LinearDML: got an unexpected keyword argument 'fold'"),
        (ci.LinearDML, {"outcome": "y"}, "outcome is set"),
        (ci.PLIV, {}, "PLIV: missing a required .*argument: 'instrument'"),
        (lambda c: ci.PLR(c.outcome, c.treatment, c.controls, c.key), {"folds": 3}, "unexpected keyword"),
    ]
    for estimator, settings, words in wrong:
        with pytest.raises(ConfigError, match=words):
            ci.OnArrays(estimator, **settings).fit(**drawn)


def test_x_may_be_an_arrow_table_with_a_column_called_effect(drawn: dict[str, Any]) -> None:
    x = pa.table({"effect": drawn["X"][:, 0], "error": drawn["X"][:, 1]})
    ours = ci.OnArrays(ci.LinearDML).fit(drawn["Y"], drawn["T"], x, drawn["W"])
    plain = ci.OnArrays(ci.LinearDML).fit(**drawn)
    np.testing.assert_array_equal(ours.effect(x), plain.effect(drawn["X"]))
    np.testing.assert_array_equal(ours.effect_interval(x), plain.effect_interval(drawn["X"]))


def test_x_has_as_many_columns_as_in_fit(drawn: dict[str, Any], linear: ci.OnArrays) -> None:
    wide = np.column_stack([drawn["X"], drawn["X"][:, 0]])
    for fitted in (linear, ci.OnArrays(ols).fit(**drawn)):
        with pytest.raises(PlanError, match="X has 3 columns"):
            fitted.effect(wide)
    alone = ci.OnArrays(ci.LinearDML).fit(drawn["Y"], drawn["T"], W=drawn["W"])
    np.testing.assert_array_equal(alone.effect(drawn["X"]), np.repeat(alone.effect(), ROWS))


@pytest.mark.parametrize(
    ("learner", "arms"),
    [(ci.OnArrays(ci.DRLearner), (0, 1)), (ci.OnArrays(ci.LinearDML, discrete=True), ("did not", "took it"))],
    ids=["numbers", "texts"],
)
def test_the_effect_of_an_arm_is_that_of_one_dose(drawn: dict[str, Any], learner: Any, arms: tuple[Any, Any]) -> None:
    learner.fit(drawn["Y"], np.array(arms)[(drawn["T"] > 0).astype(int)], drawn["X"])
    np.testing.assert_array_equal(learner.effect(drawn["X"], T0=0, T1=1), learner.effect(drawn["X"]))
    for doses in ((0, 5), (1, 0), ("did not", "took it")):
        for asked in (learner.effect, learner.ate, learner.effect_interval):
            with pytest.raises(ConfigError, match="T0 is"):
                asked(drawn["X"], *doses)
