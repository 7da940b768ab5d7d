"""Effects of groups of rows: of segments, and of those with like predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import chi2_above, f_above
from iceblink.causal.estimates import Estimates
from iceblink.causal.experiments.places import Places
from iceblink.causal.judging.columns import check_numbers, clusters_of
from iceblink.causal.judging.cuts import cut, part_of
from iceblink.causal.judging.group_errors import GroupErrors, group_errors
from iceblink.causal.matrix import Matrix, Number, floats
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import moments
from iceblink.causal.plots.intervals import intervals
from iceblink.causal.provenance import Provenance
from iceblink.causal.sheet import Sheet
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iceblink.dataset import Dataset

MOST_GROUPS = 1_000
MOST_CLUSTERED = 100
"""Groups whose errors allow for clusters: each has a score of each row, and all have covariances."""


@dataclass(frozen=True, eq=False, repr=False)
class Groups(Estimates):
    """The effect of each of k groups, which share no rows, so that their errors are independent but for clusters.

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

        Šidák's bounds: each covers with the k-th root of it, which is exact of independent estimates, and with clusters
        that are in several groups more than enough.
        """
        return self.interval(float(level ** (1 / len(self.values))))

    @property
    def equal(self) -> float:
        """The p-value of all groups having one effect: Cochran's Q, χ² of k - 1.

        NaN of a single group. With G clusters that may be in several groups it is Wald's statistic / (k - 1), F of
        k - 1 and G - 1, and NaN of more groups than clusters, or where some groups' clusters say all of others'.
        """
        turned = np.eye(len(self.values))[1:] - np.eye(len(self.values))[0]
        return _p_of_nothing(turned @ self.values, turned @ self.covariance @ turned.T, self.freedom)

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
            freedom=self.freedom,
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

    Variances have the divisor n - 1, as HC2 has in a regression on the segments. They take rows for independent, unless
    ``cluster=`` names what they have in common: then they are CR1, as those of `OLS` on a one for each segment.

    Parameters
    ----------
    by : str or sequence of str
        Columns whose values, together, are the segments: texts, whole numbers, true and false, dates.
    score : str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them.
    cluster : str or sequence of str, optional
        Columns by which rows belong together: errors allow for them, also between segments. Intervals are those of t of
        G - 1 degrees of freedom.

    References
    ----------
    .. [1] Semenova, Chernozhukov: Debiased machine learning of conditional average treatment effects and other causal
       functions, Econometrics Journal 2021.
    """

    by: str | Sequence[str]
    score: str
    cluster: str | Sequence[str] | None = None

    def fit(self, data: Dataset) -> Groups:
        """Estimate it. Eager: two passes, with clusters three.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There are no rows, more than 1,000 segments, with clusters 100, or one of a single row.
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
        clusters, most = clusters_of(self.cluster, data, where), MOST_GROUPS if self.cluster is None else MOST_CLUSTERED
        segments = data.select(*by).distinct().order_by(*by).limit(most + 1).to_pylist()
        if len(segments) > most:
            raise PlanError(
                f"there are more than {most:,} segments" + (" of clusters" if clusters else ""), where, "join some"
            )
        if not segments:
            raise PlanError("there are no rows", where, "look at the filters")
        keys = [tuple(segment[name] for name in by) for segment in segments]
        cells = _Segments(Places.of(by, keys, data.schema))
        matrix = Matrix((Number(self.score),))
        found = moments(data, matrix, grouping=cells, where=where)
        named = [", ".join(map(_told, segment, segment.values())) for segment in segments]
        names = tuple(named[at] for at in found.groups)
        _check_counts(found, names, where)
        errors = group_errors(data, matrix, cells, found, clusters)
        return _groups(where, names, found, errors, Provenance.of(data))


@dataclass(frozen=True)
class Calibration:
    """What was predicted beside what is so, in groups of rows with like predictions.

    Groups of about as many rows are cut at quantiles of the predicted effect; the effect of each is the mean of its
    scores (sorted group average effects, GATES [1]_). A prediction is calibrated if in each group the mean of scores
    less predictions is 0; the fact ``p calibrated`` is the p-value of that in all groups together, χ² of k, or
    with G clusters F of k and G - 1, and NaN of more groups than that.

    Parameters
    ----------
    effect : str
        A column of predicted effects, of rows that the prediction has not seen.
    score : str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them.
    groups : int
        How many there are at most; rows of equal predictions are in one.
    cluster : str or sequence of str, optional
        As of `GroupEffects`; else rows are taken for independent.

    References
    ----------
    .. [1] Chernozhukov, Demirer, Duflo, Fernández-Val: Fisher-Schultz lecture: Generic machine learning inference on
       heterogeneous treatment effects in randomized experiments, Econometrica 2025.
    """

    effect: str
    score: str
    groups: int = 5
    cluster: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        most = MOST_GROUPS if self.cluster is None else MOST_CLUSTERED
        check_whole_fields(self, "Calibration")
        if not 2 <= self.groups <= most:
            raise ConfigError(f"groups is {self.groups}", "Calibration", f"from 2 to {most:,}; 5 to 20 are usual")

    def fit(self, data: Dataset) -> Groups:
        """Estimate it. Eager: about four passes, with clusters one more.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There are no rows, or a group has a single one.
        """
        where = f"Calibration of {self.effect} by {self.score}"
        check_numbers(data, (self.effect, self.score), where)
        clusters = clusters_of(self.cluster, data, where)
        (bounds,) = cut(data.select(self.effect), (self.effect,), self.groups, where)
        matrix = Matrix((Number(self.score), Number(self.effect)))
        parts = _Parts(self.effect, bounds)
        found = moments(data, matrix, grouping=parts, where=where)
        names = tuple(f"group {number + 1}" for number in found.groups)
        _check_counts(found, names, where)
        errors = group_errors(data, matrix, parts, found, clusters)
        turned = np.kron([1.0, -1.0], np.eye(len(names)))
        away = found.means[:, 0] - found.means[:, 1]
        facts = {"p calibrated": _p_of_nothing(away, turned @ errors.covariance @ turned.T, errors.freedom)}
        return _groups(where, names, found, errors, Provenance.of(data), facts, found.means[:, 1])


def _told(column: str, value: object) -> str:
    """Return what a segment's rows have in a column; a text may be "None"."""
    return f"{column} is null" if value is None else f"{column}={value}"


