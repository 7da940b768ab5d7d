"""The interactive model: treatments that are one of a few, whose effect may differ with every confounder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.clipping import ROWS_CLIPPED, check_bound, clipped
from iceblink.causal.dml.crossfit import Asked, CrossFit, Prepared
from iceblink.causal.dml.partialling_out import estimates
from iceblink.causal.dml.repeats import Groupings, combined
from iceblink.causal.dml.scores import Score, Solution, solution
from iceblink.causal.estimates import Estimates
from iceblink.causal.models.classes import chances_of_all
from iceblink.causal.models.fitted import Model
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.logistic import Logistic
from iceblink.causal.models.target import Column, Target
from iceblink.causal.moments import Floats
from iceblink.causal.observational.effects import contrasts
from iceblink.causal.observational.study import Arms, InArms, arms_of, membership
from iceblink.errors import ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Estimand = Literal["ATE", "ATT"]
ESTIMANDS: tuple[Estimand, ...] = ("ATE", "ATT")


@dataclass(frozen=True)
class IRM(CrossFit):
    """Average effects in the interactive regression model: augmented inverse probability weighting, cross-fitted [1]_.

    With g_j(x) the regression of the outcome in arm j and m_j(x) its chance, the mean of arm j is that of
    g_j(x) + 1{t = j} (y - g_j(x)) / m_j(x), and the ATE of an arm is the difference of its mean from the control's.
    The ATT of two arms solves Σ t (y - g₀(x)) - m(x) (1 - t) (y - g₀(x)) / (1 - m(x)) - θ t = 0.

    Parameters
    ----------
    outcome, confounders, key, folds, seed, cluster, missing, repeats
        As of `PLR`.
    treatment : str
        A column of two values or a few: numbers, texts, true and false.
    estimand : {"ATE", "ATT"}
    control : value of the treatment, optional
        What others are compared with. Default: the smallest value.
    outcome_model : Model
        Of g, a model for each arm. ``Logistic()`` if the outcome is 0 or 1.
    treatment_model : Model
        Of m; with more than two arms one model of all, multinomial regression with `Logistic`.
    clip : float
        Chances below it are taken to be `clip`, and above 1 - `clip` to be that: clipping, which DoubleML has called
        trimming. How many rows it touched is among the facts; to leave rows out instead is to change the population.

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Chernozhukov et al. 2018, eqs. 5.3 and 5.4.
    """

    estimand: Estimand = field(default="ATE", kw_only=True)
    control: object = field(default=None, kw_only=True)
    outcome_model: Model = field(default=Linear(), kw_only=True)
    treatment_model: Model = field(default=Logistic(), kw_only=True)
    clip: float = field(default=0.01, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bound(self.clip, "IRM")
        if self.estimand not in ESTIMANDS:
            raise ConfigError(
                f"no estimand {self.estimand!r} here", "IRM", nearest(self.estimand, ESTIMANDS, "estimands")
            )

    @property
    def _by_degrees(self) -> bool:
        return False

    def fit(self, data: Dataset, *, grouping: Groupings | None = None) -> Estimates:
        """Estimate it. Eager: a pass over the treatment, the models' passes, and one more; with clusters two.

        Returns
        -------
        Estimates
            Of the ATE, ``ATE`` or with more than two arms ``ATE[arm]``, then the means of potential outcomes,
            ``mean[arm]``; or ``ATT`` alone.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError, QueryError
        PlanError
            The treatment has one value, or more than 20; there is no overlap; the ATT of more than two arms is asked.
        """
        prepared = self._prepared(data, grouping)
        arms = arms_of(prepared.data, self.treatment, self.control, None, self.title)
        if self.estimand == "ATT" and len(arms) > 2:
            raise PlanError(
                f"the ATT of {len(arms)} arms is of no one population", self.title, "keep two arms by a filter"
            )
        kind = _Treated if self.estimand == "ATT" else _Means
        score: Score = kind(self.outcome, arms, self.clip)
        return combined([self._once(one, arms, score) for one in prepared.repeats()])

    def _once(self, prepared: Prepared, arms: Arms, score: Score) -> Estimates:
        found = solution(prepared, self._asked(arms), score, self._clusters)
        facts = self._facts(prepared, clip=self.clip, **{ROWS_CLIPPED: rows_clipped(found)})
        provenance = self._provenance(prepared)
        if self.estimand == "ATT":
            return estimates(self.title, ("ATT",), found, facts, provenance)
        names, turned = contrasts("ATE", arms.names)
        means = estimates(self.title, names, found, facts, provenance)
        return replace(means, values=turned @ means.values, covariance=turned @ means.covariance @ turned.T)

    def _asked(self, arms: Arms) -> Asked:
        """Return models of outcomes of each arm, then that of chances."""
        wanted = [0] if self.estimand == "ATT" else range(len(arms))
        named = [f"{self.outcome} of {arms.column} {name}" for name in arms.names]
        outcomes: Asked = [
            (self.outcome_model, Target(self.outcome, rows=InArms(arms, (arm,)), name=named[arm])) for arm in wanted
        ]
        return [*outcomes, (self.treatment_model, membership(arms))]


@dataclass(frozen=True)
class _Means:
    """Of each arm a = -1 and b its augmented outcome; whether a chance was clipped."""

    outcome: str
    arms: Arms
    clip: float
    extras: tuple[str, ...] = ("clipped",)

    @property
    def width(self) -> int:
        return len(self.arms)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.outcome, *self.arms.inputs)

    def __call__(self, batch: pa.RecordBatch, nuisances: Floats) -> Floats:
        outcome, arm = Column(self.outcome)(batch), self.arms.numbers(batch)
        means = nuisances[: self.width]
        chances, touched = clipped(chances_of_all(nuisances[self.width :]), self.clip)
        parts = np.empty((2 * self.width + 1, len(arm)))
        parts[: self.width] = -1.0
        for at in range(self.width):
            parts[self.width + at] = means[at] + (arm == at) * (outcome - means[at]) / chances[at]
        parts[-1] = touched
        return parts


@dataclass(frozen=True)
class _Treated:
    """a = - t and b of those treated against what they would have been; whether a chance was clipped."""

    outcome: str
    arms: Arms
    clip: float
    width: int = 1
    extras: tuple[str, ...] = ("clipped",)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.outcome, *self.arms.inputs)

    def __call__(self, batch: pa.RecordBatch, nuisances: Floats) -> Floats:
        treated = (self.arms.numbers(batch) == 1).astype(np.float64)
        residual = Column(self.outcome)(batch) - nuisances[0]
        (chance,), touched = clipped(nuisances[1:2], self.clip)
        weight = treated - (1 - treated) * chance / (1 - chance)
        return np.stack([-treated, weight * residual, touched])


def rows_clipped(found: Solution) -> int:
    """Return how many rows had a chance outside of the bounds."""
    return round(float(found.extras.means[0, 0]) * found.rows)
