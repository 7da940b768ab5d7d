"""The rows of a learner: which arm each was in, and what was known of it before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from iceblink.causal.formula import Terms
from iceblink.causal.matrix import Matrix
from iceblink.causal.models.fitted import Fitted, Model, fit_all
from iceblink.causal.models.target import Target
from iceblink.causal.models.task import Task
from iceblink.causal.observational.study import Arms, InArms
from iceblink.causal.passes import Folds, Grouping
from iceblink.causal.provenance import Provenance

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Setting:
    """Rows whose arms have been counted.

    Parameters
    ----------
    data : Dataset
        With a column for each expression, and without rows that lack a value, where these are to be left out.
    outcome : str
    arms : Arms
        The control first.
    terms : Terms
        The features, as a formula has them.
    features : Matrix
    where : str
        Who asks, for errors.
    """

    data: Dataset
    outcome: str
    arms: Arms
    terms: Terms
    features: Matrix
    where: str

    @property
    def others(self) -> range:
        """The numbers of the arms that are compared with the control."""
        return range(1, len(self.arms))

    def outcome_in(self, *arms: int) -> Target:
        """What a model of the outcome learns from the rows of some arms; of true and false, a chance."""
        binary = pa.types.is_boolean(self.data.schema.field(self.outcome).type)
        name = f"{self.outcome} of {self.arms.column} {' and '.join(self.arms.names[arm] for arm in arms)}"
        return Target(self.outcome, rows=InArms(self.arms, arms), binary=binary, name=name)

    def provenance(self, folds: Grouping | None = None) -> Provenance:
        """Return where results come from; folds that were given have no seed."""
        if isinstance(folds, Folds):
            return Provenance.of(self.data, folds=folds.count, seed=folds.seed)
        return Provenance.of(self.data)

    def task(self, targets: Sequence[Target] = (), folds: Grouping | None = None) -> Task:
        return Task(self.features, tuple(targets), folds, self.where)

    def fit(self, asked: Sequence[tuple[Model, Target]], folds: Grouping | None = None) -> tuple[Fitted, ...]:
        """Fit a model for each target, those of equal models together. Eager; raises what `fit_all` raises."""
        return fit_all(self.data, asked, self.task(folds=folds))


def dropped_by(fits: Sequence[Fitted]) -> tuple[str, ...]:
    """Return the features that some of the models do not use."""
    return tuple(dict.fromkeys(name for fit in fits for name in fit.dropped))
