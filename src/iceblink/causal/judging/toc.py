"""The targeting operator characteristic, and rank-weighted average treatment effects: the areas under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.judging.columns import check_numbers, clusters_of, keys_of, numbers
from iceblink.causal.judging.curves import POINTS, Curves, binned, traced
from iceblink.causal.judging.cuts import cut
from iceblink.causal.judging.uplift import check_bins
from iceblink.causal.late import special
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.design import quoted

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

AREAS = ("AUTOC", "Qini")


@dataclass(frozen=True)
class TOC:
    """How much more those of the highest predicted effect gain than all do, and its areas: RATE [1]_.

    TOC(q) = E[Γ | the share q of rows of the highest predicted effect] - E[Γ], Γ being scores whose mean is the effect
    in any group, as `DoublyRobust` makes them: so it holds in an experiment and in an observational study alike.

    Areas, whose expectation is 0 if the prediction knows nothing of who gains, are sums over the ranks i of n rows, as
    in R's grf: ``AUTOC`` = Σ TOC(i/n) / n, for which the first rows count most, and ``Qini`` = Σ (i/n) TOC(i/n) / n.
    Rows of equal predicted effect have the mean of their scores.

    Parameters
    ----------
    effect : str
        A column of predicted effects, of rows that the prediction has not seen; any order of priority will do.
    score : str
        A column of doubly robust scores of the effect.
    key : str or sequence of str
        The columns of the unit. Errors are those of a jackknife over parts of the units.
    bins : int, optional
        How many points there are at most, at quantiles of the predicted effect; rows between two are taken as equal,
        and nothing is sorted. Default: areas over every value that occurs, by a sort of the rows; curves have 100
        points, and errors are those of these.
    cluster : str or sequence of str, optional
        Columns by which rows belong together: errors are those of parts of these instead of the units.

    References
    ----------
    .. [1] Yadlowsky, Fleming, Shah, Brunskill, Wager: Evaluating treatment prioritization rules via rank-weighted
       average treatment effects, JASA 2025 (arXiv 2111.07966), section 2.
    """

    effect: str
    score: str
    key: str | Sequence[str]
    bins: int | None = None
    cluster: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_bins(self.bins, "TOC")

    def fit(self, data: Dataset) -> Curves:
        """Draw the curve. Eager: about four passes; with `bins` left out one more, that sorts.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        QueryError
            A value is missing.
        """
        where = f"TOC of {self.effect}"
        check_numbers(data, (self.effect, self.score), where)
        keys = clusters_of(self.cluster, data, where) or keys_of(self.key, data, where)
        rows = data.select(*dict.fromkeys((self.effect, self.score, *keys)))
        (bounds,) = cut(rows, (self.effect,), self.bins or POINTS, where)
        sums = binned(rows, self.effect, keys, bounds, _Scores(self.score, where))
        count, total = sums.sum(axis=(0, 1))
        exact = None if self.bins else _areas_of(rows, self.effect, self.score, float(count), float(total))
        facts = {"points": len(bounds) + 1, "average effect": float(total / count)}
        return traced(where, sums, _curve, _areas, AREAS, int(count), exact, facts, Provenance.of(data))


@dataclass(frozen=True)
class _Scores:
    """Ones and scores."""

    score: str
    where: str

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        score = numbers(batch, self.score, self.where)
        return np.stack([np.ones(len(score)), score])


def _curve(sums: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Return shares (m, k) and the curve (m, k) of sums (m, k, 2) from high effects to low ones."""
    count, total = np.moveaxis(sums.cumsum(axis=1), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return count / count[:, -1:], {"TOC": total / count - total[:, -1:] / count[:, -1:]}


def _areas(sums: Floats) -> Floats:
    """Return the areas (m, 2) of sums (m, k, 2)."""
    rows, total = sums[..., 0].sum(axis=1), sums[..., 1].sum(axis=1)
    upto = sums.cumsum(axis=1)
    parts = _of_groups(sums[..., 0], sums[..., 1], upto[..., 0] - sums[..., 0], upto[..., 1] - sums[..., 1])
    return _finished(parts, rows, total)


def _of_groups(count: Floats, total: Floats, before: Floats, total_before: Floats) -> Floats:
    """Return Σ C_i / i and Σ C_i over the ranks i of groups (..., k), C_i being the sum of scores up to rank i.

    In a group of m rows after rank a, whose scores are their mean g, C_{a+j} = C_a + j g. The sums over j are those
    below: 1 / (a + 1) + ... + 1 / (a + m) = ψ(a + m + 1) - ψ(a + 1).
    """
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    harmonic = special.digamma(before + count + 1) - special.digamma(before + 1)
    first = count * mean + (total_before - before * mean) * harmonic
    second = count * total_before + mean * count * (count + 1) / 2
    return np.stack([first.sum(axis=-1), second.sum(axis=-1)], axis=-1)


def _finished(parts: Floats, rows: Floats, total: Floats) -> Floats:
    """Subtract the average effect from sums (..., 2), and divide by the rows."""
    average = total / rows
    autoc = parts[..., 0] / rows - average
    qini = parts[..., 1] / rows**2 - average * (rows + 1) / (2 * rows)
    return np.stack([autoc, qini], axis=-1)


def _areas_of(data: Dataset, effect: str, score: str, rows: float, total: float) -> Floats:
    """Return the areas (2,) over every value of the predicted effect. Eager: the engine groups and sorts."""
    in_order = data.sql(
        f"SELECT n, g FROM (SELECT {quoted(effect)} AS ranked, CAST(count(1) AS DOUBLE) AS n, "
        f"sum(CAST({quoted(score)} AS DOUBLE)) AS g FROM this GROUP BY 1) AS of_values ORDER BY ranked DESC"
    )
    before, parts = np.zeros(2), np.zeros(2)
    for batch in in_order.to_batches():
        if not batch.num_rows:
            continue
        count, of_rows = (floats(column).astype(np.float64) for column in batch.columns)
        upto, total_upto = before[0] + np.cumsum(count), before[1] + np.cumsum(of_rows)
        parts += _of_groups(count, of_rows, upto - count, total_upto - of_rows)
        before = np.array([upto[-1], total_upto[-1]])
    return _finished(parts, np.array(rows), np.array(total))
