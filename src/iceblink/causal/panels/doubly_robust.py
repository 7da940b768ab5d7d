"""Group-time effects given covariates: doubly robust, by outcome regressions and odds of treatment.

A model of the odds of treatment is made for each cohort and those it is compared with, all of them in the same passes;
changes of outcomes are regressed by the moments of cohorts. One more pass has the means that the influence functions
are made of, and one their squares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.blas import one_thread
from iceblink.causal.late import special
from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import Floats
from iceblink.causal.panels.cohorts import ByCohort, Cohorts, Units
from iceblink.causal.panels.group_time import (
    Base,
    Comparison,
    Control,
    GroupTimeEffects,
    assembled,
    between_cohorts,
    comparisons,
)
from iceblink.causal.passes import summed
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError

MOST_STEPS = 30
CLOSE = 1e-18
"""Newton's method ends where the log likelihood that a step still gains is less than this for each unit."""
FAR = 40.0
"""And gives up where log odds change by more than this with one standard deviation of a covariate."""


@dataclass(frozen=True, eq=False)
class _Models:
    """Models of all comparisons, `q` coefficients each, the intercept's first.

    Parameters
    ----------
    matrix, grouping
        What a unit's outcomes, covariates and cohort are read by.
    numbers : tuple of int
        By which the grouping knows the cohorts.
    periods : int
        How many columns of the matrix are outcomes.
    centres, scales : float64 arrays (q - 1,)
        By which covariates are standardised.
    compared : tuple of Comparison
    odds : float64 array (m, q)
        Log odds of being in a cohort and not in those it is compared with; comparisons of equal ones share a model.
    outcomes : float64 array (k, q)
        Changes of the outcome in the cohorts that are compared with.
    """

    matrix: Matrix
    grouping: ByCohort
    numbers: tuple[int, ...]
    periods: int
    centres: Floats
    scales: Floats
    compared: tuple[Comparison, ...]
    odds: Floats
    outcomes: Floats

    @cached_property
    def sides(self) -> list[tuple[int, tuple[int, ...]]]:
        """The cohort, and those compared with it, of each model of odds."""
        return list(dict.fromkeys((one.group, one.pool) for one in self.compared))

    def read(self, batch: pa.RecordBatch) -> _Batch:
        """Return what is needed of units."""
        values = self.matrix.filled(batch)
        covariates = (values[self.periods :] - self.centres[:, np.newaxis]) / self.scales[:, np.newaxis]
        cohort = np.searchsorted(self.numbers, self.grouping.numbers(batch))
        return _Batch(values[: self.periods], np.concatenate([np.ones((1, batch.num_rows)), covariates]), cohort)

    def sides_of(self, units: _Batch, at: int) -> _Sides:
        """Return both sides of a comparison."""
        one = self.compared[at]
        treated, others = units.cohort == one.group, np.isin(units.cohort, one.pool)
        log_odds = self.odds[self.sides.index((one.group, one.pool))] @ units.covariates
        return _Sides(
            treated.astype(np.float64),
            others.astype(np.float64),
            np.where(others, np.exp(np.where(others, log_odds, 0.0)), 0.0),
            special.expit(log_odds),
            units.outcomes[one.at] - units.outcomes[one.before] - self.outcomes[at] @ units.covariates,
        )


@dataclass(frozen=True, eq=False)
class _Sides:
    """Units (n,) of a comparison.

    Parameters
    ----------
    treated, others : float64 arrays of 0 and 1
        Who is treated, and who compared with.
    odds : float64 array
        Of being treated, of those compared with; else 0.
    chance : float64 array
        Of being treated, among both.
    left : float64 array
        What the regression leaves of the change of the outcome.
    """

    treated: Floats
    others: Floats
    odds: Floats
    chance: Floats
    left: Floats


@dataclass(frozen=True, eq=False)
class _Batch:
    """Outcomes (T, n), covariates under a row of ones (q, n), and cohorts (n,)."""

    outcomes: Floats
    covariates: Floats
    cohort: NDArray[np.intp]


def doubly_robust(cohorts: Cohorts, units: Units, control: Control, base: Base) -> GroupTimeEffects:
    """Estimate ATT(g, t) given covariates (Sant'Anna, Zhao 2020), with the errors of both models. Eager.

    Raises
    ------
    ConfigError
    PlanError
        There is nothing to compare with, covariates tell a cohort from others without error, or one follows from the
        others.
    """
    title = f"Group-time ATT: {cohorts.title}"
    compared = tuple(comparisons(cohorts, control, base))
    models = _odds(_outcomes(cohorts, units, compared, title), units, title)
    means = summed(units.data, _Means(models))
    spread = summed(units.data, _Squares(models, means, float(cohorts.units.sum())))
    count = float(cohorts.units.sum())
    values = means["treated"] / means["members"] - means["weighted"] / means["odds"]
    between = spread["by cohort"] / cohorts.units
    within = spread["squares"] / count**2 - between_cohorts(between, cohorts)
    facts = {"control": control, "base": base, "given": ", ".join(units.matrix.names[len(cohorts.periods) :])}
    return assembled(cohorts, compared, values, within, between, facts)


