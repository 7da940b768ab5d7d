"""Omitted variable bias of the partially linear model, from moments of residuals and of influence functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.distributions import normal_quantile
from iceblink.causal.dml.linear_nuisances import Nuisances, crossed, trained
from iceblink.causal.dml.partially_linear import LinearPLR
from iceblink.causal.doubt.bounds import (
    ROBUSTNESS,
    ROBUSTNESS_95,
    Bounds,
    Sensitivity,
    check_level,
    check_strength,
    contour_table,
    grid,
)
from iceblink.causal.late import optimize
from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.passes import Grouping, summed
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.solve import TOLERANCE
from iceblink.causal.sums import Sums
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Benchmark:
    """A confounder as strong as some observed columns are.

    Parameters
    ----------
    columns : tuple of str
    r2_treatment, r2_outcome : float
        What the columns add to what others explain, in parts of what is left: DoubleML's cf_d and cf_y.
    rho : float
        How far what they add to both goes together, with the sign of the change of the effect.
    change : float
        By how much the effect would be another if these columns were not there.
    """

    columns: tuple[str, ...]
    r2_treatment: float
    r2_outcome: float
    rho: float
    change: float


@dataclass(frozen=True, eq=False, repr=False)
class ScoreSensitivity(Sensitivity):
    """How an effect of the partially linear model stands if there is an unobserved confounder [1]_.

    It moves the effect by at most c S, with c = |rho| √(R²_y R²_d / (1 - R²_d)) and S² = E[(y - l(x) - θ v)²] / E[v²],
    v being what is left of the treatment, R²_y and R²_d the parts of what is left of outcome and treatment that it
    explains, and rho how far the two go together. Bounds have the influence functions ψ_θ - c ψ_S and ψ_θ + c ψ_S.

    DoubleML 0.11 computes ψ_θ with the opposite sign there, so that its standard error of the lower bound is the one of
    the upper bound here, and the other way round; where ψ_θ and ψ_S are uncorrelated, they are the same.

    Parameters
    ----------
    title, treatment : str
    effect : float
    found : Moments
        Of outcome, treatment and confounders, by fold.
    outcome_left, representer : float
        σ² = E[(y - l(x) - θ v)²] and ν² = 1 / E[v²].
    meat : float64 array (3, 3)
        Sums of products of the influence functions of θ, σ² and ν².
    provenance : Provenance

    References
    ----------
    .. [1] Chernozhukov, Cinelli, Newey, Sharma, Syrgkanis: Long story short: omitted variable bias in causal machine
       learning, NBER working paper 30302, 2022.
    """

    title: str
    treatment: str
    effect: float
    found: Moments
    outcome_left: float
    representer: float
    meat: Floats
    provenance: Provenance = UNKNOWN

    @property
    def rows(self) -> int:
        return int(self.found.rows.sum())

    @property
    def error(self) -> float:
        """The standard error of the effect, if nothing is unobserved."""
        return float(np.sqrt(self.meat[0, 0])) / self.rows

    def bounds(
        self, r2_treatment: float = 0.03, r2_outcome: float = 0.03, rho: float = 1.0, level: float = 0.95
    ) -> Bounds:
        """Return between what values the effect lies, with a one-sided interval of the level at each end.

        Parameters
        ----------
        r2_treatment, r2_outcome : float
        rho : float
            From -1 to 1; at ±1 the confounding is as bad as it can be.
        level : float

        Raises
        ------
        ConfigError
        """
        check_strength(self.title, r2_treatment=r2_treatment, r2_outcome=r2_outcome)
        check_level(level, self.title)
        if not abs(rho) <= 1:
            raise ConfigError(f"rho is {rho}", self.title, "a correlation, from -1 to 1")
        strength = abs(rho) * np.sqrt(r2_outcome * r2_treatment / (1 - r2_treatment))
        most = np.sqrt(self.outcome_left * self.representer)
        slopes = np.array([self.representer, self.outcome_left]) / (2 * most)
        errors = []
        for sign in (-1, 1):
            turned = np.array([1.0, *(sign * strength * slopes)])
            errors.append(float(np.sqrt(turned @ self.meat @ turned)) / self.rows)
        lower, upper = self.effect - strength * most, self.effect + strength * most
        reach = normal_quantile(level)
        interval = (float(lower - reach * errors[0]), float(upper + reach * errors[1]))
        return Bounds(r2_treatment, r2_outcome, float(lower), float(upper), errors[0], errors[1], interval)

    def robustness_value(self, null: float = 0.0, level: float | None = None, rho: float = 1.0) -> float:
        """Return how much a confounder has to explain, of what is left of treatment and outcome alike, to make doubt.

        Without a level so that the bound reaches `null` (RV), with one so that the interval does (RVa); 0 if it does
        already, 1 if nothing less than all will do.

        Raises
        ------
        ConfigError
        """

        def left(strength: float) -> float:
            bounds = self.bounds(strength, strength, rho, level or 0.95)
            low, high = (bounds.lower, bounds.upper) if level is None else bounds.interval
            return low - null if null <= self.effect else null - high

        if left(0.0) <= 0:
            return 0.0
        most = 1 - 1e-9
        return 1.0 if left(most) > 0 else float(optimize.brentq(left, 0.0, most, xtol=1e-14))

    def benchmark(self, *columns: str) -> Benchmark:
        """Return how strong a confounder is that is to the others as some observed ones are. Reads nothing.

        Raises
        ------
        ColumnNotFound
            One is no confounder.
        ConfigError
            None is named.
        """
        confounders = self.found.columns[2:]
        if not columns:
            raise ConfigError("no column is named", self.title, 'benchmark("age")')
        for name in columns:
            if name not in confounders:
                raise ColumnNotFound.of(name, confounders, self.title)
        kept = [name for name in self.found.columns if name not in columns]
        effect, left, representer = _elements(self.found.chosen(kept), self.title)[1:]
        more, less = left - self.outcome_left, self.representer - representer
        change = effect - self.effect
        together = abs(change) / np.sqrt(more * less) if more > 0 and less > 0 else 1.0
        return Benchmark(
            columns=columns,
            r2_treatment=float(np.clip(less / representer, 0, 1)),
            r2_outcome=float(np.clip(more / self.outcome_left, 0, 1)),
            rho=float(np.sign(change) * min(together, 1.0)),
            change=float(change),
        )

    def contour(
        self, most_treatment: float = 0.3, most_outcome: float = 0.3, points: int = 21, rho: float = 1.0
    ) -> pa.Table:
        """Return a tidy table over a grid of strengths, to be drawn.

        Columns are r2_treatment, r2_outcome, estimate (the bound on the side of 0), limit (the end of the 95 %
        interval there); points² rows. Raises ConfigError.
        """
        across, up = grid(most_treatment, points, self.title), grid(most_outcome, points, self.title)
        return contour_table(self.effect, (self.bounds(float(d), float(y), rho) for d in across for y in up))

    @property
    def known(self) -> dict[str, float]:
        """What is told of it."""
        return {
            "estimate": self.effect,
            "std. error": self.error,
            ROBUSTNESS: self.robustness_value(),
            ROBUSTNESS_95: self.robustness_value(level=0.95),
        }


def score_sensitivity(estimator: LinearPLR, data: Dataset, grouping: Grouping | None) -> ScoreSensitivity:
    """Ask an estimator, as `sensitivity` does."""
    where = f"LinearPLR of {estimator.outcome} by {estimator.treatment}"
    estimator.check_once("sensitivity is")
    by = grouping or estimator.key_folds
    question = estimator.asked(data, by)
    matrix, found = question.matrix, question.answer(where)
    estimator.check(found, by, where)
    nuisances, effect, left, representer = _elements(found, where)
    if not left * found.rows.sum() > TOLERANCE * found.total.products[0, 0, 0]:
        raise PlanError("the models leave nothing of the outcome", where, "there is no room for a confounder")
    scores = _Influences(matrix, by, nuisances, effect, left, representer)
    needed = list(dict.fromkeys((*matrix.inputs, *by.inputs)))
    meat = summed(question.data.select(*needed), scores)["meat"]
    seed = estimator.seed if grouping is None else None
    origin = Provenance.of(data, folds=len(found.groups), seed=seed)
    return ScoreSensitivity(where, estimator.treatment, effect, found, left, representer, meat, origin)


def _elements(found: Moments, where: str) -> tuple[Nuisances, float, float, float]:
    """Return the models, θ, σ² and ν²."""
    nuisances = trained(found, where)
    products, rows = crossed(found, nuisances, where), found.rows.sum()
    effect = products[0, 1] / products[1, 1]
    left = (products[0, 0] - effect * products[0, 1]) / rows
    return nuisances, float(effect), float(left), float(rows / products[1, 1])


@dataclass(frozen=True)
class _Influences:
    """Sums over a block of rows of products of the influence functions of θ, σ² and ν²."""

    matrix: Matrix
    grouping: Grouping
    nuisances: Nuisances
    effect: float
    left: float
    representer: float

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        outcome, treatment = self.nuisances.residuals(self.matrix, self.grouping, batch)
        rest = outcome - self.effect * treatment
        influences = np.stack(
            [
                rest * treatment * self.representer,
                rest**2 - self.left,
                self.representer - treatment**2 * self.representer**2,
            ]
        )
        with one_thread():
            return Sums({"meat": influences @ influences.T})
