"""What learners cannot learn is refused before the long scan, in words that a statistician can use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.errors import (
    ColumnNotFound,
    ConfigError,
    DuplicateColumn,
    IceblinkError,
    PlanError,
    QueryError,
    SqlError,
    TypeMismatch,
)

COUNT = 60
NUMBERS = np.arange(COUNT)
ROWS: dict[str, Any] = {
    "id": NUMBERS,
    "y": np.sin(NUMBERS),
    "t": NUMBERS % 2,
    "t3": NUMBERS % 3,
    "x": np.cos(NUMBERS * 7),
    "told": NUMBERS % 2 * 2.0 + np.sin(NUMBERS * 3) / 2,
    "also t": NUMBERS % 2 * 3,
    "s": ["text"] * COUNT,
    "one": np.ones(COUNT),
    "lone": (NUMBERS == 3).astype(int),
    "few": (NUMBERS < 3).astype(int),
    "gap": pa.array([None if n == 5 else n % 2 for n in range(COUNT)]),
    "holes": pa.array([None if n == 5 else n / 2 for n in range(COUNT)]),
    "nothing": pa.nulls(COUNT, pa.float64()),
    "sure": np.where(NUMBERS == 9, 1.0, 0.5),
    "half": np.full(COUNT, 0.5),
}


@pytest.fixture(scope="module")
def data(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.table(ROWS))


def asked(kind: Any, **roles: Any) -> Any:
    return kind(**{"outcome": "y", "treatment": "t", "features": "x", **roles})


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        (ci.TLearner, {"features": []}),
        (ci.SLearner, {"missing": "guess"}),
        (ci.DRLearner, {"key": "id", "folds": 1}),
        (ci.RLearner, {"key": "id", "clip": 0.5}),
        (ci.RLearner, {"key": "id", "clip": -0.1}),
        (ci.DRLearner, {"key": "id", "clip": 0.0}),
    ],
)
def test_settings_are_checked_at_once(kind: Any, roles: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        asked(kind, **roles)


@pytest.mark.parametrize(
    ("roles", "error", "words"),
    [
        ({"outcome": "yy"}, ColumnNotFound, "no column 'yy'"),
        ({"treatment": "T"}, ColumnNotFound, "no column 'T'"),
        ({"features": "x + xx"}, ColumnNotFound, "no column 'xx'"),
        ({"outcome": "s"}, TypeMismatch, "not a number"),
        ({"features": ["s"]}, TypeMismatch, "i(s)"),
        ({"features": "x | s"}, PlanError, "neither bars"),
        ({"features": "x + I(x +)"}, SqlError, ""),
        ({"features": "x + t"}, PlanError, "treatment 't' is among"),
        ({"features": ["x", "y"]}, PlanError, "outcome 'y' is among"),
        ({"features": ["x", "I(y * 2)"]}, PlanError, "outcome 'y' is among"),
        ({"features": ["x", "I(t * (x > 0)::int)"]}, PlanError, "treatment 't' is among"),
        ({"outcome_model": ci.models.Linear}, ConfigError, "is no model"),
        ({"control": 7}, PlanError, "it has 0, 1"),
        ({"treatment": "one"}, PlanError, "in every row"),
        ({"treatment": "id"}, PlanError, "more than 20"),
        ({"treatment": "lone"}, PlanError, "one row"),
        ({"treatment": "gap"}, QueryError, "missing in 1"),
        ({"treatment": "nothing", "missing": "drop"}, PlanError, "no rows"),
        ({"features": "x + holes"}, QueryError, "holes is missing"),
        ({"outcome": "holes"}, QueryError, "is missing in 1"),
        ({"features": "nothing", "missing": "drop"}, PlanError, "no rows"),
    ],
)
def test_rows_are_checked_before_models(
    data: ib.Dataset, roles: dict[str, Any], error: type[IceblinkError], words: str
) -> None:
    with pytest.raises(error) as caught:
        asked(ci.TLearner, **roles).fit(data)
    assert words in str(caught.value)


def test_no_rows_and_one_row_are_no_study(lake: ib.Lake) -> None:
    table = pa.table(ROWS)
    for rows in (table.slice(0, 0), table.slice(0, 1)):
        with pytest.raises(PlanError):
            asked(ci.DRLearner, key="id").fit(lake.from_arrow(rows))


@pytest.mark.parametrize(
    ("roles", "error", "words"),
    [
        ({"propensity": 0.0}, ConfigError, "between 0 and 1"),
        ({"propensity": 1.5}, ConfigError, "between 0 and 1"),
        ({"propensity": {0: 0.5, 1: 0.4}}, ConfigError, "add up to 0.9"),
        ({"propensity": {1: 0.4, "blue": 0.1}}, ConfigError, "'blue'"),
        ({"propensity": 0.5, "treatment": "t3"}, ConfigError, "3 arms"),
        ({"propensity": {1: 0.5}, "treatment": "t3"}, ConfigError, "t3 2 is not said"),
        ({"propensity": {1: 0.5, 2: 0.5}, "treatment": "t3"}, ConfigError, "add up to 1"),
        ({"propensity": {0: "half", 1: "x"}}, QueryError, "chance of"),
        ({"propensity": {0: "half", 1: 0.4}}, QueryError, "add up to 0.9"),
        ({"propensity": "pp"}, ColumnNotFound, "no column 'pp'"),
        ({"propensity": "s"}, TypeMismatch, "not a number"),
        ({"propensity": "sure"}, QueryError, "chance of"),
        ({"key": "kk"}, ColumnNotFound, "no column 'kk'"),
        ({"key": "x"}, TypeMismatch, "cannot be a key"),
        ({"key": "one"}, TypeMismatch, "cannot be a key"),
        ({"key": "s"}, PlanError, "fold"),
        ({"folds": 200}, PlanError, "folds have no rows"),
    ],
)
def test_chances_and_folds_are_checked(
    data: ib.Dataset, roles: dict[str, Any], error: type[IceblinkError], words: str
) -> None:
    with pytest.raises(error) as caught:
        asked(ci.RLearner, **{"key": "id", "folds": 2, **roles}).fit(data)
    assert words in str(caught.value)


def test_features_that_tell_arms_apart_leave_no_overlap(data: ib.Dataset) -> None:
    with pytest.raises(PlanError, match="tell zeros and ones apart"):
        asked(ci.XLearner, features="x + told").fit(data)


def test_an_arm_of_few_rows_has_no_model(data: ib.Dataset) -> None:
    with pytest.raises(PlanError, match="too few for"):
        asked(ci.TLearner, treatment="few", features="x + told + x:told").fit(data)


def test_features_that_say_who_was_treated_leave_an_s_learner_nothing(data: ib.Dataset) -> None:
    with pytest.raises(PlanError, match="say who has"):
        asked(ci.SLearner, features=["also t"]).fit(data)


def test_columns_of_effects_are_checked_at_once(data: ib.Dataset) -> None:
    plain, linear = asked(ci.TLearner).fit(data), asked(ci.DRLearner, key="id", folds=2).fit(data)
    with pytest.raises(ColumnNotFound, match="no column 'x'"):
        plain.effect(data.select("y", "t"))
    with pytest.raises(TypeMismatch):
        plain.effect(data.sql("SELECT s AS x FROM this"))
    with pytest.raises(DuplicateColumn):
        plain.effect(data, "y")
    with pytest.raises(DuplicateColumn):
        linear.effect(data, "e", error="e")
    with pytest.raises(PlanError, match="no standard errors"):
        plain.effect(data, error="se")
    with pytest.raises(PlanError, match="no linear model"):
        plain.coefficients()
    with pytest.raises(PlanError, match="no effect of"):
        linear.coefficients("blue")
    several = asked(ci.DRLearner, treatment="t3", key="id", folds=2).fit(data)
    with pytest.raises(PlanError, match="name one of 1, 2"):
        several.coefficients()
    assert several.coefficients(2).rows == COUNT
