"""How the mean of an outcome follows from a linear score: canonical links, with the likelihood of their family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.late import special
from iceblink.causal.moments import Floats


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

    def variance(self, score: Floats) -> Floats:
        """Return how fast the mean grows with the score: with a canonical link the variance."""

    def likelihood(self, outcome: Floats, score: Floats) -> Floats:
        """Return the logarithm of the likelihood of each outcome."""


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

    def variance(self, score: Floats) -> Floats:
        return np.ones(len(score))

    def likelihood(self, outcome: Floats, score: Floats) -> Floats:
        return -((outcome - score) ** 2) / 2


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

    def variance(self, score: Floats) -> Floats:
        return np.asarray(special.expit(score) * special.expit(-score))

    def likelihood(self, outcome: Floats, score: Floats) -> Floats:
        return np.asarray(-np.logaddexp(0.0, np.where(outcome == 1, -score, score)))


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

    def variance(self, score: Floats) -> Floats:
        return np.exp(score)

    def likelihood(self, outcome: Floats, score: Floats) -> Floats:
        return np.asarray(outcome * score - np.exp(score) - special.gammaln(outcome + 1))
