"""The T-learner: a model of the outcome for each arm."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.learners.learned import LearnedEffects
from iceblink.causal.learners.roles import Learner
from iceblink.causal.learners.setting import dropped_by
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.models.linear import Linear
from iceblink.causal.moments import Floats

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class TLearner(Learner):
    """Effects by two models of the outcome, or one for each arm [1]_.

    τ_k(x) = μ_k(x) - μ_0(x), each μ_j(x) = E[Y | X = x, T = j] fitted to the rows of its arm alone. With linear models
    the average effect is that of `RegressionAdjustment`, which has standard errors of it.

    Parameters
    ----------
    outcome, treatment, features, control, missing
        As of `SLearner`.
    outcome_model : Model

    References
    ----------
    .. [1] Künzel, Sekhon, Bickel, Yu: Metalearners for estimating heterogeneous treatment effects using machine
       learning, PNAS 2019, the T-learner.
    """

    _: KW_ONLY
    outcome_model: Model = field(default_factory=Linear)

    def fit(self, data: Dataset) -> LearnedEffects:
        """Fit the models. Eager: of linear ones two passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError, QueryError
            As of `Learner.setting` and the models.
        """
        setting = self.setting(data)
        fits = setting.fit([(self.outcome_model, setting.outcome_in(arm)) for arm in range(len(setting.arms))])
        return LearnedEffects(
            self.title, setting, Contrasts(fits), dropped=dropped_by(fits), provenance=setting.provenance()
        )


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Effects as differences of models, the control's first."""

    fits: tuple[Fitted, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.fits[0].inputs

    def effects(self, batch: pa.RecordBatch) -> Floats:
        expected = predictions(self.fits, batch)
        return np.asarray(expected[1:] - expected[0])

    def errors(self, batch: pa.RecordBatch) -> None:
        return None
