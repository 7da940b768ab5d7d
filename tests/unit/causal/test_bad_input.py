"""Every estimator with every kind of bad input: an error of ours that says what is wrong, or a word in the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.errors import ColumnNotFound, ConfigError, IceblinkError, PlanError, QueryError, TypeMismatch

COUNT = 60
ROW = np.arange(COUNT)
DRAW = np.random.default_rng(0)
ROWS: dict[str, Any] = {
    "y": DRAW.normal(size=COUNT),
    "yes": np.array([0, 1, 1, 0, 1] * 12),
    "count": DRAW.poisson(2, COUNT),
    "t": ROW % 2,
    "x": DRAW.normal(size=COUNT),
    "z": DRAW.normal(size=COUNT) + ROW % 2,
    "id": ROW,
    "arm": np.where(ROW % 2 == 1, "b", "a"),
    "unit": ROW // 6,
    "time": ROW % 6,
    "first": np.where(ROW // 6 < 5, 9, 4),
    "treated": ((ROW // 6 < 2) & (ROW % 6 >= 4)).astype(int),
    "after": ROW // 2 % 2,
}
DORP: Any = "dorp"
OUTCOMES = ("y", "yes", "count")
TREATMENTS = ("t", "arm", "first", "treated")


def of(estimator: Any) -> Callable[[Any], Any]:
    return lambda data: estimator.fit(ci.Problem(data, "y", "t", "x"))


ESTIMATORS: dict[str, Callable[[Any], Any]] = {
    "OLS": lambda data: ci.OLS("y ~ t + x", cluster="unit").fit(data),
    "TwoStage": lambda data: ci.TwoStage("y ~ x | t ~ z").fit(data),
    "FixedEffects": lambda data: ci.FixedEffects("y ~ t + x | unit").fit(data),
    "Logit": lambda data: ci.Logit("yes ~ t + x").fit(data),
    "Poisson": lambda data: ci.Poisson("count ~ t + x").fit(data),
    "LinearPLR": lambda data: ci.LinearPLR("y", "t", ["x"], key="id", folds=2).fit(data),
    "PLR": lambda data: ci.PLR("y", "t", ["x"], "id", folds=2).fit(data),
    "IRM": lambda data: ci.IRM("y", "t", ["x"], "id", folds=2).fit(data),
    "LinearDML": lambda data: ci.LinearDML("y", "t", ["z"], "id", modifiers="x", folds=2).fit(data),
    "PLIV": lambda data: ci.PLIV("y", "t", ["x"], "id", instrument="z", folds=2).fit(data),
    "IIVM": lambda data: ci.IIVM("y", "t", ["x"], "id", instrument="after", folds=2).fit(data),
    "SLearner": lambda data: ci.SLearner("y", "t", ["x"]).fit(data),
    "TLearner": lambda data: ci.TLearner("y", "t", ["x"]).fit(data),
    "XLearner": lambda data: ci.XLearner("y", "t", ["x"]).fit(data),
    "RLearner": lambda data: ci.RLearner("y", "t", ["x"], "id", folds=2).fit(data),
    "DRLearner": lambda data: ci.DRLearner("y", "t", ["x"], "id", folds=2).fit(data),
    "UpliftTree": lambda data: ci.UpliftTree("yes", "t", ["x"], "id", depth=1, min_leaf=5).fit(data),
    "UpliftForest": lambda data: ci.UpliftForest("yes", "t", ["x"], "id", trees=2, depth=1, min_leaf=5).fit(data),
    "CausalForest": lambda data: ci.CausalForest("y", "t", ["x"], "id", trees=4, bag=2, depth=1, folds=2).fit(data),
    "FrontDoor": lambda data: ci.FrontDoor("y", "t", ["z"]).fit(data),
    "DoublyRobust": lambda data: ci.DoublyRobust("id", folds=2).fit(ci.Problem(data, "y", "t", "x")),
    "UpliftCurve": lambda data: ci.UpliftCurve("z", "y", "t", "id").fit(data),
    "ABTest": lambda data: ci.ABTest("arm", "a", [ci.Mean("y", "x")], unit="id").fit(data),
    "IPW": of(ci.IPW()),
    "RegressionAdjustment": of(ci.RegressionAdjustment()),
    "AIPW": of(ci.AIPW()),
    "IPWRA": of(ci.IPWRA()),
    "EntropyBalancing": of(ci.EntropyBalancing()),
    "Stratification": of(ci.Stratification()),
    "CoarsenedMatching": of(ci.CoarsenedMatching()),
    "NearestNeighbour": of(ci.NearestNeighbour()),
    "Staggered": lambda data: ci.Staggered("y", "unit", "time", "first").read(data),
    "TwoByTwo": lambda data: ci.TwoByTwo("y", "t", "after", ["x"]).fit(data),
    "SyntheticControl": lambda data: ci.SyntheticControl("y", "unit", "time", "treated").fit(data),
    "SyntheticDiD": lambda data: ci.SyntheticDiD("y", "unit", "time", "treated", replications=2).fit(data),
}
BY_SCORE = ("IPW", "AIPW", "IPWRA", "EntropyBalancing", "Stratification", "NearestNeighbour")


def changed(lake: ib.Lake, names: tuple[str, ...], values: Callable[[Any], Any]) -> ib.Dataset:
    return lake.from_arrow(pa.table({**ROWS, **{name: values(ROWS[name]) for name in names}}))


def said(estimator: str, data: Any, *kinds: type[IceblinkError]) -> str:
    """Return what an estimator says of data, its hint apart; it must have one."""
    with pytest.raises(kinds) as caught:
        ESTIMATORS[estimator](data)
    assert caught.value.hint
    assert caught.value.where
    return caught.value.what


def without_one(values: Any, at: int = 7) -> pa.Array:
    return pa.array([None if row == at else value for row, value in enumerate(np.asarray(values).tolist())])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_is_bad_for_all(lake: ib.Lake, estimator: str) -> None:
    said(estimator, lake.from_arrow(pa.table(ROWS).slice(0, 0)), PlanError)
    said(estimator, lake.from_arrow(pa.table(ROWS).slice(0, 1)), PlanError)
    lacking = pa.table(ROWS).drop_columns([*OUTCOMES])
    assert "no column" in said(estimator, lake.from_arrow(lacking), ColumnNotFound)
    texts = changed(lake, OUTCOMES, lambda values: [str(value) for value in values])
    if estimator not in ("Logit", "Poisson"):
        assert "string, not a number" in said(estimator, texts, TypeMismatch)
    constant = said_or_shown(estimator, changed(lake, OUTCOMES, lambda _: np.ones(COUNT)))
    assert "in every row" in constant or "warning: nothing varies in y" in constant
    assert "lack" in (words := said(estimator, changed(lake, OUTCOMES, without_one), QueryError)) or "missing" in words
    words = said(estimator, changed(lake, OUTCOMES, lambda _: pa.nulls(COUNT, pa.float64())), QueryError)
    assert "lack" in words or "missing" in words


def said_or_shown(estimator: str, data: Any) -> str:
    try:
        return str(ESTIMATORS[estimator](data))
    except PlanError as error:
        return error.what


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_treatment_with_one_value(lake: ib.Lake, estimator: str) -> None:
    shown = said_or_shown(estimator, changed(lake, TREATMENTS, lambda values: np.repeat(values[:1], COUNT)))
    words = ("every row", "all rows", "left out", "tell t", "four cells", "no unit", "no row", "constant")
    assert any(word in shown for word in words), shown


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name not in ("Staggered",)])
def test_a_treatment_that_is_missing_once(lake: ib.Lake, estimator: str) -> None:
    words = said(estimator, changed(lake, TREATMENTS, without_one), QueryError, PlanError)
    assert "missing" in words or "not 0 or 1" in words


@pytest.mark.parametrize("estimator", ["OLS", "TwoStage", "FixedEffects", "Logit", "Poisson", *BY_SCORE])
def test_a_column_that_follows_from_others_is_named(lake: ib.Lake, estimator: str) -> None:
    shown = said_or_shown(estimator, changed(lake, ("x",), lambda _: np.full(COUNT, 2.5)))
    assert "left out" in shown
    assert "x" in shown.splitlines()[-1]


@pytest.mark.parametrize("estimator", ["OLS", "TwoStage", "FixedEffects"])
def test_a_column_that_follows_from_the_treatment_is_named(lake: ib.Lake, estimator: str) -> None:
    words = said_or_shown(estimator, changed(lake, ("x",), lambda _: 1.0 + 2 * ROWS["t"]))
    assert "left out, for they follow from others: x" in words or "tell t" in words


# The others that look at the score find it by the same model: it takes as many passes as Newton's method has steps.
@pytest.mark.parametrize("estimator", ["IPW", "EntropyBalancing", "CoarsenedMatching", "LinearPLR"])
def test_arms_that_have_nothing_in_common(lake: ib.Lake, estimator: str) -> None:
    words = said(estimator, changed(lake, ("x",), lambda _: 10.0 * ROWS["t"]), PlanError)
    assert "overlap" in words or "look at x" in words or "no cell" in words or "say all of t" in words


def test_an_outcome_that_a_column_tells(lake: ib.Lake) -> None:
    # x is small, so that its coefficient is large; s is what tells the outcome.
    rows = {**ROWS, "x": ROWS["x"] / 1_000, "s": 40.0 * ROWS["yes"] + ROWS["z"]}
    with pytest.raises(PlanError, match="the coefficient of s grows without end"):
        ci.Logit("yes ~ x + s").fit(lake.from_arrow(pa.table(rows)))


def test_folds_and_units(lake: ib.Lake) -> None:
    data = lake.from_arrow(pa.table(ROWS))
    with pytest.raises(PlanError, match="folds have no unit"):
        ci.LinearPLR("y", "t", ["x"], key="id", folds=100).fit(data)
    with pytest.raises(PlanError, match="all rows are in 1 fold"):
        ci.LinearPLR("y", "t", ["x"], key="id").fit(data.mutate(id=1))
    with pytest.raises(PlanError, match="in several arms"):
        ESTIMATORS["ABTest"](data.mutate(id=ib._.id / 3).mutate(id=ib._.id.cast("int64")))
    with pytest.raises(PlanError, match="several rows of one period"):
        ESTIMATORS["Staggered"](data.mutate(time=ib._.time / 2).mutate(time=ib._.time.cast("int64")))
    holes = changed(lake, ("x",), without_one)
    found = ci.LinearPLR("y", "t", ["x"], key="id", folds=2, missing="drop").fit(holes)
    assert found.rows == COUNT - 1
    np.testing.assert_allclose(
        found.values, ci.LinearPLR("y", "t", ["x"], key="id", folds=2).fit(data.filter(ib._.id != 7)).values
    )


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ci.OLS("y ~ t", weight="arm"), TypeMismatch, "not a number"),
        (lambda: ci.OLS("y ~ t", weight="nobody"), ColumnNotFound, "nobody"),
        (lambda: ci.OLS("y ~ t", weight="x"), QueryError, "weight 'x' is -"),
        (lambda: ci.OLS("y ~ t", weight="nothing"), PlanError, "all weights are 0"),
        (lambda: ci.OLS("y ~ t + i(lone)", "HC3"), QueryError, "decide a coefficient alone"),
        (lambda: ci.OLS("infinite ~ t"), QueryError, "infinite is infinite in 1 of"),
        (lambda: ci.OLS("y ~ t", missing="guess"), ConfigError, "guess"),  # type: ignore[arg-type]
        (lambda: ci.LinearPLR("y", "t", "x", key="id"), ConfigError, "one text"),
        (lambda: ci.LinearPLR("y", "t", ["x"], key="nobody"), ColumnNotFound, "nobody"),
        (lambda: ci.LinearPLR("y", "y", ["x"], key="id"), ConfigError, "outcome and treatment"),
        (lambda: ci.IRM("y", "y", ["x"], key="id"), ConfigError, "outcome and treatment"),
        (lambda: ci.TLearner("y", "y", ["x"]), ConfigError, "outcome and treatment"),
    ],
)
def test_weights_leverage_and_words(lake: ib.Lake, make: Any, error: type[IceblinkError], words: str) -> None:
    more = {"nothing": np.zeros(COUNT), "lone": ROW == 3, "infinite": np.where(ROW == 4, np.inf, ROWS["y"])}
    with pytest.raises(error, match=words):
        make().fit(lake.from_arrow(pa.table({**ROWS, **more})))


def test_a_coefficient_that_was_left_out_says_why(lake: ib.Lake) -> None:
    found = ci.OLS("y ~ t + one").fit(lake.from_arrow(pa.table({**ROWS, "one": np.ones(COUNT)})))
    with pytest.raises(ColumnNotFound, match="'one' has no coefficient"):
        found["one"]


OF_X = ("OLS", "Logit", "LinearPLR", "AIPW", "PLR", "TLearner", "RLearner", "DoublyRobust", "TwoByTwo", "ABTest")


@pytest.mark.parametrize(
    ("name", "column"), [*((name, "x") for name in OF_X), ("SyntheticControl", "y"), ("UpliftCurve", "y")]
)
def test_squares_larger_than_a_float_are_no_constant_column(lake: ib.Lake, name: str, column: str) -> None:
    data = changed(lake, (column,), lambda values: np.where(ROW == 3, 1.7e308, values))
    assert f"squares of {column} are larger than a float64" in said(name, data, QueryError)


def test_a_metric_that_does_not_vary_hinders_no_other(lake: ib.Lake) -> None:
    metrics: list[Any] = [ci.Mean("y"), ci.Conversion("one"), ci.Quantile("one", 0.5)]
    data = lake.from_arrow(pa.table({**ROWS, "one": np.ones(COUNT)}))
    found = ci.ABTest("arm", "a", metrics, correction="holm").fit(data)
    alone = ci.ABTest("arm", "a", metrics[:1]).fit(data).effect("y")
    assert found.effect("y").p_adjusted == alone.p_value
    assert found.constant == ("one", "one at 0.5")
    assert "warning: nothing varies in one, one at 0.5" in found.summary()


JUDGES: dict[str, Callable[[Any], Any]] = {
    "TOC": lambda data: ci.TOC("z", "y", "id").fit(data),
    "BestLinearPredictor": lambda data: ci.BestLinearPredictor("z", "y").fit(data),
    "Calibration": lambda data: ci.Calibration("z", "y", groups=2).fit(data),
    "GroupEffects": lambda data: ci.GroupEffects("arm", "y").fit(data),
    "PolicyTree": lambda data: ci.PolicyTree(["x"], "y", depth=1).fit(data),
    "PolicyValue": lambda data: ci.PolicyValue("y", "t").fit(data.mutate(t=ib._.t == 1)),
    "Budget": lambda data: ci.Budget("y", 5.0, "id").fit(data),
}


@pytest.mark.parametrize("judge", JUDGES)
def test_scores_and_predictions_that_are_bad(lake: ib.Lake, judge: str) -> None:
    def told(data: ib.Dataset, *kinds: type[IceblinkError]) -> str:
        with pytest.raises(kinds) as caught:
            JUDGES[judge](data)
        assert caught.value.hint
        return caught.value.what

    told(lake.from_arrow(pa.table(ROWS).slice(0, 0)), PlanError)
    assert "no column 'y'" in told(lake.from_arrow(pa.table(ROWS).drop_columns(["y"])), ColumnNotFound)
    assert "not a number" in told(changed(lake, ("y",), lambda values: [str(one) for one in values]), TypeMismatch)
    assert "missing" in (words := told(changed(lake, ("y",), without_one), QueryError)) or "lack" in words
