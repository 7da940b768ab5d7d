"""The partially linear model with linear nuisances, of which one pass over the data knows all that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import Folds, Grouping, summed
from iceblink.causal.regression.fit import fitted
from iceblink.causal.saved import Question, SavedMoments, saved_moments
from iceblink.causal.sums import Sums
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class _Nuisances:
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


@dataclass(frozen=True)
class LinearPLR:
    """The constant effect of a treatment in the partially linear model, cross-fitted by least squares [1]_.

    With y = θ t + g(x) + u and t = m(x) + v, both g and m linear, the partialling-out score
    ψ = (y - l(x) - θ (t - m(x))) (t - m(x)) is solved over all folds together (DML2), l being the regression of y on x.
    The training data's moments of a fold are those of all other folds, and residuals' cross products are quadratic
    forms in a fold's moments: so θ takes one pass, and its error another.

    Parameters
    ----------
    outcome, treatment : str
    confounders : sequence of str
        Columns of numbers.
    key : str or sequence of str
        The columns of the unit, which decide its fold.
    folds : int
    seed : int

    References
    ----------
    .. [1] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018, eq. 4.4 and definition 3.2.
    """

    outcome: str
    treatment: str
    confounders: Sequence[str]
    key: str | Sequence[str]
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ConfigError(
                f"folds is {self.folds}", "LinearPLR", "two or more: a model is judged by rows it has not seen"
            )
        if not self.confounders:
            raise ConfigError("there are no confounders", "LinearPLR", "of a random treatment, compare means: OLS")

    def moments(self, data: Dataset, saved: SavedMoments | None = None) -> SavedMoments:
        """Return what θ needs of a table, fold by fold, at the version that the dataset is of, to be saved.

        Eager; as `OLS.moments`. The error of θ is not in it: `fit` reads the rows for that.
        """
        return self._saved(data, self._folds, saved)

    @property
    def _where(self) -> str:
        return f"LinearPLR {self.outcome} on {self.treatment}"

    @property
    def _folds(self) -> Folds:
        return Folds((self.key,) if isinstance(self.key, str) else tuple(self.key), self.folds, self.seed)

    def _asked(self, data: Dataset, by: Grouping) -> Question:
        return Question(data, Matrix(tuple(map(Number, (self.outcome, self.treatment, *self.confounders)))), by)

    def _saved(self, data: Dataset, by: Grouping, saved: SavedMoments | None) -> SavedMoments:
        return saved_moments(data, lambda rows, _: self._asked(rows, by), saved, self._where)

    def fit(self, data: Dataset, grouping: Grouping | None = None, saved: SavedMoments | None = None) -> Estimates:
        """Estimate it. Eager: reads the data twice.

        Parameters
        ----------
        data : Dataset
        grouping : Grouping, optional
            Folds of another kind.
        saved : SavedMoments, optional
            Of `moments`, of this version or an earlier one: the first time only what changed since is read.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            Nothing of the treatment is left, a fold is empty, or the saved moments are of something else.
        """
        where, by = self._where, grouping or self._folds
        question = self._asked(data, by)
        matrix = question.matrix
        found = question.answer(where) if saved is None else self._saved(data, by, saved).moments
        if len(found.groups) < 2:
            raise PlanError(f"all rows are in {len(found.groups)} fold", where, "is the key the same in all rows?")
        nuisances = _trained(found, where)
        crossed = np.sum([_crossed(found, nuisances, at) for at in range(len(found.groups))], axis=0)
        if not crossed[1, 1] > 1e-12 * found.total.products[0, 1, 1]:
            raise PlanError(f"the confounders say all of {self.treatment}", where, "nothing is left to learn from")
        effect = crossed[0, 1] / crossed[1, 1]
        rows = int(found.rows.sum())
        needed = list(dict.fromkeys((*matrix.inputs, *by.inputs)))
        squares = summed(data.select(*needed), _ScoreSquares(matrix, by, nuisances, effect))["squares"]
        variance = float(squares) / crossed[1, 1] ** 2
        return Estimates(
            title=where,
            names=(self.treatment,),
            values=np.array([effect]),
            covariance=np.array([[variance]]),
            convention="influence function",
            rows=rows,
            facts={"folds": len(found.groups), "seed": self.seed},
        )


def _trained(found: Moments, where: str) -> _Nuisances:
    """Fit the models of each fold by the moments of the others."""
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
    return _Nuisances(found.groups, weights, offsets)


def _crossed(found: Moments, nuisances: _Nuisances, at: int) -> Floats:
    """Return the cross products (2, 2) of the residuals of a fold's rows."""
    left = nuisances.weights[at]
    means = left @ found.means[at] + nuisances.offsets[at]
    return np.asarray(left @ found.products[at] @ left.T + found.weights[at] * np.outer(means, means))


@dataclass(frozen=True)
class _ScoreSquares:
    """The sum of squared scores of a block of rows."""

    matrix: Matrix
    grouping: Grouping
    nuisances: _Nuisances
    effect: float

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        values = self.matrix.filled(batch)
        count, rows = len(self.nuisances.folds), np.arange(batch.num_rows)
        own = np.searchsorted(self.nuisances.folds, self.grouping.numbers(batch))
        with one_thread():
            of_all = (
                self.nuisances.weights.reshape(2 * count, -1) @ values
            )  # cheaper than to put rows in order of folds
        left = of_all.reshape(count, 2, -1)[own, :, rows].T + self.nuisances.offsets[own].T
        score = (left[0] - self.effect * left[1]) * left[1]
        return Sums({"squares": np.array(np.sum(score * score))})
