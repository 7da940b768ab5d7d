"""The DR-learner: a model of doubly robust scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from iceblink.causal.clipping import clipped
from iceblink.causal.learners.learned import AverageScores, Rule
from iceblink.causal.learners.orthogonal import OrthogonalLearner
from iceblink.causal.learners.propensity import Chances
from iceblink.causal.learners.setting import Setting
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.models.target import Column, Target
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import Arms


@dataclass(frozen=True)
class DRLearner(OrthogonalLearner):
    """Effects by a regression of doubly robust scores on features: right if outcomes or chances are [1]_.

    The score of arm k is φ_k = μ_k(X) - μ_0(X) + 1{T = k} (Y - μ_k(X)) / p_k(X) - 1{T = 0} (Y - μ_0(X)) / p_0(X), with
    μ_j the mean outcome of arm j and p_j its chance, both by models that have not seen the row's fold. τ_k is a
    regression of φ_k on X over all rows: the folds' scores are pooled, as EconML's ``DRLearner`` does, instead of
    averaging a regression for each. The mean of φ_k is the AIPW estimate of the average effect, as of DoubleML's
    ``IRM``.

    Parameters
    ----------
    outcome, treatment, features, control, missing
        As of `SLearner`.
    key : str or sequence of str
        The columns of the unit, which decide its fold. Errors take rows as independent of each other, of one unit too,
        unless ``cluster=`` names what they have in common.
    outcome_model : Model
        Of each arm's outcome.
    effect_model : Model
        Of the scores. If it is `Linear` without a penalty, coefficients and effects have HC1 errors.
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
    .. [1] Kennedy: Towards optimal doubly robust estimation of heterogeneous causal effects, 2020 (Electronic Journal
       of Statistics 2023), algorithm 1.
    """

    def _outcomes(self, setting: Setting) -> list[tuple[Model, Target]]:
        return [(self.outcome_model, setting.outcome_in(arm)) for arm in range(len(setting.arms))]

    def _targets(self, setting: Setting, outcomes: tuple[Fitted, ...], chances: Chances) -> list[Target]:
        scores = DoublyRobust(self.outcome, setting.arms, outcomes, chances, self.clip)
        return [
            Target(_Score(scores, arm - 1), name=f"scores of {self.treatment} {setting.arms.names[arm]}")
            for arm in setting.others
        ]

    def _scores(self, setting: Setting, rule: Rule, outcomes: tuple[Fitted, ...], chances: Chances) -> AverageScores:
        return DoublyRobust(self.outcome, setting.arms, outcomes, chances, self.clip)


@dataclass(frozen=True, eq=False)
class DoublyRobust:
    """Scores of augmented inverse probability weighting."""

    outcome: str
    arms: Arms
    outcomes: tuple[Fitted, ...]
    chances: Chances
    clip: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.outcome, *self.arms.inputs, *self.outcomes[0].inputs, *self.chances.inputs)))

    def of(self, batch: pa.RecordBatch) -> tuple[Floats, Floats]:
        arm, at = self.arms.numbers(batch), np.arange(batch.num_rows)
        chances, moved = clipped(self.chances.of(batch), self.clip)
        means = predictions(self.outcomes, batch)
        means[arm, at] += (Column(self.outcome)(batch) - means[arm, at]) / chances[arm, at]
        return means[1:] - means[0], moved


@dataclass(frozen=True, eq=False)
class _Score:
    """The score of one arm."""

    scores: DoublyRobust
    place: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.scores.inputs

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        scores, _ = self.scores.of(batch)
        return np.asarray(scores[self.place])
