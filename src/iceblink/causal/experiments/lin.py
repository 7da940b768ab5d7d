"""Lin's adjustment: in each arm a line of its own, read at the mean of all arms, with HC2 errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.experiments.grid import CONSTANT, Grid, InArms, Sample, sample
from iceblink.causal.experiments.metrics import Mean
from iceblink.causal.experiments.places import Places
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.passes import summed
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Lines:
    """A metric's lines, one for each cell.

    Parameters
    ----------
    columns : tuple of str
        The outcome, then the q covariates.
    means : float64 array (cells, 1 + q)
    slopes : float64 array (cells, q)
    inverse : float64 array (cells, q, q)
        Of the covariates' sums of products of deviations.
    weights : float64 array (cells, q)
        By how much a row's deviations add to its weight 1 / n in the value at the mean of all arms.
    counts : float64 array (cells,)
    """

    columns: tuple[str, ...]
    means: Floats
    slopes: Floats
    inverse: Floats
    weights: Floats
    counts: Floats

    def squares(self, batch: pa.RecordBatch, cell: Integers) -> Floats:
        """Return the sums of squared scores over the rows of each cell, a square divided by 1 - leverage (HC2)."""
        values = np.stack([floats(batch.column(name)).astype(np.float64) for name in self.columns], axis=1)
        used = np.flatnonzero((cell >= 0) & np.isfinite(values).all(axis=1))
        at = cell[used]
        apart = values[used] - self.means[at]
        residuals = apart[:, 0] - np.einsum("nq,nq->n", apart[:, 1:], self.slopes[at])
        share = 1 / self.counts[at]
        leverage = share + np.einsum("nq,nqr,nr->n", apart[:, 1:], self.inverse[at], apart[:, 1:])
        weight = share + np.einsum("nq,nq->n", apart[:, 1:], self.weights[at])
        left = np.maximum(1 - leverage, np.finfo(float).eps)
        return np.bincount(at, (weight * residuals) ** 2 / left, minlength=len(self.counts)).astype(np.float64)


@dataclass(frozen=True)
class _Squares:
    """The sums of a block, for every way to cut rows into segments and every metric."""

    places: tuple[Places, ...]
    lines: tuple[tuple[Lines, ...], ...]

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        found: dict[str, Floats] = {}
        with one_thread():
            for cut, (places, lines) in enumerate(zip(self.places, self.lines, strict=True)):
                cell = places.of_rows(batch)
                found |= {f"{cut} {number}": one.squares(batch, cell) for number, one in enumerate(lines)}
        return Sums(found)


def lined(
    data: Dataset, grids: Sequence[Grid], segments: Sequence[str | None], metrics: Sequence[Mean]
) -> list[list[InArms]]:
    """Estimate means by Lin's regression [1]_; for each grid and metric. Eager: reads the data once more.

    It equals the coefficient of the treatment in a regression on treatment, covariates less their mean over all arms,
    and products of both, with HC2 errors; in strata, of which the weighted mean is taken.

    References
    ----------
    .. [1] Lin: Agnostic notes on regression adjustments to experimental data, Annals of Applied Statistics 2013.
    """
    scan = grids[0].cells.scan
    lines = tuple(tuple(_lines(grid, metric) for metric in metrics) for grid in grids)
    keys = [(*scan.keys, *([segment] if segment is not None else [])) for segment in segments]
    places = tuple(Places.of(columns, grid.cells.keys, data.schema) for columns, grid in zip(keys, grids, strict=True))
    needed = dict.fromkeys([name for columns in keys for name in columns])
    needed |= dict.fromkeys(name for metric in metrics for name in (metric.column, *metric.adjust))
    found = summed(data.select(*needed), _Squares(places, lines))
    return [
        [_in_arms(grid, metric, found[f"{cut} {number}"]) for number, metric in enumerate(metrics)]
        for cut, grid in enumerate(grids)
    ]


def _lines(grid: Grid, metric: Mean) -> Lines:
    """Fit the lines of all cells."""
    found = sample(grid, metric)
    slopes, inverse = _slopes(found)
    away = found.common_means[:, np.newaxis, :, 2:] - found.means[..., 2:]
    weights = np.einsum("sahq,sahqr->sahr", away, inverse)
    shifts = np.array([grid.cells.shifts[name] for name in (metric.column, *metric.adjust)])
    count = len(grid.cells.keys)

    def by_cell(values: Floats) -> Floats:
        flat = np.zeros((count, *values.shape[3:]))
        inside = grid.at >= 0
        flat[grid.at[inside]] = values[inside]
        return flat

    return Lines(
        columns=(metric.column, *metric.adjust),
        means=by_cell(found.means[..., 1:] + shifts),
        slopes=by_cell(slopes),
        inverse=by_cell(inverse),
        weights=by_cell(weights),
        counts=np.maximum(by_cell(found.counts), 1),
    )


def _slopes(found: Sample) -> tuple[Floats, Floats]:
    """Return each cell's slopes (s, a, h, q), and the inverse (s, a, h, q, q) that they were made with."""
    width = found.sums.shape[-1] - 2
    slopes, inverse = np.zeros((*found.counts.shape, width)), np.zeros((*found.counts.shape, width, width))
    apart = found.covariances * np.maximum(found.counts - 1, 1)[..., np.newaxis, np.newaxis]
    for at in np.ndindex(found.counts.shape):
        whole = np.diagonal(found.products[at])[2:]
        varies = np.flatnonzero(np.diagonal(apart[at])[2:] > CONSTANT * whole)
        by = solved(apart[at][np.ix_(varies + 2, varies + 2)])
        kept = varies[by.kept]
        inverse[at][np.ix_(kept, kept)] = by.inverse
        slopes[at] = inverse[at] @ apart[at][2:, 1]
    return slopes, inverse


def _in_arms(grid: Grid, metric: Mean, squares: Floats) -> InArms:
    """Return the lines' values at the mean of all arms, strata weighted by their rows."""
    found = sample(grid, metric)
    slopes, _ = _slopes(found)
    away = found.common_means[:, np.newaxis, :, 2:] - found.means[..., 2:]
    lifted = found.means[..., 1] + np.einsum("sahq,sahq->sah", slopes, away) + grid.cells.shifts[metric.column]
    enough = found.enough(found.sums.shape[-1] + 1)
    values = np.einsum("sh,sah->sa", found.shares, lifted) * enough
    variances = np.einsum("sh,sah->sa", found.shares**2, grid.spread(squares))
    return InArms(values, variances, np.asarray(found.counts.sum(axis=2)))
