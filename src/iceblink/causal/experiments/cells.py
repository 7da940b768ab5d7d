"""What the scan brings back: sums by arm, stratum and segment, that add up to those of fewer keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from iceblink.buffers import data_of, numpy_of, valid_of
from iceblink.causal.experiments.metrics import Averaged
from iceblink.causal.experiments.scan import MOST_CELLS, Scan
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.passes import too_large
from iceblink.causal.regression.design import quoted
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Keys = tuple[Any, ...]

FIRST_ROWS = 10_000
"""Rows that are looked at before the scan: for constants near the means, any of which are right, and many segments."""
FAR = 4.0
"""So many standard deviations from 0 a mean is subtracted; nearer, squares lose about four bits without that."""


class TooManyCells(PlanError):
    """There are more combinations of keys than are held here."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Sums over the rows, or clusters, of each combination of keys.

    Parameters
    ----------
    scan : Scan
    parts : tuple of str
        The columns of keys: arm, stratum if there are strata, segments.
    shifts : mapping
        Of a column to what was subtracted from its values.
    keys : list of tuple
    names : mapping
        Of a sum to its place in `values`.
    values : float64 array (cells, sums)
    low, high : float64 arrays (cells, columns of quantiles)
        The least and the greatest value; NaN where there is none.
    """

    scan: Scan
    parts: tuple[str, ...]
    shifts: Mapping[str, float]
    keys: list[Keys]
    names: Mapping[str, int]
    values: Floats
    low: Floats
    high: Floats

    def __getitem__(self, name: str) -> Floats:
        """Return a sum (cells,)."""
        return self.values[:, self.names[name]]

    @property
    def units(self) -> Floats:
        """How many rows, or clusters (cells,)."""
        return self["rows" if self.scan.cluster is None else "units"]

    def by(self, places: Sequence[int]) -> Self:
        """Return those of some of the keys, added up."""
        found: dict[Keys, int] = {}
        at = np.array([found.setdefault(tuple(key[place] for place in places), len(found)) for key in self.keys], int)
        values = np.zeros((len(found), self.values.shape[1]))
        low, high = (np.full((len(found), self.low.shape[1]), np.nan) for _ in range(2))
        np.add.at(values, at, self.values)
        np.fmin.at(low, at, self.low)
        np.fmax.at(high, at, self.high)
        parts = tuple(self.parts[place] for place in places)
        return replace(self, parts=parts, keys=list(found), values=values, low=low, high=high)

    def merged(self, other: Self) -> Self:
        """Return those over the rows of both, which were summed by the same keys with the same constants."""
        together = replace(
            self,
            keys=[*self.keys, *other.keys],
            values=np.concatenate([self.values, other.values]),
            low=np.concatenate([self.low, other.low]),
            high=np.concatenate([self.high, other.high]),
        )
        return together.by(range(len(self.parts)))

    def only(self, chosen: Sequence[int]) -> Self:
        """Return some of the cells."""
        at = np.array(chosen, int)
        keys = [self.keys[one] for one in chosen]
        return replace(self, keys=keys, values=self.values[at], low=self.low[at], high=self.high[at])

    def sums(self, metric: Averaged) -> tuple[Floats, Floats, Floats]:
        """Return counts (cells,), sums (cells, p) and sums of products (cells, p, p) of ones and a metric's columns."""
        number, places = self.scan.place(metric)
        products = np.empty((len(self.keys), len(places), len(places)))
        for row, left in enumerate(places):
            for column, right in enumerate(places):
                products[:, row, column] = self[self.scan.name(number, left, right)]
        ones = f"n{number}" if self.scan.cluster is None else f"s{number}_0"
        sums = np.stack([self[ones], *(self[f"s{number}_{place}"] for place in places[1:])], axis=1)
        return self[f"n{number}"], sums, products


def first_rows(data: Dataset, scan: Scan, segments: Sequence[str]) -> pa.Table:
    """Return the first rows, of the columns that are scanned. Eager."""
    names = dict.fromkeys((*scan.keys, *segments, *scan.columns))
    return data.sql(f"SELECT {', '.join(map(quoted, names))} FROM this LIMIT {FIRST_ROWS}").to_arrow()


def constants(first: pa.Table, scan: Scan) -> dict[str, float]:
    """Return a number near the mean of each column, of a few digits, by some rows; 0 for what is 0 or 1, or near 0."""
    found = {name: 0.0 for group in scan.groups for name in group.columns}
    for name in found:
        values = floats(first.column(name).combine_chunks()).astype(np.float64)
        values = values[np.isfinite(values)]
        with np.errstate(over="ignore"):  # what has no square has no constant, and is refused after the scan
            if len(values) and name not in scan.binary and abs(values.mean()) > FAR * values.std():
                found[name] = float(f"{values.mean():.11e}")
    return found


