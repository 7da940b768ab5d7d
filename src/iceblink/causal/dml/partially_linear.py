"""The partially linear model with linear nuisances, of which one pass over the data knows all that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.constant import check_varies
from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import Folds, Grouping, Missing, moments, summed
from iceblink.causal.regression.design import complete
from iceblink.causal.regression.fit import fitted
from iceblink.causal.sums import Sums
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

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
    missing : {"raise", "drop"}
        What to do about rows that lack a value.

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
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ConfigError(
                f"folds is {self.folds}", "LinearPLR", "two or more: a model is judged by rows it has not seen"
            )
        if isinstance(self.confounders, str):
            raise ConfigError("confounders is one text", "LinearPLR", f"a list: [{self.confounders!r}]")
        if self.missing not in ("raise", "drop"):
            raise ConfigError(f"missing is {self.missing!r}", "LinearPLR", 'it is "raise" or "drop"')
        if not self.confounders:
            raise ConfigError("there are no confounders", "LinearPLR", "of a random treatment, compare means: OLS")

    def fit(self, data: Dataset, grouping: Grouping | None = None) -> Estimates:
        """Estimate it. Eager: reads the data twice.

        Parameters
        ----------
        data : Dataset
        grouping : Grouping, optional
            Folds of another kind.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            Nothing of the treatment is left, a fold is empty, or the outcome is the same in every row.
        """
        where = f"LinearPLR {self.outcome} on {self.treatment}"
        keys = (self.key,) if isinstance(self.key, str) else tuple(self.key)
        by = grouping or Folds(keys, self.folds, self.seed)
        matrix = Matrix(tuple(map(Number, (self.outcome, self.treatment, *self.confounders))))
        for name in (*matrix.inputs, *by.inputs):
            if name not in data.schema.names:
                raise ColumnNotFound.of(name, data.schema.names, where)
        if self.missing == "drop":
            data = complete(data, matrix.inputs)
        found = moments(data, matrix, grouping=by, where=where)
        self._check(found, grouping, where)
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

    def _check(self, found: Moments, grouping: Grouping | None, where: str) -> None:
        """Refuse rows that no fold can learn from."""
        if not len(found.groups):
            raise PlanError("there are no rows", where, "look at the filters, and at missing values")
        total = found.total
        for at, hint in enumerate(("there is nothing to explain", "an effect compares different treatments")):
            mean, squares = float(total.means[0, at]), float(total.products[0, at, at])
            check_varies(found.columns[at], mean, squares, float(total.weights[0]), where, hint)
        if len(found.groups) < 2:
            raise PlanError("all rows are in 1 fold", where, "is the key the same in all rows?")
        if grouping is None and len(found.groups) < self.folds:
            raise PlanError(
                f"{self.folds - len(found.groups)} of {self.folds} folds have no unit",
                where,
                "take fewer folds: each should have many units",
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
        at = np.searchsorted(self.nuisances.folds, self.grouping.numbers(batch))
        residuals = np.empty((2, batch.num_rows))
        with one_thread():
            for fold in range(len(self.nuisances.folds)):
                rows = np.flatnonzero(at == fold)
                residuals[:, rows] = self.nuisances.weights[fold] @ values[:, rows]
                residuals[:, rows] += self.nuisances.offsets[fold][:, np.newaxis]
            score = (residuals[0] - self.effect * residuals[1]) * residuals[1]
            return Sums({"squares": np.array(score @ score)})
