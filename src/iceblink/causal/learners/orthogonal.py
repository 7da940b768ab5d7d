"""What R and DR learners have in common: cross-fitted models of nuisances, then a model of the effect."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from iceblink.causal.clipping import check_bound
from iceblink.causal.estimates import Estimates
from iceblink.causal.learners.learned import AverageScores, LearnedEffects, Rule
from iceblink.causal.learners.linear_effect import linear_effects
from iceblink.causal.learners.propensity import Assignment, Chances, columns_of
from iceblink.causal.learners.roles import Learner
from iceblink.causal.learners.setting import Setting, dropped_by
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.logistic import Logistic
from iceblink.causal.models.target import Target
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Folds, Grouping, several
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


def check_folds(folds: int, clip: float, where: str) -> None:
    """Raise ConfigError unless there are two folds, and a bound of chances is one."""
    if folds < 2:
        raise ConfigError(f"folds is {folds}", where, "two or more: a model is judged by rows it has not seen")
    check_bound(clip, where)


def facts_of(folds: Grouping) -> dict[str, Any]:
    """Return what is to be known of folds beside their provenance."""
    return {} if isinstance(folds, Folds) else {"folds": "given"}


@dataclass(frozen=True, eq=False)
class FittedRule:
    """Effects as a fitted model of each arm says."""

    fits: tuple[Fitted, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.fits[0].inputs

    def effects(self, batch: pa.RecordBatch) -> Floats:
        return predictions(self.fits, batch)

    def errors(self, batch: pa.RecordBatch) -> None:
        return None


def effects_by(
    model: Model,
    setting: Setting,
    targets: Sequence[Target],
    title: str,
    folds: Grouping,
    clusters: tuple[str, ...] = (),
) -> tuple[Rule, Mapping[str, Estimates]]:
    """Fit a model of the effect of each arm; of least squares also the coefficients, with errors. Eager."""
    if isinstance(model, Linear) and model.penalty == 0:
        facts = {"learner": title, **facts_of(folds)}
        return linear_effects(setting, targets, facts, setting.provenance(folds), clusters)
    return FittedRule(setting.fit([(model, target) for target in targets])), {}


@dataclass(frozen=True)
class OrthogonalLearner(Learner):
    """A learner whose effects errors of first order in the nuisances do not move; each documents its parameters."""

    key: str | Sequence[str]
    _: KW_ONLY
    outcome_model: Model = field(default_factory=Linear)
    effect_model: Model = field(default_factory=Linear)
    propensity: Assignment = field(default_factory=Logistic)
    folds: int = 5
    seed: int = 0
    clip: float = 0.01
    cluster: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_fields(self, self.title)
        check_folds(self.folds, self.clip, self.title)

    def fit(self, data: Dataset, *, grouping: Grouping | None = None) -> LearnedEffects:
        """Fit the models. Eager: of linear ones, and a logistic one of the treatment, about eleven passes.

        Parameters
        ----------
        data : Dataset
        grouping : Grouping, optional
            Folds of another kind.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
            As of `Learner.setting` and the models.
        ConfigError
            The propensity that is known is not one of all arms.
        PlanError
            Also where a fold is empty, or the features tell the arms apart without error.
        """
        clusters = () if self.cluster is None else several(self.cluster)
        by = grouping or Folds.by(clusters or self.key, self.folds, self.seed)
        keys = () if grouping else several(self.key)  # looked for even where clusters decide the folds
        setting = self.setting(data, columns_of(self.propensity), (*keys, *by.inputs), clusters)
        outcomes, chances = self.nuisances(setting, self._outcomes(setting), self.propensity, by)
        targets = self._targets(setting, outcomes, chances)
        rule, linear = effects_by(self.effect_model, setting, targets, self.title, by, clusters)
        return LearnedEffects(
            self.title,
            setting,
            rule,
            self._scores(setting, rule, outcomes, chances),
            linear,
            dropped_by(outcomes),
            facts_of(by),
            setting.provenance(by),
            clusters,
        )

    @abstractmethod
    def _outcomes(self, setting: Setting) -> list[tuple[Model, Target]]:
        """Return models of outcomes, and of which rows."""

    @abstractmethod
    def _targets(self, setting: Setting, outcomes: tuple[Fitted, ...], chances: Chances) -> list[Target]:
        """Return of each arm what its effect is a regression of."""

    @abstractmethod
    def _scores(self, setting: Setting, rule: Rule, outcomes: tuple[Fitted, ...], chances: Chances) -> AverageScores:
        """Return scores whose mean is the average effect."""
