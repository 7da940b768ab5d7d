"""The R-learner: a model of what residuals of the treatment explain of residuals of the outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from iceblink.causal.clipping import clipped
from iceblink.causal.learners.learned import AverageScores, Rule
from iceblink.causal.learners.orthogonal import OrthogonalLearner
from iceblink.causal.learners.propensity import Chances, against
from iceblink.causal.learners.setting import Setting
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.models.target import Column, Target
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import Arms, InArms


@dataclass(frozen=True)
class RLearner(OrthogonalLearner):
    """Effects that minimise the R-loss, which no error of first order in outcomes or chances moves [1]_.

    With m(x) = E[Y | X = x] and e(x) the chance of the treatment, both by models that have not seen the row's fold, τ
    minimises Σ ((Y - m(X)) - (T - e(X)) τ(X))²: a regression of (Y - m) / (T - e) with weights (T - e)². With linear
    models it is EconML's ``LinearDML`` of a discrete treatment. Each arm is compared with the control over the rows of
    both, and m and e are those of these rows: e = p_k / (p_0 + p_k), by a model of the chances p of all arms.

    The average effect is the mean of AIPW scores with μ_0 = m - e τ and μ_1 = m + (1 - e) τ, as of grf's
    ``average_treatment_effect`` [2]_. The model of the effect has seen these rows: with a flexible one the standard
    error is somewhat too small, and `DRLearner` has one that is not.

    Parameters
    ----------
    outcome, treatment, features, control, missing
        As of `SLearner`.
    key : str or sequence of str
        The columns of the unit, which decide its fold. Errors take rows as independent of each other, of one unit too,
        unless ``cluster=`` names what they have in common.
    outcome_model : Model
        Of the outcome, whatever the treatment.
    effect_model : Model
        If it is `Linear` without a penalty, coefficients and effects have HC1 errors.
    propensity : Model, float, str or mapping
        As of `XLearner`.
    folds : int
    seed : int
    clip : float
        Chances nearer to 0 or 1 than this are taken as this; how many rows had one is among the facts of `ate`.
    cluster : str or sequence of str, optional
        As of `PLR`: errors of the average have the factor G / (G - 1), those of coefficients and effects are CR1.

    References
    ----------
    .. [1] Nie, Wager: Quasi-oracle estimation of heterogeneous treatment effects, Biometrika 2021, steps 1
       and 2 of the R-learner.
    .. [2] Athey, Wager: Estimating treatment effects with causal forests: an application, Observational Studies 2019;
       Robins, Rotnitzky, Zhao, JASA 1994.
    """

    def _outcomes(self, setting: Setting) -> list[tuple[Model, Target]]:
        return [(self.outcome_model, setting.outcome_in(0, arm)) for arm in setting.others]

    def _targets(self, setting: Setting, outcomes: tuple[Fitted, ...], chances: Chances) -> list[Target]:
        targets = []
        for arm in setting.others:
            left = Residuals(self.outcome, setting.arms, arm, outcomes[arm - 1], chances, self.clip)
            name = f"residuals of {self.treatment} {setting.arms.names[arm]}"
            targets.append(Target(_Ratio(left), rows=InArms(setting.arms, (0, arm)), weight=_Square(left), name=name))
        return targets

    def _scores(self, setting: Setting, rule: Rule, outcomes: tuple[Fitted, ...], chances: Chances) -> AverageScores:
        return _Augmented(self.outcome, setting.arms, rule, outcomes, chances, self.clip)


@dataclass(frozen=True, eq=False)
class Residuals:
    """What models leave of rows of an arm and of the control; of other rows it means nothing.

    Parameters
    ----------
    outcome : str
    arms : Arms
    arm : int
    expected : Fitted
        Of the outcome.
    chances : Chances
    clip : float
    """

    outcome: str
    arms: Arms
    arm: int
    expected: Fitted
    chances: Chances
    clip: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.outcome, *self.arms.inputs, *self.expected.inputs, *self.chances.inputs)))

    def of_outcome(self, batch: pa.RecordBatch) -> Floats:
        """Return Y - m(X), float64 (n,)."""
        return Column(self.outcome)(batch) - self.expected.predict(batch)

    def of_treatment(self, batch: pa.RecordBatch) -> Floats:
        """Return T - e(X), float64 (n,), never 0."""
        share, _ = clipped(against(self.chances.of(batch), self.arm)[np.newaxis], self.clip)
        return np.asarray((self.arms.numbers(batch) == self.arm) - share[0])


@dataclass(frozen=True, eq=False)
class _Ratio:
    """(Y - m) / (T - e)."""

    left: Residuals

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.left.inputs

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return self.left.of_outcome(batch) / self.left.of_treatment(batch)


@dataclass(frozen=True, eq=False)
class _Square:
    """(T - e)²."""

    left: Residuals

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.left.inputs

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return self.left.of_treatment(batch) ** 2


@dataclass(frozen=True, eq=False)
class _Augmented:
    """Scores of augmented inverse probability weighting, outcomes of each arm being what m, e and τ say."""

    outcome: str
    arms: Arms
    rule: Rule
    expected: tuple[Fitted, ...]
    chances: Chances
    clip: float

    @property
    def inputs(self) -> tuple[str, ...]:
        names = (*self.arms.inputs, *self.rule.inputs, *self.expected[0].inputs, *self.chances.inputs)
        return tuple(dict.fromkeys((self.outcome, *names)))

    def of(self, batch: pa.RecordBatch) -> tuple[Floats, Floats]:
        arm, outcome = self.arms.numbers(batch), Column(self.outcome)(batch)
        raw = self.chances.of(batch)
        chances, moved = clipped(raw, self.clip)
        found, expected = self.rule.effects(batch), predictions(self.expected, batch)
        for at, effect in enumerate(found.copy()):
            (share,), _ = clipped(against(raw, at + 1)[np.newaxis], self.clip)
            control, own = expected[at] - share * effect, expected[at] + (1 - share) * effect
            found[at] += np.where(arm == at + 1, (outcome - own) / chances[at + 1], 0.0)
            found[at] -= np.where(arm == 0, (outcome - control) / chances[0], 0.0)
        return found, moved
