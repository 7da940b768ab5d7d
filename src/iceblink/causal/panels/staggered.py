"""Staggered adoption: units that are treated from different periods on, and effects of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.panels.cohorts import Cohorts, Layout, Units, read
from iceblink.causal.panels.doubly_robust import doubly_robust
from iceblink.causal.panels.effects import PanelEffects
from iceblink.causal.panels.group_time import Base, Control, GroupTimeEffects, group_time
from iceblink.causal.panels.two_stage import two_stage
from iceblink.causal.passes import Missing, check_missing
from iceblink.causal.provenance import Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False, repr=False)
class StaggeredPanel(Result):
    """A balanced panel that has been read: every estimator of it is arithmetic on the moments of its cohorts.

    Parameters
    ----------
    cohorts : Cohorts
    units : Units, optional
        What is read again for covariates.
    """

    keys: ClassVar[tuple[str, ...]] = ("first_treated", "period")

    cohorts: Cohorts
    units: Units | None = None

    @property
    def title(self) -> str:
        """What was read."""
        return f"Panel: {self.cohorts.title}"

    @property
    def provenance(self) -> Provenance:
        """Where it comes from."""
        return self.cohorts.provenance

    def group_time(self, control: Control = "not_yet", base: Base = "varying") -> GroupTimeEffects:
        """Return the average effect in each period on each cohort, ATT(g, t) [1]_.

        The estimand is the effect on units first treated in g, if without treatment their outcomes had changed as those
        of the units that they are compared with. Reads nothing, unless the panel has covariates: then that is to hold
        for units alike in them. The estimator is doubly robust [3]_, right if either the odds of treatment are logistic
        in them, or changes without treatment linear, and the data is read about nine times.

        Of never treated ones and the base "universal" the dynamic average is the interaction-weighted estimate of Sun
        and Abraham [2]_.

        Parameters
        ----------
        control : {"not_yet", "never"}
            Compare with units that are not treated until then, or with those that never are.
        base : {"varying", "universal"}
            Changes before treatment are from one period to the next, or from the last one before treatment.

        Raises
        ------
        ConfigError
        PlanError
            There is nothing to compare with, or units are clustered.

        References
        ----------
        .. [1] Callaway, Sant'Anna: Difference-in-differences with multiple time periods, J. Econometrics 2021.
        .. [2] Sun, Abraham: Estimating dynamic treatment effects in event studies with heterogeneous treatment effects,
           J. Econometrics 2021.
        .. [3] Sant'Anna, Zhao: Doubly robust difference-in-differences estimators, J. Econometrics 2020, equation 3.1
           and theorem 1; `drdid_panel` of their package.
        """
        if self.units is not None and self.units.clusters:
            raise PlanError(
                "errors of group-time ATTs are by unit, not by cluster",
                self.cohorts.title,
                "leave out cluster=, or ask for two_stage() or event_study()",
            )
        if self.units is not None and self.units.matrix.names[len(self.cohorts.periods) :]:
            return doubly_robust(self.cohorts, self.units, control, base)
        return group_time(self.cohorts, control, base)

    def two_stage(self) -> PanelEffects:
        """Return the average effect on all treated rows, by Gardner's two stages (did2s).

        Reads nothing, unless units are clustered: then them, once.

        Raises
        ------
        PlanError
            In no period is one unit treated and another not yet, or there is one cluster.
        QueryError
            A unit lacks its cluster.
        """
        return two_stage(self.cohorts, dynamic=False, units=self.units)

    def event_study(self) -> PanelEffects:
        """Return an effect for each number of periods since treatment, by Gardner's two stages.

        Reads nothing, unless units are clustered: then them, once. Those before treatment, without -1, the reference,
        tell whether cohorts went apart before they were treated: they average what the first stage leaves of rows that
        it was fitted to.

        Raises
        ------
        PlanError, QueryError
            As of `two_stage`.
        """
        return two_stage(self.cohorts, dynamic=True, units=self.units)

    def to_arrow(self) -> pa.Table:
        """Return the mean outcome of each cohort in each period: first_treated (null if never), period, units, mean."""
        found = self.cohorts
        count = len(found.periods)
        first = np.repeat(found.first, count)
        return pa.table(
            {
                "first_treated": pa.array(first, mask=np.isinf(first)),
                "period": np.tile(found.periods, len(found.first)),
                "units": np.repeat(found.units, count),
                "mean": found.means.ravel(),
            }
        )

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show: how many units each cohort has, and their means."""
        found = self.cohorts
        lines = [
            ["never" if np.isinf(first) else f"{first:.15g}", f"{units:,}", f"{means[0]:.6g}", f"{means[-1]:.6g}"]
            for first, units, means in zip(found.first, found.units, found.means, strict=True)
        ]
        head = ("first treated", "units", *(f"mean in {found.periods[at]:.15g}" for at in (0, -1)))
        left = f", units treated from the start, left out {found.left_out:,}" if found.left_out else ""
        foot = f"units {found.units.sum():,}, periods {len(found.periods)}{left}"
        return Sheet((self.title,), head, lines, (foot, *self.provenance.lines))


@dataclass(frozen=True)
class Staggered:
    """A panel of units, each of which may be treated from some period on and stays so.

    Parameters
    ----------
    outcome : str
        A column of numbers.
    unit : str
        Who is observed: one row in each period.
    time : str
        The period, a whole number.
    first_treated : str
        The period in which a unit was first treated, the same in all its rows. Null, NaN, infinity, 0 where all periods
        are above 0, or a period after the last: it never was. Units treated in the first period or before say nothing
        of an effect, and are left out.
    covariates : sequence of str
        Columns of numbers that are constant in a unit, for `StaggeredPanel.group_time`; the two stages know none.
    missing : {"raise", "drop"}
        What to do about units that lack a covariate, or the outcome in some period: an error, or leave these units out.
    cluster : str or sequence of str, optional
        Columns by which units belong together, constant in a unit: errors of the two stages are then clustered by
        these, with the factor G / (G - 1) and t of G - 1 degrees of freedom. Default: by unit.
    """

    outcome: str
    unit: str
    time: str
    first_treated: str
    covariates: Sequence[str] = ()
    missing: Missing = "raise"
    cluster: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.covariates, str):
            raise ConfigError("covariates is one text", "Staggered", f"a list: [{self.covariates!r}]")
        check_missing(self.missing, "Staggered")
        names = (self.outcome, self.unit, self.time, self.first_treated, *self.covariates, *self._clusters)
        if len(set(names)) < len(names):
            raise ConfigError("a column is named twice", "Staggered", "each has one part")

    def read(self, data: Dataset) -> StaggeredPanel:
        """Read the panel. Eager: three passes, in memory for a row for each unit of a block.

        What is kept is, for each cohort, the means of its periods and the products of all pairs of them.

        Raises
        ------
        ColumnNotFound, TypeMismatch
            Before anything is read.
        PlanError
            There are fewer than two periods or more than 500; no unit is treated after the first; a unit has several
            rows of one period, or several first treatments, or several values of a covariate.
        QueryError
            A unit lacks a covariate, or the outcome in a period.
        """
        layout = Layout(self.outcome, self.unit, self.time, self.first_treated, tuple(self.covariates), self._clusters)
        return StaggeredPanel(*read(data, layout, self.missing))

    @property
    def _clusters(self) -> tuple[str, ...]:
        if self.cluster is None:
            return ()
        return (self.cluster,) if isinstance(self.cluster, str) else tuple(self.cluster)
