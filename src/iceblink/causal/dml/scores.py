"""Linear scores ψ = a θ + b, solved over all folds together, and what their squares say of the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.dml.crossfit import Asked, Prepared
from iceblink.causal.models.fitted import Fitted, fit_all, predictions
from iceblink.causal.moments import SCHEMA, Floats, Moments
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.causal.regression.sandwich import squares_by_cluster, told_of_clusters
from iceblink.causal.tree import merged


class Score(Protocol):
    """A score of J parameters, each of which has its own equation."""

    @property
    def width(self) -> int:
        """J."""

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of E numbers more of each row, whose means and variances are wanted."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at, beside those of the nuisances."""

    def __call__(self, batch: pa.RecordBatch, nuisances: Floats) -> Floats:
        """Return a, b and the extras (2 J + E, n) of a batch, given predictions (m, n)."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What sets the mean of scores to 0.

    Parameters
    ----------
    values : float64 array (J,)
    covariance : float64 array (J, J)
    convention : str
    freedom : float
        Degrees of freedom of Student's t: with G clusters G - 1, else infinite.
    rows : int
    slopes : float64 array (J,)
        Sums of a.
    extras : Moments
        Of the extra numbers.
    dropped : tuple of str
        Confounders that some model of a nuisance leaves out, since they follow from others.
    """

    values: Floats
    covariance: Floats
    convention: str
    freedom: float
    rows: int
    slopes: Floats
    extras: Moments
    dropped: tuple[str, ...]


def solution(prepared: Prepared, asked: Asked, score: Score, clusters: tuple[str, ...]) -> Solution:
    """Fit nuisances, then solve for θ over all folds together (DML2) [1]_. Eager.

    After the models' passes one more finds θ = - Σ b / Σ a, and the variance Σ ψ² / (Σ a)²: as Σ ψ = 0, the sum of
    squares is that of cross products of a and b about their means. With clusters another pass adds scores up by
    cluster [2]_, and the variance has the factor G / (G - 1), as CR1 has it.

    Raises
    ------
    ColumnNotFound, TypeMismatch, QueryError, PlanError
        As of `Model.fit`.

    References
    ----------
    .. [1] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018, definition 3.2 and theorem 3.2.
    .. [2] Chiang, Kato, Ma, Sasaki: Multiway cluster robust double/debiased machine learning, JBES 2022, of one way.
    """
    fits = fit_all(prepared.data, asked, prepared.task)
    task, width = prepared.task, score.width
    names = (*(f"a{at}" for at in range(width)), *(f"b{at}" for at in range(width)), *score.extras)
    needed = dict.fromkeys((*fits[0].inputs, *score.inputs))
    blocks = prepared.data.select(*needed).map_batches(_Parts(fits, score, names), schema=SCHEMA, batch_size=BLOCK_ROWS)
    found = merged(state for batch in blocks.to_batches() for state in Moments.from_batch(names, batch))
    assert found is not None, f"{task.where}: models were fitted to no rows"
    rows = float(found.weights[0])
    slopes, levels = found.means[0, :width] * rows, found.means[0, width : 2 * width] * rows
    with np.errstate(all="ignore"):  # who asks for this looks at the slopes
        values = -levels / slopes
        turned = np.concatenate([np.diag(values), np.eye(width)], axis=1) / slopes[:, np.newaxis]
    convention, freedom = "influence function", np.inf
    if clusters:
        scored = _Scores(fits, score, values)
        kept = prepared.data.select(*dict.fromkeys((*needed, *clusters)))
        meat, count = squares_by_cluster(kept, scored, clusters)
        covariance = meat / np.outer(slopes, slopes) * (count / (count - 1))
        convention, freedom = f"{convention}, {told_of_clusters(clusters, count)}", count - 1
    else:
        with np.errstate(all="ignore"):
            covariance = turned @ found.products[0, : 2 * width, : 2 * width] @ turned.T
    dropped = tuple(dict.fromkeys(name for fit in fits for name in fit.dropped))
    return Solution(
        values, np.asarray(covariance), convention, freedom, int(rows), slopes, found.chosen(score.extras), dropped
    )


@dataclass(frozen=True)
class _Parts:
    """The function that a worker calls: a block of rows becomes moments of the parts of their scores."""

    fits: tuple[Fitted, ...]
    score: Score
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        parts = self.score(batch, predictions(self.fits, batch))
        return Moments.of(self.names, np.ascontiguousarray(parts)).to_batch()


@dataclass(frozen=True)
class _Scores:
    """The scores of rows at θ, to be added up by cluster."""

    fits: tuple[Fitted, ...]
    score: Score
    values: Floats

    @property
    def width(self) -> int:
        return self.score.width

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        with one_thread():
            parts = self.score(batch, predictions(self.fits, batch))
            return np.asarray(parts[: self.width] * self.values[:, np.newaxis] + parts[self.width : 2 * self.width])
