"""What counts is a whole number: all else is refused when an estimator is made, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.panels.effects import PanelEffects
from iceblink.errors import ConfigError

BAD: list[Any] = [2.5, 3.0, "3", True, np.float64(2.5), np.True_, [3]]
ASKED: list[Any] = [
    ci.LinearPLR("y", "t", ["x"], key="id"),
    ci.PLR("y", "t", "x", "id"),
    ci.PLIV("y", "t", "x", "id", instrument="z"),
    ci.IRM("y", "t", "x", "id"),
    ci.IIVM("y", "t", "x", "id", instrument="z"),
    ci.LinearDML("y", "t", "x", "id", modifiers="z"),
    ci.RLearner("y", "t", "x", "id"),
    ci.DRLearner("y", "t", "x", "id"),
    ci.UpliftTree("y", "t", ["x"], "id"),
    ci.UpliftForest("y", "t", ["x"], "id"),
    ci.CausalForest("y", "t", ["x"], "id"),
    ci.DoublyRobust("id"),
    ci.UpliftCurve("x", "y", "t", "id"),
    ci.TOC("x", "y", "id"),
    ci.Calibration("x", "y"),
    ci.PolicyTree(["x"], "y"),
    ci.Budget("y", 1.0, key="id"),
    ci.Stratification(),
    ci.SyntheticDiD("y", "unit", "time", "treated"),
    ci.models.XGBoost(),
    ci.models.SkLearn(LinearRegression()),
]
PUBLIC = [*(getattr(ci, name) for name in ci.__all__), ci.models.XGBoost, ci.models.SkLearn]


def whole(kind: Any) -> list[Field[Any]]:
    return [one for one in fields(kind) if one.init and one.type in ("int", "int | None")]


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: type(one).__name__)
def test_estimators_take_whole_numbers_only(asked: Any) -> None:
    for one in whole(asked):
        for value in BAD:
            with pytest.raises(ConfigError, match=one.name) as caught:
                replace(asked, **{one.name: value})
            assert caught.value.where
            assert caught.value.hint
        same = getattr(asked, one.name)
        if same is not None:
            found = getattr(replace(asked, **{one.name: np.int64(same)}), one.name)
            assert found == same
            assert one.type != "int" or type(found) is int  # which does not overflow


def test_no_estimator_is_forgotten() -> None:
    estimators = {kind for kind in PUBLIC if is_dataclass(kind) and hasattr(kind, "fit") and whole(kind)}
    assert estimators == {type(asked) for asked in ASKED}


EFFECTS = PanelEffects("effects", ("0",), np.zeros(1), np.eye(1), "by unit", 10)
OTHERS: dict[str, Callable[[ib.Dataset, Any], Any]] = {
    "folds": lambda data, value: ci.folded(data, "id", folds=value),
    "seed": lambda data, value: ci.folded(data, "id", seed=value),
    "draws": lambda data, value: ci.refute(ci.OLS("y ~ t"), data, treatment="t", key="id", draws=value),
    "draws of a band": lambda data, value: EFFECTS.band(draws=value),
    "rows": lambda data, value: ci.AlwaysValid(value),
    "max_features": lambda data, value: ci.UpliftForest("y", "t", ["x"], "id", max_features=value),
    "bins of x": lambda data, value: ci.CoarsenedMatching({"x": value}),
    "most": lambda data, value: ci.Graph("t -> y").identify("t", "y", most=value),
    "points": lambda data, value: ci.sensitivity(ci.OLS("y ~ t"), data, treatment="t").contour(points=value),
    "bins": lambda data, value: ci.Propensity().fit(ci.Problem(data, "y", "t", "x")).overlap(value),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arguments_that_count(tmp_path: Any, name: str) -> None:
    draw = np.random.default_rng(1)
    rows = {"id": np.arange(40), "t": np.arange(40) % 2, "x": draw.normal(size=40), "y": draw.normal(size=40)}
    with ib.connect(tmp_path) as lake:
        data = lake.from_arrow(pa.table(rows))
        for value in (2.5, 3.0, "3", True):
            with pytest.raises(ConfigError, match=name.removesuffix(" of a band")):
                OTHERS[name](data, value)


def test_a_float_that_is_whole_is_told_how_it_is_written() -> None:
    with pytest.raises(ConfigError) as caught:
        ci.AlwaysValid(1e6)  # type: ignore[arg-type]
    assert caught.value.hint == "rows=1000000"
    with pytest.raises(ConfigError, match="seed is -1"):
        ci.SyntheticDiD("y", "unit", "time", "treated", seed=-1)
