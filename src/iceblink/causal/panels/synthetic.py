"""Synthetic control and synthetic difference-in-differences: a treated group beside weighted controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.estimates import Estimates
from iceblink.causal.moments import Floats
from iceblink.causal.panels.controls import Controls
from iceblink.causal.panels.simplex import simplex_weights
from iceblink.causal.plots.paths import gap, paths
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SyntheticEffect(Estimates):
    """The average effect on the treated, and what it was compared with.

    Parameters
    ----------
    controls : Controls
    weights : float64 array (N,)
        Of controls: none below 0, their sum 1.
    time_weights : float64 array (T0,)
        Of the periods before treatment; those of a synthetic control are all equal to 0, for it takes levels.
    p_value : float
        The part of units, the treated among them, that stand out at least as much as the treated. NaN if not asked for.
    """

    controls: Controls
    weights: Floats
    time_weights: Floats
    p_value: float = np.nan

    @property
    def p_values(self) -> Floats:
        """By the rank among placebos where these were asked for, else of the normal distribution (1,)."""
        return super().p_values if np.isnan(self.p_value) else np.array([self.p_value])

    def paths(self) -> pa.Table:
        """Return for each period the mean outcome of the treated, of the synthetic control, and their difference.

        Of synthetic difference-in-differences the control is moved to the level of the treated in the weighted periods
        before treatment.
        """
        treated, synthetic = self.controls.treated.mean(axis=0), self.weights @ self.controls.controls
        synthetic = synthetic + self.time_weights @ (treated - synthetic)[: self.controls.before]
        columns = {"period": self.controls.periods, "treated": treated, "synthetic": synthetic}
        return pa.table({**columns, "difference": treated - synthetic})

    def plot(self, ax: Axes | None = None, *, difference: bool = False) -> Axes:  # type: ignore[override]  # a path has no level
        """Draw the treated beside their synthetic control over time, or the difference of the two.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        difference : bool

        Raises
        ------
        ConfigError
            matplotlib is not installed.
        """
        found = self.controls
        start = float(found.periods[found.before])
        if difference:
            return gap(self.paths(), start=start, ylabel=f"{found.outcome}, difference", ax=ax)
        return paths(self.paths(), start=start, ylabel=found.outcome, ax=ax)

    def weights_table(self) -> pa.Table:
        """Return the controls whose weight is above 0, the largest first: unit, weight."""
        order = [at for at in np.argsort(-self.weights, kind="stable") if self.weights[at] > 0]
        return pa.table({"unit": [self.controls.names[at] for at in order], "weight": self.weights[order]})


@dataclass(frozen=True)
class SyntheticControl:
    """The treated beside the weighted controls that were most like them before [1]_.

    Weights are not negative, add up to 1, and minimise the squared differences of the outcomes before treatment; there
    are no other predictors. The estimate is the mean difference of outcomes since treatment, of the mean of the treated
    where they are several.

    Parameters
    ----------
    outcome, unit, time : str
    treated : str
        1 in rows of a treated unit since its treatment, 0 otherwise; all treated units from the same period on.

    References
    ----------
    .. [1] Abadie, Diamond, Hainmueller: Synthetic control methods for comparative case studies, JASA 2010.
    """

    outcome: str
    unit: str
    time: str
    treated: str

    def fit(self, data: Dataset) -> SyntheticEffect:
        """Estimate it. Eager: groups the data by unit and period in one pass; the rest is small.

        Inference is by placebos: each control in turn is taken to be the treated one, beside the other controls. The
        statistic is the ratio of the root mean squares of differences after and before treatment, and p its rank. There
        is no standard error: it is NaN.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError, QueryError
        """
        controls = Controls.read(data, self.outcome, self.unit, self.time, self.treated)
        before = slice(None, controls.before)

        def apart(treated: Floats, others: Floats) -> tuple[Floats, Floats]:
            weights = simplex_weights(others[:, before].T, treated[before])
            return weights, treated - weights @ others

        weights, differences = apart(controls.treated.mean(axis=0), controls.controls)
        shams = range(len(controls.controls) if len(controls.controls) > 2 else 0)
        placebos = [apart(controls.controls[at], np.delete(controls.controls, at, axis=0))[1] for at in shams]
        ratios = [_ratio(one, controls.before) for one in (differences, *placebos)]
        p_value = float(np.mean(np.array(ratios) >= ratios[0])) if placebos else np.nan
        return SyntheticEffect(
            title=f"Synthetic control: {self.outcome} of {self.unit} by {self.time}",
            names=("ATT",),
            values=np.array([differences[controls.before :].mean()]),
            covariance=np.array([[np.nan]]),
            convention="none: see p by rank of placebos",
            rows=controls.rows,
            facts={
                "controls": len(controls.controls),
                "root mean square before": float(np.sqrt((differences[before] ** 2).mean())),
                "p by rank": p_value,
            },
            provenance=controls.provenance,
            controls=controls,
            weights=weights,
            time_weights=np.zeros(controls.before),
            p_value=p_value,
        )


@dataclass(frozen=True)
class SyntheticDiD:
    """Synthetic difference-in-differences (SDID): weights for controls and for periods [1]_.

    Weights of controls make their outcomes before treatment parallel to those of the treated, with the ridge
    ζ² T₀, ζ = (N₁ T₁)^¼ s, s the standard deviation (divisor n - 1) of first differences of the controls before
    treatment; weights of periods make those before treatment predict the mean after it, with ζ = 1e-6 s. Both
    problems are solved exactly, where the authors' package stops Frank-Wolfe steps early.

    Parameters
    ----------
    outcome, unit, time, treated
        As of `SyntheticControl`.
    replications : int
        Placebos: as many controls as there are treated units, drawn without replacement, are taken to be treated. The
        standard error is the standard deviation (divisor n) of their estimates, which is right if the outcomes of
        treated units vary as those of controls do; NaN where there are not two controls more than treated units.
    seed : int

    References
    ----------
    .. [1] Arkhangelsky, Athey, Hirshberg, Imbens, Wager: Synthetic difference-in-differences, American Economic Review
       2021, algorithms 1 and 4.
    """

    outcome: str
    unit: str
    time: str
    treated: str
    replications: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_fields(self, "SyntheticDiD")
        if self.replications < 2:
            raise ConfigError(f"replications is {self.replications}", "SyntheticDiD", "two or more tell an error")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}", "SyntheticDiD", "0 or more")

    def fit(self, data: Dataset) -> SyntheticEffect:
        """Estimate it. Eager: groups the data by unit and period in one pass; the rest is small.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError, QueryError
        """
        controls = Controls.read(data, self.outcome, self.unit, self.time, self.treated)
        effect, weights, time_weights = _doubly_weighted(controls)
        chance, placebos = np.random.default_rng(self.seed), []
        count, treated = len(controls.controls), len(controls.treated)
        for _ in range(self.replications if count > treated + 1 else 0):
            drawn = chance.permutation(count)
            sham = replace(
                controls, treated=controls.controls[drawn[:treated]], controls=controls.controls[drawn[treated:]]
            )
            placebos.append(_doubly_weighted(sham)[0])
        variance = float(np.var(placebos)) if placebos else np.nan
        return SyntheticEffect(
            title=f"Synthetic DiD: {self.outcome} of {self.unit} by {self.time}",
            names=("ATT",),
            values=np.array([effect]),
            covariance=np.array([[variance]]),
            convention=f"placebo, {len(placebos):,} draws",
            rows=controls.rows,
            facts={"controls": count, "treated": treated},
            provenance=replace(controls.provenance, seed=self.seed),
            controls=controls,
            weights=weights,
            time_weights=time_weights,
        )


def _doubly_weighted(found: Controls) -> tuple[float, Floats, Floats]:
    """Return the SDID estimate, and the weights of controls and of periods before treatment."""
    before, treated = found.before, found.treated.mean(axis=0)
    early, late = found.controls[:, :before], found.controls[:, before:].mean(axis=1)
    noise = float(np.diff(early, axis=1).std(ddof=1))
    ridge = np.sqrt(len(found.treated) * (len(found.periods) - before)) * noise**2 * before
    # A free intercept is columns less their means.
    weights = simplex_weights(
        (early - early.mean(axis=1, keepdims=True)).T, treated[:before] - treated[:before].mean(), ridge
    )
    time_weights = simplex_weights(early - early.mean(axis=0), late - late.mean(), (1e-6 * noise) ** 2 * len(early))
    change = late - early @ time_weights
    effect = treated[before:].mean() - treated[:before] @ time_weights - weights @ change
    return float(effect), weights, time_weights


def _ratio(differences: Floats, before: int) -> float:
    """Return how much larger differences are after treatment than before, by their root mean squares."""
    early, late = (differences[:before] ** 2).mean(), (differences[before:] ** 2).mean()
    return float(np.sqrt(late / early)) if early > 0 else np.inf
