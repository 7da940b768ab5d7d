"""Uplift curves: what outcomes gain if those of the highest predicted effect are treated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.constant import ROUNDING
from iceblink.causal.judging.columns import check_numbers, clusters_of, keys_of, numbers
from iceblink.causal.judging.curves import POINTS, Curves, binned, traced
from iceblink.causal.judging.cuts import cut
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.passes import too_large
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.design import quoted
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

AREAS = ("AUUC", "AUUC above random", "Qini")


@dataclass(frozen=True)
class UpliftCurve:
    """What a predicted effect is worth as an order of treatment, judged by a randomized experiment.

    With n₁, n₀ rows treated and not, and sums Y₁, Y₀ of their outcomes, among the share q of rows of the highest
    predicted effect, of n rows in all:

    - ``lift(q)`` = Y₁ / n₁ - Y₀ / n₀, the effect on those rows;
    - ``gain(q)`` = q · lift(q), for each row of all, if those are treated: n times this are ``get_cumgain`` of CausalML
      and ``uplift_curve`` of scikit-uplift;
    - ``qini(q)`` = (Y₁ - Y₀ n₁ / n₀) / n [1]_: n times this are ``get_qini`` of CausalML and ``qini_curve`` of
      scikit-uplift.

    Areas are those under lines through all points, from 0 at q = 0: ``AUUC`` = ∫ gain, ``AUUC above random`` =
    ∫ (gain - q gain(1)), ``Qini`` = ∫ (qini - q qini(1)). They are in units of the outcome, for each row: n² times
    ∫ gain and ∫ qini are ``auuc`` and ``auqc`` of scikit-uplift. CausalML adds n + 1 points up instead of lines, and
    divides by their number and, unless it is told not to, by the size of the last point: but for a part in n, its
    ``auuc_score`` is AUUC / |gain(1)| and its ``qini_score`` Qini / |qini(1)|. Before both arms have a row, gain is a
    line from 0; before a control is there, qini is.

    Rows of equal predicted effect are one point, as if drawn in any order: where CausalML takes them as they come.

    Parameters
    ----------
    effect : str
        A column of predicted effects, of rows that the prediction has not seen.
    outcome : str
    treatment : str
        1 or true for rows that were treated, drawn by lot with one chance for all; else 0 or false.
    key : str or sequence of str
        The columns of the unit. Errors are those of a jackknife over parts of the units.
    bins : int, optional
        How many points there are at most, at quantiles of the predicted effect: each is exact, and nothing is sorted;
        areas are those under lines through them. Default: areas under lines through every value that occurs, by a sort
        of the rows; curves have 100 points, and errors are those of these.
    cluster : str or sequence of str, optional
        Columns by which rows belong together: errors are those of parts of these instead of the units.

    References
    ----------
    .. [1] Radcliffe: Using control groups to target on predicted lift, Direct Marketing Analytics Journal 2007.
    """

    effect: str
    outcome: str
    treatment: str
    key: str | Sequence[str]
    bins: int | None = None
    cluster: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_bins(self.bins, "UpliftCurve")

    def fit(self, data: Dataset) -> Curves:
        """Draw the curves. Eager: about four passes; with `bins` left out one more, that sorts.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        QueryError
            A value is missing, or so large that its square is.
        PlanError
            The treatment has other values than 0 and 1, or only one of them; the outcome does not vary.
        """
        where = f"UpliftCurve of {self.effect}"
        check_numbers(data, (self.effect, self.outcome, self.treatment), where)
        keys = clusters_of(self.cluster, data, where) or keys_of(self.key, data, where)
        rows = data.select(*dict.fromkeys((self.effect, self.outcome, self.treatment, *keys)))
        (bounds,) = cut(rows, (self.effect,), self.bins or POINTS, where)
        sums = binned(rows, self.effect, keys, bounds, _ByArm(self.outcome, self.treatment, where))
        counts = sums.sum(axis=(0, 1))
        for arm, count in (("1", counts[0]), ("0", counts[2])):
            if count == 0:
                raise PlanError(f"no row has {self.treatment} {arm}", where, "an effect compares two arms")
        _check_outcome(self.outcome, sums, where)
        exact = None if self.bins else _areas_of(_in_order(rows, self.effect, self.outcome, self.treatment))
        facts = {"points": len(bounds) + 1, "treated": f"{int(counts[0]):,}"}
        return traced(
            where, sums, _curves, _areas, AREAS, int(counts[0] + counts[2]), exact, facts, Provenance.of(data)
        )


def check_bins(bins: int | None, where: str) -> None:
    """Raise ConfigError where a number of points is none."""
    if bins is None:
        return
    check_whole(where, bins=bins)
    if not 2 <= bins <= 1_000:
        raise ConfigError(f"bins is {bins}", where, "from 2 to 1,000; 100 are usual")


@dataclass(frozen=True)
class _ByArm:
    """Ones and outcomes of the treated, then of the others."""

    outcome: str
    treatment: str
    where: str

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        outcome, treated = (numbers(batch, name, self.where) for name in (self.outcome, self.treatment))
        if odd := treated[(treated != 0) & (treated != 1)].tolist():
            raise PlanError(f"{self.treatment} is {odd[0]:g}", self.where, "1 where treated, else 0: make it by mutate")
        return np.stack([treated, treated * outcome, 1 - treated, (1 - treated) * outcome])


def _check_outcome(outcome: str, sums: Floats, where: str) -> None:
    """Refuse an outcome that does not vary, or whose squares are no numbers, by the sums (buckets, parts, 4)."""
    count, total = sums[..., ::2].sum(axis=-1), sums[..., 1::2].sum(axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = (total**2).sum()
        mean = total.sum() / count.sum()
        apart = np.abs(total - mean * count).max()
    if not np.isfinite(squares):
        raise too_large(outcome, where)
    if apart <= ROUNDING * np.abs(mean) * count.max():
        raise PlanError(f"{outcome} is {mean:g} in every row", where, "there is no gain to be drawn")


def _curves(sums: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Return shares (m, k) and curves (m, k) of sums (m, k, 4) from high effects to low ones."""
    n1, y1, n0, y0 = np.moveaxis(sums.cumsum(axis=1), -1, 0)
    count = n1[:, -1:] + n0[:, -1:]
    shares = (n1 + n0) / count
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = y1 / n1 - y0 / n0
        qini = (y1 - y0 * n1 / n0) / count
    lift, qini = np.where(n1 * n0 > 0, lift, np.nan), np.where(n0 > 0, qini, np.nan)
    return shares, {"lift": lift, "gain": _from_nothing(shares, shares * lift), "qini": _from_nothing(shares, qini)}


