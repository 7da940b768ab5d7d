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
from iceblink.causal.models.target import Target
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats
from iceblink.causal.passes import summed
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.fit import LinearFit, fitted
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
    setting: Setting, targets: Sequence[Target], facts: dict[str, Any], provenance: Provenance
) -> tuple[LinearRule, dict[str, Estimates]]:
    """Fit the effect of each arm but the control to its target, and name the coefficients by arm. Eager: two passes.

    The covariance is that of weighted least squares with HC1 errors. It takes the nuisance models as given, to which
    the pseudo-outcomes of DR and R learners are insensitive (Neyman orthogonal).

    Raises
    ------
    QueryError, PlanError
        A value is missing, or there are no more rows than coefficients.
    """
    task = setting.task(targets)
    found, count = task.moments(setting.data), len(targets)
    places = range(count, len(found.found.columns))
    fits = tuple(
        fitted(found.training(at, 0), places, places, True, task.of(target), outcome=at)
        for at, target in enumerate(targets)
    )
    squares = summed(task.data(setting.data), _Squares(task, fits))
    covariances, linear = [], {}
    for at, (fit, arm) in enumerate(zip(fits, setting.arms.names[1:], strict=True)):
        free = fit.rows - len(fit.coefficients)
        covariance = fit.bread @ squares[f"meat {at}"] @ fit.bread * (fit.rows / free)
        covariances.append(covariance)
        linear[arm] = Estimates(
            title=f"effect of {setting.arms.column} {arm} on {setting.outcome}",
            names=fit.names,
            values=fit.values,
            covariance=fit.to_columns @ covariance @ fit.to_columns.T,
            convention="HC1",
            rows=fit.rows,
            dropped=fit.dropped,
            facts=facts,
            provenance=provenance,
        )
    return LinearRule(setting.features, fits, tuple(covariances)), linear


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
                columns = beside_ones(fit, rows.features[:, used])
                left = rows.targets[at, used] - fit.centres[fit.outcome] - fit.coefficients @ columns
                scores = columns * (rows.weights[at, used] * left)
                found[f"meat {at}"] = scores @ scores.T
        return Sums(found)
