"""Logistic regressions of two or more classes, of all targets and folds together: a pass for each of Newton's steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.late import special
from iceblink.causal.models.classes import each_class
from iceblink.causal.models.fitted import Fitted, Predictor
from iceblink.causal.models.linear import check_penalty
from iceblink.causal.models.target import Target
from iceblink.causal.models.task import Sampled, Task, check_classes, no_rows
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.multinomial import LOGITS, curved
from iceblink.causal.newton import Climb, Maximum, Start, climbing
from iceblink.causal.passes import summed
from iceblink.causal.regression.link import Logistic as Link
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

LINK = Link()
SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class LogisticPredictor:
    """The logistic function of a number and the sum of features times coefficients (p,)."""

    intercept: float
    coefficients: Floats

    def of(self, features: Floats) -> Floats:
        return np.asarray(special.expit(self.coefficients @ features + self.intercept))


@dataclass(frozen=True, eq=False)
class SoftmaxPredictor:
    """The chances (J, n) of classes; all but the first have numbers (J - 1,) and coefficients (J - 1, p)."""

    intercepts: Floats
    coefficients: Floats

    def of(self, features: Floats) -> Floats:
        return LOGITS.chances(self.coefficients @ features + self.intercepts[:, np.newaxis]).of


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
    ridge : float64 array (L (1 + k), L (1 + k))
        Half of its quadratic form is what parameters are penalised by: of L scores, the intercept of each first.
    """

    target: int
    fold: int
    kept: Integers
    ridge: Floats


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with an intercept, of a target of 0 and 1, by maximum likelihood or with a ridge penalty.

    Newton's method, about four passes over the data, each of them for all folds and targets: it begins at what
    discriminant analysis says, by moments that the first pass sums. Of a target of J classes it is multinomial
    regression: the logarithms of odds against the first class are linear, and chances add up to 1; each pass then sums
    a curvature of (J - 1) (1 + p) squared for each fold.

    Parameters
    ----------
    penalty : float
        λ of Σ w log-likelihood - λ/2 b'b, scikit-learn's ``LogisticRegression(C=1/λ)``: the intercept is not shrunk,
        and features are as they are, so that their units matter. Of classes b holds the coefficients of all J, as of
        scikit-learn, none of which is taken to be 0. 0 is maximum likelihood, where features that follow from those
        before them are left out.

    Raises
    ------
    ConfigError
    """

    penalty: float = 0.0

    def __post_init__(self) -> None:
        check_penalty(self.penalty, "Logistic")

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: about four passes.

        Raises
        ------
        PlanError
            Also where a training set has one value of a target or lacks a class, and where the likelihood has no
            maximum: some features tell values apart without error.
        """
        found = each_class(task).moments(data)
        total = found.found.total
        targets, columns = len(task.targets), len(found.numbers)
        deviations = np.sqrt(np.diag(total.products[0])[columns:] / max(total.weights[0], SMALLEST))
        scaling = _Scaling(total.means[0, columns:], np.where(deviations > 0, deviations, 1.0))
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
            width = task.targets[at].width
            fits.append(Fitted(task.features, task.folds, found.folds, tuple(models), tuple(dropped), width))
        return tuple(fits)

    def _begun(self, task: Task, found: Sampled, scaling: _Scaling, at: int, fold: int) -> tuple[_Place, Climb]:
        """Return a model, and where it begins."""
        columns, place = len(found.numbers), sum(target.width for target in task.targets[:at])
        training = found.training(place, int(found.folds[fold]))
        target = task.targets[at]
        where = task.of(target)
        if not training.rows.sum():
            raise no_rows(where)
        shares = training.means[0, place : place + target.width]
        check_classes(np.flatnonzero(shares > 0), target, where)
        if training.products[0, place, place] <= 0:
            what = target.classes[0] if target.classes else f"{shares[0]:g}"
            raise PlanError(f"{target.name} is {what} in every row", where, "a chance is learnt from zeros and ones")
        weight, scales = training.weights[0], scaling.scales
        products = training.products[0, columns:, columns:] / weight / np.outer(scales, scales)
        kept = solved(products).kept if self.penalty == 0 else np.flatnonzero(np.diag(products) > 0)
        products, scales = products[np.ix_(kept, kept)], scales[kept]
        ridge = np.diag(self.penalty / scales**2)
        centre = (training.means[0, columns:] - scaling.centres)[kept] / scales
        ones = np.concatenate([[1.0], centre])
        spread = np.outer(ones, ones)
        spread[1:, 1:] += products
        shrunk = np.zeros_like(spread)
        shrunk[1:, 1:] = ridge
        crosses = training.products[0][place : place + target.width, columns + kept] / weight / scales
        own = beside = np.eye(target.scores)
        if target.classes:
            # Of the squares of J coefficients the part that no number added to all of them makes smaller.
            beside = own - 1 / len(shares)
        else:
            shares, crosses = np.concatenate([1 - shares, shares]), np.concatenate([-crosses, crosses])
        if (shares > 0).all():
            means = centre + crosses / shares[:, np.newaxis]
            start = LOGITS.start(shares, means, products, float(weight), ridge)
        else:  # the next pass says which value is neither 0 nor 1
            start = Start.at(np.zeros(len(ones)))
        shrunk, spread = (np.asarray(np.kron(*pair), np.float64) for pair in ((beside, shrunk), (own, spread)))
        return _Place(at, fold, kept, shrunk), climbing(start, spread)

    def _model(self, task: Task, place: _Place, scaling: _Scaling, maximum: Maximum) -> Predictor:
        target = task.targets[place.target]
        found = maximum.parameters.reshape(target.scores, -1)
        if not maximum.found:
            far = int(np.argmax(np.abs(found[:, 1:]).max(axis=0))) if len(place.kept) else -1
            name = task.features.names[place.kept[far]] if len(place.kept) else "the intercept"
            apart = "classes" if target.classes else "zeros and ones"
            raise PlanError(
                f"the likelihood has no maximum: the coefficient of {name} grows without end",
                task.of(target),
                f"a feature, or several together, tell {apart} apart without error: leave it out, join "
                "categories, or shrink: Logistic(penalty=1.0)",
            )
        coefficients = np.zeros((target.scores, len(task.features.names)))
        coefficients[:, place.kept] = found[:, 1:] / scaling.scales[place.kept]
        intercepts = found[:, 0] - coefficients @ scaling.centres
        if target.classes:
            return SoftmaxPredictor(intercepts, coefficients)
        return LogisticPredictor(float(intercepts[0]), coefficients[0])


