"""Effects of groups of rows: of segments, and of those with like predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import chi2_above
from iceblink.causal.estimates import Estimates
from iceblink.causal.experiments.places import Places
from iceblink.causal.judging.columns import check_numbers
from iceblink.causal.judging.cuts import cut, part_of
from iceblink.causal.matrix import Matrix, Number, floats
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import moments
from iceblink.causal.plots.intervals import intervals
from iceblink.causal.provenance import Provenance
from iceblink.causal.sheet import Sheet
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iceblink.dataset import Dataset

MOST_GROUPS = 1_000


@dataclass(frozen=True, eq=False, repr=False)
class Groups(Estimates):
    """The effect of each of k groups, which share no rows, so that their errors are independent.

    Parameters
    ----------
    counts : int64 array (k,)
        Rows of each group.
    predicted : float64 array (k,) or None
        What was predicted, on average.
    """

    counts: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    predicted: Floats | None = None

    def joint_interval(self, level: float = 0.95) -> Floats:
        """Return bounds (k, 2) that cover all effects together with a probability.

        Of independent estimates Šidák's bounds are exact: each covers with the k-th root of it.
        """
        return self.interval(float(level ** (1 / len(self.values))))

    @property
    def equal(self) -> float:
        """The p-value of all groups having one effect: Cochran's Q, χ² of k - 1."""
        weights = 1 / self.errors**2
        apart = self.values - weights @ self.values / weights.sum()
        return float(chi2_above(weights @ apart**2, len(self.values) - 1))

    def difference(self, name: str, other: str) -> Estimates:
        """Return how much more the effect of one group is than that of another. Raises ColumnNotFound."""
        turned = np.zeros(len(self.names))
        turned[[self._at(name), self._at(other)]] = 1.0, -1.0
        rows = int(self.counts[self._at(name)] + self.counts[self._at(other)])
        return Estimates(
            title=self.title,
            names=(f"{name} - {other}",),
            values=np.array([turned @ self.values]),
            covariance=np.array([[turned @ self.covariance @ turned]]),
            convention=self.convention,
            rows=rows,
            provenance=self.provenance,
        )

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return a row for each group.

        Its columns: those of `Estimates.to_arrow`, rows, joint_lower and joint_upper, and of a calibration predicted.
        """
        bounds = self.joint_interval(level)
        table = super().to_arrow(level).append_column("rows", pa.array(self.counts))
        table = table.append_column("joint_lower", pa.array(bounds[:, 0]))
        table = table.append_column("joint_upper", pa.array(bounds[:, 1]))
        return table if self.predicted is None else table.append_column("predicted", pa.array(self.predicted))

    def sheet(self, level: float = 0.95) -> Sheet:
        """Return what `summary` and notebooks show; of a calibration, what was predicted too."""
        sheet = super().sheet(level)
        if self.predicted is None:
            return sheet
        lines = [[*line, f"{value:.6g}"] for line, value in zip(sheet.lines, self.predicted, strict=True)]
        return replace(sheet, head=(*sheet.head, "predicted"), lines=lines)

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, level: float = 0.95) -> Axes:
        """Draw effects and their intervals, as `Estimates.plot`; of a calibration beside what was predicted."""
        if self.predicted is None:
            return super().plot(ax, names=names, level=level)
        places = [self._at(name) for name in (self.names if names is None else names)]
        judged = self.to_arrow(level).take(places).select(["name", "estimate", "lower", "upper"])
        told = pa.table({"name": judged["name"], "estimate": self.predicted[places]})
        both = pa.concat_tables([judged, told], promote_options="default")
        both = both.append_column("by", pa.array(["scores", "prediction"]).take(np.repeat([0, 1], len(places))))
        return intervals(both, series="by", xlabel=f"effect, {100 * level:.4g} % interval", ax=ax)


@dataclass(frozen=True)
class GroupEffects:
    """The effect in each segment, as the mean of doubly robust scores [1]_.

    Variances have the divisor n - 1, as HC2 has in a regression on the segments. They take rows for independent: where
    a unit has several, ``OLS("score ~ i(segment)", cluster=...)`` has errors that allow for it.

    Parameters
    ----------
    by : str or sequence of str
        Columns whose values, together, are the segments: texts, whole numbers, true and false, dates.
    score : str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them.

    References
    ----------
    .. [1] Semenova, Chernozhukov: Debiased machine learning of conditional average treatment effects and other causal
       functions, Econometrics Journal 2021.
    """

    by: str | Sequence[str]
    score: str

    def fit(self, data: Dataset) -> Groups:
        """Estimate it. Eager: two passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There are no rows, more than 1,000 segments, or one of a single row.
        """
        by = (self.by,) if isinstance(self.by, str) else tuple(self.by)
        where = f"GroupEffects of {self.score} by {', '.join(by)}"
        check_numbers(data, (self.score,), where)
        if not by:
            raise PlanError("there are no columns of segments", where, "name one")
        for name in by:
            if name not in data.columns:
                raise ColumnNotFound.of(name, data.columns, where)
            if pa.types.is_floating(kind := data.schema.field(name).type) or pa.types.is_nested(kind):
                raise TypeMismatch(
                    f"column {name!r} is {show_type(kind)}, whose values are no segments", where, "cut it by mutate"
                )
        segments = data.select(*by).distinct().order_by(*by).limit(MOST_GROUPS + 1).to_pylist()
        if len(segments) > MOST_GROUPS:
            raise PlanError(f"there are more than {MOST_GROUPS:,} segments", where, "join some")
        if not segments:
            raise PlanError("there are no rows", where, "look at the filters")
        keys = [tuple(segment[name] for name in by) for segment in segments]
        cells = _Segments(Places.of(by, keys, data.schema))
        found = moments(data, Matrix((Number(self.score),)), grouping=cells, where=where)
        named = [", ".join(map(_told, segment, segment.values())) for segment in segments]
        return _groups(where, tuple(named[at] for at in found.groups), found, Provenance.of(data))


@dataclass(frozen=True)
class Calibration:
    """What was predicted beside what is so, in groups of rows with like predictions.

    Groups of about as many rows are cut at quantiles of the predicted effect; the effect of each is the mean of its
    scores (sorted group average effects, GATES [1]_). A prediction is calibrated if in each group the mean of scores
    less predictions is 0; the fact ``p calibrated`` is the p-value of that in all groups together, χ² of k. Rows are
    taken for independent: where a unit has several, `BestLinearPredictor` has errors by cluster.

    Parameters
    ----------
    effect : str
        A column of predicted effects, of rows that the prediction has not seen.
    score : str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them.
    groups : int
        How many there are at most; rows of equal predictions are in one.

    References
    ----------
    .. [1] Chernozhukov, Demirer, Duflo, Fernández-Val: Fisher-Schultz lecture: Generic machine learning inference on
       heterogeneous treatment effects in randomized experiments, Econometrica 2025.
    """

    effect: str
    score: str
    groups: int = 5

    def __post_init__(self) -> None:
        if not 2 <= self.groups <= MOST_GROUPS:
            raise ConfigError(
                f"groups is {self.groups}", "Calibration", f"from 2 to {MOST_GROUPS:,}; 5 to 20 are usual"
            )

    def fit(self, data: Dataset) -> Groups:
        """Estimate it. Eager: about four passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There are no rows, or a group has a single one.
        """
        where = f"Calibration of {self.effect} by {self.score}"
        check_numbers(data, (self.effect, self.score), where)
        (bounds,) = cut(data.select(self.effect), (self.effect,), self.groups, where)
        matrix = Matrix((Number(self.score), Number(self.effect)))
        found = moments(data, matrix, grouping=_Parts(self.effect, bounds), where=where)
        names = tuple(f"group {number + 1}" for number in found.groups)
        away = found.means[:, 0] - found.means[:, 1]
        turned = np.array([1.0, -1.0])
        _check_counts(found, names, where)
        variance = found.products @ turned @ turned / (found.rows - 1) / found.rows
        with np.errstate(divide="ignore", invalid="ignore"):
            total = float(np.where(away == 0, 0.0, away**2 / variance).sum())
        facts = {"p calibrated": float(chi2_above(total, len(names)))}
        return _groups(where, names, found, Provenance.of(data), facts, found.means[:, 1])


def _told(column: str, value: object) -> str:
    """Return what a segment's rows have in a column; a text may be "None"."""
    return f"{column} is null" if value is None else f"{column}={value}"


