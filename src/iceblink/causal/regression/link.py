"""How the mean of an outcome follows from a linear score: canonical links, with the likelihood of their family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.late import special
from iceblink.causal.moments import Floats


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Of some rows the logarithm of the likelihood, and how it bends with the score.

    Parameters
    ----------
    of, slope, curvature : float64 arrays (n,)
        Itself, its derivative, and the negative of its second one.
    """

    of: Floats
    slope: Floats
    curvature: Floats

    def summed(self, columns: Floats, weight: Floats) -> dict[str, Floats]:
        """Return sums over rows, as Newton's method wants them, by the coefficients of columns (k, n) of the score."""
        half = columns * np.sqrt(weight * self.curvature)
        return {
            "likelihood": np.array(weight @ self.of),
            "slope": columns @ (weight * self.slope),
            "curvature": half @ half.T,  # of a matrix and itself: half of the products
        }


class Link(Protocol):
    """The mean of the outcome as a function of the score, and what its family says."""

    @property
    def wants(self) -> str:
        """What an outcome may be, for people."""

    def allows(self, outcome: Floats) -> NDArray[np.bool_]:
        """Return for each outcome whether it may be."""

    def mean(self, score: Floats) -> Floats: ...

    def inverse(self, mean: float) -> float:
        """Return the score of a mean."""

    def likelihood(self, outcome: Floats, score: Floats) -> Likelihood:
        """Return that of each outcome; of a canonical link its curvature is the variance."""


@dataclass(frozen=True)
class Identity:
    """Least squares."""

    wants = "any number"

    def allows(self, outcome: Floats) -> NDArray[np.bool_]:
        return np.ones(len(outcome), bool)

    def mean(self, score: Floats) -> Floats:
        return score

    def inverse(self, mean: float) -> float:
        return mean

    def likelihood(self, outcome: Floats, score: Floats) -> Likelihood:
        left = outcome - score
        return Likelihood(-(left**2) / 2, left, np.ones(len(score)))


@dataclass(frozen=True)
class Logistic:
    """Outcomes of 0 and 1."""

    wants = "the outcome is to be 0 or 1"

    def allows(self, outcome: Floats) -> NDArray[np.bool_]:
        return np.asarray((outcome == 0) | (outcome == 1))

    def mean(self, score: Floats) -> Floats:
        return np.asarray(special.expit(score))

    def inverse(self, mean: float) -> float:
        return float(special.logit(mean))

    def likelihood(self, outcome: Floats, score: Floats) -> Likelihood:
        small = np.exp(-np.abs(score))  # one exponential is all of it
        near = 1.0 / (1.0 + small)
        far = small * near
        of = np.minimum(np.where(outcome == 1, score, -score), 0.0) - np.log1p(small)
        return Likelihood(of, outcome - np.where(score < 0, far, near), near * far)


@dataclass(frozen=True)
class Exponential:
    """Counts."""

    wants = "the outcome is not to be negative"

    def allows(self, outcome: Floats) -> NDArray[np.bool_]:
        return np.asarray(outcome >= 0)

    def mean(self, score: Floats) -> Floats:
        return np.exp(score)

    def inverse(self, mean: float) -> float:
        return float(np.log(mean))

    def likelihood(self, outcome: Floats, score: Floats) -> Likelihood:
        mean = np.exp(score)
        return Likelihood(outcome * score - mean - special.gammaln(outcome + 1), outcome - mean, mean)
