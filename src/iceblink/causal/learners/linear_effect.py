"""An effect that is linear in features, with errors robust to all that a row's pseudo-outcome varies by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.estimates import Estimates
from iceblink.causal.learners.setting import Setting
from iceblink.causal.matrix import Matrix
from iceblink.causal.models.target import Target, Values
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats
from iceblink.causal.passes import BLOCK_ROWS, summed
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.fit import LinearFit, fitted
from iceblink.causal.regression.sandwich import squares_by_cluster
from iceblink.causal.sums import Sums


@dataclass(frozen=True, eq=False)
class LinearRule:
    """Effects as least squares of pseudo-outcomes on features.

    Parameters
    ----------
    features : Matrix
    fits : tuple of LinearFit
        Of the targets, then the features; one for each arm but the control.
    covariances : tuple of float64 array (k, k)
        Of the coefficients of centred columns.
    """

    features: Matrix
    fits: tuple[LinearFit, ...]
    covariances: tuple[Floats, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.features.inputs

    def effects(self, batch: pa.RecordBatch) -> Floats:
        values = self.features.filled(batch)
        with one_thread():
            return np.stack(
                [fit.centres[fit.outcome] + fit.coefficients @ beside_ones(fit, values) for fit in self.fits]
            )

    def errors(self, batch: pa.RecordBatch) -> Floats:
        values = self.features.filled(batch)
        found = []
        with one_thread():
            for fit, covariance in zip(self.fits, self.covariances, strict=True):
                columns = beside_ones(fit, values)
                found.append(np.sqrt(np.einsum("kn,kn->n", columns, covariance @ columns)))
        return np.stack(found)


def beside_ones(fit: LinearFit, features: Floats) -> Floats:
    """Return a one and the features that a fit has, less their centres (k, n)."""
    targets = len(fit.centres) - len(features)
    centres = fit.centres[list(fit.regressors), np.newaxis]
    return np.concatenate(
        [np.ones((1, features.shape[1])), features[[at - targets for at in fit.regressors]] - centres]
    )


def linear_effects(
    setting: Setting,
    targets: Sequence[Target],
    facts: dict[str, Any],
    provenance: Provenance,
    clusters: tuple[str, ...] = (),
) -> tuple[LinearRule, dict[str, Estimates]]:
    """Fit the effect of each arm but the control to its target, and name the coefficients by arm.

    Eager: two passes; with clusters one, and one for each arm. The covariance is that of weighted least squares with
    HC1 errors, or by clusters CR1, as of `OLS`. It takes the nuisance models as given, to which the pseudo-outcomes of
    DR and R learners are insensitive (Neyman orthogonal).

    Raises
    ------
    QueryError, PlanError
        A value is missing, there are no more rows than coefficients, or there is one cluster.
    """
    task = setting.task(targets)
    found, count = task.moments(setting.data), len(targets)
    places = range(count, len(found.found.columns))
    fits = tuple(
        fitted(found.training(at, 0), places, places, True, task.of(target), outcome=at)
        for at, target in enumerate(targets)
    )
    squares = None if clusters else summed(task.data(setting.data), _Squares(task, fits))
    covariances, linear = [], {}
    for at, (fit, arm) in enumerate(zip(fits, setting.arms.names[1:], strict=True)):
        free = fit.rows - len(fit.coefficients)
        if squares is not None:
            meat, factor, convention, freedom = squares[f"meat {at}"], fit.rows / free, "HC1", np.inf
        else:
            meat, count = _by_cluster(setting, targets[at], fit, clusters)
            factor, freedom = count / (count - 1) * (fit.rows - 1) / free, count - 1
            convention = f"CR1 by {', '.join(clusters)} ({count:,})"
        covariance = fit.bread @ meat @ fit.bread * factor
        covariances.append(covariance)
        linear[arm] = Estimates(
            title=f"effect of {setting.arms.column} {arm} on {setting.outcome}",
            names=fit.names,
            values=fit.values,
            covariance=fit.to_columns @ covariance @ fit.to_columns.T,
            convention=convention,
            rows=fit.rows,
            freedom=freedom,
            dropped=fit.dropped,
            facts=facts,
            provenance=provenance,
        )
    return LinearRule(setting.features, fits, tuple(covariances)), linear


def _by_cluster(setting: Setting, target: Target, fit: LinearFit, clusters: tuple[str, ...]) -> tuple[Floats, int]:
    """Return squares of a fit's scores by cluster, and how many clusters its rows are of. Eager."""
    task = setting.task([target])
    rows = setting.data.select(*dict.fromkeys((*task.data(setting.data).columns, *clusters)))
    if target.rows is not None:
        rows = rows.map_batches(_Among(target.rows), schema=rows.schema, batch_size=BLOCK_ROWS)
    return squares_by_cluster(rows, _Scores(task, fit), clusters)


@dataclass(frozen=True)
class _Among:
    """Leaves out the rows for which a number is 0."""

    rows: Values

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.filter(pa.array(self.rows(batch) != 0))


@dataclass(frozen=True, eq=False)
class _Scores:
    """The scores of rows, to be added up by cluster."""

    task: Task
    fit: LinearFit

    @property
    def width(self) -> int:
        return len(self.fit.coefficients)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        rows = self.task.rows(batch)
        with one_thread():
            return _scores(self.fit, rows.features, rows.targets[0], rows.weights[0])


def _scores(fit: LinearFit, features: Floats, targets: Floats, weights: Floats) -> Floats:
    """Return weighted residuals times regressors (k, n)."""
    columns = beside_ones(fit, features)
    left = targets - fit.centres[fit.outcome] - fit.coefficients @ columns
    return np.asarray(columns * (weights * left))


@dataclass(frozen=True)
class _Squares:
    """The sums of squared scores of a block of rows."""

    task: Task
    fits: tuple[LinearFit, ...]

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        found = {}
        rows = self.task.rows(batch)
        with one_thread():
            for at, fit in enumerate(self.fits):
                used = np.flatnonzero(rows.learnt[at])
                scores = _scores(fit, rows.features[:, used], rows.targets[at, used], rows.weights[at, used])
                found[f"meat {at}"] = scores @ scores.T
        return Sums(found)
