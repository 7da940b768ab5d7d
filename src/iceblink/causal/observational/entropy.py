"""Entropy balancing: the weights nearest to equal ones under which the arms have the same means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.moments import Floats
from iceblink.causal.newton import Start, climbed
from iceblink.causal.observational.adjusting import MODELLED
from iceblink.causal.observational.effects import Effects, RowWeights, effects_of
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.stack import Terms, stacked_means
from iceblink.causal.observational.study import Reader, Rows, Study
from iceblink.causal.observational.target import Estimand, Target, check_arms, check_target
from iceblink.causal.passes import summed
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError


@dataclass(frozen=True)
class EntropyBalancing:
    """Weights exp(λ'x) under which an arm has exactly the confounders' means of the target population [1]_.

    Of all weights that do so they have the least Kullback-Leibler divergence from the sampling weights; λ maximises the
    dual, which is concave. Give the confounders squares and products, as ``I(age ** 2)``, and these are balanced too.
    The effect of the treated is right if either the log odds of treatment or the outcome is linear in what is balanced
    [2]_. Standard errors are those of all estimating equations together: those of the target's means, of λ, and of the
    outcomes.

    Parameters
    ----------
    estimand : {"ATT", "ATE", "ATC"}
        Whose means the others are given.

    References
    ----------
    .. [1] Hainmueller: Entropy balancing for causal effects, Political Analysis 2012, eqs. 2-8.
    .. [2] Zhao, Percival: Entropy balancing is doubly robust, J. Causal Inference 2017, theorem 1.
    """

    estimand: Estimand = "ATT"

    def __post_init__(self) -> None:
        check_target(self.estimand, None, "EntropyBalancing", MODELLED)

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: about seven passes, and two for what the problem's estimators share.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            No weights of an arm give it the target's means: these are outside of what the arm has.
        """
        title, study, target = f"EntropyBalancing of {problem}", problem.study, Target(self.estimand)
        check_arms(target, study, title)
        every = list(study.confounders)
        places = tuple(every[at] for at in solved(study.correlations[np.ix_(every, every)]).kept)
        dropped = tuple(study.names[place] for place in every if place not in places)
        stack = _solved(study, target, places, title)
        means = stacked_means(study, stack, title)
        return effects_of(title, self.estimand, study, means, {}, dropped, RowWeights(stack))


@dataclass(frozen=True, eq=False)
class Balanced:
    """Exponential weights, as a `Stack`.

    Parameters
    ----------
    reader : Reader
    target : Target
    places : tuple of int
        The k columns that are balanced.
    centre : float64 array (k,)
        Their means in the target population.
    tilts : mapping of int to float64 array (k,)
        λ of each arm that is weighted.
    levels : mapping of int to float
        The logarithm of what makes the weights of such an arm add up to the target population's rows.
    means : float64 array (J,)
        The mean outcome of each arm: outcomes are taken less these.
    """

    reader: Reader
    target: Target
    places: tuple[int, ...]
    centre: Floats
    tilts: Mapping[int, Floats]
    levels: Mapping[int, float]
    means: Floats

    @property
    def nuisances(self) -> int:
        return len(self.places) * (1 + len(self.tilts))

    def apart(self, rows: Rows) -> Floats:
        """Return the columns (k, n) of rows less the target's means."""
        return rows.columns[list(self.places)] - self.centre[:, np.newaxis]

    def weights(self, rows: Rows) -> Floats:
        apart, found = self.apart(rows), np.ones(len(rows.arm))
        for arm, tilt in self.tilts.items():
            mine = rows.arm == arm
            found[mine] = np.exp(self.levels[arm] + tilt @ apart[:, mine])
        return found

    def terms(self, rows: Rows) -> Terms:
        width, arms, inner = len(self.places), len(self.means), self.nuisances
        scores, slopes = np.zeros((inner + 2 * arms, len(rows.arm))), np.zeros((inner + 2 * arms, inner))
        apart, member = self.apart(rows), self.target.members(rows.arm, None) * rows.weight
        weights = self.weights(rows) * rows.weight
        scores[:width], slopes[:width, :width] = apart * member, -member.sum() * np.eye(width)
        begin = width
        for arm, mean in enumerate(self.means):
            a, b = inner + arm, inner + arms + arm
            own = np.where(rows.arm == arm, weights, 0.0)
            left = own * (rows.outcome - mean)
            scores[a], scores[b] = left, own
            if arm not in self.tilts:
                continue
            tilt, end = self.tilts[arm], begin + width
            scores[begin:end] = apart * own
            along = apart @ own
            slopes[begin:end, begin:end] = (apart * own) @ apart.T
            slopes[begin:end, :width] = -own.sum() * np.eye(width) - np.outer(along, tilt)
            slopes[a, begin:end], slopes[b, begin:end] = apart @ left, along
            slopes[a, :width], slopes[b, :width] = -left.sum() * tilt, -own.sum() * tilt
            begin = end
        return Terms(scores, slopes)


def _solved(study: Study, target: Target, places: tuple[int, ...], where: str) -> Balanced:
    """Find the weights. Eager: a pass for each step of Newton's method, which has all arms in it."""
    found, columns = study.found, [1 + place for place in places]
    whole = found.total if target.arm is None else found.only(target.arm)
    at = list(places)
    centre = (whole.means[0, columns] - study.reader.centres[at]) / study.reader.scales[at]
    mass = float(whole.weights[0])
    others = tuple(arm for arm in range(len(study.arms)) if arm != target.arm)
    stack = Balanced(study.reader, target, places, centre, {}, {}, study.means)
    _check_variation(study, others, places, whole.means[0, columns], where)
    data, width = study.needed(), len(places)

    def tilted(parameters: Floats, levels: Mapping[int, float]) -> Balanced:
        return replace(
            stack, tilts=dict(zip(others, parameters.reshape(len(others), width), strict=True)), levels=levels
        )

    def dual(parameters: Floats) -> Sums:
        sums = summed(data, _Dual(tilted(parameters, dict.fromkeys(others, 0.0))))
        objective, slope = 0.0, np.zeros((len(others), width))
        curvature = np.zeros((len(others) * width, len(others) * width))
        for number, arm in enumerate(others):
            rows, first = found.weights[arm], sums["first"][number] / sums["mass"][number]
            block = slice(number * width, (number + 1) * width)
            objective -= rows * np.log(sums["mass"][number])
            slope[number] = -rows * first
            curvature[block, block] = rows * (sums["second"][number] / sums["mass"][number] - np.outer(first, first))
        return Sums({"likelihood": np.array(objective), "slope": slope.ravel(), "curvature": curvature})

    spread = np.asarray(np.kron(np.eye(len(others)), study.correlations[np.ix_(at, at)]), np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        maximum = climbed(Start.at(np.zeros(len(others) * width)), dual, spread)
    if not maximum.found:
        far = int(np.argmax(np.abs(maximum.parameters)))
        raise _outside(study, others[far // width], study.names[places[far % width]], where)
    sums = summed(data, _Dual(tilted(maximum.parameters, dict.fromkeys(others, 0.0))))
    levels = {arm: float(np.log(mass / sums["mass"][number])) for number, arm in enumerate(others)}
    return tilted(maximum.parameters, levels)


def _check_variation(
    study: Study, others: tuple[int, ...], places: tuple[int, ...], wanted: Floats, where: str
) -> None:
    """Refuse a column that is the same in all rows of an arm, and not what the target has in the mean."""
    for arm in others:
        for place, mean in zip(places, wanted, strict=True):
            if study.found.products[arm, 1 + place, 1 + place] == 0 and study.found.means[arm, 1 + place] != mean:
                raise _outside(study, arm, study.names[place], where)


def _outside(study: Study, arm: int, column: str, where: str) -> PlanError:
    return PlanError(
        f"no weights give {study.arms.column} {study.arms.names[arm]} the means of the target population: "
        f"look at {column}",
        where,
        "its means are outside of what the arm has: balance fewer terms, or leave out rows that have no like",
    )


@dataclass(frozen=True)
class _Dual:
    """Of each arm that is weighted the sum of weights, and with them of the columns and of their products."""

    stack: Balanced

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            rows = self.stack.reader.rows(batch)
            weights, apart = self.stack.weights(rows) * rows.weight, self.stack.apart(rows)
            mass, first, second = [], [], []
            for arm in self.stack.tilts:
                mine = rows.arm == arm
                weighed = apart[:, mine] * weights[mine]
                mass.append(weights[mine].sum())
                first.append(weighed.sum(axis=1))
                second.append(weighed @ apart[:, mine].T)
        return Sums({"mass": np.array(mass), "first": np.array(first), "second": np.array(second)})