def _check_counts(found: Moments, names: Sequence[str], where: str) -> None:
    if (found.rows < 2).any():
        raise PlanError(f"{names[int(np.argmin(found.rows))]} has a single row", where, "join it with others")


def _groups(
    title: str,
    names: tuple[str, ...],
    found: Moments,
    provenance: Provenance,
    facts: dict[str, Any] | None = None,
    predicted: Floats | None = None,
) -> Groups:
    """Return the means of scores, the first column of moments, by group."""
    _check_counts(found, names, title)
    return Groups(
        title=title,
        names=names,
        values=found.means[:, 0],
        covariance=np.diag(found.products[:, 0, 0] / (found.rows - 1) / found.rows),
        convention="variances inside of groups, divisor n - 1",
        rows=int(found.rows.sum()),
        facts=facts or {},
        provenance=provenance,
        counts=found.rows,
        predicted=predicted,
    )


@dataclass(frozen=True)
class _Segments:
    places: Places

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.places.columns

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        found = self.places.of_rows(batch)
        if (found < 0).any():
            raise QueryError("a segment was not there when they were counted", "segments", "pin the table to a version")
        return found


@dataclass(frozen=True, eq=False)
class _Parts:
    effect: str
    bounds: Floats

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.effect,)

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        return part_of(floats(batch.column(self.effect)).astype(np.float64), self.bounds)
