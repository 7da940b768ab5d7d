"""Quantiles exactly, however many rows there are: brackets around the ranks are narrowed pass by pass.

A float64's bits, its sign turned, are a whole number that is ordered as the value is. A pass counts rows in equal parts
of each bracket, 2,048 unless there are very many brackets; when few rows are left in all of them, these are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.buffers import arrow_of, numpy_of
from iceblink.causal.experiments.grid import Grid, InArms
from iceblink.causal.experiments.metrics import Quantile
from iceblink.causal.experiments.places import Places
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.passes import BLOCK_ROWS, summed
from iceblink.causal.sums import Sums

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Whole = NDArray[np.uint64]

MOST_BITS, FEWEST_BITS = 11, 4
MOST_COUNTS = 1_000_000
"""Numbers that a pass counts at once."""

FEW_ROWS = 1_000_000
Z = 1.959963984540054
"""What a standard normal number is below with probability 0.975."""
SIGN = np.uint64(1 << 63)
FETCHED = pa.schema({"bracket": pa.int64(), "value": pa.uint64()})


def ordered(values: Floats) -> Whole:
    """Return whole numbers that are ordered as floats are; both zeros are one."""
    bits = (np.ascontiguousarray(values, np.float64) + 0.0).view(np.uint64)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def restored(numbers: Whole) -> Floats:
    """Return the floats that `ordered` made numbers of."""
    return np.where(numbers & SIGN, numbers & ~SIGN, ~numbers).view(np.float64)


@dataclass(frozen=True, eq=False)
class Brackets:
    """Ranges of values in cells, each within a way to cut rows into segments.

    Parameters
    ----------
    cut, column, cell : int64 arrays (n,)
        The number of the cut, of the column of values, and of the cell.
    low, high : uint64 arrays (n,)
        The first and the last number (see `ordered`).
    shift : uint64 array (n,)
        How many bits of a number's distance from `low` do not tell parts apart.
    parts : int
        How many there are of each, at most.
    """

    cut: Integers
    column: Integers
    cell: Integers
    low: Whole
    high: Whole
    shift: Whole
    parts: int

    @classmethod
    def of(cls, cut: Integers, column: Integers, cell: Integers, low: Whole, high: Whole) -> Self:
        """Divide ranges into parts."""
        bits = int(np.clip(np.log2(MOST_COUNTS / len(cell)), FEWEST_BITS, MOST_BITS))
        shift = [max(int(width).bit_length() - bits, 0) for width in high - low]
        return cls(cut, column, cell, low, high, np.array(shift, np.uint64), 1 << bits)

    def inside(self, at: int, values: Whole) -> Whole:
        """Return those of some numbers that are in a bracket."""
        return np.asarray(values[(values >= self.low[at]) & (values <= self.high[at])])


@dataclass(frozen=True, eq=False)
class _Rows:
    """A block's numbers, by cut, column and cell."""

    columns: tuple[str, ...]
    places: tuple[Places, ...]
    brackets: Brackets

    def parts(self, batch: pa.RecordBatch) -> list[tuple[int, Whole]]:
        """Return each bracket with the numbers of its cell."""
        found = []
        numbers = []
        for name in self.columns:
            values = floats(batch.column(name)).astype(np.float64)
            numbers.append((np.isnan(values), ordered(values)))
        for cut, places in enumerate(self.places):
            cell = places.of_rows(batch)
            order = np.argsort(cell, kind="stable")
            ends = np.searchsorted(cell[order], np.arange(len(places.numbers) + 1))
            for at in np.flatnonzero(self.brackets.cut == cut):
                missing, values = numbers[self.brackets.column[at]]
                rows = order[ends[self.brackets.cell[at]] : ends[self.brackets.cell[at] + 1]]
                found.append((int(at), values[rows[~missing[rows]]]))
        return found


@dataclass(frozen=True, eq=False)
class _Counted(_Rows):
    """How many rows of a block are in each part of each bracket."""

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        counts = np.zeros((len(self.brackets.cell), self.brackets.parts))
        for at, values in self.parts(batch):
            part = (self.brackets.inside(at, values) - self.brackets.low[at]) >> self.brackets.shift[at]
            counts[at] = np.bincount(part.astype(np.int64), minlength=self.brackets.parts)
        return Sums({"counts": counts})


@dataclass(frozen=True, eq=False)
class _Fetched(_Rows):
    """The numbers of a block that are in a bracket."""

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = [(at, self.brackets.inside(at, values)) for at, values in self.parts(batch)]
        brackets = np.repeat(np.array([at for at, _ in found], np.int64), [len(values) for _, values in found])
        values = np.concatenate([values for _, values in found]) if found else np.zeros(0, np.uint64)
        return pa.RecordBatch.from_arrays([arrow_of(brackets), arrow_of(values)], schema=FETCHED)


@dataclass(frozen=True, eq=False)
class Ranks:
    """What is looked for: in a cell's values of a column, the one of a rank, from 1; arrays (n,)."""

    cut: Integers
    column: Integers
    cell: Integers
    rank: Integers
    low: Whole
    high: Whole


