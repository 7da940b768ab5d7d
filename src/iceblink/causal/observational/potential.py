"""Potential outcomes by a model of the treatment, of the outcome, or of both: their estimating functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from iceblink.causal.moments import Floats
from iceblink.causal.multinomial import Chances, crossed, curved
from iceblink.causal.observational.choice import Choice
from iceblink.causal.observational.outcomes import Outcome
from iceblink.causal.observational.pooled import Pooled
from iceblink.causal.observational.stack import Terms
from iceblink.causal.observational.study import Reader, Rows
from iceblink.causal.observational.target import Target, Tilt

Form = Literal["hajek", "horvitz-thompson", "regression", "augmented"]
Fit = Literal["equal", "inverse", "odds"]
"""Weights of the models of the outcome: equal, h / p, or (1 / p) (1 / p - 1)."""


@dataclass(frozen=True, eq=False)
class Balancing:
    """What weights each row in its own arm.

    Parameters
    ----------
    of : float64 array (n,)
        h / p of its arm.
    slopes : float64 array (L, n)
        Derivatives of its logarithm by the linear scores.
    """

    of: Floats
    slopes: Floats


def balancing(rows: Rows, chances: Chances, target: Target) -> Balancing:
    """Return the balancing weights of rows."""
    tilt, chances, at = target.tilt(chances), target.bounded(chances), np.arange(len(rows.arm))
    return Balancing(tilt.of / chances.of[rows.arm, at], tilt.slopes - chances.slopes[rows.arm, :, at].T)


@dataclass(frozen=True, eq=False)
class Weighing:
    """The weights of rows in the models of the outcome.

    Parameters
    ----------
    choice : Choice
    target : Target
    fit : {"inverse", "odds"}
    """

    choice: Choice
    target: Target
    fit: Fit

    def __call__(self, rows: Rows) -> Floats:
        return weights_of(self.fit, rows, self.choice.chances(rows), self.target).of


def weights_of(fit: Fit, rows: Rows, chances: Chances, target: Target) -> Balancing:
    """Return the weights of rows in the models of the outcome."""
    if fit == "inverse":
        return balancing(rows, chances, target)
    kept, chances, at = target.kept(chances), target.bounded(chances), np.arange(len(rows.arm))
    inverse, slopes = 1.0 / chances.of[rows.arm, at], -chances.slopes[rows.arm, :, at].T
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(inverse > 1, (2 * inverse - 1) / (inverse - 1), 0.0)
    return Balancing(kept * inverse * (inverse - 1), slopes * moved)


@dataclass(frozen=True, eq=False)
class Potential:
    """Means of potential outcomes, as a `Stack`.

    With h the tilt of the target population, p_j the chance of arm j, d_j whether a row has it, m_j the model of its
    outcome, and t whether the row is in the target population, the mean of arm j solves

    - hajek: Σ d_j h / p_j (y - μ_j) = 0
    - horvitz-thompson: Σ (d_j h / p_j y - h μ_j) = 0
    - regression: Σ t (m_j - μ_j) = 0
    - augmented: Σ (t (m_j - μ_j) + d_j h / p_j (y - m_j)) = 0

    Parameters
    ----------
    reader : Reader
    target : Target
    form : {"hajek", "horvitz-thompson", "regression", "augmented"}
    means : float64 array (J,)
        The mean outcome of each arm: outcomes are taken less these.
    choice : Choice or None
    outcomes : tuple of Outcome, or Pooled
        Of each arm, or one for all; none of weights alone.
    fit : {"equal", "inverse", "odds"}
        How those were weighted.
    """

    reader: Reader
    target: Target
    form: Form
    means: Floats
    choice: Choice | None = None
    outcomes: tuple[Outcome, ...] | Pooled = ()
    fit: Fit = "equal"

    @property
    def nuisances(self) -> int:
        models = (self.outcomes,) if isinstance(self.outcomes, Pooled) else self.outcomes
        return self._chosen + sum(len(model.coefficients) for model in models)

    @property
    def _chosen(self) -> int:
        """How many of them are of the model of the treatment."""
        return 0 if self.choice is None else self.choice.coefficients.size

    def weights(self, rows: Rows) -> Floats | None:
        if self.choice is None:
            return None
        return balancing(rows, self.choice.chances(rows), self.target).of

    def terms(self, rows: Rows) -> Terms:
        sheet = _Sheet(self, rows)
        if sheet.chosen is not None:
            sheet.fill_choice(sheet.chosen)
        begin = self._chosen
        if isinstance(self.outcomes, Pooled):
            sheet.fill_pooled(self.outcomes, begin)
            return Terms(sheet.scores, sheet.slopes)
        for arm in range(len(self.means)):
            if self.outcomes:
                begin = sheet.fill_modelled(self.outcomes[arm], arm, begin)
            elif sheet.chosen is not None:
                sheet.fill_weighted(arm, sheet.chosen)
        return Terms(sheet.scores, sheet.slopes)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What the model of the treatment says of rows."""

    columns: Floats
    linear: Floats
    chances: Chances
    tilt: Tilt
    weights: Balancing