@dataclass(frozen=True, eq=False)
class _Scaling:
    """What is subtracted from features (p,), and what they are divided by."""

    centres: Floats
    scales: Floats

    def beside_ones(self, features: Floats) -> Floats:
        """Return a one and the features (1 + p, n), made in one place: a block is larger than caches are."""
        columns = np.empty((1 + len(features), features.shape[1]))
        columns[0] = 1.0
        np.subtract(features, self.centres[:, np.newaxis], out=columns[1:])
        columns[1:] /= self.scales[:, np.newaxis]
        return columns


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
            shrunk = place.ridge @ parameters
            sums = {
                "likelihood": found[f"likelihood {number}"] - shrunk @ parameters / 2,
                "slope": found[f"slope {number}"] - shrunk,
                "curvature": found[f"curvature {number}"] + place.ridge,
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
        found = {}
        with one_thread():
            rows = self.task.rows(batch)
            columns = self.scaling.beside_ones(rows.features)
            for number, (place, parameters) in self.asked.items():
                used = rows.learnt[place.target]
                if self.task.folds is not None:
                    used = used & (rows.fold != self.folds[place.fold])
                target = self.task.targets[place.target]
                mine = columns if len(place.kept) == len(rows.features) else columns[[0, *(1 + place.kept)]]
                mine = mine if used.all() else mine[:, used]
                outcome, weight = rows.targets[place.target, used], rows.weights[place.target, used]
                if target.classes:
                    sums = _of_classes(outcome.astype(np.int64), weight, mine, parameters)
                else:
                    self._check_binary(target, outcome)
                    sums = LINK.likelihood(outcome, parameters @ mine).summed(mine, weight)
                found.update({f"{name} {number}": values for name, values in sums.items()})
        return Sums(found)

    def _check_binary(self, target: Target, outcome: Floats) -> None:
        if not (allowed := LINK.allows(outcome)).all():
            value = float(outcome[~allowed][0])
            raise QueryError(f"{target.name} has {value:g}", self.task.of(target), "it is to be 0 or 1")


def _of_classes(own: Integers, weight: Floats, columns: Floats, parameters: Floats) -> dict[str, Floats]:
    scores = parameters.reshape(-1, len(columns)) @ columns
    chances = LOGITS.chances(scores)
    is_own = own == np.arange(1, len(chances.of))[:, np.newaxis]
    return {
        "likelihood": np.array((weight * LOGITS.likelihood(scores, own)).sum()),
        "slope": ((weight * (is_own - chances.of[1:])) @ columns.T).ravel(),
        "curvature": curved(weight * LOGITS.curvature(scores, own, chances), columns),
    }
