"""Fitted models: for each row the prediction of a model that has not seen its fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.matrix import Matrix
from iceblink.causal.models.target import Target
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.passes import Grouping, by_group
from iceblink.errors import ConfigError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


class Predictor(Protocol):
    """One fitted model; it pickles."""

    def of(self, features: Floats) -> Floats:
        """Return predictions, float64 (n,), of features (p, n); of a binary target chances of a 1.

        Of a target of J classes: the chance of each, float64 (J, n).
        """


class Model(Protocol):
    """What kind of model is to be fitted, and how: a frozen value that pickles."""

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, for all of its folds. Eager.

        Raises
        ------
        ColumnNotFound, TypeMismatch
            Before anything is read.
        QueryError
            A value is missing, or is none that can be learnt.
        PlanError
            There is nothing to be learnt, or too few rows.
        """


@dataclass(frozen=True, eq=False)
class Fitted:
    """The models of one target: one for each fold, made of the others, or a single one of all rows.

    Parameters
    ----------
    features : Matrix
    grouping : Grouping or None
        Which fold a row is in.
    folds : int64 array (K,)
        Their numbers, ascending.
    models : tuple of Predictor
        Of each fold.
    dropped : tuple of str
        Features that no model uses, since they follow from others.
    width : int
        How many numbers each predicts of a row: of a target of classes their number.
    """

    features: Matrix
    grouping: Grouping | None
    folds: Integers
    models: tuple[Predictor, ...]
    dropped: tuple[str, ...] = ()
    width: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at."""
        return tuple(dict.fromkeys((*self.features.inputs, *(self.grouping.inputs if self.grouping else ()))))

    def predict(self, batch: pa.RecordBatch) -> Floats:
        """Return a prediction for each row, float64 (n,), NaN where features lack a value that the model needs.

        Of a target of J classes the chance of each, float64 (J, n).

        With folds it is that of the model that was fitted without the row's fold.

        Raises
        ------
        QueryError
            A row is in a fold that had no rows when the models were fitted.
        """
        found = predictions([self], batch)
        return found[0] if self.width == 1 else found


def predictions(fits: Sequence[Fitted], batch: pa.RecordBatch) -> Floats:
    """Return the predictions of models of the same features and folds, one below the other: float64 (m, n).

    The matrix of features is made once. A model of J classes has J of the m rows, others have one.
    """
    first = fits[0]
    fold = np.zeros(batch.num_rows, np.int64) if first.grouping is None else first.grouping.numbers(batch)
    order = by_group(fold)
    features = first.features.filled(batch, order)
    ends = np.searchsorted(fold[order], first.folds, side="right")
    begins = np.searchsorted(fold[order], first.folds, side="left")
    if (ends - begins).sum() < len(fold):
        number = fold[~np.isin(fold, first.folds)][0]
        raise QueryError(f"no model was fitted without fold {number}", "a prediction", "fit it to the same rows")
    out = np.empty((sum(fit.width for fit in fits), len(fold)))
    with one_thread():
        for at, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            if begin == end:
                continue
            part = np.ascontiguousarray(features[:, begin:end])
            place = 0
            for fit in fits:
                out[place : place + fit.width, order[begin:end]] = fit.models[at].of(part)
                place += fit.width
    return out


def fit_all(data: Dataset, asked: Sequence[tuple[Model, Target]], task: Task) -> tuple[Fitted, ...]:
    """Fit a model for each of some targets; those of equal models are fitted together, in the same passes. Eager.

    Parameters
    ----------
    data : Dataset
    asked : sequence of (Model, Target)
    task : Task
        Its targets do not matter.

    Raises
    ------
    ConfigError
        One is no model.
    ColumnNotFound, TypeMismatch, QueryError, PlanError
        As of `Model.fit`.
    """
    for model, target in asked:
        if isinstance(model, type) or not callable(getattr(model, "fit", None)) or hasattr(model, "predict"):
            raise ConfigError(
                f"{model!r} is no model", task.of(target), "ci.models.Linear(), or ci.models.SkLearn(estimator)"
            )
    found: dict[int, Fitted] = {}
    for at, (model, _) in enumerate(asked):
        if at in found:
            continue
        alike = [other for other in range(at, len(asked)) if asked[other][0] == model]
        together = Task(task.features, tuple(asked[one][1] for one in alike), task.folds, task.where)
        found.update(zip(alike, model.fit(data, together), strict=True))
    return tuple(found[at] for at in range(len(asked)))
