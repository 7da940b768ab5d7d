"""Cells laid out by segment, arm and stratum, and metrics estimated from them in every arm of every segment at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.experiments.cells import Cells
from iceblink.causal.experiments.metrics import Averaged, Fraction, columns_of
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.solve import solved

CONSTANT = 1e-12
"""A column of whose mean square the variance is a smaller part than this varies by rounding only."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of one way to cut rows into segments.

    Parameters
    ----------
    cells : Cells
        Their keys are arm, stratum if there are strata, segment if there are segments.
    segments, arms, strata : list
        What the axes stand for; one ``None`` where there are none.
    at : int64 array (segments, arms, strata)
        The number of a cell, -1 where there are no rows.
    """

    cells: Cells
    segments: list[Any]
    arms: list[Any]
    strata: list[Any]
    at: Integers

    @classmethod
    def of(cls, cells: Cells, arms: Sequence[Any], segmented: bool) -> Self:
        """Lay cells out; rows of no arm that is asked for are left out."""
        fixed = len(cells.scan.keys)
        segments = sorted({key[-1] for key in cells.keys}, key=_order) if segmented else [None]
        strata = sorted({key[1] for key in cells.keys}, key=_order) if fixed == 2 else [None]
        places = [{value: place for place, value in enumerate(axis)} for axis in (segments, arms, strata)]
        at = np.full((len(segments), len(arms), len(strata)), -1, np.int64)
        for number, key in enumerate(cells.keys):
            if key[0] in places[1]:
                segment = places[0][key[-1] if segmented else None]
                at[segment, places[1][key[0]], places[2][key[1] if fixed == 2 else None]] = number
        return cls(cells, segments, list(arms), strata, at)

    def spread(self, values: Floats) -> Floats:
        """Return what cells have (cells, ...) as an array (segments, arms, strata, ...), 0 where there are no rows."""
        found = np.asarray(values[self.at])
        found[self.at < 0] = 0
        return found


@dataclass(frozen=True, eq=False)
class InArms:
    """A metric in each arm of each segment; NaN where there are too few rows.

    Parameters
    ----------
    values, variances : float64 arrays (segments, arms)
    units : float64 array (segments, arms)
        How many rows, or clusters, have the metric.
    """

    values: Floats
    variances: Floats
    units: Floats


@dataclass(frozen=True, eq=False)
class Sample:
    """Means and covariances of ones and of a metric's columns, by segment (s), arm (a) and stratum (h).

    Parameters
    ----------
    counts : float64 array (s, a, h)
    sums : float64 array (s, a, h, p)
    products : float64 array (s, a, h, p, p)
    """

    counts: Floats
    sums: Floats
    products: Floats

    @property
    def shares(self) -> Floats:
        """The part of a segment's rows that a stratum has, in all arms together (s, h)."""
        found = self.counts.sum(axis=1)
        return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1))

    @property
    def means(self) -> Floats:
        """Of cells (s, a, h, p), 0 where there are no rows."""
        return np.asarray(self.sums / np.maximum(self.counts, 1)[..., np.newaxis])

    @property
    def covariances(self) -> Floats:
        """Of cells (s, a, h, p, p), with divisor n - 1."""
        means, counts = self.means, self.counts[..., np.newaxis, np.newaxis]
        apart = self.products - counts * means[..., :, np.newaxis] * means[..., np.newaxis, :]
        return np.asarray(apart / np.maximum(counts - 1, 1))

    @property
    def common_means(self) -> Floats:
        """Of strata, all arms together (s, h, p)."""
        return np.asarray(self.sums.sum(axis=1) / np.maximum(self.counts.sum(axis=1), 1)[..., np.newaxis])

    @property
    def common_products(self) -> Floats:
        """Sums of products of deviations from the means of strata, all arms together (s, p, p)."""
        means, counts = self.common_means, self.counts.sum(axis=1)
        about = counts[..., np.newaxis, np.newaxis] * means[..., :, np.newaxis] * means[..., np.newaxis, :]
        return np.asarray((self.products.sum(axis=1) - about).sum(axis=1))

    def enough(self, rows: int = 2) -> Floats:
        """Return 1 where an arm has enough rows in each stratum that the segment has, else NaN (s, a)."""
        empty = self.counts.sum(axis=1, keepdims=True) == 0
        return np.where(((self.counts >= rows) | empty).all(axis=2), 1.0, np.nan)


