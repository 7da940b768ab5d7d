"""Linear models by moments: all targets and all folds from one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iceblink.causal.models.classes import each_class, together
from iceblink.causal.models.fitted import Fitted
from iceblink.causal.models.task import Task, no_rows
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.regression.fit import fitted
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """A number and the sum of features times coefficients (p,)."""

    intercept: float
    coefficients: Floats

    def of(self, features: Floats) -> Floats:
        return np.asarray(self.coefficients @ features + self.intercept)


@dataclass(frozen=True)
class Linear:
    """Least squares with an intercept, or ridge regression: exact, in one pass over the data for all folds.

    Fold k's model solves the normal equations of the moments of all other folds, added up and never subtracted. Of a
    binary target it is a linear probability, which may leave [0, 1], and of classes one for each, which add up to 1.

    Parameters
    ----------
    penalty : float
        λ of Σ w (y - b₀ - x'b)² + λ b'b, scikit-learn's ``Ridge(alpha)``: the intercept is not shrunk, and features are
        as they are, so that their units matter. 0 is least squares, where features that follow from those before them
        are left out.

    Raises
    ------
    ConfigError
    """

    penalty: float = 0.0

    def __post_init__(self) -> None:
        check_penalty(self.penalty, "Linear")

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: one pass."""
        wide = each_class(task)
        found = wide.moments(data)
        fits = []
        for at, target in enumerate(wide.targets):
            where = task.of(target)
            parts = [self._solved(found.training(at, int(fold)), at, len(wide.targets), where) for fold in found.folds]
            dropped = dict.fromkeys(name for _, left in parts for name in left)
            models = tuple(model for model, _ in parts)
            fits.append(Fitted(task.features, task.folds, found.folds, models, tuple(dropped)))
        return together(fits, task)

    def _solved(self, training: Moments, outcome: int, targets: int, where: str) -> tuple[LinearPredictor, list[str]]:
        features = range(targets, len(training.columns))
        coefficients = np.zeros(len(features))
        if self.penalty == 0:
            fit = fitted(training, features, features, True, where, outcome=outcome)
            coefficients[[place - targets for place in fit.regressors]] = fit.coefficients[1:]
            return LinearPredictor(float(fit.values[0]), coefficients), list(fit.dropped)
        if not training.rows.sum():
            raise no_rows(where)
        means, products = training.means[0], training.products[0]
        shrunk = products[targets:, targets:] + self.penalty * np.eye(len(features))
        coefficients = np.linalg.solve(shrunk, products[targets:, outcome])
        return LinearPredictor(float(means[outcome] - coefficients @ means[targets:]), coefficients), []


def check_penalty(penalty: float, where: str) -> None:
    """Raise ConfigError unless a penalty is a number that is not negative."""
    if not (np.isfinite(penalty) and penalty >= 0):
        raise ConfigError(f"penalty is {penalty}", where, "it is 0, or more")
