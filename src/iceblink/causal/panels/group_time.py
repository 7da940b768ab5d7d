"""Average effects by cohort and period, and averages of them: Callaway and Sant'Anna's group-time ATTs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.moments import Floats
from iceblink.causal.panels.cohorts import Cohorts
from iceblink.causal.panels.effects import SINCE, PanelEffects, shown, wald
from iceblink.causal.plots.event_study import event_study
from iceblink.errors import ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Control = Literal["not_yet", "never"]
Base = Literal["varying", "universal"]
Aggregation = Literal["simple", "dynamic", "group", "calendar"]
CONTROLS, BASES = ("not_yet", "never"), ("varying", "universal")
AGGREGATIONS = ("simple", "dynamic", "group", "calendar")
FEW_UNITS = 5
"""Of a cohort of fewer units it is said how many there are: the variation within it is hardly known."""
CONVENTION = "influence function by unit, divisor n"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GroupTimeEffects(PanelEffects):
    """ATT(g, t), the average effect in period t on the units first treated in period g.

    Parameters
    ----------
    group, period : float64 array (k,)
        The g and t of each effect.
    cohorts : Cohorts
        What they were computed of.
    within : float64 array (k, k)
        The part of the covariance that comes of outcomes within cohorts.
    between : float64 array (k, C)
        The part of a unit's influence function that its cohort decides.
    """

    group: Floats
    period: Floats
    cohorts: Cohorts
    within: Floats
    between: Floats

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return a row for each effect: as of `PanelEffects`, then first_treated and period."""
        table = super().to_arrow(level)
        return table.append_column("first_treated", [self.group]).append_column("period", [self.period])

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, level: float = 0.95) -> Axes:
        """Draw the effects of each cohort by period, side by side; parameters as of `PanelEffects.plot`."""
        table = self.to_arrow(level).take([self._at(name) for name in (self.names if names is None else names)])
        cohorts = [f"{first:.15g}" for first in table["first_treated"].to_pylist()]
        table = table.append_column("first treated", [cohorts])
        return event_study(table, time="period", series="first treated", xlabel="period", ax=ax)

    def aggregate(self, by: Aggregation = "simple") -> PanelEffects:
        """Return averages of the effects, weighted by the units of the cohorts [1]_. Reads nothing.

        Shares of cohorts are estimates too, and their part of the error is counted.

        Parameters
        ----------
        by : {"simple", "dynamic", "group", "calendar"}
            One average of all effects since treatment; one for each number of periods since treatment, before it too;
            for each cohort; for each period. The last three end with their own average, "overall".

        Raises
        ------
        ConfigError

        References
        ----------
        .. [1] Callaway, Sant'Anna: Difference-in-differences with multiple time periods, J. Econometrics 2021,
           table 1 and corollary 2.
        """
        if by not in AGGREGATIONS:
            raise ConfigError(f"no aggregation {by!r}", self.title, nearest(by, AGGREGATIONS, "aggregations"))
        since = self.period - self.group
        after = since >= 0
        if not after.any():
            raise PlanError("no effect since treatment is identified", self.title, "look at the effects by cohort")
        if by == "simple":
            return self._averages(("ATT",), [after], by)
        key = {"dynamic": since, "group": self.group, "calendar": self.period}[by]
        keys = np.unique(key if by == "dynamic" else key[after])
        chosen = [(key == one) & (after | (by == "dynamic")) for one in keys]
        names = tuple(f"{one:.15g}" for one in keys)
        return self._averages(names, chosen, by, overall=keys >= 0 if by == "dynamic" else keys > -np.inf)

    def _averages(
        self, names: tuple[str, ...], chosen: list[NDArray[np.bool_]], by: str, overall: NDArray[np.bool_] | None = None
    ) -> PanelEffects:
        """Return the averages of chosen effects by their cohorts' shares, and the average of those."""
        cohort = np.searchsorted(self.cohorts.first, self.group)
        share = self.cohorts.units[cohort] / self.cohorts.units.sum()
        values, weights, between = np.zeros(len(chosen)), np.zeros((len(chosen), len(share))), []
        for at, mine in enumerate(chosen):
            weights[at] = np.where(mine, share, 0.0) / share[mine].sum()
            values[at] = weights[at] @ self.values
            apart = np.where(mine, self.values - values[at], 0.0) / share[mine].sum()
            between.append(weights[at] @ self.between + np.bincount(cohort, apart, len(self.cohorts.first)))
        constant = np.array(between)
        if overall is not None:
            of = overall / overall.sum()
            last = constant[overall].mean(axis=0)
            value = float(of @ values)
            if by == "group":  # cohorts count by their units, in the average of cohorts
                size = np.array([share[mine][0] for mine in chosen])
                of = size / size.sum()
                value = float(of @ values)
                places = [int(cohort[mine][0]) for mine in chosen]
                last = of @ constant
                last[places] += (values - value) / size.sum()
            names, values = (*names, "overall"), np.append(values, value)
            weights, constant = np.vstack([weights, of @ weights]), np.vstack([constant, last])
        covariance = weights @ self.within @ weights.T + between_cohorts(constant, self.cohorts)
        return PanelEffects(
            title=f"{self.title}: {by}",
            names=names,
            values=values,
            covariance=covariance,
            convention=self.convention,
            rows=self.rows,
            facts=self.facts,
            provenance=self.provenance,
            along={"group": "first treated", "calendar": "period"}.get(by, SINCE),
        )