def _from_nothing(shares: Floats, values: Floats) -> Floats:
    """Fill what is not known before an arm has a row: a line from 0."""
    for row in np.flatnonzero(np.isnan(values).any(axis=1)):
        known = np.isfinite(values[row])
        values[row] = np.interp(shares[row], [0.0, *shares[row][known]], [0.0, *values[row][known]])
    return values


def _areas(sums: Floats) -> Floats:
    """Return the areas (m, 3) of sums (m, k, 4)."""
    shares, curves = _curves(sums)
    nothing = np.zeros((len(shares), 1))
    x = np.concatenate([nothing, shares], axis=1)
    gain, qini = (np.trapezoid(np.concatenate([nothing, curves[name]], axis=1), x, axis=1) for name in ("gain", "qini"))
    return np.stack([gain, gain - curves["gain"][:, -1] / 2, qini - curves["qini"][:, -1] / 2], axis=1)


def _in_order(data: Dataset, effect: str, outcome: str, treatment: str) -> Dataset:
    """Return a row for each predicted effect, the highest first: n1, y1, n0, y0. Lazy; the engine sorts."""
    value, treated = f"CAST({quoted(outcome)} AS DOUBLE)", f"CAST({quoted(treatment)} AS DOUBLE)"
    sums = (treated, f"{treated} * {value}", f"1 - {treated}", f"(1 - {treated}) * {value}")
    named = ", ".join(f"sum({one}) AS {name}" for one, name in zip(sums, ("n1", "y1", "n0", "y0"), strict=True))
    return data.sql(
        f"SELECT n1, y1, n0, y0 FROM (SELECT {quoted(effect)} AS ranked, {named} FROM this GROUP BY 1) AS of_values "
        "ORDER BY ranked DESC"
    )


def _areas_of(rows: Dataset) -> Floats:
    """Return the areas (3,) of all rows of `_in_order`, of which a batch is held at a time."""
    before, gain, qini = np.zeros(4), _Area(), _Area()
    for batch in rows.to_batches():
        if not batch.num_rows:
            continue
        upto = before[:, np.newaxis] + np.cumsum([floats(column) for column in batch.columns], axis=1)
        before = upto[:, -1]
        n1, y1, n0, y0 = upto[:, upto[2] > 0]
        qini.add(n1 + n0, y1 - y0 * n1 / n0)
        n1, y1, n0, y0 = upto[:, (upto[0] > 0) & (upto[2] > 0)]
        gain.add(n1 + n0, (n1 + n0) * (y1 / n1 - y0 / n0))
    count = float(before[0] + before[2])
    return np.array([gain.area / count, gain.above_line / count, qini.above_line / count]) / count


@dataclass
class _Area:
    """The area under lines through points that come one after the other, from (0, 0)."""

    area: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def above_line(self) -> float:
        """What of it is above the line to the last point."""
        return self.area - self.x * self.y / 2

    def add(self, x: Floats, y: Floats) -> None:
        if len(x):
            self.area += float(np.trapezoid(np.append(self.y, y), np.append(self.x, x)))
            self.x, self.y = float(x[-1]), float(y[-1])
