"""Means of potential outcomes by M-estimation: models that were fitted before them are part of their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.observational.study import Reader, Rows, Study
from iceblink.causal.passes import summed
from iceblink.causal.regression.sandwich import squares_by_cluster, told_of_clusters
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError


@dataclass(frozen=True, eq=False)
class Terms:
    """The estimating functions of `n` rows at the fitted nuisances, and what they change by.

    The mean of arm j solves Σ (a_j - b_j μ_j) = 0, so neither a nor b knows it.

    Parameters
    ----------
    scores : float64 array (q + 2J, n)
        Of the q nuisance parameters, then a of each arm, then b of each arm.
    slopes : float64 array (q + 2J, q)
        The sum over the rows of their derivatives by the nuisance parameters.
    """

    scores: Floats
    slopes: Floats


class Stack(Protocol):
    """Estimating functions of nuisances and of the means of `arms` arms."""

    @property
    def reader(self) -> Reader: ...

    @property
    def nuisances(self) -> int:
        """How many nuisance parameters there are."""

    def terms(self, rows: Rows) -> Terms: ...

    def weights(self, rows: Rows) -> Floats | None:
        """Return how much each row (n,) counts in the mean of its arm; None where rows are not weighted."""


@dataclass(frozen=True, eq=False)
class Means:
    """Means of potential outcomes (J,) with their covariance (J, J).

    Parameters
    ----------
    values, covariance : float64 arrays
    convention : str
    effective : float64 array (J,)
        Of each arm how many rows of equal weight would say as much (Kish); NaN where rows are not weighted.
    heavy : int
        Rows that stand for more than 100.
    freedom : float
        Degrees of freedom of Student's t: with G clusters G - 1, else infinite.
    """

    values: Floats
    covariance: Floats
    convention: str
    effective: Floats
    heavy: int
    freedom: float = np.inf


HEAVY = 100.0


def stacked_means(study: Study, stack: Stack, where: str) -> Means:
    """Solve for the means, with the sandwich of all estimating functions together [1]_.

    Eager: one pass, for the means and their errors; with clusters a second one, and the factor G / (G - 1).

    References
    ----------
    .. [1] Stefanski, Boos: The calculus of M-estimation, American Statistician 2002, eqs. 9-11.
    """
    arms, inner = len(study.arms), stack.nuisances
    found = summed(study.needed(), _Stacked(stack))
    total, slopes, meat = found["scores"], found["slopes"], found["meat"]
    mass = total[inner + arms :]
    if not (mass > 0).all():
        arm = study.arms.names[int(np.argmin(mass))]
        raise PlanError(
            f"no row of {study.arms.column} {arm} has weight",
            where,
            "trim less, or look at `Propensity(...).overlap()`",
        )
    shift = total[inner : inner + arms] / mass
    convention, freedom = "sandwich of the stacked equations", np.inf
    if study.cluster:
        width = inner + 2 * arms
        meat, groups = squares_by_cluster(study.needed(*study.cluster), _Scores(stack, width), study.cluster)
        meat = meat * (groups / (groups - 1))
        convention, freedom = f"{convention}, {told_of_clusters(study.cluster, groups)}", groups - 1
    joined = np.zeros((inner + arms, inner + 2 * arms))  # from a and b to a - b μ
    joined[: inner + arms, : inner + arms] = np.eye(inner + arms)
    joined[inner + np.arange(arms), inner + arms + np.arange(arms)] = -shift
    bread = np.zeros((inner + arms, inner + arms))
    bread[:, :inner] = joined @ slopes
    bread[inner + np.arange(arms), inner + np.arange(arms)] = -mass
    half = np.linalg.solve(bread, joined)[inner:]
    effective = np.divide(found["weight"] ** 2, found["squares"], out=np.full(arms, np.nan), where=found["squares"] > 0)
    return Means(study.means + shift, half @ meat @ half.T, convention, effective, int(found["heavy"]), freedom)


@dataclass(frozen=True)
class _Stacked:
    """Sums over a block of rows of the scores, their products and their derivatives, and of the rows' weights."""

    stack: Stack

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        with one_thread():
            rows = self.stack.reader.rows(batch)
            terms = self.stack.terms(rows)
            arms = len(self.stack.reader.arms)
            weights = self.stack.weights(rows)
            each = np.zeros(len(rows.arm)) if weights is None else weights * rows.weight
            return Sums(
                {
                    "scores": terms.scores.sum(axis=1),
                    "meat": terms.scores @ terms.scores.T,
                    "slopes": terms.slopes,
                    "weight": added(rows.arm, each, arms),
                    "squares": added(rows.arm, each**2, arms),
                    "heavy": np.array(float((each > HEAVY * rows.weight).sum())),
                }
            )


def added(group: Integers, values: Floats, groups: int) -> Floats:
    """Return the sum of values (n,) of each group (groups,)."""
    return np.bincount(group, values, groups).astype(np.float64)


@dataclass(frozen=True)
class _Scores:
    """The scores of rows, to be added up by cluster."""

    stack: Stack
    width: int

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        with one_thread():
            return self.stack.terms(self.stack.reader.rows(batch)).scores
