"""Chances of several classes by a model of each with the first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.models.classes import IsClass, together
from iceblink.causal.models.fitted import Fitted, Model, Predictor
from iceblink.causal.models.target import Target, Values
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST = 1e300
"""Odds are no more, so that none is infinity over infinity."""


@dataclass(frozen=True, eq=False)
class OddsPredictor:
    """The chances (J, n) whose odds against the first class are those that models say."""

    models: tuple[Predictor, ...]

    def of(self, features: Floats) -> Floats:
        shares = np.clip([model.of(features) for model in self.models], 0.0, 1.0)
        with np.errstate(divide="ignore"):
            odds = np.minimum(shares / (1 - shares), MOST / len(shares))
        return np.asarray(np.concatenate([np.ones((1, odds.shape[1])), odds]) / (1 + odds.sum(axis=0)))


@dataclass(frozen=True)
class Pairwise:
    """Of a target of classes a model of each with the first, of the rows of both, for any model of 0 and 1 [1]_.

    The chances follow from the odds that these say, and add up to 1. It is what EconML's ``XLearner`` and CausalML do
    with several arms, the first being the control; of other targets it is the model itself.

    Parameters
    ----------
    model : Model

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Begg, Gray: Calculation of polychotomous logistic regression parameters using individualized regressions,
       Biometrika 1984.
    """

    model: Model

    def __post_init__(self) -> None:
        if isinstance(self.model, type) or not callable(getattr(self.model, "fit", None)):
            raise ConfigError(f"{self.model!r} is no model", "Pairwise", "Pairwise(ci.models.Logistic())")

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: what the model takes, for all together."""
        pairs = tuple(pair for target in task.targets for pair in _pairs(target))
        fits = self.model.fit(data, replace(task, targets=pairs))
        return together(fits, task, OddsPredictor, lambda target: target.scores)


def _pairs(target: Target) -> list[Target]:
    """Return what is learnt of a target: of classes one of 0 and 1 for each but the first."""
    if not target.classes:
        return [target]
    first = target.classes[0]
    return [
        replace(
            target,
            of=IsClass(target.values, number),
            rows=_InPair(target.values, target.rows, number),
            binary=True,
            classes=(),
            name=f"{target.name} {name} against {first}",
        )
        for number, name in enumerate(target.classes)
        if number
    ]


@dataclass(frozen=True, eq=False)
class _InPair:
    """1 for rows of a class or of the first, of those that are learnt from."""

    values: Values
    rows: Values | None
    number: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.values.inputs, *(self.rows.inputs if self.rows else ()))))

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        found = np.isin(self.values(batch), (0, self.number))
        return (found if self.rows is None else found & (self.rows(batch) != 0)).astype(np.float64)
