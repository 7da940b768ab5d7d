"""Boundaries spend what they may, and what is always valid is so at every look."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from iceblink.causal.experiments.sequential import AlwaysValid, GroupSequential, Once, Spending
from iceblink.errors import ConfigError

LOOKS = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("spending", "expected"),
    [
        ("obrien_fleming", [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]),  # as printed by R's ldbounds
        ("pocock", [2.4380, 2.4268, 2.4102, 2.3966, 2.3860]),
    ],
)
def test_five_looks_have_the_published_boundaries(spending: Spending, expected: list[float]) -> None:
    np.testing.assert_allclose(GroupSequential(LOOKS, spending).boundaries(0.95), expected, atol=1.5e-4)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_what_is_spent_until_a_look_is_the_chance_to_have_crossed(spending: Spending) -> None:
    times = np.array([0.3, 0.45, 0.9])
    bounds = GroupSequential(tuple(times), spending).boundaries(0.9)
    covariance = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    for look in (1, 2, 3):
        normal = stats.multivariate_normal(np.zeros(look), covariance[:look, :look], seed=1, abseps=1e-7, releps=1e-7)
        inside = normal.cdf(bounds[:look], lower_limit=-bounds[:look])
        alpha, time = 0.05, times[look - 1]
        one_side = (
            2 * stats.norm.sf(stats.norm.isf(alpha / 2) / np.sqrt(time))
            if spending == "obrien_fleming"
            else alpha * np.log(1 + (np.e - 1) * time)
        )
        assert 1 - inside == pytest.approx(2 * one_side, rel=1e-3)  # both sides crossed is as good as impossible


@pytest.mark.parametrize("looks", [LOOKS[:3], (1.0,), (0.1, 0.11)])
def test_a_p_value_is_the_level_whose_boundary_is_met(looks: tuple[float, ...]) -> None:
    looking = GroupSequential(looks, "pocock")
    for level in (0.5, 0.95, 0.9999):
        bound = looking.boundaries(level)[-1:]
        np.testing.assert_allclose(looking.p_values(bound, np.ones(1), np.ones(1), level), 1 - level, rtol=1e-3)
        np.testing.assert_allclose(looking.reach(np.ones(1), np.ones(1), level), bound)
    assert looking.p_values(np.array([0.0, 99.0]), np.ones(2), np.ones(2), 0.95).tolist() == pytest.approx([1, 1e-10])


def test_one_look_is_the_normal_test() -> None:
    estimates, errors = np.array([-1.0, 2.5]), np.array([1.0, 1.2])
    once = Once().p_values(estimates, errors, errors, 0.95)
    np.testing.assert_allclose(once, 2 * stats.norm.sf(np.abs(estimates / errors)))
    np.testing.assert_allclose(GroupSequential((1.0,)).p_values(estimates, errors, errors, 0.95), once, rtol=1e-3)
    np.testing.assert_allclose(Once().reach(errors, errors, 0.9), stats.norm.ppf(0.95) * errors)


def test_looks_are_in_order() -> None:
    for looks in ((), (0.5, 0.5), (0.5, 0.2), (0.0, 1.0), (0.5, 1.1), 0.5, ("half",)):
        with pytest.raises(ConfigError):
            GroupSequential(looks)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        AlwaysValid(0)


def test_looking_all_the_time_rejects_no_more_often_than_the_level_says() -> None:
    samples, most = 1_000, 2_000
    draws = np.random.default_rng(4).exponential(size=(samples, most)) - 1  # no effect, and nothing normal
    rows = np.arange(1, most + 1)
    means = draws.cumsum(axis=1) / rows
    errors = np.sqrt(np.maximum((draws**2).cumsum(axis=1) / rows - means**2, 1e-12) / rows)
    looked = slice(100, None, 10)
    always, once = AlwaysValid(1_000), Once()
    p_values = always.p_values(means[:, looked], errors[:, looked], rows[looked].astype(float), 0.95)
    rejected = (p_values < 0.05).any(axis=1).mean()
    assert rejected <= 0.07
    naive = once.p_values(means[:, looked], errors[:, looked], rows[looked].astype(float), 0.95)
    assert (naive < 0.05).any(axis=1).mean() > 0.15
    reach = always.reach(errors[:, looked], rows[looked].astype(float), 0.95)
    np.testing.assert_array_equal(np.abs(means[:, looked]) > reach, p_values < 0.05)


def test_the_interval_is_narrowest_where_that_was_asked_for() -> None:
    reach = [AlwaysValid(rows).reach(np.ones(1), np.array([1_000.0]), 0.95)[0] for rows in (250, 1_000, 4_000)]
    assert reach[1] < min(reach[0], reach[2])
    assert AlwaysValid(1_000).p_values(np.zeros(1), np.ones(1), np.ones(1), 0.95) == 1
