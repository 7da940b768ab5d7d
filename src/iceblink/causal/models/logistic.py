"""Logistic regressions of all targets and folds together, a pass over the data for each of Newton's steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.late import special
from iceblink.causal.models.fitted import Fitted
from iceblink.causal.models.linear import check_penalty
from iceblink.causal.models.task import Sampled, Task, no_rows
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.newton import Climb, Maximum, climbing
from iceblink.causal.passes import summed
from iceblink.causal.regression.link import Logistic as Link
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class LogisticPredictor:
    """The logistic function of a number and the sum of features times coefficients (p,)."""

    intercept: float
    coefficients: Floats

    def of(self, features: Floats) -> Floats:
        return np.asarray(special.expit(self.coefficients @ features + self.intercept))


@dataclass(frozen=True, eq=False)
class _Place:
    """Which model it is, and the features that it has.

    Parameters
    ----------
    target : int
    fold : int
        Its place among the folds.
    kept : int array (k,)
        Places of features.
    ridge : float64 array (1 + k,)
        What the square of each parameter is penalised by, the intercept's first.
    """

    target: int
    fold: int
    kept: Integers
    ridge: Floats


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with an intercept, of a target of 0 and 1, by maximum likelihood or with a ridge penalty.

    Newton's method, about six passes over the data, each of them for all folds and targets.

    Parameters
    ----------
    penalty : float
        λ of Σ w log-likelihood - λ/2 b'b, scikit-learn's ``LogisticRegression(C=1/λ)``: the intercept is not shrunk,
        and features are as they are, so that their units matter. 0 is maximum likelihood, where features that follow
        from those before them are left out.

    Raises
    ------
    ConfigError
    """

    penalty: float = 0.0

    def __post_init__(self) -> None:
        check_penalty(self.penalty, "Logistic")

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: about seven passes.

        Raises
        ------
        PlanError
            Also where a training set has one value of a target, and where the likelihood has no maximum: some features
            tell zeros and ones apart without error.
        """
        found = task.moments(data)
        total = found.found.total
        targets = len(task.targets)
        deviations = np.sqrt(np.diag(total.products[0])[targets:] / max(total.weights[0], SMALLEST))
        scaling = _Scaling(total.means[0, targets:], np.where(deviations > 0, deviations, 1.0))
        climbs = {
            at * len(found.folds) + fold: self._begun(task, found, scaling, at, fold)
            for at in range(targets)
            for fold in range(len(found.folds))
        }
        maxima = _climbed(data, task, found.folds, scaling, climbs)
        fits = []
        for at in range(targets):
            models, dropped = [], {}
            for fold in range(len(found.folds)):
                place, _ = climbs[at * len(found.folds) + fold]
                models.append(self._model(task, place, scaling, maxima[at * len(found.folds) + fold]))
                left = np.setdiff1d(np.arange(len(task.features.names)), place.kept)
                dropped.update(dict.fromkeys(task.features.names[one] for one in left))
            fits.append(Fitted(task.features, task.folds, found.folds, tuple(models), tuple(dropped)))
        return tuple(fits)

    def _begun(self, task: Task, found: Sampled, scaling: _Scaling, at: int, fold: int) -> tuple[_Place, Climb]:
        """Return a model where all rows have the chance that is their share of ones."""
        training, targets = found.training(at, int(found.folds[fold])), len(task.targets)
        target = task.targets[at]
        where = task.of(target)
        if not training.rows.sum():
            raise no_rows(where)
        share = float(training.means[0, at])
        if training.products[0, at, at] <= 0:
            raise PlanError(f"{target.name} is {share:g} in every row", where, "a chance is learnt from zeros and ones")
        products = training.products[0, targets:, targets:] / np.outer(scaling.scales, scaling.scales)
        kept = solved(products).kept if self.penalty == 0 else np.flatnonzero(np.diag(products) > 0)
        ridge = np.concatenate([[0.0], self.penalty / scaling.scales[kept] ** 2])
        apart = (training.means[0, targets:] - scaling.centres)[kept] / scaling.scales[kept]
        means = np.concatenate([[1.0], apart])
        spread = np.outer(means, means)
        spread[1:, 1:] += products[np.ix_(kept, kept)] / training.weights[0]
        start = np.zeros(1 + len(kept))
        if 0 < share < 1:  # else the next pass says which value is neither 0 nor 1
            start[0] = special.logit(share)
        return _Place(at, fold, kept, ridge), climbing(start, spread)

    def _model(self, task: Task, place: _Place, scaling: _Scaling, maximum: Maximum) -> LogisticPredictor:
        if not maximum.found:
            far = int(np.argmax(np.abs(maximum.parameters[1:]))) if len(place.kept) else -1
            name = task.features.names[place.kept[far]] if len(place.kept) else "the intercept"
            raise PlanError(
                f"the likelihood has no maximum: the coefficient of {name} grows without end",
                task.of(task.targets[place.target]),
                "a feature, or several together, tell zeros and ones apart without error: leave it out, join "
                "categories, or shrink: Logistic(penalty=1.0)",
            )
        coefficients = np.zeros(len(task.features.names))
        coefficients[place.kept] = maximum.parameters[1:] / scaling.scales[place.kept]
        return LogisticPredictor(float(maximum.parameters[0] - coefficients @ scaling.centres), coefficients)


@dataclass(frozen=True, eq=False)
class _Scaling:
    """What is subtracted from features (p,), and what they are divided by."""

    centres: Floats
    scales: Floats


def _climbed(
    data: Dataset, task: Task, folds: Integers, scaling: _Scaling, climbs: Mapping[int, tuple[_Place, Climb]]
) -> dict[int, Maximum]:
    """Take a step of all climbs that have not ended in each pass, and return their ends by their numbers."""
    chosen = task.data(data)
    here = {number: next(climb) for number, (_, climb) in climbs.items()}
    maxima: dict[int, Maximum] = {}
    while here:
        asked = {number: (climbs[number][0], parameters) for number, parameters in here.items()}
        found = summed(chosen, _Slopes(task, folds, scaling, asked))
        here = {}
        for number, (place, parameters) in asked.items():
            shrunk = place.ridge * parameters
            sums = {
                "likelihood": found[f"likelihood {number}"] - shrunk @ parameters / 2,
                "slope": found[f"slope {number}"] - shrunk,
                "curvature": found[f"curvature {number}"] + np.diag(place.ridge),
            }
            try:
                here[number] = climbs[number][1].send(Sums(sums))
            except StopIteration as end:
                maxima[number] = end.value
    return maxima


@dataclass(frozen=True)
class _Slopes:
    """The likelihoods of a block of rows, their slopes and their curvatures, of some models at their parameters."""

    task: Task
    folds: Integers
    scaling: _Scaling
    asked: Mapping[int, tuple[_Place, Floats]]

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        link, found = Link(), {}
        with one_thread():
            rows = self.task.rows(batch)
            columns = np.ones((1 + len(rows.features), len(rows.fold)))
            columns[1:] = (rows.features - self.scaling.centres[:, None]) / self.scaling.scales[:, None]
            for number, (place, parameters) in self.asked.items():
                used = rows.learnt[place.target]
                if self.task.folds is not None:
                    used = used & (rows.fold != self.folds[place.fold])
                outcome, weight = rows.targets[place.target, used], rows.weights[place.target, used]
                allowed = link.allows(outcome)
                if not allowed.all():
                    target = self.task.targets[place.target]
                    value = float(outcome[~allowed][0])
                    raise QueryError(f"{target.name} has {value:g}", self.task.of(target), "it is to be 0 or 1")
                mine = columns[:, used][[0, *(1 + place.kept)]]
                score = parameters @ mine
                found[f"likelihood {number}"] = np.array((weight * link.likelihood(outcome, score)).sum())
                found[f"slope {number}"] = mine @ (weight * (outcome - link.mean(score)))
                found[f"curvature {number}"] = (mine * (weight * link.variance(score))) @ mine.T
        return Sums(found)
