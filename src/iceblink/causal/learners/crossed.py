"""The X-learner: models of what each arm's rows would have had in the other, blended by the propensity."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.learners.learned import LearnedEffects
from iceblink.causal.learners.propensity import Assignment, Chances, against, columns_of
from iceblink.causal.learners.roles import Learner
from iceblink.causal.learners.setting import Setting, dropped_by
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.logistic import Logistic
from iceblink.causal.models.target import Column, Target
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import InArms

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class XLearner(Learner):
    """Effects by models of imputed effects, blended by the propensity: for arms of very different size [1]_.

    Models μ_j of each arm's outcome, as of `TLearner`, impute what a row would have had in the other arm. The imputed
    effects Y - μ_0(X) of arm k's rows have a model τ_k1, those of the control's, μ_k(X) - Y, have τ_k0; with g the
    chance of arm k among its rows and the control's, τ_k(x) = g(x) τ_k0(x) + (1 - g(x)) τ_k1(x). If all models are
    linear in the same features this is `TLearner`.

    Parameters
    ----------
    outcome, treatment, features, control, missing
        As of `SLearner`.
    outcome_model : Model
    effect_model : Model, optional
        Of the imputed effects. Default: `outcome_model`, or `Linear` if that is `Logistic`.
    propensity : Model, float, str or mapping
        A model of the chance of each arm, multinomial where there are more than two; or the chance of not being a
        control where it is known: a number, or the column that has it; of several arms a mapping from arms to either.
        ``ci.models.Pairwise(Logistic())`` models each arm's rows with the control's instead, as EconML and CausalML do.

    References
    ----------
    .. [1] Künzel, Sekhon, Bickel, Yu: Metalearners for estimating heterogeneous treatment effects using machine
       learning, PNAS 2019, the three stages of the X-learner.
    """

    _: KW_ONLY
    outcome_model: Model = field(default_factory=Linear)
    effect_model: Model | None = None
    propensity: Assignment = field(default_factory=Logistic)

    def fit(self, data: Dataset) -> LearnedEffects:
        """Fit the models. Eager: of linear ones, and a logistic one of the treatment, about seven passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
            As of `Learner.setting` and the models.
        ConfigError
            The propensity that is known is not one of all arms.
        PlanError
            Also where the features tell the arms apart without error.
        """
        setting = self.setting(data, columns_of(self.propensity))
        arms = range(len(setting.arms))
        asked = [(self.outcome_model, setting.outcome_in(arm)) for arm in arms]
        outcomes, chances = self.nuisances(setting, asked, self.propensity)
        imputed = [(arm, side) for side in ("own", "control") for arm in setting.others]
        model = self.effect_model or (Linear() if isinstance(self.outcome_model, Logistic) else self.outcome_model)
        fits = setting.fit([(model, _imputed(setting, outcomes, arm, side)) for arm, side in imputed])
        others = len(setting.others)
        rule = Blended(fits[:others], fits[others:], chances)
        return LearnedEffects(
            self.title, setting, rule, dropped=dropped_by([*outcomes, *fits]), provenance=setting.provenance()
        )


def _imputed(setting: Setting, outcomes: tuple[Fitted, ...], arm: int, side: str) -> Target:
    """What a model learns of an arm's effect from its own rows, or from the control's."""
    name = f"imputed effects of {setting.arms.column} {setting.arms.names[arm]}"
    if side == "own":
        return Target(Imputed(setting.outcome, outcomes[0], 1), rows=InArms(setting.arms, (arm,)), name=name)
    return Target(Imputed(setting.outcome, outcomes[arm], -1), rows=InArms(setting.arms, (0,)), name=name)


@dataclass(frozen=True, eq=False)
class Imputed:
    """What a row had less what a model says that it would have had in another arm, or the other way round.

    Parameters
    ----------
    outcome : str
    model : Fitted
    sign : {1, -1}
    """

    outcome: str
    model: Fitted
    sign: Literal[1, -1]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.outcome, *self.model.inputs)))

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return self.sign * (Column(self.outcome)(batch) - self.model.predict(batch))


@dataclass(frozen=True, eq=False)
class Blended:
    """Effects as means of two models, by the chance of the arm."""

    own: tuple[Fitted, ...]
    control: tuple[Fitted, ...]
    chances: Chances

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.own[0].inputs, *self.chances.inputs)))

    def effects(self, batch: pa.RecordBatch) -> Floats:
        chances, found = self.chances.of(batch), predictions([*self.own, *self.control], batch)
        own, control = np.split(found, 2)
        share = np.stack([against(chances, arm) for arm in range(1, len(chances))])
        return share * control + (1 - share) * own

    def errors(self, batch: pa.RecordBatch) -> None:
        return None