def selected(data: Dataset, columns: Sequence[str], places: Sequence[Places], ranks: Ranks) -> Floats:
    """Return the values of ranks (n,). Eager: reads the data about three times."""
    needed = dict.fromkeys((*columns, *(name for one in places for name in one.columns)))
    rows = data.select(*needed)
    low, high, rank = ranks.low.copy(), ranks.high.copy(), ranks.rank.copy()
    inside = None
    while (low < high).any():
        open_ = np.flatnonzero(low < high)
        keys = np.stack([ranks.cut, ranks.column, ranks.cell, low.view(np.int64), high.view(np.int64)])[:, open_]
        unique, of = np.unique(keys, axis=1, return_inverse=True)
        of = of.ravel()
        starts, stops = (np.ascontiguousarray(row).view(np.uint64) for row in unique[3:])
        brackets = Brackets.of(unique[0], unique[1], unique[2], starts, stops)
        if inside is not None and inside[open_][np.unique(of, return_index=True)[1]].sum() <= FEW_ROWS:
            fetch = _Fetched(tuple(columns), tuple(places), brackets)
            found = rows.map_batches(fetch, schema=FETCHED, batch_size=BLOCK_ROWS).to_arrow()
            fetched, value = (numpy_of(column) for column in found.columns)
            order = np.lexsort((value, fetched))
            begins = np.searchsorted(fetched[order], of)
            low[open_] = value[order][begins + rank[open_] - 1]
            break
        counts = summed(rows, _Counted(tuple(columns), tuple(places), brackets))["counts"].astype(np.int64)
        inside = np.zeros(len(low), np.int64) if inside is None else inside
        for at, bracket in zip(open_, of, strict=True):
            upto = np.cumsum(counts[bracket])
            part = int(np.searchsorted(upto, rank[at]))
            rank[at] -= upto[part] - counts[bracket][part]
            inside[at] = counts[bracket][part]
            shift = brackets.shift[bracket]
            low[at] += np.uint64(part) << shift
            high[at] = min(low[at] + ((np.uint64(1) << shift) - np.uint64(1)), high[at])
    return restored(low)


def in_arms(
    data: Dataset, grids: Sequence[Grid], segments: Sequence[str | None], metrics: Sequence[Quantile]
) -> list[list[InArms]]:
    """Find quantiles in each arm of each segment, for each grid and metric. Eager.

    The quantile of share p of n rows is the value of rank ⌈n p⌉; its standard error is the distance of the values whose
    ranks are n p ± z √(n p (1 - p)), rounded outwards, over 2 z with z = 1.96 [1]_ [2]_: no density is estimated. An
    arm with too few rows for these ranks has none.

    References
    ----------
    .. [1] Price, Bonett: Estimating the variance of the sample median, J. Statistical Computation and Simulation 2001.
    .. [2] Liu, Sun, Varshney, Xu: Large-scale online experimentation with quantile metrics, ICSE-SEIP 2019 (arXiv
       1903.08762).
    """
    scan = grids[0].cells.scan
    keys = [(*scan.keys, *([segment] if segment is not None else [])) for segment in segments]
    places = [Places.of(columns, grid.cells.keys, data.schema) for columns, grid in zip(keys, grids, strict=True)]
    wanted = []
    for cut, grid in enumerate(grids):
        for number, metric in enumerate(metrics):
            column = scan.quantiles.index(metric.column)
            for at in zip(*np.nonzero(grid.at >= 0), strict=True):
                cell = grid.at[at]
                ends = grid.cells.low[cell, column], grid.cells.high[cell, column]
                in_order = _three_ranks(int(grid.cells[f"q{column}"][cell]), metric.share)
                wanted += [((cut, number, *at[:2]), (cut, column, cell, rank), ends) for rank in in_order]
    found = [[np.full((*grid.at.shape[:2], 3), np.nan) for _ in metrics] for grid in grids]
    if wanted:
        cut_of, column_of, cell_of, rank = np.array([one for _, one, _ in wanted], np.int64).T
        low, high = np.array([ends for *_, ends in wanted]).T
        ranks = Ranks(cut_of, column_of, cell_of, rank, ordered(low), ordered(high))
        values = selected(data, scan.quantiles, places, ranks).reshape(-1, 3)
        for ((cut, number, segment, arm), _, _), three in zip(wanted[::3], values, strict=True):
            found[cut][number][segment, arm] = three
    return [
        [
            _estimate(grid, scan.quantiles.index(metric.column), three)
            for metric, three in zip(metrics, cuts, strict=True)
        ]
        for grid, cuts in zip(grids, found, strict=True)
    ]


def _three_ranks(rows: int, share: float) -> list[int]:
    """Return the ranks of a quantile and of its bounds, none if there are not rows enough for these."""
    reach = Z * np.sqrt(rows * share * (1 - share))
    low, high = int(np.floor(rows * share - reach)), int(np.ceil(rows * share + reach)) + 1
    middle = max(int(np.ceil(rows * share - 1e-9)), 1)  # 0.07 of 100 rows is 7, in floats a little more
    return [middle, low, high] if low >= 1 and high <= rows else []


def _estimate(grid: Grid, column: int, three: Floats) -> InArms:
    errors = (three[..., 2] - three[..., 1]) / (2 * Z)
    return InArms(three[..., 0], errors**2, grid.spread(grid.cells[f"q{column}"]).sum(axis=2))
