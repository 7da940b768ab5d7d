"""When a result may be looked at: once, at any time, or at planned looks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np

from iceblink.causal.distributions import normal_above, normal_quantile
from iceblink.causal.late import interpolate, optimize, special
from iceblink.causal.moments import Floats
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError

Spending = Literal["obrien_fleming", "pocock"]
NODES = 201
FURTHEST = 40.0
"""Standard errors beyond which a float64 has no chance left."""


class Looking(Protocol):
    """How intervals and p-values follow from an estimate and its error."""

    @property
    def convention(self) -> str:
        """Its name in the field."""

    def reach(self, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return half the width of intervals, of standard errors made of so many rows in both arms."""

    def p_values(self, estimates: Floats, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return two-sided p-values of being 0."""


@dataclass(frozen=True)
class Once:
    """At the end, at a number of rows that was planned: the normal distribution."""

    convention = "normal, looked at once"

    def reach(self, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return half the width of intervals."""
        return np.asarray(normal_quantile((1 + level) / 2) * errors)

    def p_values(self, estimates: Floats, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return two-sided p-values."""
        return np.asarray(2 * normal_above(np.abs(estimates / errors)))


@dataclass(frozen=True)
class AlwaysValid:
    """At any time and as often as one likes: intervals all of which hold together with the probability of the level.

    The mixture sequential probability ratio test [1]_ with effects of N(0, n s² ρ²), n being the rows of both arms and
    s the standard error; as s is estimated, it is an asymptotic confidence sequence [2]_: at the level 1 - a half the
    width is s √((n ρ² + 1) / (n ρ²) · log((n ρ² + 1) / a²)).

    Parameters
    ----------
    rows : int
        At how many rows of both arms the interval is to be narrowest; said beforehand, not looked up. It holds at any
        other number too. ρ² = (-2 log a + log(1 - 2 log a)) / rows.

    References
    ----------
    .. [1] Johari, Koomen, Pekelis, Walsh: Always valid inference: continuous monitoring of A/B tests, Operations
       Research 2022 (arXiv 1512.04922).
    .. [2] Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and asymptotic confidence
       sequences, Annals of Statistics 2024 (arXiv 2103.06476), theorem 2.2 and appendix B.
    """

    rows: int = 10_000

    def __post_init__(self) -> None:
        check_whole_fields(self, "AlwaysValid")
        if self.rows < 1:
            raise ConfigError(f"rows is {self.rows}", "AlwaysValid", "how many rows you expect")

    @property
    def convention(self) -> str:
        """Its name in the field."""
        return f"always valid, narrowest at {self.rows:,} rows"

    def reach(self, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return half the width of intervals."""
        mixed = rows * self._density(level)
        return np.asarray(errors * np.sqrt((mixed + 1) / mixed * np.log((mixed + 1) / (1 - level) ** 2)))

    def p_values(self, estimates: Floats, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return always-valid p-values, of this look; the smallest of all looks is valid too."""
        mixed = rows * self._density(level)
        apart = (estimates / errors) ** 2
        return np.asarray(np.minimum(1.0, np.sqrt(mixed + 1) * np.exp(-apart / 2 * mixed / (mixed + 1))))

    def _density(self, level: float) -> float:
        """Return ρ²."""
        spent = -2 * np.log(1 - level)
        return float((spent + np.log1p(spent)) / self.rows)


@dataclass(frozen=True)
class GroupSequential:
    """At planned looks: the chance of an error is spent little by little [1]_, half of it on either side.

    Intervals are repeated confidence intervals [2]_: those of all looks hold together. A p-value is the smallest
    level of significance whose boundary the statistic has crossed at this look.

    Parameters
    ----------
    looks : sequence of float
        The parts of the planned rows that there were at each look so far, ascending, the present one last: (0.25, 0.5).
    spending : {"obrien_fleming", "pocock"}
        Of a chance a on one side, until the part t: 2 (1 - Φ(z / √t)) with z the quantile of 1 - a / 2, or
        a log(1 + (e - 1) t).

    References
    ----------
    .. [1] Lan, DeMets: Discrete sequential boundaries for clinical trials, Biometrika 1983.
    .. [2] Jennison, Turnbull: Group sequential methods with applications to clinical trials, 2000, ch. 9 and 19.
    """

    looks: tuple[float, ...]
    spending: Spending = "obrien_fleming"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "looks", tuple(map(float, self.looks)))
        except (TypeError, ValueError) as error:
            what = f"looks are {self.looks!r}, and not several numbers"
            raise ConfigError(what, "GroupSequential", "of a single look (0.5,)") from error
        steps = [0.0, *self.looks, 1.0]
        if not self.looks or not all(a < b for a, b in pairwise(steps[:-1])) or self.looks[-1] > 1:
            raise ConfigError(f"looks are {self.looks}", "GroupSequential", "ascending parts in (0, 1]: (0.25, 0.5)")
        if self.spending not in ("obrien_fleming", "pocock"):
            raise ConfigError(f"no spending {self.spending!r}", "GroupSequential", '"obrien_fleming" or "pocock"')

    @property
    def convention(self) -> str:
        """Its name in the field."""
        return f"look {len(self.looks)} at {self.looks[-1]:.0%} of the rows, {self.spending} spending"

    def boundaries(self, level: float) -> Floats:
        """Return how many standard errors an estimate has to be from 0 at each look, to be significant."""
        return _boundaries(self.looks, self.spending, 1 - level)

    def reach(self, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return half the width of intervals."""
        return np.asarray(self.boundaries(level)[-1] * errors)

    def p_values(self, estimates: Floats, errors: Floats, rows: Floats, level: float) -> Floats:
        """Return p-values, interpolated between boundaries to about 1e-4 of themselves, and no smaller than 1e-10."""
        spent, bounds = _last_boundaries(self.looks, self.spending)
        apart = np.minimum(np.abs(estimates / errors), bounds[-1])
        found = np.exp(interpolate.PchipInterpolator(bounds, np.log(spent), extrapolate=False)(apart))
        return np.where(apart < bounds[0], 1.0, found)


@cache
def _last_boundaries(looks: tuple[float, ...], spending: Spending) -> tuple[Floats, Floats]:
    """Return levels of significance and the boundaries that they have at the last look, ascending."""
    spent = np.concatenate([np.geomspace(1e-10, 0.2, 81), np.linspace(0.2, 0.999, 41)[1:]])[::-1]
    return spent, np.array([_boundaries(looks, spending, float(alpha))[-1] for alpha in spent])


@cache
def _boundaries(looks: tuple[float, ...], spending: Spending, alpha: float) -> Floats:
    """Integrate the density of those that have not crossed yet from look to look.

    It is that of Brownian motion at the looks' times; between the boundaries it is held at Gauss-Legendre nodes.
    """
    nodes, weights = _nodes()
    spent = [_spent(time, spending, alpha / 2) for time in looks]
    places, masses = np.zeros(1), np.ones(1)
    found, before, last = [], 0.0, 0.0
    for time, total in zip(looks, spent, strict=True):
        step, left = np.sqrt(time - before), total - last
        root = np.sqrt(time)
        bound = optimize.brentq(_crossing, 0, FURTHEST, (places, masses, step, root, left), xtol=1e-12)
        found.append(bound)
        reach = min(bound, 10.0) * root  # beyond ten standard errors is nothing
        inside = reach * nodes
        density = np.exp(-(((inside[:, np.newaxis] - places) / step) ** 2) / 2) @ masses / (step * np.sqrt(2 * np.pi))
        places, masses = inside, density * weights * reach
        before, last = time, total
    return np.array(found)


def _crossing(bound: float, places: Floats, masses: Floats, step: float, root: float, spent: float) -> float:
    """Return the chance to be above a boundary at a look, less what is to be spent there."""
    return float(masses @ special.ndtr((places - bound * root) / step)) - spent


@cache
def _nodes() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights


def _spent(time: float, spending: Spending, alpha: float) -> float:
    """Return how much of its chance one side has spent until a time in (0, 1]."""
    if spending == "pocock":
        return float(alpha * np.log1p((np.e - 1) * time))
    return float(2 * special.ndtr(special.ndtri(alpha / 2) / np.sqrt(time)))
