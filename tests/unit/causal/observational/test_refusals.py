"""What cannot be estimated is refused before the long scan, in words that a statistician can use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
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
    TypeMismatch,
)

COUNT = 60
ROWS: dict[str, Any] = {
    "y": np.sin(np.arange(COUNT)),
    "t": np.arange(COUNT) % 2,
    "x": np.cos(np.arange(COUNT) * 7),
    "told": np.arange(COUNT) % 2 * 2.0 + np.sin(np.arange(COUNT) * 3) / 2,
    "never": np.where(np.arange(COUNT) % 4 == 1, "only treated", "both"),
    "s": ["text"] * COUNT,
    "pair": [[n % 2, 1] for n in range(COUNT)],
    "one": np.ones(COUNT),
    "ten": np.arange(COUNT) % 10,
    "lone": (np.arange(COUNT) == 3).astype(int),
    "many": np.arange(COUNT),
    "bad": np.where(np.arange(COUNT) == 9, -1.0, 1.0),
    "gap": pa.array([None if n == 5 else n % 2 for n in range(COUNT)]),
    "holes": pa.array([None if n == 5 else n / 2 for n in range(COUNT)]),
    "nothing": pa.nulls(COUNT, pa.float64()),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Dataset]:
    folder: Path = tmp_path_factory.mktemp("lake")
    with ib.connect(folder) as lake:
        yield lake.from_arrow(pa.table(ROWS))


@pytest.mark.parametrize(
    ("roles", "error"),
    [
        ({"treatment": "T"}, ColumnNotFound),
        ({"weight": "ww"}, ColumnNotFound),
        ({"cluster": ["x", "cc"]}, ColumnNotFound),
        ({"confounders": "x + t"}, PlanError),
        ({"confounders": ["x", "y"]}, PlanError),
        ({"confounders": ["x", "I(t * x)"]}, PlanError),
        ({"outcome": "log(y)", "confounders": "x + y"}, PlanError),
        ({"confounders": "x | s"}, PlanError),
        ({"confounders": "x +"}, PlanError),
        ({"missing": "guess"}, ConfigError),
        ({"interactions": "told"}, PlanError),
        ({"interactions": "t"}, PlanError),
    ],
)
def test_roles_are_checked_at_once(data: ib.Dataset, roles: dict[str, Any], error: type[IceblinkError]) -> None:
    with pytest.raises(error):
        ci.Problem(data, **{"outcome": "y", "treatment": "t", "confounders": "x", **roles})


@pytest.mark.parametrize(
    ("roles", "error", "words"),
    [
        ({"treatment": "one"}, PlanError, "in every row"),
        ({"treatment": "many"}, PlanError, "more than 20"),
        ({"treatment": "lone"}, PlanError, "one row"),
        ({"treatment": "pair"}, TypeMismatch, "list"),
        ({"treatment": "gap"}, QueryError, "missing in 1"),
        ({"treatment": "nothing"}, QueryError, "missing"),
        ({"treatment": "nothing", "missing": "drop"}, PlanError, "no rows"),
        ({"control": 7}, PlanError, "it has 0, 1"),
        ({"weight": "bad"}, PlanError, "negative"),
        ({"confounders": "x + holes"}, QueryError, "holes is missing in 1"),
        ({"confounders": "x + nothing", "missing": "drop"}, PlanError, "no rows"),
        ({"confounders": "x + s"}, PlanError, "i(s)"),
        ({"outcome": "s"}, PlanError, "not a number"),
        ({"confounders": "no"}, ColumnNotFound, "no column"),
    ],
)
def test_rows_are_checked_before_models(
    data: ib.Dataset, roles: dict[str, Any], error: type[IceblinkError], words: str
) -> None:
    problem = ci.Problem(data, **{"outcome": "y", "treatment": "t", "confounders": "x", **roles})
    with pytest.raises(error) as caught:
        problem.balance()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "roles", "words"),
    [
        (ci.IPW(), {"confounders": "x + told"}, "coefficient of told"),
        (ci.Propensity(), {"confounders": "x + i(never)"}, "never[only treated]"),
        (ci.IPW("ATT"), {"treatment": "ten"}, "no one population"),
        (ci.AIPW(link="probit"), {"treatment": "ten"}, "a probit has two arms"),
        (ci.IPW(trim=0.3), {"treatment": "ten"}, "no row"),
        (ci.RegressionAdjustment(), {"treatment": "ten", "confounders": [f"I(x ** {n})" for n in range(1, 7)]}, "few"),
        (ci.EntropyBalancing(), {"confounders": "told"}, "look at told"),
        (ci.EntropyBalancing(), {"confounders": "i(never)"}, "look at never"),
        (ci.Stratification(), {"treatment": "ten"}, "10 arms"),
        (ci.NearestNeighbour(), {"weight": "one"}, "weights"),
        (ci.CoarsenedMatching(), {"cluster": "ten"}, "clusters"),
        (ci.CoarsenedMatching(), {"confounders": "I(x ** 2)"}, "expressions"),
        (ci.CoarsenedMatching({"told": 3}), {}, "told"),
        (ci.CoarsenedMatching({"many": 60}), {"confounders": "many"}, "no cell"),
        (ci.NearestNeighbour(caliper=0.0), {}, "no row has a match"),
    ],
)
def test_estimators_say_what_is_wrong(data: ib.Dataset, estimator: Any, roles: dict[str, Any], words: str) -> None:
    problem = ci.Problem(data, **{"outcome": "y", "treatment": "t", "confounders": "x", **roles})
    with pytest.raises((PlanError, ConfigError)) as caught:
        estimator.fit(problem)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "made",
    [
        lambda: ci.IPW("LATE"),  # type: ignore[arg-type]
        lambda: ci.IPW(trim=0.6),
        lambda: ci.IPWRA(clip=0.5),
        lambda: ci.AIPW("ATO"),
        lambda: ci.Stratification(1),
        lambda: ci.CoarsenedMatching({"x": [2.0, 1.0]}),
        lambda: ci.CoarsenedMatching({"x": 0}),
        lambda: ci.NearestNeighbour(caliper=-1),
    ],
)
def test_settings_are_checked_at_once(made: Any) -> None:
    with pytest.raises(ConfigError):
        made()


@pytest.mark.parametrize("interactions", [None, ()], ids=["a model for each arm", "one model"])
@pytest.mark.parametrize("estimator", [ci.IPW(), ci.RegressionAdjustment(), ci.AIPW(), ci.IPWRA()], ids=repr)
def test_a_column_that_follows_from_others_is_left_out_and_named(
    data: ib.Dataset, estimator: Any, interactions: Any
) -> None:
    problem = ci.Problem(data, "y", "t", "x + I(2 * x) + one", interactions=interactions)
    found = estimator.fit(problem)
    assert found.dropped == ("2 * x", "one")
    fewer = ci.Problem(data, "y", "t", "x", interactions=interactions)
    np.testing.assert_allclose(found.values, estimator.fit(fewer).values, rtol=1e-9)


def test_a_column_that_varies_in_one_arm_alone_is_named(data: ib.Dataset) -> None:
    of_treated = data.mutate(dose=ib._.t * ib._.x)
    found = ci.RegressionAdjustment().fit(ci.Problem(of_treated, "y", "t", "told + dose"))
    assert found.dropped == ("dose",)
    assert "left out" in found.summary()


def test_weights_have_a_name_of_their_own(data: ib.Dataset) -> None:
    found = ci.IPW().fit(ci.Problem(data, "y", "t", "x"))
    with pytest.raises(DuplicateColumn):
        found.weighted("x")
    with pytest.raises(DuplicateColumn):
        ci.Propensity().fit(ci.Problem(data, "y", "t", "x")).scored("y")
    with pytest.raises(PlanError, match="does not weight"):
        ci.RegressionAdjustment().fit(ci.Problem(data, "y", "t", "x")).balance()


def test_a_report_of_overlap_counts_what_is_there(data: ib.Dataset) -> None:
    scores = ci.Propensity().fit(ci.Problem(data, "y", "t", "I(told + 4 * sin(x * 9))"))
    report, rows = scores.overlap(bins=10), scores.scored("p").to_pylist()
    for arm in (0, 1):
        chances = [row["p"] for row in rows if row["t"] == arm]
        np.testing.assert_array_equal(report.counts[0, arm], np.histogram(chances, 10, (0, 1))[0])
        assert (report.least[0, arm], report.most[0, arm]) == (min(chances), max(chances))
        assert report.mean[0, arm] == pytest.approx(sum(chances) / len(chances))
    three = ci.Propensity().fit(ci.Problem(data, "y", "ten", "x")).overlap()
    assert three.counts.sum() == 10 * COUNT
    assert three.to_arrow().num_rows == 100


def test_balance_is_what_numpy_says(data: ib.Dataset) -> None:
    found = ci.Problem(data, "y", "t", "x + told").balance()
    for at, name in enumerate(("x", "told")):
        treated, control = ROWS[name][1::2], ROWS[name][::2]
        unit = np.sqrt((treated.var(ddof=1) + control.var(ddof=1)) / 2)
        assert found.differences[0, at] == pytest.approx((treated.mean() - control.mean()) / unit, rel=1e-12)
        assert found.ratios[0, at] == pytest.approx(treated.var(ddof=1) / control.var(ddof=1), rel=1e-12)
    assert "told" in found.summary()
    assert found.to_pandas().loc[("1", "told"), "difference"] == pytest.approx(found.worst)
