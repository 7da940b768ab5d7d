"""Weights are the best ones there are, and what they give is what their definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from causaldata import texas
from hypothesis import given, settings
from hypothesis import strategies as st
from linearmodels.datasets import wage_panel
from numpy.typing import NDArray
from scipy import optimize

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.panels.simplex import simplex_weights
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

Array = NDArray[np.float64]
ROLES = ("y", "unit", "time", "treated")


def made(seed: int, treated: int = 2, units: int = 14, periods: int = 10, before: int = 7) -> tuple[Array, pa.Table]:
    """Return outcomes (units, periods), the last units treated with an effect of 5, and the table of them."""
    draw = np.random.default_rng(seed)
    outcomes = draw.normal(size=(units, 2)) @ draw.normal(size=(2, periods)) + 0.1 * draw.normal(size=(units, periods))
    outcomes[-treated:] = outcomes[:3].mean(axis=0) + 0.1 * draw.normal(size=(treated, periods))
    outcomes[-treated:, before:] += 5
    unit, time = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    given = (unit >= units - treated) & (time >= before)
    names = [f"Ort {at:02}" for at in unit]
    return outcomes, pa.table({"y": outcomes.ravel(), "unit": names, "time": time, "treated": given})


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 12), count=st.integers(1, 20), ridge=st.sampled_from([0.0, 0.7]))
@settings(max_examples=40)
def test_no_other_weights_are_better(seed: int, rows: int, count: int, ridge: float) -> None:
    draw = np.random.default_rng(seed)
    columns, target = draw.normal(size=(rows, count)), draw.normal(size=rows) * draw.choice([0.1, 1, 100])
    found = simplex_weights(columns, target, ridge)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-12)
    slope = columns.T @ (columns @ found - target) + ridge * found  # at the best point no corner is downhill
    assert (slope @ found - slope).max() <= 1e-8 * (1 + np.abs(slope).max())


def test_synthetic_control_by_another_solver(lake: ib.Lake) -> None:
    outcomes, table = made(1, treated=1)
    found = ci.SyntheticControl(*ROLES).fit(lake.from_arrow(table))
    treated, others = outcomes[-1], outcomes[:-1]

    def distance(weights: Array) -> float:
        return float(((treated[:7] - weights @ others[:, :7]) ** 2).sum())

    theirs = optimize.minimize(
        distance,
        np.full(13, 1 / 13),
        bounds=[(0, 1)] * 13,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 1_000},
    )
    assert distance(found.weights) <= theirs.fun + 1e-12
    np.testing.assert_allclose(found.weights, theirs.x, atol=1e-3)
    paths = found.paths()
    assert found["ATT"] == pytest.approx(np.mean(paths["difference"].to_numpy()[7:]))
    assert abs(found["ATT"] - 5) < 0.5
    assert found.p_value == pytest.approx(1 / 14)
    assert sum(found.weights_table()["weight"].to_pylist()) == pytest.approx(1)


def test_sdid_is_a_weighted_regression_with_effects_of_units_and_periods(lake: ib.Lake) -> None:
    outcomes, table = made(2)
    found = ci.SyntheticDiD(*ROLES, replications=50, seed=3).fit(lake.from_arrow(table))
    unit_weights = np.concatenate([found.weights, [0.5, 0.5]])
    time_weights = np.concatenate([found.time_weights, np.full(3, 1 / 3)])
    weight = np.sqrt(np.outer(unit_weights, time_weights).ravel())
    unit, time = np.repeat(np.arange(14), 10), np.tile(np.arange(10), 14)
    treated = ((unit >= 12) & (time >= 7)) * 1.0
    columns = np.column_stack([treated, unit[:, np.newaxis] == np.arange(14), time[:, np.newaxis] == np.arange(10)])
    by_rows = np.linalg.lstsq(columns * weight[:, np.newaxis], outcomes.ravel() * weight)[0][0]
    assert found["ATT"] == pytest.approx(by_rows, rel=1e-8)
    assert abs(found["ATT"] - 5) < 3 * found.error("ATT") < 5
    again = ci.SyntheticDiD(*ROLES, replications=50, seed=3).fit(lake.from_arrow(table.take(np.arange(140)[::-1])))
    np.testing.assert_allclose([*again.values, *again.errors], [*found.values, *found.errors], rtol=1e-10)


def test_the_prisons_of_texas(lake: ib.Lake) -> None:
    frame = texas.load_pandas().data[["statefip", "year", "bmprison"]]
    frame["expanded"] = ((frame.statefip == 48) & (frame.year >= 1993)).astype(int)
    data = lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))
    found = ci.SyntheticControl("bmprison", "statefip", "year", "expanded").fit(data)
    assert found.weights.sum() == pytest.approx(1)
    assert found["ATT"] > 10_000
    assert found.weights_table()["weight"].to_numpy().min() > 0
    assert found.p_value * 51 == pytest.approx(round(found.p_value * 51))
    assert len(found.controls.names) == 50


def test_what_cannot_be_is_refused(lake: ib.Lake) -> None:
    _, table = made(4)
    data = lake.from_arrow(table)
    with pytest.raises(ColumnNotFound):
        ci.SyntheticControl("y", "unit", "tim", "treated").fit(data)
    with pytest.raises(TypeMismatch):
        ci.SyntheticControl("y", "time", "unit", "treated").fit(data)
    with pytest.raises(QueryError, match="lack the outcome"):
        ci.SyntheticControl(*ROLES).fit(lake.from_arrow(table.slice(1)))
    with pytest.raises(ConfigError):
        ci.SyntheticDiD(*ROLES, replications=1)
    for flags, match in (
        (np.zeros(140, bool), "no units are treated"),
        (np.ones(140, bool), "all units are treated"),
        (np.arange(140) >= 125, "from different periods"),
        (np.arange(140) == 137, "not from one on"),
        (np.arange(140) >= 131, "1 periods before"),
    ):
        changed = table.set_column(3, "treated", pa.array(flags))
        with pytest.raises(PlanError, match=match):
            ci.SyntheticControl(*ROLES).fit(lake.from_arrow(changed))
    with pytest.raises(PlanError, match="no rows"):
        ci.SyntheticDiD(*ROLES).fit(lake.from_arrow(table.slice(0, 0)))


@pytest.mark.parametrize("cluster", [None, "nr"])
def test_two_by_two_is_the_difference_of_changes(lake: ib.Lake, cluster: str | None) -> None:
    frame = wage_panel.load()[["nr", "year", "lwage", "union", "educ"]]
    frame["late"] = (frame.year >= 1984).astype(int)
    data = lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))
    found = ci.TwoByTwo("lwage", "union", "late", cluster=cluster).fit(data)
    means = frame.groupby(["union", "late"]).lwage.mean()
    assert found["union:late"] == pytest.approx(means[1, 1] - means[1, 0] - means[0, 1] + means[0, 0], rel=1e-10)
    settings: dict[str, Any] = {} if cluster is None else {"cluster": cluster}
    same = ci.OLS("lwage ~ union * late", **settings).fit(data)
    assert found.error("union:late") == pytest.approx(same.error("union:late"), rel=1e-10)
    with pytest.raises(PlanError, match="four cells"):
        ci.TwoByTwo("lwage", "union", "educ").fit(data)
    with pytest.raises(PlanError, match="four cells"):
        ci.TwoByTwo("lwage", "union", "late").fit(data.filter(ib._["union"] == 1))
