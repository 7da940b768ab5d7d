"""What an experiment says: an effect for each metric, arm and segment, and whether the experiment is to be believed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.experiments.mismatch import SampleRatio
from iceblink.causal.experiments.power import PowerAnalysis
from iceblink.causal.plots.intervals import intervals
from iceblink.causal.provenance import Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet, cell, p_cell
from iceblink.errors import PlanError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Effect:
    """A metric in an arm compared with the control, among all rows or in a segment.

    Parameters
    ----------
    metric : str
    by, segment : str or None
        The column of segments and its value, ``None`` where it is null; for all rows both are ``None``.
    arm : str
    rows : int
        Rows, or clusters, of both arms that have the metric.
    control, value : float
        The metric in both arms, adjusted where it has covariates.
    difference, std_error, statistic, p_value : float
        The difference, its standard error, their ratio, and the two-sided p-value of no difference; NaN where nothing
        varies.
    p_adjusted : float
        The p-value to compare with the level of all comparisons together; without a correction the p-value.
    lower, upper : float
        The interval of the difference, by itself.
    lift, lift_lower, lift_upper : float
        The difference as a part of the control, its interval by Fieller's theorem: it has 0 in it where that of the
        difference has. NaN where the control's own interval, at the same level, is not above 0.
    """

    metric: str
    by: str | None
    segment: str | None
    arm: str
    rows: int
    control: float
    value: float
    difference: float
    std_error: float
    statistic: float
    p_value: float
    p_adjusted: float
    lower: float
    upper: float
    lift: float
    lift_lower: float
    lift_upper: float


KINDS = {"str": pa.string(), "str | None": pa.string(), "int": pa.int64(), "float": pa.float64()}
SCHEMA = pa.schema([(one.name, KINDS[str(one.type)]) for one in fields(Effect)])


@dataclass(frozen=True, eq=False, repr=False)
class ABResult(Result):
    """Effects of an experiment.

    Parameters
    ----------
    title : str
    sample_ratio : SampleRatio
        Look here first.
    effects : tuple of Effect
    level : float
        Of the intervals.
    rows : int
        Of all arms.
    left_out : tuple of str
        Segments in which an arm has too few rows for a metric.
    provenance : Provenance
        Its conventions say how errors, intervals and p-values came about.
    """

    keys: ClassVar[tuple[str, ...]] = ("metric", "arm", "by", "segment")

    title: str
    sample_ratio: SampleRatio
    effects: tuple[Effect, ...]
    level: float
    rows: int
    left_out: tuple[str, ...]
    provenance: Provenance

    @property
    def constant(self) -> tuple[str, ...]:
        """Metrics that vary in neither of two arms, among all rows or in a segment: they have no test."""
        still = [one for one in self.effects if np.isnan(one.statistic)]
        return tuple(dict.fromkeys(f"{one.metric}{_segment(one, ' of ')}" for one in still))

    @property
    def without_lift(self) -> tuple[str, ...]:
        """Metrics of which the control is not surely above 0, among all rows or in a segment."""
        unknown = [one for one in self.effects if np.isnan(one.lift)]
        return tuple(dict.fromkeys(f"{one.metric}{_segment(one, ' of ')}" for one in unknown))

    def effect(self, metric: str, arm: Any = None, *, by: str | None = None, segment: Any = None) -> Effect:
        """Return one effect.

        Parameters
        ----------
        metric : str
        arm : optional
            May be left out where there is one beside the control.
        by, segment : optional
            A column of segments and a value, ``None`` for null. Default: all rows.

        Raises
        ------
        PlanError
            There is none, or several arms have one.
        """
        found = [one for one in self.effects if (one.metric, one.by) == (metric, by)]
        if not found:
            names = sorted({one.metric for one in self.effects if one.by == by})
            raise PlanError(f"no effect on {metric!r}", self.title, nearest(metric, names, "metrics"))
        if by is not None:
            found = [one for one in found if one.segment == (None if segment is None else str(segment))]
        if arm is not None:
            found = [one for one in found if one.arm == str(arm)]
        if len(found) != 1:
            what = (
                f"{len(found)} effects on {metric!r}" if found else f"no effect on {metric!r} in that arm and segment"
            )
            raise PlanError(what, self.title, f"arms: {', '.join(map(str, self.sample_ratio.arms))}")
        return found[0]

    def power_analysis(
        self, metric: str, arm: Any = None, *, by: str | None = None, segment: Any = None
    ) -> PowerAnalysis:
        """Return what more or fewer rows would show, of an effect's own variance. Raises PlanError."""
        one = self.effect(metric, arm, by=by, segment=segment)
        if not one.std_error > 0:
            raise PlanError(f"{metric} does not vary", self.title, "no number of rows is needed")
        return PowerAnalysis(one.rows * one.std_error**2, self.level)

    def to_arrow(self) -> pa.Table:
        """Return a row for each effect, its columns those of `Effect`."""
        return pa.Table.from_pylist([asdict(one) for one in self.effects], schema=SCHEMA)

    def by(self, column: str) -> pa.Table:
        """Return the rows of `to_arrow` that are of a column's segments. Raises PlanError."""
        found = [asdict(one) for one in self.effects if one.by == column]
        if not found:
            names = sorted({one.by for one in self.effects if one.by})
            raise PlanError(f"no segments by {column!r}", self.title, nearest(column, names, "segments"))
        return pa.Table.from_pylist(found, schema=SCHEMA)

    def plot(self, ax: Axes | None = None, *, metric: str | None = None, by: str | None = None) -> Axes:
        """Draw the lift of each metric, or the difference in one metric, among all rows and in segments.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        metric : str, optional
            Only this one, in its own unit; to be said with `by` where there are several.
        by : str, optional
            A column of segments: a row for each, under that of all rows.

        Raises
        ------
        PlanError
            There is no such metric or column, several metrics have different units, or no control is surely above 0, so
            that there are no lifts.
        ConfigError
            matplotlib is not installed.
        """
        names = list(dict.fromkeys(one.metric for one in self.effects))
        if metric not in names and (metric is not None or (by is not None and len(names) > 1)):
            what = f"no effect on {metric!r}" if metric is not None else "several metrics have several units"
            raise PlanError(what, self.title, f"metric= one of {', '.join(names)}")
        if by is not None:
            self.by(by)
        control, level = self.sample_ratio.arms[0], f"{100 * self.level:.4g} % interval"
        rows = [one for one in self.effects if one.by in (None, by) and metric in (None, one.metric)]
        table = pa.Table.from_pylist([asdict(one) for one in rows], schema=SCHEMA)
        arms = "arm" if len(self.sample_ratio.arms) > 2 else None
        if by is None and metric is None:
            if all(np.isnan(one.lift) for one in rows):
                raise PlanError("no control is surely above 0", self.title, "draw differences: metric=...")
            columns = {"name": "metric", "estimate": "lift", "lower": "lift_lower", "upper": "lift_upper"}
            return intervals(
                table, **columns, series=arms, percent=True, xlabel=f"lift against arm {control}, {level}", ax=ax
            )
        labels = ["all rows" if one.by is None else f"{by} = {one.segment}" for one in rows]
        table = table.append_column("row", [labels])
        what = f"difference in {rows[0].metric} from arm {control}, {level}"
        return intervals(table, name="row", estimate="difference", series=arms, xlabel=what, ax=ax)

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show; whether the sample ratio is sound stands first."""
        head = ["metric", "arm", "segment", "control", "value", "difference", "std. error", "lift", "p", "interval"]
        lines = [
            [
                one.metric,
                one.arm,
                _segment(one),
                *(cell(number, ".5g") for number in (one.control, one.value, one.difference, one.std_error)),
                cell(one.lift, "+.2%"),
                p_cell(one.p_adjusted),
                "" if np.isnan(one.statistic) else f"[{one.lower:.5g}, {one.upper:.5g}]",
            ]
            for one in self.effects
        ]
        segmented = any(line[2] for line in lines)
        if not segmented:
            head, *lines = ([*line[:2], *line[3:]] for line in (head, *lines))
        foot = "; ".join([f"rows {self.rows:,}", f"level {self.level:.4g}", *self.provenance.conventions])
        left = [f"too few rows: {', '.join(self.left_out)}"] if self.left_out else []
        left += [f"warning: nothing varies in {', '.join(self.constant)}"] if self.constant else []
        if self.without_lift:
            names = ", ".join(self.without_lift)
            left.append(f"warning: no lift of {names}, where the control is not surely above 0: take the difference")
        return Sheet(
            above=(self.title, str(self.sample_ratio)),
            head=head,
            lines=lines,
            below=(foot, *self.provenance.lines, *left),
            words=3 if segmented else 2,
        )


def _segment(effect: Effect, before: str = "") -> str:
    return "" if effect.by is None else f"{before}{effect.by} = {effect.segment}"