def _outcomes(cohorts: Cohorts, units: Units, compared: tuple[Comparison, ...], title: str) -> _Models:
    """Regress changes of outcomes on covariates, by moments of the cohorts that are compared with."""
    periods = len(cohorts.periods)
    total = units.found.total
    products = total.products[0][periods:, periods:]
    kept = solved(products).kept
    if len(kept) < len(products):
        lost = next(at for at in range(len(products)) if at not in kept)
        name = units.matrix.names[periods + lost]
        raise PlanError(f"covariate {name} is constant, or follows from those before it", title, "leave it out")
    centres, scales = total.means[0][periods:], np.sqrt(np.diag(products) / total.weights[0])
    slopes = np.zeros((len(compared), len(products) + 1))
    for at, one in enumerate(compared):
        pool = units.found.among([int(units.found.groups[place]) for place in one.pool])
        if pool.rows[0] <= slopes.shape[1]:
            raise PlanError(
                f"{pool.rows[0]:,} units are too few to compare with", title, "fewer covariates, or cohorts"
            )
        inner = pool.products[0][periods:, periods:] / np.outer(scales, scales)
        change = (pool.products[0][periods:, one.at] - pool.products[0][periods:, one.before]) / scales
        found = solved(inner)
        slopes[at, 1 + found.kept] = found.inverse @ change[found.kept]
        mean = (pool.means[0][periods:] - centres) / scales
        slopes[at, 0] = pool.means[0][one.at] - pool.means[0][one.before] - slopes[at, 1:] @ mean
    none = np.zeros((0, slopes.shape[1]))
    numbers = tuple(map(int, units.found.groups))
    return _Models(units.matrix, units.grouping, numbers, periods, centres, scales, compared, none, slopes)


def _odds(models: _Models, units: Units, title: str) -> _Models:
    """Find the log odds of all models by Newton's method, a pass for each step."""
    count = len(models.sides)
    models = replace(models, odds=np.zeros((count, models.outcomes.shape[1])))
    for _ in range(MOST_STEPS):
        found = summed(units.data, _Slopes(models))
        steps = np.stack([_solved(found["curvature"][at], found["slope"][at]) for at in range(count)])
        gains = np.einsum("mq,mq->m", found["slope"], steps)
        if (gains <= CLOSE * found["units"]).all():
            return models
        models = replace(models, odds=models.odds + steps)
        if np.abs(models.odds[:, 1:]).max(initial=0) > FAR:
            break
    raise PlanError(
        "covariates tell some cohort from those it is compared with without error",
        title,
        "there is nobody alike to compare with: leave a covariate out, or make it coarser",
    )


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Gradient and curvature of the log likelihoods of all models of odds."""

    models: _Models

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        units = self.models.read(batch)
        width = len(units.covariates)
        count = len(self.models.sides)
        slope, curvature, members = np.zeros((count, width)), np.zeros((count, width, width)), np.zeros(count)
        with one_thread():
            for at, (group, pool) in enumerate(self.models.sides):
                rows = np.flatnonzero(np.isin(units.cohort, (group, *pool)))
                covariates = units.covariates[:, rows]
                chance = special.expit(self.models.odds[at] @ covariates)
                slope[at] = covariates @ ((units.cohort[rows] == group) - chance)
                curvature[at] = covariates * (chance * (1 - chance)) @ covariates.T
                members[at] = len(rows)
        return Sums({"slope": slope, "curvature": curvature, "units": members})


@dataclass(frozen=True, eq=False)
class _Means:
    """Sums over units, for each comparison, of what effects and influence functions are made of."""

    models: _Models

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        units = self.models.read(batch)
        covariates, width, count = units.covariates, len(units.covariates), len(self.models.compared)
        found = {name: np.zeros(count) for name in ("members", "odds", "treated", "weighted")}
        rows = {name: np.zeros((count, width)) for name in ("of members", "of odds", "of weighted")}
        squares = {name: np.zeros((count, width, width)) for name in ("others", "curvature")}
        with one_thread():
            for at in range(count):
                one = self.models.sides_of(units, at)
                found["members"][at], found["odds"][at] = one.treated.sum(), one.odds.sum()
                found["treated"][at], found["weighted"][at] = one.left @ one.treated, one.left @ one.odds
                rows["of members"][at], rows["of odds"][at] = covariates @ one.treated, covariates @ one.odds
                rows["of weighted"][at] = covariates @ (one.odds * one.left)
                squares["others"][at] = covariates * one.others @ covariates.T
                curvature = one.chance * (1 - one.chance) * (one.treated + one.others)
                squares["curvature"][at] = covariates * curvature @ covariates.T
        return Sums({**found, **rows, **squares})


@dataclass(frozen=True, eq=False)
class _Squares:
    """Squares of influence functions (k, k), and their sums by cohort (k, C).

    A unit's is that of `drdid_panel` in the units that are compared, times how much fewer these are than all.
    """

    models: _Models
    means: Sums
    count: float

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        units, means = self.models.read(batch), self.means
        found = np.zeros((len(self.models.compared), batch.num_rows))
        with one_thread():
            for at in range(len(found)):
                one = self.models.sides_of(units, at)
                members, odds = means["members"][at], means["odds"][at]
                effect, apart = means["treated"][at] / members, means["weighted"][at] / odds
                covariates = means["of members"][at] / members - means["of odds"][at] / odds
                regressed = _solved(means["others"][at], covariates)
                turned = _solved(
                    means["curvature"][at], (means["of weighted"][at] - apart * means["of odds"][at]) / odds
                )
                found[at] = one.treated * (one.left - effect) / members - one.odds * (one.left - apart) / odds
                found[at] -= one.others * one.left * (regressed @ units.covariates)
                found[at] -= (one.treated + one.others) * (one.treated - one.chance) * (turned @ units.covariates)
            found *= self.count
            by_cohort = found @ (units.cohort[:, np.newaxis] == np.arange(len(self.models.numbers)))
            return Sums({"squares": found @ found.T, "by cohort": by_cohort})


def _solved(matrix: Floats, right: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=1e-14)[0])
