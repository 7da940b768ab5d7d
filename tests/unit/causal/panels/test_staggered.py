"""Moments of cohorts say what unit-by-unit influence functions and rows of dummies say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import stats

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.panels.cohorts import Cohorts
from iceblink.causal.panels.effects import PanelEffects
from iceblink.causal.panels.group_time import AGGREGATIONS, Base, Control
from iceblink.causal.panels.staggered import StaggeredPanel
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

Array = NDArray[np.float64]
PANEL = ci.Staggered("y", "unit", "time", "first")


def wide(seed: int, units: int = 90, periods: int = 6, never: bool = True) -> tuple[Array, Array]:
    """Return outcomes (units, periods), and when each was first treated; periods are 1, 2, ..."""
    draw = np.random.default_rng(seed)
    first = draw.choice([3.0, 4.0, 6.0, np.inf] if never else [3.0, 4.0, 6.0], units)
    time = np.arange(1, periods + 1)
    noise = draw.normal(size=(units, periods)).cumsum(axis=1) * draw.uniform(0.5, 2, (units, 1))
    effect = np.where(
        time >= first[:, np.newaxis], 1 + 0.5 * (time - np.where(np.isinf(first), 0, first)[:, np.newaxis]), 0
    )
    return draw.normal(size=(units, 1)) + 0.3 * time + effect + noise, first


def long(outcomes: Array, first: Array) -> pa.Table:
    units, periods = outcomes.shape
    order = np.random.default_rng(0).permutation(outcomes.size)
    when: list[int | None] = [None if np.isinf(one) else int(one) for one in np.repeat(first, periods)[order]]
    return pa.table(
        {
            "unit": np.array([f"unit {at}" for at in np.repeat(np.arange(units), periods)])[order],
            "time": np.tile(np.arange(1, periods + 1), units)[order],
            "y": outcomes.ravel()[order],
            "first": pa.array(when, pa.int64()),
        }
    )


def influences(outcomes: Array, first: Array, control: Control, base: Base) -> tuple[list[Any], Array, Array]:
    """Return (g, t), ATT(g, t) and influence functions (n, k), a unit at a time: Callaway, Sant'Anna 2021, eq. 3.1."""
    periods = outcomes.shape[1]
    labels, values, functions = [], [], []
    for group in np.unique(first[np.isfinite(first)]):
        for time in range(1, periods + 1):
            before = int(group) - 1 if base == "universal" or time >= group else time - 1
            if before < 1 or before == time:
                continue
            others = np.isinf(first) if control == "never" else (first > max(time, before)) & (first != group)
            if not others.any():
                continue
            change = outcomes[:, time - 1] - outcomes[:, before - 1]
            mine = first == group
            labels.append((group, time))
            values.append(change[mine].mean() - change[others].mean())
            treated = mine * (change - change[mine].mean()) / mine.mean()
            functions.append(treated - others * (change - change[others].mean()) / others.mean())
    return labels, np.array(values), np.array(functions).T


def averaged(labels: list[Any], values: Array, functions: Array, first: Array, by: str) -> tuple[Array, Array]:
    """Return averages and their standard errors as R's `did` computes them (compute.aggte.R)."""
    group, time = np.array(labels).T
    shares = np.array([(first == one).mean() for one in group])
    after = time >= group

    def weighted(mine: NDArray[np.bool_]) -> tuple[float, Array]:
        share = shares[mine]
        value = float(values[mine] @ share / share.sum())
        ones = (first[:, np.newaxis] == group[mine]) - share
        wif = ones / share.sum() - np.outer(ones.sum(axis=1), share / share.sum() ** 2)
        return value, functions[:, mine] @ (share / share.sum()) + wif @ values[mine]

    if by == "simple":
        found = [weighted(after)]
    else:
        key = {"dynamic": time - group, "group": group, "calendar": time}[by]
        keys = np.unique(key if by == "dynamic" else key[after])
        found = [weighted((key == one) & (after | (by == "dynamic"))) for one in keys]
        late = [one for one, at in zip(found, keys, strict=True) if by != "dynamic" or at >= 0]
        if by == "group":
            share = np.array([(first == one).mean() for one in keys])
            ones = (first[:, np.newaxis] == keys) - share
            wif = ones / share.sum() - np.outer(ones.sum(axis=1), share / share.sum() ** 2)
            estimates = np.array([value for value, _ in late])
            function = np.array([one for _, one in late]).T @ (share / share.sum()) + wif @ estimates
            found.append((float(estimates @ share / share.sum()), function))
        else:
            found.append((float(np.mean([value for value, _ in late])), np.mean([one for _, one in late], axis=0)))
    errors = [np.sqrt((one**2).mean() / len(first)) for _, one in found]
    return np.array([value for value, _ in found]), np.array(errors)