def sample(grid: Grid, metric: Averaged) -> Sample:
    """Return what the cells know of a metric."""
    return Sample(*map(grid.spread, grid.cells.sums(metric)))


def averaged(grid: Grid, metric: Averaged) -> InArms:
    """Estimate a mean or a ratio in each arm, adjusted as in CUPED where it has covariates.

    Strata are weighted by the rows that all arms together have in them (post-stratification [1]_, its variance
    conditional on how many those are); the variance in a stratum is Neyman's, with divisor n - 1, and that of a ratio
    follows by the delta method. θ is that of all arms together, about the means of strata.

    References
    ----------
    .. [1] Miratrix, Sekhon, Yu: Adjusting treatment effect estimates by post-stratification in randomized experiments,
       J. Royal Statistical Society B 2013.
    """
    found = sample(grid, metric)
    shares = found.shares
    means = np.einsum("sh,sahp->sap", shares, found.means)
    spread = found.covariances / np.maximum(found.counts, 1)[..., np.newaxis, np.newaxis]
    variances = np.einsum("sh,sahpq->sapq", shares**2, spread)
    enough = found.enough()
    means *= enough[..., np.newaxis]
    names = ["", *columns_of(metric)]
    shifts = [0.0, *(grid.cells.shifts[name] for name in names[1:])]
    values, slopes = _linear(metric.fraction, names, shifts, means)
    if metric.covariates:
        known = [_linear(one, names, shifts, means) for one in metric.covariates]
        common, theta = _theta(found, metric, names, shifts)
        for (before, gradient), overall, factor in zip(known, common.T, theta.T, strict=True):
            values = values - factor[:, np.newaxis] * (before - overall[:, np.newaxis])
            slopes = slopes - factor[:, np.newaxis, np.newaxis] * gradient
    squares = np.einsum("sap,sapq,saq->sa", slopes, variances, slopes)
    return InArms(values, np.maximum(squares, 0.0), np.asarray(found.counts.sum(axis=2)))  # below 0 is rounding


def _theta(found: Sample, metric: Averaged, names: Sequence[str], shifts: Sequence[float]) -> tuple[Floats, Floats]:
    """Return a metric's covariates (segments, q), all arms together, and what it is regressed on them with."""
    means = np.einsum("sh,shp->sp", found.shares, found.common_means)
    _, outcome = _linear(metric.fraction, names, shifts, means)
    values, gradients = zip(*(_linear(one, names, shifts, means) for one in metric.covariates), strict=True)
    by, products = np.stack(gradients, axis=1), found.common_products
    between = np.einsum("sip,spq,sjq->sij", by, products, by)
    beside = np.einsum("sip,spq,sq->si", by, products, outcome)
    whole = np.einsum("sip,spq,siq->si", by, found.products.sum(axis=(1, 2)), by)
    varies = np.einsum("sii->si", between) > CONSTANT * whole
    theta = np.array([solution(*one) for one in zip(between, beside, varies, strict=True)])
    return np.stack(values, axis=1), theta


def _linear(fraction: Fraction, names: Sequence[str], shifts: Sequence[float], means: Floats) -> tuple[Floats, Floats]:
    """Return a fraction (...) of means (..., p), and its derivatives by them (..., p).

    Columns have their shifts subtracted; a cluster's sum then lacks the shift times its rows, which the ones count.
    """
    top = names.index(fraction.top)
    slopes = np.zeros(means.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        if fraction.bottom is None:
            value = means[..., top] / means[..., 0]
            slopes[..., top] = 1 / means[..., 0]
            slopes[..., 0] = -value / means[..., 0]
            return value + shifts[top], slopes
        bottom = names.index(fraction.bottom)
        under = means[..., bottom] + shifts[bottom] * means[..., 0]
        value = (means[..., top] + shifts[top] * means[..., 0]) / under
        slopes[..., top] += 1 / under
        slopes[..., bottom] -= value / under
        slopes[..., 0] += (shifts[top] - value * shifts[bottom]) / under
    return value, slopes


def solution(between: Floats, beside: Floats, varies: NDArray[np.bool_]) -> Floats:
    """Return the coefficients of a regression; of what is constant, or follows from other columns, 0."""
    used = np.flatnonzero(varies)
    by = solved(between[np.ix_(used, used)])
    found = np.zeros(len(beside))
    found[used[by.kept]] = by.inverse @ beside[used[by.kept]]
    return found


def _order(value: Any) -> tuple[bool, Any]:
    """Sort keys as they compare, a missing one last."""
    return (value is None, 0 if value is None else value)
