"""What the features do not explain of outcome and treatment: of linear models that have not seen a row, or given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.forests.bins import Bins, Levels
from iceblink.causal.forests.heterogeneity import OUTCOME, TREATMENT
from iceblink.causal.matrix import Category, Matrix, Number, Term
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import Folds, moments
from iceblink.causal.regression.fit import fitted
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


class Residuals(Protocol):
    """Gives the residuals of rows; another model of outcome and treatment needs no more than this."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it reads."""

    @property
    def names(self) -> tuple[str, ...]:
        """``outcome``, ``treatment``."""

    def of(self, batch: pa.RecordBatch) -> Floats:
        """Return the residuals (2, n) of outcome and treatment."""


@dataclass(frozen=True)
class Given:
    """Columns of residuals that the table has."""

    matrix: Matrix
    names: tuple[str, ...] = (OUTCOME, TREATMENT)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.matrix.inputs

    def of(self, batch: pa.RecordBatch) -> Floats:
        return self.matrix.filled(batch)


@dataclass(frozen=True, eq=False)
class Linear:
    """Residuals of least squares, for each fold that of the other folds.

    Parameters
    ----------
    matrix : Matrix
        Outcome, treatment, and what explains them.
    folds : Folds
    present : int64 array (K,)
        The folds that have rows, ascending.
    weights : float64 array (K, 2, 2 + p)
        What turns the columns of a row into its residuals.
    offsets : float64 array (K, 2)
        What is added.
    """

    matrix: Matrix
    folds: Folds
    present: Integers
    weights: Floats
    offsets: Floats
    names: tuple[str, ...] = (OUTCOME, TREATMENT)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.matrix.inputs, *self.folds.inputs)))

    def of(self, batch: pa.RecordBatch) -> Floats:
        values = self.matrix.filled(batch)
        at = np.searchsorted(self.present, self.folds.numbers(batch))
        found = np.empty((2, batch.num_rows))
        with one_thread():
            for fold in range(len(self.present)):
                rows = np.flatnonzero(at == fold)
                found[:, rows] = self.weights[fold] @ values[:, rows] + self.offsets[fold][:, np.newaxis]
        return found

    @classmethod
    def of_moments(cls, found: Moments, matrix: Matrix, folds: Folds, where: str) -> Linear:
        """Fit the models of each fold by the moments of the others.

        Raises
        ------
        PlanError
            All rows are in one fold, or what explains the treatment leaves nothing of it.
        """
        if len(found.groups) < 2:
            raise PlanError(f"all rows are in {len(found.groups)} fold", where, "is the key the same in all rows?")
        width, count = len(matrix.names), len(found.groups)
        weights, offsets, explaining = np.zeros((count, 2, width)), np.zeros((count, 2)), range(2, width)
        for at, fold in enumerate(found.groups):
            training = found.without(int(fold))
            for target in (0, 1):
                fit = fitted(training, explaining, explaining, True, where, outcome=target)
                weights[at, target, target] = 1.0
                weights[at, target, list(fit.regressors)] = -fit.coefficients[1:]
                offsets[at, target] = -fit.values[0]
                if target == 1 and not fit.squares > 1e-12 * fit.variation:
                    raise PlanError(
                        f"the features say all of {matrix.names[1]}",
                        where,
                        "nothing is left to learn from: leave out what says what the treatment is",
                    )
        return cls(matrix, folds, found.groups, weights, offsets)


def explained(roles: tuple[str, str], bins: Bins, confounders: Sequence[str]) -> Matrix:
    """Return the matrix of outcome, treatment, features and confounders; categories as ones and zeros."""
    terms: list[Term] = []
    for feature in bins.features:
        if isinstance(feature, Levels):
            terms.append(Category(feature.column, feature.values))
        else:
            terms.append(Number(feature.column))
    terms += [Number(name) for name in confounders if name not in bins.columns]
    return Matrix((Number(roles[0]), Number(roles[1]), *terms))


def linear(data: Dataset, matrix: Matrix, folds: Folds, where: str) -> Linear:
    """Fit them. Eager: one pass.

    Raises
    ------
    QueryError
        A value is missing.
    PlanError
    """
    return Linear.of_moments(moments(data, matrix, grouping=folds, where=where), matrix, folds, where)
