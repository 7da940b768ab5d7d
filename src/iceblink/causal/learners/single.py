"""The S-learner: one model of the outcome, which has the treatment among its features."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.learners.learned import LearnedEffects
from iceblink.causal.learners.roles import Learner
from iceblink.causal.matrix import Category, Matrix
from iceblink.causal.models.fitted import Fitted, Model, fit_all
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import Arms
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class SLearner(Learner):
    """Effects by a single model of the outcome, of features and the treatment [1]_.

    τ_k(x) = μ(x, k) - μ(x, 0) with μ(x, t) = E[Y | X = x, T = t]; of the treatment each arm but the control is a
    column of ones and zeros. A linear model has then the same effect for all rows, and a penalty shrinks it: this
    learner is for models that find products by themselves, trees for example.

    Parameters
    ----------
    outcome : str
        A column of numbers; of true and false the effect is one on a chance.
    treatment : str
        A column of two values or a few: numbers, texts, true and false.
    features : str or sequence of str
        Terms as of `OLS`, ``age + I(age ** 2) + i(city)``, or a list of them: what effects may depend on, with all that
        decides both on the treatment and on the outcome.
    control : value of the treatment, optional
        What others are compared with. Default: the smallest value.
    missing : {"raise", "drop"}
        What to do about rows that lack a value in any of these columns.
    outcome_model : Model

    References
    ----------
    .. [1] Künzel, Sekhon, Bickel, Yu: Metalearners for estimating heterogeneous treatment effects using machine
       learning, PNAS 2019, the S-learner.
    """

    _: KW_ONLY
    outcome_model: Model = field(default_factory=Linear)

    def fit(self, data: Dataset) -> LearnedEffects:
        """Fit the model. Eager: of a linear one two passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError, QueryError
            As of `Learner.setting` and the model; also where features say who has which treatment.
        """
        setting = self.setting(data)
        every = setting.outcome_in(*range(len(setting.arms)))
        features = Matrix((*setting.features.terms, Category(self.treatment, setting.arms.levels)))
        (fit,) = fit_all(setting.data, [(self.outcome_model, every)], Task(features, (), None, self.title))
        arms = features.terms[-1].names
        if told := [name for name in arms if name in fit.dropped]:
            raise PlanError(
                f"the features say who has {told[0]}", self.title, "leave out what says what the treatment is"
            )
        return LearnedEffects(
            self.title, setting, Switched(fit, setting.arms), dropped=fit.dropped, provenance=setting.provenance()
        )


@dataclass(frozen=True, eq=False)
class Switched:
    """Effects as what a model says if a row had another treatment."""

    fit: Fitted
    arms: Arms

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in self.fit.inputs if name != self.arms.column)

    def effects(self, batch: pa.RecordBatch) -> Floats:
        expected = [self._under(level, batch) for level in self.arms.levels]
        return np.stack([one - expected[0] for one in expected[1:]])

    def errors(self, batch: pa.RecordBatch) -> None:
        return None

    def _under(self, level: pa.Scalar, batch: pa.RecordBatch) -> Floats:
        """Return what outcomes (n,) are expected if all rows are treated alike."""
        columns = {name: batch.column(name) for name in self.inputs}
        columns[self.arms.column] = pa.repeat(level, batch.num_rows)
        return self.fit.predict(pa.RecordBatch.from_pydict(columns))