def _check_counts(found: Moments, names: Sequence[str], where: str) -> None:
    if (found.rows < 2).any():
        raise PlanError(f"{names[int(np.argmin(found.rows))]} has a single row", where, "join it with others")


def _p_of_nothing(values: Floats, covariance: Floats, freedom: float) -> float:
    """Return the p-value of numbers (k,) all being 0: χ² of k, or F of k and degrees of freedom.

    NaN where there is no such test: of no numbers, of more than degrees of freedom, of numbers that follow from others.
    """
    count = len(values)
    if not 0 < count <= freedom:
        return np.nan
    doubtful = (values != 0) | (np.diag(covariance) > 0)
    values, covariance = values[doubtful], covariance[np.ix_(doubtful, doubtful)]
    if not (np.diag(covariance) > 0).all():
        return 0.0
    errors = np.sqrt(np.diag(covariance))
    z, correlations = values / errors, covariance / np.outer(errors, errors)
    if np.linalg.matrix_rank(correlations, hermitian=True) < len(z):
        return np.nan
    total = float(z @ np.linalg.solve(correlations, z))
    if np.isinf(freedom):
        return float(chi2_above(total, count))
    return float(f_above(total / count, count, freedom))


def _groups(
    title: str,
    names: tuple[str, ...],
    found: Moments,
    errors: GroupErrors,
    provenance: Provenance,
    facts: dict[str, Any] | None = None,
    predicted: Floats | None = None,
) -> Groups:
    """Return the means of scores, the first column of moments, by group."""
    count = len(names)
    return Groups(
        title=title,
        names=names,
        values=found.means[:, 0],
        covariance=errors.covariance[:count, :count],
        convention=errors.convention,
        rows=int(found.rows.sum()),
        freedom=errors.freedom,
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
