"""Linear models of outcome and treatment, a pair for each fold, known by the moments of the other folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import Grouping
from iceblink.causal.regression.fit import fitted
from iceblink.errors import PlanError

PART_ROWS = 8_192
"""Rows that models are multiplied with at a time: what comes of it stays in a core's cache."""


@dataclass(frozen=True, eq=False)
class Nuisances:
    """Linear models of outcome and treatment, a pair for each fold, made of the other folds.

    Parameters
    ----------
    folds : int64 array (K,)
    weights : float64 array (K, 2, 2 + p)
        What turns the columns (outcome, treatment, confounders) of a row into its residuals.
    offsets : float64 array (K, 2)
        What is added.
    """

    folds: Integers
    weights: Floats
    offsets: Floats

    def residuals(self, matrix: Matrix, grouping: Grouping, batch: pa.RecordBatch) -> Floats:
        """Return what the models leave of outcome and treatment (2, n) of the rows of a batch."""
        own = np.searchsorted(self.folds, grouping.numbers(batch))
        found = self.offsets.T.take(own, axis=1)
        models = self.weights.reshape(2 * len(self.folds), -1)
        for start in range(0, batch.num_rows, PART_ROWS):
            values = matrix.filled(batch.slice(start, PART_ROWS))
            rows = values.shape[1]
            with one_thread():  # all models of all rows: cheaper than to put rows in order of folds
                of_all = models @ values
            of_outcome = own[start : start + rows] * (2 * rows) + np.arange(rows)
            found[:, start : start + rows] += of_all.take(np.stack([of_outcome, of_outcome + rows]))
        return found


def trained(found: Moments, where: str) -> Nuisances:
    """Fit the models of each fold by the moments of the others: columns are outcome, treatment, confounders.

    Raises
    ------
    PlanError
        Rows are too few.
    """
    width = len(found.columns)
    weights, offsets = np.zeros((len(found.groups), 2, width)), np.zeros((len(found.groups), 2))
    confounders = range(2, width)
    for at, fold in enumerate(found.groups):
        training = found.without(int(fold))
        for target in (0, 1):
            fit = fitted(training, confounders, confounders, True, where, outcome=target)
            weights[at, target, target] = 1.0
            weights[at, target, list(fit.regressors)] = -fit.coefficients[1:]
            offsets[at, target] = -fit.values[0]
    return Nuisances(found.groups, weights, offsets)


def crossed(found: Moments, nuisances: Nuisances, where: str) -> Floats:
    """Return the cross products (2, 2) of the residuals of all rows, each by the models of its fold.

    Raises
    ------
    PlanError
        Nothing is left of the treatment.
    """
    products = np.zeros((2, 2))
    for at, left in enumerate(nuisances.weights):
        means = left @ found.means[at] + nuisances.offsets[at]
        products += left @ found.products[at] @ left.T + found.weights[at] * np.outer(means, means)
    if not products[1, 1] > 1e-12 * found.total.products[0, 1, 1]:
        raise PlanError(f"the confounders say all of {found.columns[1]}", where, "nothing is left to learn from")
    return products
