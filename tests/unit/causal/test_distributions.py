"""Distributions are those of SciPy's statistics, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from iceblink.causal import distributions as ours

DRAW = np.random.default_rng(3)
SHARES = np.concatenate([DRAW.uniform(size=50), [0.5, 0.975, 1e-12, 1.0, np.nan]])
PLACES = np.concatenate([DRAW.normal(size=50) * 10, [0.0, 40.0, np.inf, -np.inf, np.nan]])


def test_the_normal_is_scipys() -> None:
    np.testing.assert_array_equal(ours.normal_below(PLACES), stats.norm.cdf(PLACES))
    np.testing.assert_array_equal(ours.normal_above(PLACES), stats.norm.sf(PLACES))
    np.testing.assert_array_equal(ours.normal_quantile(SHARES), stats.norm.ppf(SHARES))


@pytest.mark.parametrize("freedom", [1, 2.5, 30, 998, 1e11, np.inf, 0, np.nan])
def test_students_t_is_scipys(freedom: float) -> None:
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(ours.t_above(PLACES, freedom), stats.t.sf(PLACES, freedom))
        np.testing.assert_array_equal(ours.t_quantile(SHARES, freedom), stats.t.ppf(SHARES, freedom))


@pytest.mark.parametrize("freedom", [1, 2.5, 30, 998])
def test_chi_squared_is_scipys(freedom: float) -> None:
    places = np.append(np.abs(PLACES) * freedom, -1.0)
    np.testing.assert_array_equal(ours.chi2_below(places, freedom), stats.chi2.cdf(places, freedom))
    np.testing.assert_array_equal(ours.chi2_above(places, freedom), stats.chi2.sf(places, freedom))


@pytest.mark.parametrize("freedom", [(1, 2.5), (3, 59), (30, 998)])
def test_f_is_scipys(freedom: tuple[float, float]) -> None:
    places = np.append(np.abs(PLACES), -1.0)
    np.testing.assert_array_equal(ours.f_above(places, *freedom), stats.f.sf(places, *freedom))


def test_the_binomial_is_scipys_far_out_too() -> None:
    trials = DRAW.integers(1, 3000, 200)
    successes = (trials * DRAW.uniform(size=200)).astype(int) - 1
    for chance in (DRAW.uniform(size=200), np.zeros(200), np.ones(200)):
        found, expected = ours.binomial_above(successes, trials, chance), stats.binom.sf(successes, trials, chance)
        known = ~np.isnan(expected)
        np.testing.assert_allclose(found[known], expected[known], rtol=1e-12)
    assert ours.binomial_above([-1, 5, 7], 5, 0.3).tolist() == [1.0, 0.0, 0.0]