def group_time(cohorts: Cohorts, control: Control, base: Base) -> GroupTimeEffects:
    """Estimate ATT(g, t) for each cohort and period that have units to compare with [1]_.

    ATT(g, t) is the mean change of the outcome between a base period and t in cohort g, less that of units not treated
    until then (equation 2.7 and 2.9 without covariates).

    Raises
    ------
    ConfigError
    PlanError
        There is nothing to compare with.

    References
    ----------
    .. [1] Callaway, Sant'Anna: Difference-in-differences with multiple time periods, J. Econometrics 2021.
    """
    compared = comparisons(cohorts, control, base)
    count, number = int(cohorts.units.sum()), len(cohorts.first)
    values, between = np.zeros(len(compared)), np.zeros((len(compared), number))
    linear = np.zeros((number, len(compared), len(cohorts.periods)))  # of a unit's deviation from its cohort
    for row, one in enumerate(compared):
        change = cohorts.means[:, one.at] - cohorts.means[:, one.before]
        pool = list(one.pool)
        without = float(np.average(change[pool], weights=cohorts.units[pool]))
        values[row] = change[one.group] - without
        for members, scale in (
            ([one.group], count / cohorts.units[one.group]),
            (pool, -count / cohorts.units[pool].sum()),
        ):
            linear[members, row, one.at] += scale
            linear[members, row, one.before] -= scale
        between[row, pool] = -count / cohorts.units[pool].sum() * (change[pool] - without)
    within = np.einsum("ckt,cts,cls->kl", linear, cohorts.products, linear, optimize=True) / count**2
    return assembled(cohorts, compared, values, within, between, {"control": control, "base": base})


@dataclass(frozen=True)
class Comparison:
    """A cohort's change between two periods, beside that of other cohorts.

    Parameters
    ----------
    group : int
        The place of the cohort.
    at, before : int
        The places of the periods.
    pool : tuple of int
        The places of the cohorts that it is compared with.
    """

    group: int
    at: int
    before: int
    pool: tuple[int, ...]


def comparisons(cohorts: Cohorts, control: Control, base: Base) -> list[Comparison]:
    """Return what can be compared, by cohort and period. Raises ConfigError, and PlanError where there is nothing."""
    title = f"Group-time ATT: {cohorts.title}"
    for word, words, kind in ((control, CONTROLS, "controls"), (base, BASES, "bases")):
        if word not in words:
            raise ConfigError(f"{kind[:-1]} is {word!r}", title, nearest(word, words, kind))
    found = [
        Comparison(int(group), at, before, pool)
        for group in np.flatnonzero(np.isfinite(cohorts.first))
        for at, before in _periods(cohorts, int(group), base)
        if (pool := _pool(cohorts, int(group), max(at, before), control))
    ]
    if not found:
        hint = "all units are treated in the end" if control == "never" else "all are treated at once"
        raise PlanError("there are no units to compare with", title, hint)
    return found


def assembled(
    cohorts: Cohorts,
    compared: Sequence[Comparison],
    values: Floats,
    within: Floats,
    between: Floats,
    facts: dict[str, Any],
) -> GroupTimeEffects:
    """Return effects (k,) with the parts of their covariance, and a test of those before treatment."""
    covariance = within + between_cohorts(between, cohorts)
    group = cohorts.first[[one.group for one in compared]]
    period = cohorts.periods[[one.at for one in compared]]
    early = (period < group) & (np.diag(covariance) > 0)
    count = int(cohorts.units.sum())
    facts = {"units": f"{count:,}", **facts}
    if (tested := wald(values[early], covariance[np.ix_(early, early)])) is not None:
        facts |= {"pre-trends χ²": tested[0], "p of pre-trends": tested[1]}
    if (smallest := int(cohorts.units.min())) < FEW_UNITS:
        facts["units of the smallest cohort"] = smallest
    return GroupTimeEffects(
        title=f"Group-time ATT: {cohorts.title}",
        names=tuple(f"ATT({g:.15g}, {t:.15g})" for g, t in zip(group, period, strict=True)),
        values=values,
        covariance=covariance,
        convention=CONVENTION,
        rows=count * len(cohorts.periods),
        facts=facts | shown({"units treated from the start, left out": cohorts.left_out}),
        provenance=cohorts.provenance,
        group=group,
        period=period,
        cohorts=cohorts,
        within=within,
        between=between,
    )


def _periods(cohorts: Cohorts, group: int, base: Base) -> list[tuple[int, int]]:
    """Return which periods of a cohort are compared with which: places of both."""
    start = int(np.searchsorted(cohorts.periods, cohorts.first[group]))
    if base == "universal":
        return [(at, start - 1) for at in range(len(cohorts.periods)) if at != start - 1]
    return [(at, min(at, start) - 1) for at in range(1, len(cohorts.periods))]


def _pool(cohorts: Cohorts, group: int, until: int, control: Control) -> tuple[int, ...]:
    """Return the cohorts that one is compared with: those not treated until a period."""
    late = np.isinf(cohorts.first) if control == "never" else cohorts.first > cohorts.periods[until]
    return tuple(int(one) for one in np.flatnonzero(late) if one != group)


def between_cohorts(constant: Floats, cohorts: Cohorts) -> Floats:
    """Return the covariance (k, k) of what a unit's cohort decides of influence functions (k, C)."""
    return np.asarray(constant * cohorts.units @ constant.T / cohorts.units.sum() ** 2)