class _Sheet:
    """The terms of some rows, block by block: nuisances of the treatment, of each outcome, then a and b of each arm."""

    def __init__(self, stack: Potential, rows: Rows) -> None:
        self.stack, self.rows = stack, rows
        self.inner, self.arms = stack.nuisances, len(stack.means)
        self.scores = np.zeros((self.inner + 2 * self.arms, len(rows.arm)))
        self.slopes = np.zeros((self.inner + 2 * self.arms, self.inner))
        self.chosen: _Chosen | None = None
        if stack.choice is not None:
            columns = rows.beside_ones(stack.choice.places)
            linear = np.asarray(stack.choice.coefficients @ columns)
            chances = stack.choice.curve.chances(linear)
            weights = balancing(rows, chances, stack.target)
            self.chosen = _Chosen(columns, linear, chances, stack.target.tilt(chances), weights)
        members = stack.target.members(rows.arm, None if self.chosen is None else self.chosen.chances)
        self.members = members * rows.weight

    def fill_choice(self, chosen: _Chosen) -> None:
        rows, end = self.rows, chosen.linear.shape[0] * len(chosen.columns)
        assert self.stack.choice is not None
        own = chosen.chances.slopes[rows.arm, :, np.arange(len(rows.arm))].T * rows.weight
        factors = self.stack.choice.curve.curvature(chosen.linear, rows.arm, chosen.chances) * rows.weight
        self.scores[:end] = (own[:, np.newaxis] * chosen.columns).reshape(end, -1)
        self.slopes[:end, :end] = -curved(factors, chosen.columns)

    def fill_weighted(self, arm: int, chosen: _Chosen) -> None:
        """Fill in the mean of an arm by weights alone."""
        rows, mean, end = self.rows, self.stack.means[arm], chosen.linear.shape[0] * len(chosen.columns)
        a, b = self.inner + arm, self.inner + self.arms + arm
        weighed = self._own(arm) * chosen.weights.of
        if self.stack.form == "hajek":
            left = weighed * (rows.outcome - mean)
            self.scores[a], self.scores[b] = left, weighed
            self.slopes[a, :end] = _along(chosen.weights.slopes * left, chosen.columns)
            self.slopes[b, :end] = _along(chosen.weights.slopes * weighed, chosen.columns)
        else:
            whole, mass = weighed * rows.outcome, rows.weight * chosen.tilt.of
            self.scores[a], self.scores[b] = whole - mass * mean, mass
            moved = chosen.weights.slopes * whole - chosen.tilt.slopes * (mass * mean)
            self.slopes[a, :end] = _along(moved, chosen.columns)
            self.slopes[b, :end] = _along(chosen.tilt.slopes * mass, chosen.columns)

    def fill_modelled(self, model: Outcome, arm: int, begin: int) -> int:
        """Fill in the model of an arm's outcome, and its mean by that; return where the next model begins."""
        design = self.rows.beside_ones(model.places)
        block = slice(begin, begin + len(model.coefficients))
        self._fill_equations(block, design, model.coefficients, self._own(arm))
        self._fill_mean(arm, block, design, model.coefficients)
        return block.stop

    def fill_pooled(self, model: Pooled, begin: int) -> None:
        """Fill in one model of all arms' outcomes, and the means by that."""
        rows, block = self.rows, slice(begin, begin + len(model.coefficients))
        self._fill_equations(block, model.design(rows, rows.arm), model.coefficients, rows.weight)
        for arm in range(self.arms):
            self._fill_mean(arm, block, model.design(rows, np.full(len(rows.arm), arm)), model.coefficients)

    def _fill_equations(self, block: slice, design: Floats, coefficients: Floats, fitting: Floats) -> None:
        """Fill in the normal equations of a model of the outcome, of rows with weights."""
        stack, rows, chosen = self.stack, self.rows, self.chosen
        left = rows.outcome - coefficients @ design
        if stack.fit != "equal" and chosen is not None:
            how = weights_of(stack.fit, rows, chosen.chances, stack.target)
            fitting = fitting * how.of
            moved = crossed((how.slopes * (fitting * left))[np.newaxis], design, chosen.columns)
            self.slopes[block, : moved.shape[1]] = moved
        self.scores[block] = design * (fitting * left)
        self.slopes[block, block] = -(design * fitting) @ design.T

    def _fill_mean(self, arm: int, block: slice, design: Floats, coefficients: Floats) -> None:
        """Fill in the mean of an arm by a model, as if all rows had that arm."""
        stack, rows, chosen = self.stack, self.rows, self.chosen
        a, b = self.inner + arm, self.inner + self.arms + arm
        expected = coefficients @ design
        self.scores[a], self.scores[b] = self.members * (expected - stack.means[arm]), self.members
        self.slopes[a, block] = design @ self.members
        if stack.form == "augmented" and chosen is not None:
            left, weighed = rows.outcome - expected, self._own(arm) * chosen.weights.of
            self.scores[a] += weighed * left
            self.slopes[a, block] -= design @ weighed
            turned = _along(chosen.weights.slopes * (weighed * left), chosen.columns)
            self.slopes[a, : len(turned)] = turned

    def _own(self, arm: int) -> Floats:
        """The sampling weights of an arm's rows, of others 0."""
        return np.where(self.rows.arm == arm, self.rows.weight, 0.0)


def _along(factors: Floats, columns: Floats) -> Floats:
    """Return the sums over rows of factors (L, n) times columns (k, n), as they stand in the coefficients (Lk,)."""
    return np.asarray((factors @ columns.T).ravel())
