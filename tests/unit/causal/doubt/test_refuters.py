"""Refuters leave what is right, find what is wrong, and depend on chance by the unit's key alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.doubt.chance import Added, Chance, Redrawn, applied, sampled
from iceblink.causal.doubt.one_scan import effects, linear
from iceblink.causal.doubt.refute import CAUSE, DONE, _changes
from iceblink.causal.doubt.subjects import subject
from iceblink.errors import ColumnNotFound, ConfigError, IceblinkError, PlanError, QueryError, TypeMismatch

ROWS = 900
ALL: list[Any] = list(DONE)


def drawn() -> dict[str, Any]:
    draw = np.random.default_rng(2)
    x, z = draw.normal(size=(2, ROWS))
    t = (x + draw.normal(size=ROWS) > 0).astype(int)
    y = 2 * t + x + draw.normal(size=ROWS)
    unit = np.arange(ROWS) // 10
    shared, common = (draw.normal(size=ROWS)[unit] for _ in range(2))
    return {
        "id": np.arange(ROWS), "x": x, "z": z, "t": t, "y": y, "weights": draw.uniform(0.5, 2, ROWS),
        "unit": unit, "shared": shared, "common": common + draw.normal(size=ROWS) / 4, "city": np.arange(ROWS) % 3,
        "holes": pa.array(np.where(np.arange(ROWS) % 50 == 0, np.nan, x), from_pandas=True),
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.table(drawn()))


@pytest.mark.parametrize(
    "estimator",
    [
        ci.OLS("I(y / 2) ~ holes + t + i(city) - 1", weight="weights", missing="drop"),
        ci.LinearPLR("y", "t", ["x", "z"], key="id", folds=3),
    ],
    ids=["weighted", "cross-fitted"],
)
def test_one_scan_gives_what_running_again_gives(data: ib.Dataset, estimator: Any) -> None:
    doubted = subject(estimator, data, "t", "id")
    changes = [change for name in ALL for change in _changes(doubted, name, 1, 0.6, 5)]
    quick = linear(doubted)
    assert quick is not None
    again = [
        doubted.estimated(applied(doubted.data, one), [CAUSE] if isinstance(one, Added) else [])[0] for one in changes
    ]
    np.testing.assert_allclose(effects(doubted, quick, changes), again, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", [ci.OLS("y ~ t + x"), ci.LinearPLR("y", "t", ["x"], key="id")])
def test_what_is_right_stays(data: ib.Dataset, estimator: Any) -> None:
    found = ci.refute(estimator, data, ALL, treatment="t", key="id", draws=8)
    assert found.refuted == ()
    assert found["placebo"].after == pytest.approx(0, abs=0.1)
    assert found["dummy_outcome"].after == pytest.approx(0, abs=0.1)
    assert found["random_cause"].after == pytest.approx(found["random_cause"].before, abs=0.01)
    error = found["bootstrap"].error
    assert found["bootstrap"].spread == pytest.approx(error, rel=0.6)
    assert found["subset"].spread == pytest.approx(error * np.sqrt(1 / 0.8 - 1), rel=0.6)
    assert found.to_arrow().column("refuted").to_pylist() == [False] * 5
    assert found.effects().num_rows == 40
    assert "no effect, as it should be" in repr(found)
    with pytest.raises(ConfigError):
        ci.refute(estimator, data, ["subset"], treatment="t", key="id", draws=2)["placebo"]


@dataclass(frozen=True)
class Wrong:
    """An estimator that says something whatever it is given."""

    says: Callable[[ib.Dataset, int], float]
    confounders: Sequence[str] = ("x",)
    outcome: str = "y"
    treatment: str = "t"

    def fit(self, data: ib.Dataset) -> ci.Estimates:
        value = np.array([self.says(data, len(self.confounders))])
        return ci.Estimates("wrong", ("t",), value, np.array([[0.01]]), "", 1)


def test_what_is_wrong_is_found(data: ib.Dataset) -> None:
    always = ci.refute(Wrong(lambda *_: 1.0), data, ALL, key="id", draws=2)
    assert always.refuted == ("placebo", "dummy_outcome", "bootstrap")
    assert always["placebo"].p_value == 0
    counting = ci.refute(Wrong(lambda _, count: float(count)), data, ["random_cause"], key="id", draws=2)
    assert counting.refuted == ("random_cause",)
    rows = ci.refute(
        Wrong(lambda rows, _: float(len(rows.to_arrow()))), data, ["subset", "bootstrap"], key="id", draws=4
    )
    assert rows.refuted == ("subset", "bootstrap")
    assert rows["subset"].after == pytest.approx(0.8 * ROWS, abs=40)
    assert "refuted: the spread is" in repr(rows)


def test_errors_that_know_no_units_are_found(data: ib.Dataset) -> None:
    narrow = ci.refute(ci.OLS("common ~ shared"), data, ["bootstrap"], treatment="shared", key="unit", draws=25)
    assert narrow.refuted == ("bootstrap",)
    wide = ci.OLS("common ~ shared", cluster="unit")
    assert ci.refute(wide, data, ["bootstrap"], treatment="shared", key="unit", draws=25).refuted == ()


def test_shares_of_rows_change_no_draw(lake: ib.Lake) -> None:
    values = []
    for files in (1, 3, 7):
        rows = pa.table({**drawn(), "part": np.arange(ROWS) % files})
        lake.write(f"n.r{files}", rows, "create", partition_by=["part"])
        found = ci.refute(ci.OLS("y ~ t + x"), lake.table(f"n.r{files}"), ALL, treatment="t", key="id", draws=2)
        values.append(found.effects().column("effect").to_numpy())
    np.testing.assert_allclose(values, [values[0]] * 3, rtol=1e-9, atol=1e-11)


def test_estimators_of_studies_are_run_again(data: ib.Dataset) -> None:
    named = data.sql("SELECT *, CASE WHEN t = 1 THEN 'took it' WHEN t = 0 THEN 'did not' END AS arm FROM this")
    problem = ci.Problem(named, "y", "arm", ["x", "z"], control="did not", outcome_model="x")
    found = ci.refute(ci.RegressionAdjustment(), problem, ["placebo", "random_cause"], key="id", draws=2)
    assert found.refuted == ()
    assert found["placebo"].before == pytest.approx(2, abs=0.2)
    assert np.abs(found["placebo"].effects).max() < 0.3
    assert 0 < np.abs(found["random_cause"].effects - found["random_cause"].before).max() < 0.05
    plain = subject(ci.RegressionAdjustment(), ci.Problem(data, "y", "t", "x"), None, "id")
    assert plain.estimated(data, ["z"]) == pytest.approx(
        subject(ci.RegressionAdjustment(), ci.Problem(data, "y", "t", "x + z"), None, "id").estimated(data), rel=1e-12
    )


def test_products_of_the_treatment_and_other_regressions_are_run_again(data: ib.Dataset) -> None:
    assert linear(subject(ci.OLS("y ~ t + t:x"), data, "t", "id")) is None
    found = ci.refute(ci.OLS("y ~ t + t:x"), data, ["dummy_outcome"], treatment="t", key="id", draws=2)
    assert np.abs(found["dummy_outcome"].effects).max() < 0.5
    found = ci.refute(ci.Logit("t ~ x"), data, ["placebo"], treatment="x", key="id", draws=2)
    assert found.refuted == ()


@pytest.mark.parametrize(
    ("estimator", "options", "error"),
    [
        (ci.OLS("y ~ t"), {}, ConfigError),
        (ci.OLS("y ~ t"), {"key": "id"}, ConfigError),
        (ci.OLS("y ~ t"), {"key": "idd", "treatment": "t"}, ColumnNotFound),
        (ci.OLS("y ~ t"), {"key": "x", "treatment": "t"}, TypeMismatch),
        (ci.OLS("y ~ t"), {"key": "id", "treatment": "x"}, ColumnNotFound),
        (ci.OLS("y ~ t"), {"key": "id", "treatment": "t", "draws": 1}, ConfigError),
        (ci.OLS("y ~ t"), {"key": "id", "treatment": "t", "share": 1.0}, ConfigError),
        (ci.OLS("y ~ t"), {"key": "id", "treatment": "t", "refuters": ["placebos"]}, ConfigError),
        (ci.OLS("y ~ t"), {"key": "id", "treatment": "t", "refuters": []}, ConfigError),
        (ci.OLS("y ~ holes"), {"key": "id", "treatment": "holes"}, QueryError),
        (ci.TwoStage("y ~ 1 | t ~ z"), {"key": "id", "treatment": "t"}, PlanError),
        (ci.IPW(), {"key": "id"}, TypeMismatch),
        (ci.DRLearner("y", "t", ["x"], key="id"), {}, TypeMismatch),
        (ci.LinearPLR("y", "t", ["x"], key="id"), {"treatment": "z"}, ConfigError),
    ],
)
def test_what_cannot_be_refuted_is_said(
    data: ib.Dataset, estimator: Any, options: dict[str, Any], error: type[IceblinkError]
) -> None:
    with pytest.raises(error):
        ci.refute(estimator, data, **options)


def test_few_rows_and_constants_are_refused(data: ib.Dataset) -> None:
    estimator = ci.OLS("y ~ t + x")
    for rows in (data.limit(0), data.limit(1), data.sql("SELECT * REPLACE (NULL::DOUBLE AS y) FROM this")):
        with pytest.raises((PlanError, QueryError)):
            ci.refute(estimator, rows, treatment="t", key="id")
    with pytest.raises(IceblinkError):
        ci.refute(estimator, data.sql("SELECT * REPLACE (1 AS t) FROM this"), treatment="t", key="id")
    with pytest.raises(PlanError, match="expression"):
        ci.refute(ci.IPW(), ci.Problem(data, "y * 2", "t", "x"), key="id")


def test_names_with_spaces(data: ib.Dataset) -> None:
    odd = data.sql('SELECT id AS "the id", y AS umsätze, t AS "der Gutschein", x FROM this')
    named = ci.OLS("umsätze ~ `der Gutschein` + x")
    found = ci.refute(named, odd, treatment="der Gutschein", key="the id", draws=2)
    plain = ci.refute(ci.OLS("y ~ t + x"), data, treatment="t", key="id", draws=2)
    assert found.effects().column("effect").equals(plain.effects().column("effect"))


def test_refuters_read_the_rows_that_the_fit_reads(data: ib.Dataset) -> None:
    gaps = data.sql("SELECT *, CASE WHEN id % 9 > 0 THEN unit END AS home FROM this")
    kept = gaps.sql("SELECT * FROM this WHERE home IS NOT NULL")
    estimator = ci.OLS("y ~ t + x", cluster="home", missing="drop")
    found, whole = (
        ci.refute(estimator, rows, ["random_cause", "subset", "bootstrap"], treatment="t", key="id", draws=2)
        for rows in (gaps, kept)
    )
    for one, other in zip(found.found, whole.found, strict=True):
        np.testing.assert_allclose(one.effects, other.effects, rtol=1e-9)


def test_an_infinite_value_is_not_drawn_for_other_rows(data: ib.Dataset) -> None:
    odd = data.sql("SELECT * REPLACE (CASE WHEN id = 5 THEN 'inf'::DOUBLE ELSE y END AS y) FROM this")
    assert np.isfinite(sampled(odd, "y", ("id",), 0).to_numpy()).all()
    redrawn = applied(odd, Redrawn("y", sampled(odd, "y", ("id",), 0), Chance(("id",), 0, "dummy_outcome", 0)))
    assert np.flatnonzero(np.isinf(redrawn.to_arrow().column("y").to_numpy())).tolist() == [5]
    estimator = ci.OLS("y ~ t + x", missing="drop")
    alone = ci.refute(estimator, odd, ["subset"], treatment="t", key="id", draws=2)
    beside = ci.refute(estimator, odd, ["dummy_outcome", "subset"], treatment="t", key="id", draws=2)
    np.testing.assert_array_equal(alone["subset"].effects, beside["subset"].effects)


def test_a_placebo_of_texts_in_a_dictionary(lake: ib.Lake) -> None:
    rows = drawn()
    arms = pa.array(np.where(rows["t"] == 1, "took it", "did not"))
    found = [
        ci.refute(
            ci.RegressionAdjustment(),
            ci.Problem(lake.from_arrow(pa.table({**rows, "arm": given})), "y", "arm", ["x"], control="did not"),
            ["placebo"],
            key="id",
            draws=2,
        )["placebo"].effects
        for given in (arms, arms.dictionary_encode())
    ]
    np.testing.assert_array_equal(found[0], found[1])
