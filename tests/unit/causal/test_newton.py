"""Newton's method begins near the maximum, ends at it, and says when there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iceblink.causal.moments import Floats, Integers
from iceblink.causal.multinomial import LOGITS, curved
from iceblink.causal.newton import Maximum, Start, climbed
from iceblink.causal.regression.link import Exponential, Identity, Link, Logistic
from iceblink.causal.sums import Sums

ROWS = 3_000
DRAW = np.random.default_rng(8)
NORMAL = DRAW.normal([[0.0], [5.0], [-2.0]], 1.0, (3, ROWS))
WEIGHT = DRAW.uniform(0.5, 2, ROWS)
DESIGNS = {
    "normal": NORMAL,
    "heavy tails": DRAW.standard_t(3, size=(3, ROWS)),
    "skewed": np.exp(DRAW.normal(size=(3, ROWS))),
    "zeros and ones": (DRAW.random((3, ROWS)) < [[0.5], [0.9], [0.2]]).astype(np.float64),
}


class Logit:
    """The likelihood of arms (n,) by columns (k, n), which counts how often it is asked."""

    def __init__(self, columns: Floats, arm: Integers, weight: Floats | None = None) -> None:
        self.columns, self.arm = np.concatenate([np.ones((1, columns.shape[1])), columns]), arm
        self.weight = np.ones(len(arm)) if weight is None else weight
        self.asked = 0

    def __call__(self, parameters: Floats) -> Sums:
        self.asked += 1
        scores = parameters.reshape(-1, len(self.columns)) @ self.columns
        chances = LOGITS.chances(scores)
        own = chances.slopes[self.arm, :, np.arange(len(self.arm))].T
        return Sums(
            {
                "likelihood": np.array(self.weight @ LOGITS.likelihood(scores, self.arm)),
                "slope": ((own * self.weight) @ self.columns.T).ravel(),
                "curvature": curved(LOGITS.curvature(scores, self.arm, chances) * self.weight, self.columns),
            }
        )

    def climbed(self, start: Start) -> Maximum:
        inside = self.columns * self.weight @ self.columns.T / self.weight.sum()
        return climbed(start, self, np.asarray(np.kron(np.eye(self.arm.max()), inside), np.float64))

    def start(self) -> Start:
        columns = self.columns[1:]
        shares = np.bincount(self.arm, self.weight) / self.weight.sum()
        of_arms = [np.average(columns[:, mine], 1, self.weight[mine]) for mine in map(self._in, range(len(shares)))]
        apart = columns - np.average(columns, 1, self.weight)[:, np.newaxis]
        products = apart * self.weight @ apart.T / self.weight.sum()
        return LOGITS.start(shares, np.array(of_arms), products, float(self.weight.sum()))

    def _in(self, arm: int) -> Integers:
        return np.flatnonzero(self.arm == arm)


def drawn(columns: Floats, arms: int) -> Integers:
    draw = np.random.default_rng(3)
    slopes = draw.uniform(-1, 1, (arms - 1, len(columns))) / columns.std(axis=1)
    scores = slopes @ (columns - columns.mean(axis=1)[:, np.newaxis]) - 0.5
    every = np.concatenate([np.zeros((1, ROWS)), scores]) + draw.gumbel(size=(arms, ROWS))
    return np.asarray(every.argmax(axis=0), np.int64)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("arms", [2, 3])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_logit_begins_near_its_maximum_and_ends_at_it(design: str, arms: int, weighted: bool) -> None:
    columns = DESIGNS[design]
    weight = WEIGHT if weighted else None
    near, far = (Logit(columns, drawn(columns, arms), weight) for _ in range(2))
    found = near.climbed(near.start())
    wanted = far.climbed(Start.at(near.start().parameters))
    assert found.found
    assert wanted.found
    assert near.asked < far.asked
    there = near(found.parameters)
    errors = np.sqrt(np.diag(np.linalg.inv(there["curvature"])))
    np.testing.assert_allclose((found.parameters - wanted.parameters) / errors, 0, atol=1e-8)
    assert there["slope"] @ np.linalg.solve(there["curvature"], there["slope"]) < 1e-16  # squares of standard errors


def test_equal_chances_have_the_likelihood_that_a_start_says() -> None:
    logit = Logit(NORMAL, drawn(NORMAL, 3), WEIGHT)
    start = logit.start()
    assert start.objective == pytest.approx(float(logit(start.parameters)["likelihood"]), rel=1e-12)
    assert logit(start.parameters + start.step)["likelihood"] > start.objective


@pytest.mark.parametrize("times", [5, 300])
def test_a_first_step_that_leads_too_far_is_taken_back(times: float) -> None:
    logit = Logit(NORMAL, drawn(NORMAL, 2))
    start = logit.start()
    wanted = logit.climbed(start)
    found = logit.climbed(Start(start.parameters, times * start.step, start.objective))
    assert found.found
    np.testing.assert_allclose(found.parameters, wanted.parameters, rtol=1e-9)


@pytest.mark.parametrize("treated", [9, 5])
def test_a_small_category_that_often_has_a_rare_arm_has_a_maximum(treated: int) -> None:
    draw, rows = np.random.default_rng(0), 30_000
    x, category = draw.normal(size=rows), np.zeros(rows)
    arm = (draw.random(rows) < 1 / (1 + np.exp(5 - 1.2 * x))).astype(np.int64)
    category[:10], arm[:10] = 1.0, np.arange(10) < treated
    logit = Logit(np.stack([x, category]), arm)
    found = logit.climbed(logit.start())
    assert found.found
    scores = found.parameters @ logit.columns
    np.testing.assert_allclose(logit.columns @ (arm - 1 / (1 + np.exp(-scores))), 0, atol=1e-7)


def test_arms_that_columns_tell_apart_have_no_maximum() -> None:
    for arm in (NORMAL[0] > 0.5, NORMAL[0] + NORMAL[2] > -2):  # by one column, and by two together
        logit = Logit(NORMAL, arm.astype(np.int64))
        assert not logit.climbed(logit.start()).found
    alone = np.stack([NORMAL[0], (NORMAL[0] > 0.5) * 3.0 + 1.0])  # varies by arm alone
    logit = Logit(alone, (NORMAL[0] > 0.5).astype(np.int64))
    assert not logit.start().step.any()
    assert not logit.climbed(logit.start()).found


@pytest.mark.parametrize(
    ("link", "outcomes"),
    [
        (Logistic(), np.array([0.0, 1.0])),
        (Exponential(), np.array([0.0, 7.0])),
        (Identity(), np.array([-2.0, 0.3])),
    ],
)
def test_likelihoods_have_the_slopes_and_curvatures_that_they_say(link: Link, outcomes: Floats) -> None:
    scores = np.array([-4.0, -0.3, 0.0, 2.0])
    outcome, score = (grid.ravel() for grid in np.meshgrid(outcomes, scores))
    moved: Callable[[float], Floats] = lambda by: link.likelihood(outcome, score + by).of  # noqa: E731
    here, by = link.likelihood(outcome, score), 1e-4
    np.testing.assert_allclose(here.slope, (moved(by) - moved(-by)) / (2 * by), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(here.curvature, -(moved(by) - 2 * here.of + moved(-by)) / by**2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(here.slope, outcome - link.mean(score), rtol=1e-14, atol=1e-15)


def test_a_logistic_likelihood_is_a_number_far_out() -> None:
    found = Logistic().likelihood(np.array([0.0, 1.0, 1.0]), np.array([800.0, 800.0, -800.0]))
    assert found.of.tolist() == [-800.0, 0.0, -800.0]
    assert found.slope.tolist() == [-1.0, 0.0, 1.0]
    assert found.curvature.tolist() == [0.0, 0.0, 0.0]
