"""Lifts have Fieller's intervals, which say what those of differences say, and none where the control may be 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.errors import PlanError

Z = 1.959963984540054
COUNT = 400


def experiment(seed: int, control: float, value: float) -> pa.Table:
    """Return rows of two arms, the values of one far more spread than those of the other."""
    draw = np.random.default_rng(seed)
    arm = np.arange(COUNT) % 2
    spent = np.where(arm == 1, draw.normal(value, 3.0, COUNT), draw.normal(control, 1.0, COUNT))
    return pa.table({"arm": arm, "gasto": spent})


def fitted(lake: ib.Lake, table: pa.Table, **more: Any) -> ci.ABResult:
    return ci.ABTest("arm", 0, [ci.Mean("gasto")], **more).fit(lake.from_arrow(table))


@pytest.mark.parametrize(("control", "value"), [(5.0, 5.5), (0.2, 1.0), (1.0, 1.0), (0.5, -2.0)])
def test_bounds_are_the_ratios_that_the_data_just_allows(lake: ib.Lake, control: float, value: float) -> None:
    table = experiment(3, control, value)
    found = fitted(lake, table).effect("gasto")
    arm, spent = table["arm"].to_numpy(), table["gasto"].to_numpy()
    c, t = (spent[arm == one].mean() for one in (0, 1))
    of_c, of_t = (spent[arm == one].var(ddof=1) / (arm == one).sum() for one in (0, 1))
    low, high = np.sort(np.roots([c**2 - Z**2 * of_c, -2 * c * t, t**2 - Z**2 * of_t]).real) - 1
    assert (found.lift_lower, found.lift_upper) == pytest.approx((low, high), rel=1e-9)
    assert found.lift == pytest.approx(t / c - 1)


@pytest.mark.parametrize("sequential", [None, ci.AlwaysValid(COUNT), ci.GroupSequential((0.5, 1.0))])
def test_a_lift_is_told_from_0_where_the_difference_is(lake: ib.Lake, sequential: Any) -> None:
    told = []
    for seed in range(24):
        found = fitted(lake, experiment(seed, 0.6, 1.3), sequential=sequential).effect("gasto")
        told.append(found.lower > 0)
        assert told[-1] == (found.lift_lower > 0)
        assert found.lift_upper > 0
    assert 0 < sum(told) < len(told)


def test_no_lift_is_shown_of_a_control_that_may_be_0(lake: ib.Lake) -> None:
    table = experiment(1, 0.15, 1.0)
    found = fitted(lake, table)
    one = found.effect("gasto")
    assert 0 < one.control < 0.2
    assert np.isnan([one.lift, one.lift_lower, one.lift_upper]).all()
    assert np.isfinite([one.difference, one.std_error, one.p_value]).all()
    assert found.without_lift == ("gasto",)
    assert "warning: no lift of gasto" in found.summary()
    assert "%" not in next(line for line in found.summary().splitlines() if line.startswith("gasto"))
    with pytest.raises(PlanError, match="surely above 0"):
        found.plot()
    known = fitted(lake, table, level=0.1).effect("gasto")  # of an interval so short the control is above 0
    assert known.lift == pytest.approx(one.value / one.control - 1)


@pytest.mark.parametrize("control", [-5.0, 0.0])
def test_no_lift_is_shown_of_a_control_that_is_not_positive(lake: ib.Lake, control: float) -> None:
    arm = np.arange(COUNT) % 2
    spent = np.where(arm == 1, np.arange(COUNT) / 100, control)
    place = np.array(["a", "b"])[np.arange(COUNT) // 2 % 2]
    table = pa.table({"arm": arm, "gasto": spent, "place": place})
    found = fitted(lake, table, segments="place")
    assert found.without_lift == ("gasto", "gasto of place = a", "gasto of place = b")


def test_a_control_that_does_not_vary_has_the_interval_of_the_difference(lake: ib.Lake) -> None:
    arm = np.arange(COUNT) % 2
    found = fitted(lake, pa.table({"arm": arm, "gasto": np.where(arm == 1, np.arange(COUNT), 2.0)})).effect("gasto")
    assert (found.lift_lower, found.lift_upper) == pytest.approx((found.lower / 2, found.upper / 2))