@pytest.mark.parametrize(
    ("seed", "control", "base", "never"),
    [
        (1, "not_yet", "varying", True),
        (2, "never", "varying", True),
        (3, "not_yet", "universal", False),
        (4, "never", "universal", True),
    ],
)
def test_group_time_effects_are_those_of_influence_functions(
    lake: ib.Lake, seed: int, control: Control, base: Base, never: bool
) -> None:
    outcomes, first = wide(seed, never=never)
    labels, values, functions = influences(outcomes, first, control, base)
    found = PANEL.read(lake.from_arrow(long(outcomes, first))).group_time(control, base)
    assert list(zip(found.group, found.period, strict=True)) == labels
    np.testing.assert_allclose(found.values, values, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.covariance, functions.T @ functions / len(first) ** 2, rtol=1e-9, atol=1e-14)
    early = np.array([time < group for group, time in labels])
    covariance = (functions.T @ functions / len(first) ** 2)[np.ix_(early, early)]
    wald = values[early] @ np.linalg.solve(covariance, values[early])
    assert found.facts["pre-trends χ²"] == pytest.approx(wald, rel=1e-8)
    for by in AGGREGATIONS:
        estimates, errors = averaged(labels, values, functions, first, by)
        average = found.aggregate(by)  # type: ignore[arg-type]  # the words of a tuple
        np.testing.assert_allclose(average.values, estimates, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(average.errors, errors, rtol=1e-9)


def test_sun_and_abraham_are_a_case_of_it() -> None:
    outcomes, first = wide(13)
    found = StaggeredPanel(cohorts_of(outcomes, first)).group_time("never", "universal")
    unit, time = np.repeat(np.arange(90), 6), np.tile(np.arange(1, 7), 90)
    interacted = [((first[unit] == g) & (time == t)) for g, t in zip(found.group, found.period, strict=True)]
    columns = [np.array(interacted).T, unit[:, np.newaxis] == np.arange(90), time[:, np.newaxis] == np.arange(1, 7)]
    by_rows = np.linalg.lstsq(np.hstack(columns) * 1.0, outcomes.ravel())[0]
    np.testing.assert_allclose(found.values, by_rows[: len(found.values)], rtol=1e-8, atol=1e-10)


def doubly_robust(outcomes: Array, first: Array, covariates: Array) -> tuple[Array, Array]:
    """Return ATT(g, t) and influence functions as R's `drdid_panel` makes them, of those not yet treated."""
    labels, _, _ = influences(outcomes, first, "not_yet", "varying")
    values, functions = [], []
    every = np.column_stack([np.ones(len(first)), covariates])
    for group, time in labels:
        before = int(group) - 1 if time >= group else time - 1
        mine = (first == group) | (first > max(time, before))
        d, x = (first[mine] == group) * 1.0, every[mine]
        change = outcomes[mine, time - 1] - outcomes[mine, before - 1]
        odds = np.zeros(x.shape[1])
        for _ in range(30):
            chance = 1 / (1 + np.exp(-x @ odds))
            curvature = np.linalg.inv(x.T * (chance * (1 - chance)) @ x)
            odds += curvature @ x.T @ (d - chance)
        slopes = np.linalg.lstsq(x[d == 0], change[d == 0])[0]
        count, left, weight = len(d), change - x @ slopes, chance * (1 - d) / (1 - chance)
        treated, others = (d * left).mean() / d.mean(), (weight * left).mean() / weight.mean()
        by_slopes = ((1 - d) * left)[:, np.newaxis] * x @ np.linalg.inv(x.T * (1 - d) @ x / count)
        by_odds = (d - chance)[:, np.newaxis] * x @ curvature * count
        first_part = (d * (left - treated) - by_slopes @ (d[:, np.newaxis] * x).mean(axis=0)) / d.mean()
        second_part = weight * (left - others)
        second_part += by_odds @ ((weight * (left - others))[:, np.newaxis] * x).mean(axis=0)
        second_part -= by_slopes @ (weight[:, np.newaxis] * x).mean(axis=0)
        function = np.zeros(len(first))
        function[mine] = (first_part - second_part / weight.mean()) * len(first) / count
        values.append(treated - others)
        functions.append(function)
    return np.array(values), np.array(functions).T


def test_covariates_make_it_doubly_robust(lake: ib.Lake) -> None:
    outcomes, first = wide(12, units=150)
    draw = np.random.default_rng(12)
    size = draw.normal(size=150) + 0.5 * np.isinf(first)
    covariates = np.column_stack([size, 1000 + 30 * draw.uniform(size=150)])
    outcomes += np.outer(size, np.arange(6))
    whole = long(outcomes, first)
    units = [int(name.split()[1]) for name in whole["unit"].to_pylist()]
    for at, name in enumerate(("size", "the other")):
        whole = whole.append_column(name, pa.array(covariates[units, at]))
    data = lake.from_arrow(whole)
    model = ci.Staggered("y", "unit", "time", "first", ["size", "the other"])
    found = model.read(data).group_time()
    values, functions = doubly_robust(outcomes, first, covariates)
    np.testing.assert_allclose(found.values, values, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.covariance, functions.T @ functions / 150**2, rtol=1e-6, atol=1e-10)
    labels = list(zip(found.group, found.period, strict=True))
    for by in AGGREGATIONS:
        estimates, errors = averaged(labels, values, functions, first, by)
        average = found.aggregate(by)  # type: ignore[arg-type]  # the words of a tuple
        np.testing.assert_allclose(average.values, estimates, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(average.errors, errors, rtol=1e-6)
    with pytest.raises(PlanError, match="different values of size"):
        ci.Staggered("y", "unit", "time", "first", ["size"]).read(data.mutate(size=ib._.size * ib._.time))
    with pytest.raises(PlanError, match="follows from those before it"):
        ci.Staggered("y", "unit", "time", "first", ["size", "twice"]).read(
            data.mutate(twice=ib._.size * 2)
        ).group_time()
    told = data.mutate(told=ib._["first"].fill_null(0))
    with pytest.raises(PlanError, match="without error"):
        ci.Staggered("y", "unit", "time", "first", ["told"]).read(told).group_time()


def two_stages(outcomes: Array, first: Array, dynamic: bool, cluster: Array | None = None) -> tuple[Array, Array]:
    """Return did2s by rows and dummies, scores of both stages summed by unit or cluster: Gardner 2021, section 3.3."""
    count, periods = outcomes.shape
    unit, time = np.repeat(np.arange(count), periods), np.tile(np.arange(1, periods + 1), count)
    since = time - first[unit]
    clean = since < 0
    seen = np.isin(time, time[clean])
    every = np.hstack([unit[:, np.newaxis] == np.arange(count), time[:, np.newaxis] == np.arange(1, periods + 1)]) * 1.0
    every = every[seen]
    stage_one = every * clean[seen, np.newaxis]
    y, steps = outcomes.ravel()[seen], since[seen]
    keys = np.unique(steps[np.isfinite(steps) & (steps != -1)])
    stage_two = (steps[:, np.newaxis] == keys) * 1.0 if dynamic else (steps >= 0)[:, np.newaxis] * 1.0
    inverse = np.linalg.pinv(stage_one.T @ stage_one, rcond=1e-11)
    left = y - every @ inverse @ stage_one.T @ y
    bread = np.linalg.inv(stage_two.T @ stage_two)
    values = bread @ stage_two.T @ left
    score = stage_two * (left - stage_two @ values)[:, np.newaxis]
    score -= stage_one * (left * clean[seen])[:, np.newaxis] @ inverse @ (every.T @ stage_two)
    group = unit if cluster is None else cluster[unit]
    sums = np.stack([score[group[seen] == one].sum(axis=0) for one in np.unique(group)])
    return values, bread @ sums.T @ sums @ bread


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("never", [False, True])
def test_two_stages_are_those_of_rows_and_dummies(lake: ib.Lake, dynamic: bool, never: bool) -> None:
    outcomes, first = wide(5, units=40, never=never)
    panel = PANEL.read(lake.from_arrow(long(outcomes, first)))
    found = panel.event_study() if dynamic else panel.two_stage()
    values, covariance = two_stages(outcomes, first, dynamic)
    np.testing.assert_allclose(found.values, values, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("dynamic", [False, True])
def test_two_stages_by_clusters_of_units(lake: ib.Lake, dynamic: bool) -> None:
    outcomes, first = wide(14, units=40)
    outcomes[7, 2], place = np.nan, np.arange(40.0) % 8
    whole = long(outcomes, first)
    units = [int(name.split()[1]) for name in whole["unit"].to_pylist()]
    places = pa.array([None if unit == 3 else f"Ort {place[unit]:.0f}" for unit in units])
    data = lake.from_arrow(whole.append_column("wo", places))
    by_place = ci.Staggered("y", "unit", "time", "first", missing="drop", cluster="wo").read(data)
    found = by_place.event_study() if dynamic else by_place.two_stage()
    kept = ~np.isin(np.arange(40), (3, 7))
    values, covariance = two_stages(outcomes[kept], first[kept], dynamic, place[kept])
    np.testing.assert_allclose(found.values, values, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, covariance * 8 / 7, rtol=1e-8, atol=1e-14)
    assert "by wo (8), times G / (G - 1)" in found.convention
    assert found.freedom == 7
    with pytest.raises(PlanError, match="by unit, not by cluster"):
        by_place.group_time()
    with pytest.raises(PlanError, match="different values of time"):
        ci.Staggered("y", "unit", "t", "first", cluster="time").read(data.mutate(t=ib._.time))
    with pytest.raises(QueryError, match="wo is missing in 1 units"):
        ci.Staggered("y", "unit", "time", "first", cluster="wo").read(data.filter(ib._.unit != "unit 7")).two_stage()


@pytest.mark.parametrize("freedom", [4, 30, np.inf])
def test_a_band_of_one_effect_is_its_interval(freedom: float) -> None:
    found = PanelEffects("effects", ("0",), np.ones(1), np.array([[4.0]]), "by region", 10, freedom=freedom)
    np.testing.assert_allclose(found.band(draws=400_000), found.interval(), rtol=0.02)


def test_shares_of_rows_change_no_digit_that_counts(lake: ib.Lake, tmp_path: Path) -> None:
    whole = long(*wide(6))
    found = []
    for files in (1, 3, 7):
        folder = tmp_path / str(files)
        folder.mkdir()
        ends = np.linspace(0, whole.num_rows, files + 1).astype(int)
        for begin, end in pairwise(ends):
            pq.write_table(whole.slice(begin, end - begin), folder / f"{begin:04}.parquet")
        fit = PANEL.read(lake.read_parquet(f"{folder}/*.parquet")).group_time()
        found.append(np.concatenate([fit.values, fit.errors]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-10, atol=1e-14)


def test_who_was_never_treated_can_be_said_in_many_ways(lake: ib.Lake) -> None:
    outcomes, first = wide(7)
    whole = long(outcomes, first)
    plain = PANEL.read(lake.from_arrow(whole)).cohorts
    for word in (0.0, np.nan, 99.0):
        column = pa.array([word if one is None else float(one) for one in whole.column("first").to_pylist()])
        other = PANEL.read(lake.from_arrow(whole.set_column(3, "first", column))).cohorts
        np.testing.assert_array_equal(other.units, plain.units)
        np.testing.assert_allclose(other.means, plain.means, rtol=1e-12)


def test_units_that_lack_a_period_or_begin_treated(lake: ib.Lake) -> None:
    outcomes, first = wide(8)
    whole = long(outcomes, first)
    gone = whole.filter(
        pa.array(
            [(u, t) != ("unit 5", 2) for u, t in zip(whole["unit"].to_pylist(), whole["time"].to_pylist(), strict=True)]
        )
    )
    with pytest.raises(QueryError, match="y in 2 is missing"):
        PANEL.read(lake.from_arrow(gone))
    dropped = ci.Staggered("y", "unit", "time", "first", missing="drop").read(lake.from_arrow(gone))
    kept = np.arange(len(first)) != 5
    same = PANEL.read(lake.from_arrow(long(outcomes[kept], first[kept])))
    np.testing.assert_allclose(dropped.group_time().errors, same.group_time().errors, rtol=1e-10)
    early = np.where(np.arange(len(first)) < 3, 1.0, first)
    found = PANEL.read(lake.from_arrow(long(outcomes, early)))
    assert found.cohorts.left_out == 3
    assert found.cohorts.units.sum() == len(first) - 3


def test_what_cannot_be_is_refused(lake: ib.Lake) -> None:
    outcomes, first = wide(9)
    whole = long(outcomes, first)
    data = lake.from_arrow(whole)
    with pytest.raises(ColumnNotFound, match="did you mean 'first'"):
        ci.Staggered("y", "unit", "time", "frist").read(data)
    with pytest.raises(TypeMismatch):
        ci.Staggered("y", "time", "unit", "first").read(data)
    with pytest.raises(ConfigError):
        ci.Staggered("y", "unit", "time", "time")
    with pytest.raises(PlanError, match="several rows of one period"):
        PANEL.read(lake.from_arrow(pa.concat_tables([whole, whole.slice(0, 1)])))
    changed = pa.array([4 if at == 0 else one for at, one in enumerate(whole["first"].to_pylist())], pa.int64())
    if whole["first"][0].as_py() == 4:
        changed = pa.array([3, *whole["first"].to_pylist()[1:]], pa.int64())
    with pytest.raises(PlanError, match="different values of first"):
        PANEL.read(lake.from_arrow(whole.set_column(3, "first", changed)))
    with pytest.raises(PlanError, match="no unit is first treated"):
        PANEL.read(lake.from_arrow(long(outcomes, np.full(len(first), np.inf))))
    with pytest.raises(PlanError, match="periods"):
        PANEL.read(lake.from_arrow(whole.slice(0, 0)))
    with pytest.raises(PlanError, match=r"y is 0\.1 in every row"):
        PANEL.read(lake.from_arrow(long(np.full_like(outcomes, 0.1), first)))
    panel = PANEL.read(lake.from_arrow(long(*wide(9, never=False))))
    with pytest.raises(PlanError, match="no units to compare with"):
        panel.group_time("never")
    with pytest.raises(ConfigError, match="did you mean 'never'"):
        panel.group_time("nver")  # type: ignore[arg-type]
    at_once = PANEL.read(lake.from_arrow(long(outcomes, np.full(len(first), 3.0))))
    with pytest.raises(PlanError):
        at_once.two_stage()


def test_cohorts_of_one_unit_are_told_and_test_no_trends() -> None:
    outcomes, _ = wide(14)
    first = np.full(90, np.inf)
    first[:2] = 5, 6  # both are compared with the same units, and vary in nothing else
    found = StaggeredPanel(cohorts_of(outcomes, first)).group_time()
    assert found.facts["units of the smallest cohort"] == 1
    assert "pre-trends χ²" not in found.facts


def test_a_band_holds_all_effects_and_is_wider_than_intervals(lake: ib.Lake) -> None:
    effects = PANEL.read(lake.from_arrow(long(*wide(10)))).group_time().aggregate("dynamic")
    band, each = effects.band(), effects.interval()
    assert (band[:, 0] < each[:, 0]).all()
    assert (band[:, 1] > each[:, 1]).all()
    np.testing.assert_array_equal(band, effects.band(seed=0))
    shown = effects.to_arrow()
    assert shown.column_names[-2:] == ["band_lower", "band_upper"]
    assert effects.summary().startswith("Group-time ATT: y of unit by time: dynamic")
    with pytest.raises(ConfigError):
        effects.band(1.5)
    independent = PanelEffects("five of them", tuple("abcde"), np.zeros(5), np.eye(5), "known", 1)
    reach = stats.norm.ppf((1 + 0.95 ** (1 / 5)) / 2)  # all five inside at once
    np.testing.assert_allclose(independent.band(), np.tile([-reach, reach], (5, 1)), rtol=0.02)


def cohorts_of(outcomes: Array, first: Array) -> Cohorts:
    """Return what reading this panel gives, by NumPy alone."""
    when = np.unique(first)
    parts = [outcomes[first == one] for one in when]
    return Cohorts(
        "y of unit by time",
        np.arange(1.0, outcomes.shape[1] + 1),
        when,
        np.array([len(part) for part in parts]),
        np.array([part.mean(axis=0) for part in parts]),
        np.array([(part - part.mean(axis=0)).T @ (part - part.mean(axis=0)) for part in parts]),
    )


def test_errors_cover_the_truth_as_often_as_they_say() -> None:
    draw, samples = np.random.default_rng(11), 1_000
    first = np.repeat([3.0, np.inf], 200)
    truth = np.where(np.arange(1, 5) >= first[:, np.newaxis], 1.0, 0.0)
    far = np.empty((samples, 2))
    for at in range(samples):
        noise = draw.normal(size=(400, 4)).cumsum(axis=1) + draw.standard_t(5, (400, 1))
        panel = StaggeredPanel(cohorts_of(truth + noise, first))
        for model, found in enumerate((panel.group_time().aggregate(), panel.two_stage())):
            far[at, model] = (found.values[0] - 1) / found.errors[0]
    covered = (np.abs(far) < 1.96).mean(axis=0)
    assert (covered >= 0.93).all()
    assert (covered <= 0.97).all()
