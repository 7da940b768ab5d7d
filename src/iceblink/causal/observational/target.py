"""For whom an effect is asked: everybody, the treated, the controls, or those who could have had either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from iceblink.causal.clipping import check_bound
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.multinomial import Chances
from iceblink.causal.observational.study import Study
from iceblink.errors import ConfigError, PlanError, nearest

Estimand = Literal["ATE", "ATT", "ATC", "ATO"]
ESTIMANDS: tuple[Estimand, ...] = ("ATE", "ATT", "ATC", "ATO")


@dataclass(frozen=True, eq=False)
class Tilt:
    """How much each of `n` rows counts in the target population, given its confounders [1]_.

    Parameters
    ----------
    of : float64 array (n,)
        The tilting function h: 1 of the ATE, the chance of treatment of the ATT.
    slopes : float64 array (L, n)
        Derivatives of its logarithm by the linear scores.

    References
    ----------
    .. [1] Li, Morgan, Zaslavsky: Balancing covariates via propensity score weighting, JASA 2018, eq. 1 and table 1.
    """

    of: Floats
    slopes: Floats


@dataclass(frozen=True)
class Target:
    """A population.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC", "ATO"}
    trim : float, optional
        Rows that have a smaller chance than this of any arm are not in it [1]_.
    clip : float, optional
        Chances below this, or above 1 less this, are taken to be this: nobody is left out.

    References
    ----------
    .. [1] Crump, Hotz, Imbens, Mitnik: Dealing with limited overlap, Biometrika 2009: of two arms 0.1 is near the best.
    """

    estimand: Estimand
    trim: float | None = None
    clip: float | None = None

    @property
    def arm(self) -> int | None:
        """Whose population it is; None if not that of an arm."""
        return {"ATT": 1, "ATC": 0}.get(self.estimand)

    def tilt(self, chances: Chances) -> Tilt:
        """Return h of rows."""
        kept, chances = self.kept(chances), self.bounded(chances)
        if self.arm is not None:
            return Tilt(kept * chances.of[self.arm], chances.slopes[self.arm])
        if self.estimand == "ATO":
            inverse = 1.0 / chances.of
            shares = inverse / inverse.sum(axis=0)
            return Tilt(kept / inverse.sum(axis=0), np.einsum("jn,jln->ln", shares, chances.slopes))
        return Tilt(kept, np.zeros(chances.slopes.shape[1:]))

    def bounded(self, chances: Chances) -> Chances:
        """Return chances that are not beyond the bound; where they would be, they move with no score."""
        if self.clip is None:
            return chances
        of = np.clip(chances.of, self.clip, 1.0 - self.clip)
        return Chances(of, np.where((of == chances.of)[:, np.newaxis], chances.slopes, 0.0))

    def kept(self, chances: Chances) -> Floats:
        """Return 1 for each row that is in it, else 0."""
        if self.trim is None:
            return np.ones(chances.of.shape[1])
        return np.asarray(chances.of.min(axis=0) >= self.trim, np.float64)

    def members(self, arm: Integers, chances: Chances | None) -> Floats:
        """Return 1 for each row that is in it by what happened to it, else 0: the ATT is about those treated."""
        kept = np.ones(len(arm)) if chances is None else self.kept(chances)
        return kept if self.arm is None else kept * (arm == self.arm)


def check_target(
    estimand: str,
    trim: float | None,
    where: str,
    allowed: Sequence[Estimand] = ESTIMANDS,
    clip: float | None = None,
) -> None:
    """Raise ConfigError where an estimand or a bound of chances is none."""
    if estimand not in allowed:
        raise ConfigError(f"no estimand {estimand!r} here", where, nearest(estimand, allowed, "estimands"))
    for name, bound in (("trim", trim), ("clip", clip)):
        if bound is not None:
            check_bound(bound, where, name)


def check_arms(target: Target, study: Study, where: str) -> None:
    """Raise PlanError where the treated are of several kinds, so that they are no one population."""
    if target.estimand == "ATT" and len(study.arms) > 2:
        raise PlanError(
            f"the ATT of {len(study.arms)} arms is of no one population",
            where,
            "keep two arms by a filter, or ask for the ATE",
        )
