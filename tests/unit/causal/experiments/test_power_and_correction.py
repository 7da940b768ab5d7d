"""Power is what a peer says, each way, and so are p-values of many comparisons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower

from iceblink.causal.experiments.mismatch import sample_ratio
from iceblink.causal.experiments.multiple import CORRECTIONS, Correction, adjusted
from iceblink.causal.experiments.power import PowerAnalysis
from iceblink.errors import ConfigError

PEER: dict[str, str] = {"bonferroni": "bonferroni", "holm": "holm", "bh": "fdr_bh", "by": "fdr_by"}


def modelled(p_values: list[float], correction: str) -> list[float]:
    """Return for each the smallest level of the family at which the procedure rejects it, written out."""
    count, by_size = len(p_values), sorted(p_values)
    harmonic = sum(1 / rank for rank in range(1, count + 1)) if correction == "by" else 1.0
    found = []
    for p in p_values:
        if correction == "bonferroni":
            raised = p * count
        elif correction == "holm":
            raised = max(q * (count - rank) for rank, q in enumerate(by_size) if q <= p)
        else:
            raised = min(q * harmonic * count / rank for rank, q in enumerate(by_size, 1) if q >= p)
        found.append(min(raised, 1.0))
    return found


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=12), correction=st.sampled_from(CORRECTIONS))
def test_corrections_are_their_procedures(p_values: list[float], correction: Correction) -> None:
    np.testing.assert_allclose(adjusted(np.array(p_values), correction), modelled(p_values, correction), 1e-12, 1e-300)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_corrections_are_those_of_statsmodels(correction: Correction) -> None:
    p_values = np.random.default_rng(1).uniform(size=30) ** 3
    _, expected, *_ = multipletests(p_values, method=PEER[correction])
    np.testing.assert_allclose(adjusted(p_values, correction), expected, 1e-12)


def test_what_has_no_p_value_is_not_counted() -> None:
    found = adjusted(np.array([0.01, np.nan, 0.04]), "bonferroni")
    np.testing.assert_array_equal(found, [0.02, np.nan, 0.08])
    assert np.isnan(adjusted(np.array([np.nan]), "bh")).all()


@given(
    effect=st.floats(0.01, 1), std_dev=st.floats(0.1, 9), rows=st.integers(50, 100_000), share=st.floats(0.1, 0.9),
    level=st.sampled_from([0.8, 0.95, 0.999]),
)  # fmt: skip
def test_power_is_that_of_statsmodels(effect: float, std_dev: float, rows: int, share: float, level: float) -> None:
    analysis = PowerAnalysis.of_mean(std_dev, share, level)
    peer = NormalIndPower().power(effect / std_dev, rows * (1 - share), 1 - level, share / (1 - share))
    assert analysis.power(effect, rows) == pytest.approx(peer, rel=1e-9)


@given(variance=st.floats(0.1, 1e6), power=st.floats(0.1, 0.999), rows=st.integers(100, 10**9))
def test_the_three_ways_agree(variance: float, power: float, rows: int) -> None:
    analysis = PowerAnalysis(variance)
    effect = analysis.effect(rows, power)
    assert analysis.power(effect, rows) == pytest.approx(power, abs=1e-9)
    assert abs(analysis.rows(effect, power) - rows) <= 1 + 1e-9 * rows


def test_a_rise_from_a_tenth_by_a_hundredth() -> None:
    analysis = PowerAnalysis.of_conversion(0.10, 0.11)
    assert analysis.rows(0.01) == 29_497  # 2 · 7.849 · (0.09 + 0.0979) / 0.01²; 14,749 an arm, as textbooks have it


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PowerAnalysis(0.0),
        lambda: PowerAnalysis(1.0, 95),
        lambda: PowerAnalysis(1.0).rows(0.0),
        lambda: PowerAnalysis(1.0).rows(1.0, 0.05),
        lambda: PowerAnalysis(1.0).rows(float("nan")),
        lambda: PowerAnalysis(1.0).power(1.0, 0),
        lambda: PowerAnalysis(1.0).effect(-5),
        lambda: PowerAnalysis.of_conversion(0.0, 0.1),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_sample_ratio_is_pearsons_test() -> None:
    found = sample_ratio(["a", "b", "c"], [520, 480, 1_000], {"a": 1, "b": 1, "c": 2}, "here")
    assert (found.statistic, found.p_value) == pytest.approx((1.6, np.exp(-0.8)), rel=1e-12)
    assert list(found.expected) == [500, 500, 1_000]
    assert not found.alarming
