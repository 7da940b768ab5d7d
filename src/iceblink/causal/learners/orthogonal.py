"""What R and DR learners have in common: cross-fitted models of nuisances, then a model of the effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from iceblink.causal.clipping import check_bound
from iceblink.causal.estimates import Estimates
from iceblink.causal.learners.learned import Rule
from iceblink.causal.learners.linear_effect import linear_effects
from iceblink.causal.learners.setting import Setting
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.target import Target
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Folds, Grouping
from iceblink.errors import ConfigError


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
    model: Model, setting: Setting, targets: Sequence[Target], title: str, folds: Grouping
) -> tuple[Rule, Mapping[str, Estimates]]:
    """Fit a model of the effect of each arm; of least squares also the coefficients, with errors. Eager."""
    if isinstance(model, Linear) and model.penalty == 0:
        return linear_effects(setting, targets, {"learner": title, **facts_of(folds)}, setting.provenance(folds))
    return FittedRule(setting.fit([(model, target) for target in targets])), {}
