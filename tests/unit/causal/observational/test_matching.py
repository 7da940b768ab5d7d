"""Matches are those that a double loop finds, with ties, calipers and lonely rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.observational.matching import _Matching
from iceblink.causal.observational.target import Estimand

Row = tuple[int, int, float]


def nearest(rows: list[Row], score: int, arm: int, caliper: float, beside: int | None = None) -> list[int]:
    """Return which rows of an arm are nearest to a score."""
    others = [at for at, row in enumerate(rows) if row[1] == arm and at != beside]
    least = min((abs(rows[at][0] - score) for at in others), default=float("inf"))
    return [at for at in others if abs(rows[at][0] - score) == least] if least <= caliper else []


def looped(rows: list[Row], estimand: Estimand, caliper: float) -> tuple[float, float, list[float]] | None:
    """Return the effect, its variance and the rows' weights by the formulas as they are printed."""
    matched = {"ATT": (1,), "ATC": (0,), "ATE": (0, 1)}[estimand]
    effects, used, used_squares, has = {}, [0.0] * len(rows), [0.0] * len(rows), [0.0] * len(rows)
    for at, (score, arm, outcome) in enumerate(rows):
        found = nearest(rows, score, 1 - arm, caliper) if arm in matched else []
        if found:
            has[at] = 1.0
            effects[at] = (2 * arm - 1) * (outcome - sum(rows[one][2] for one in found) / len(found))
            for one in found:
                used[one] += 1 / len(found)
                used_squares[one] += 1 / len(found) ** 2
    if not effects:
        return None
    effect = sum(effects.values()) / len(effects)
    variance = sum((one - effect) ** 2 for one in effects.values())
    for at, (score, arm, outcome) in enumerate(rows):
        like = nearest(rows, score, arm, float("inf"), beside=at)
        if like:
            apart = outcome - sum(rows[one][2] for one in like) / len(like)
            noise = len(like) / (len(like) + 1) * apart**2
            variance += (used[at] ** 2 - used_squares[at] + 2 * used[at] * has[at]) * noise
    return effect, variance / len(effects) ** 2, [a + b for a, b in zip(has, used, strict=True)]


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1), st.floats(-5, 5)), min_size=1, max_size=25),
    estimand=st.sampled_from(["ATT", "ATC", "ATE"]),
    caliper=st.sampled_from([0, 1, float("inf")]),
)
def test_a_range_is_matched_as_two_loops_do(rows: list[Row], estimand: Estimand, caliper: float) -> None:
    rows = sorted(rows)
    expected = looped(rows, estimand, caliper)
    scores, arm, outcome = (np.array(column) for column in zip(*rows, strict=True))
    sums, weights = _Matching(estimand, caliper).of(scores.astype(float), arm, outcome)
    if expected is None:
        assert sums["rows"] == 0
        return
    count, effect = float(sums["rows"]), float(sums["apart"] / sums["rows"])
    variance = float(sums["squares"] - 2 * effect * sums["apart"] + effect**2 * count + sums["noise"]) / count**2
    assert (effect, variance) == pytest.approx(expected[:2], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(weights, expected[2], rtol=1e-12)


@pytest.fixture
def lake(tmp_path: Any) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path) as opened:
        yield opened


def test_a_study_is_matched_on_its_scores(lake: ib.Lake) -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=300)
    arm = (draw.uniform(size=300) < 1 / (1 + np.exp(-x))).astype(int)
    data = lake.from_arrow({"y": x + arm + draw.normal(size=300), "t": arm, "x": x})
    problem = ci.Problem(data, "y", "t", "x")
    found = ci.NearestNeighbour().fit(problem)
    rows = [(row["x"], row["t"], row["y"]) for row in data.to_pylist()]  # the score is a line of x
    expected = looped(rows, "ATT", float("inf"))
    assert expected is not None
    assert found["ATT"] == pytest.approx(expected[0], rel=1e-10)
    assert found.error("ATT") == pytest.approx(expected[1] ** 0.5, rel=1e-10)
    weighted = {row["x"]: row["weight"] for row in found.weighted().to_pylist()}
    assert [weighted[row[0]] for row in rows] == pytest.approx(expected[2])
    assert found.balance().worst < problem.balance().worst / 2
    near = ci.NearestNeighbour(caliper=0.001).fit(problem)
    assert near.facts["rows left out"] + near.facts["rows matched"] == arm.sum()
    assert "without a match" in near.summary()
