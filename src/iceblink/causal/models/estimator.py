"""Estimators of scikit-learn's kind, on rows that fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.models.classes import each_class, together
from iceblink.causal.models.fitted import Fitted
from iceblink.causal.models.gathering import gathered
from iceblink.causal.models.task import Rows, Task, check_classes, no_rows
from iceblink.causal.moments import Floats
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError, PlanError
from iceblink.interop import optional

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class EstimatorPredictor:
    """A fitted estimator.

    Parameters
    ----------
    estimator : object
    chance : bool
        Whether it is asked for the chance of a 1, or of each class.
    width : int
        How many classes there are; 1 where there are none.
    """

    estimator: Any
    chance: bool
    width: int = 1

    def of(self, features: Floats) -> Floats:
        whole = np.isfinite(features.sum(axis=0))
        found = np.full((self.width, len(whole)), np.nan)
        rows = np.ascontiguousarray(features[:, whole].T)
        if len(rows):
            said = self.estimator.predict_proba(rows).T if self.chance else self.estimator.predict(rows)[np.newaxis]
            found[:, whole] = said[-self.width :]
        return found if self.width > 1 else np.asarray(found[0])


@dataclass(frozen=True, eq=False)
class SkLearn:
    """Any regressor or classifier with scikit-learn's ``fit(X, y)``, trained in this process on rows in memory.

    A classifier is asked for the chance of a 1, or of each class, a regressor for a value, whatever the target is: of
    classes there is one for each. Rows come in the dataset's order, so that what an estimator draws by its own
    ``random_state`` is the same on any engine for the same files; the same rows in other files have another order.

    Parameters
    ----------
    estimator : object
        Is cloned for each target and fold, and never fitted itself.
    memory_bytes : int
        The most that rows may take, 8 bytes a value: where there are more, the fit ends before they are held. While
        they are joined, and while an estimator is trained on a part of them, about three times as much is held.

    Raises
    ------
    ConfigError
        It has no ``fit`` and ``predict``, or scikit-learn is not installed.
    """

    estimator: Any
    memory_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        optional("sklearn", "demo")
        check_whole_fields(self, "SkLearn")
        words = ("fit", "predict", "get_params")
        if isinstance(self.estimator, type) or not all(callable(getattr(self.estimator, one, None)) for one in words):
            raise ConfigError(
                f"{type(self.estimator).__name__} is no estimator", "SkLearn", "an instance with fit and predict"
            )

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: one pass, and all of the training.

        Raises
        ------
        PlanError
            Also where rows take more than `memory_bytes`, and where a classifier's training set has one value, or
            lacks a class.
        """
        own = task if optional("sklearn.base", "demo").is_classifier(self.estimator) else each_class(task)
        found = self._rows(data, own)
        folds = np.unique(found.fold)
        task.check_folds(folds)
        fits = []
        for at, target in enumerate(own.targets):
            outside = folds if len(folds) > 1 else [None]
            models = tuple(self._trained(found, own, at, fold) for fold in outside)
            fits.append(Fitted(task.features, task.folds, folds, models, width=target.width))
        return tuple(fits) if own is task else together(fits, task)

    def _rows(self, data: Dataset, task: Task) -> Rows:
        parts: list[Rows] = []
        held = 0
        for rows in gathered(data, task, np.float64):
            arrays = (rows.fold, rows.features, rows.targets, rows.weights, rows.learnt)
            held += sum(array.nbytes for array in arrays)
            if held > self.memory_bytes:
                raise PlanError(
                    f"the rows take more than {self.memory_bytes:,} bytes",
                    task.where,
                    "sample the rows, raise memory_bytes, or take a model that reads blocks: Linear, Logistic, XGBoost",
                )
            parts.append(rows)
        if not parts:
            raise no_rows(task.where)
        fold, *wide = (
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("fold", "features", "targets", "weights", "learnt")
        )
        return Rows(fold, *wide)

    def _trained(self, found: Rows, task: Task, at: int, fold: int | None) -> EstimatorPredictor:
        base = optional("sklearn.base", "demo")
        target, where = task.targets[at], task.of(task.targets[at])
        used: NDArray[np.bool_] = found.learnt[at] if fold is None else found.learnt[at] & (found.fold != fold)
        if not used.any():
            raise no_rows(where)
        values, chance = found.targets[at, used], base.is_classifier(self.estimator)
        if chance:
            self._check_chance(values, task, at)
        weight = {} if target.weight is None else {"sample_weight": found.weights[at, used]}
        estimator = base.clone(self.estimator)
        try:
            estimator.fit(np.ascontiguousarray(found.features[:, used].T), values, **weight)
        except (TypeError, ValueError) as error:
            raise PlanError(str(error).splitlines()[0], where, f"so says {type(estimator).__name__}.fit") from error
        return EstimatorPredictor(estimator, chance, target.width)

    def _check_chance(self, values: Floats, task: Task, at: int) -> None:
        target, where = task.targets[at], task.of(task.targets[at])
        if not callable(getattr(self.estimator, "predict_proba", None)):
            raise PlanError(f"{type(self.estimator).__name__} has no predict_proba", where, "take one that has chances")
        check_classes(np.unique(values), target, where)
        other = values[(values != 0) & (values != 1)]
        if len(other) and not target.classes:
            raise PlanError(
                f"{target.name} has {other[0]:g}", where, "a classifier learns zeros and ones; take a regressor"
            )
        if values.min() == values.max():
            raise PlanError(f"{target.name} is {values[0]:g} in every row", where, "a chance is learnt from both")