def read_cells(data: Dataset, scan: Scan, shifts: Mapping[str, float], segments: Sequence[str]) -> Cells:
    """Read a dataset once and return its cells. Eager.

    Raises
    ------
    TooManyCells
    PlanError
        Clusters are in several arms or strata.
    QueryError
        A value is missing or infinite, or a conversion is neither 0 nor 1.
    """
    found = data.sql(scan.statement(shifts, segments)).to_arrow().combine_chunks()
    parts = (*scan.keys, *segments)
    if found.num_rows > MOST_CELLS:
        what = f"{', '.join(parts)} make more than {MOST_CELLS:,} cells"
        raise TooManyCells(what, scan.where, "have coarser segments or strata")
    keys = list(zip(*(found.column(f"k{at}").to_pylist() for at in range(len(parts))), strict=True))
    sums = [name for name in found.column_names if name[0] not in "klh"]
    values = np.array([_or_0(found.column(name).combine_chunks().cast("float64")) for name in sums]).T
    low, high = (
        np.array([numpy_of(found.column(f"{side}{at}")) for at in range(len(scan.quantiles))], float)
        .reshape(len(scan.quantiles), len(keys))
        .T
        for side in "lh"
    )
    cells = Cells(scan, parts, shifts, keys, {name: at for at, name in enumerate(sums)}, values, low, high)
    _check(data, cells)
    return cells


def _check(data: Dataset, cells: Cells) -> None:
    """Raise what the scan found to be wrong."""
    scan, where, names = cells.scan, cells.scan.where, cells.names
    drop = 'filter the rows, or say missing="drop"'
    nowhere = cells["unassigned"] if "unassigned" in names else cells["rows"][[key[0] is None for key in cells.keys]]
    if count := int(nowhere.sum()):
        raise QueryError(f"{scan.arm} is missing in {count:,} rows", where, drop)
    if "unclustered" in names and cells["unclustered"].any():
        raise QueryError(f"{scan.cluster} is missing in rows", where, drop)
    if "crossed" in names and (count := int(cells["crossed"].sum())):
        what = f"{count:,} of {int(cells.units.sum()):,} values of {scan.cluster} are in several arms or strata"
        raise PlanError(what, where, "a cluster has one arm and one stratum: look at how they were assigned")
    if "odd" in names and (count := int(cells["odd"].sum())):
        converted = ", ".join(sorted(scan.checked))
        raise QueryError(f"{converted}: {count:,} rows have neither 0 nor 1", where, "a mean of numbers is Mean")
    rows = cells["rows"]
    counted = [name for name in names if name[0] == "v"]
    counted += [f"q{at}" for at in range(len(scan.quantiles))] if scan.missing == "raise" else []
    if any((cells[name] < rows).any() for name in counted) or not np.isfinite(cells.values).all():
        raise _missing(data, scan)


def _missing(data: Dataset, scan: Scan) -> QueryError:
    """Say in which column how many values are missing, which takes one more scan."""
    tests = [f"CASE WHEN isfinite(CAST({quoted(name)} AS DOUBLE)) THEN 1 END" for name in scan.columns]
    made = ", ".join(f"count(1) - count({test}) AS c{at}" for at, test in enumerate(tests))
    (counts,) = data.sql(f"SELECT {made} FROM this").to_pylist()
    column, count = max(zip(scan.columns, counts.values(), strict=True), key=lambda one: one[1])
    if not count:
        return too_large(_largest(data, scan), scan.where)
    hint = 'filter the rows, fill them by mutate, or say missing="drop" to leave them out of the metrics that lack them'
    return QueryError(f"{column} is missing or infinite in {count:,} rows", scan.where, hint)


def _largest(data: Dataset, scan: Scan) -> str:
    """Return the column with the largest value, one more scan."""
    made = ", ".join(f"max(abs(CAST({quoted(name)} AS DOUBLE))) AS c{at}" for at, name in enumerate(scan.columns))
    (found,) = data.sql(f"SELECT {made} FROM this").to_pylist()
    return max(zip(found.values(), scan.columns, strict=True))[1]


def _or_0(values: pa.Array) -> Floats:
    """Return float64 (n,), 0 where there is none."""
    return np.where(valid_of(values), data_of(values), 0.0)
