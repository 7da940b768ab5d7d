"""Means and cross products of columns, by group: all that a linear model needs of rows, in a form that adds up.

Cross products are kept about the means of their own rows and joined by the pairwise formula [1]_, so that a column of
large, close values loses no digits, as sums of raw squares would.

References
----------
.. [1] Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979, eq. 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.buffers import arrow_of, list_of, numpy_of
from iceblink.causal.blas import one_thread
from iceblink.errors import PlanError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SCHEMA = pa.schema(
    {
        "groups": pa.list_(pa.int64()),
        "rows": pa.list_(pa.int64()),
        "weights": pa.list_(pa.float64()),
        "means": pa.list_(pa.float64()),
        "products": pa.list_(pa.float64()),
    }
)
"""Of moments as one row: lists as long as there are groups, times the columns, times the pairs of columns."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What `n` groups of rows have in `p` columns.

    Parameters
    ----------
    columns : tuple of str
    groups : int64 array (n,)
        Their numbers, ascending.
    rows : int64 array (n,)
        How many rows.
    weights : float64 array (n,)
        The sum of the rows' weights; of rows without weights their number.
    means : float64 array (n, p)
        Weighted means.
    products : float64 array (n, p, p)
        Weighted sums of products of deviations from the means, symmetric.
    """

    columns: tuple[str, ...]
    groups: Integers
    rows: Integers
    weights: Floats
    means: Floats
    products: Floats

    @classmethod
    def nothing(cls, columns: Sequence[str]) -> Self:
        """Return those of no rows."""
        none, width = np.zeros(0, np.int64), len(columns)
        return cls(tuple(columns), none, none, np.zeros(0), np.zeros((0, width)), np.zeros((0, width, width)))

    @classmethod
    def of(
        cls, columns: Sequence[str], values: Floats, group: Integers | None = None, weight: Floats | None = None
    ) -> Self:
        """Return those of some rows.

        Parameters
        ----------
        columns : sequence of str
            Names of the p columns.
        values : float64 array (p, n)
            Column by column, contiguous; it is overwritten.
        group : int64 array (n,), optional
            The group of each row, ascending. Default: all are in group 0.
        weight : float64 array (n,), optional
        """
        width, count = values.shape
        if count == 0:
            return cls.nothing(columns)
        starts = np.zeros(1, np.int64) if group is None else _starts(group)
        ends = np.append(starts[1:], count)
        numbers = np.zeros(1, np.int64) if group is None else group[starts].astype(np.int64)
        weights, means = np.zeros(len(starts)), np.zeros((len(starts), width))
        products = np.zeros((len(starts), width, width))
        with one_thread():
            for at, (start, end) in enumerate(zip(starts, ends, strict=True)):
                part, own = values[:, start:end], None if weight is None else weight[start:end]
                weights[at] = end - start if own is None else own.sum()
                if weights[at] == 0:
                    continue
                means[at] = part.mean(axis=1) if own is None else part @ own / weights[at]
                part -= means[at][:, np.newaxis]
                if own is None:
                    products[at] = part @ part.T
                    rest = part.sum(axis=1)  # what rounding of the mean left
                else:
                    rest = part @ own
                    part *= np.sqrt(own)
                    products[at] = part @ part.T
                means[at] += rest / weights[at]
                products[at] -= np.outer(rest, rest) / weights[at]
        return cls(tuple(columns), numbers, (ends - starts).astype(np.int64), weights, means, products)

    @property
    def total(self) -> Self:
        """Those of all groups together, as one of number 0."""
        one = self.nothing(self.columns)
        for at in range(len(self.groups)):
            part = self._at(np.array([at]))
            one = one.merged(replace(part, groups=np.zeros(1, np.int64)))
        return one

    def without(self, group: int) -> Self:
        """Return those of all other groups, together, as one of number 0; nothing is subtracted."""
        return self._at(np.flatnonzero(self.groups != group)).total

    def among(self, groups: Sequence[int]) -> Self:
        """Return those of some groups, together, as one of number 0."""
        return self._at(np.flatnonzero(np.isin(self.groups, groups))).total

    def only(self, group: int) -> Self:
        """Return those of one group."""
        return self._at(np.flatnonzero(self.groups == group))

    def covariance(self, group: int = 0) -> Floats:
        """Return the covariances (p, p) of a group, with divisor rows - 1 as a sample's."""
        (at,) = np.flatnonzero(self.groups == group)
        return np.asarray(self.products[at] / self.weights[at] * (self.rows[at] / (self.rows[at] - 1)))

    def chosen(self, columns: Sequence[str]) -> Self:
        """Return those of some of the columns, in this order."""
        at = [self.columns.index(column) for column in columns]
        return replace(self, columns=tuple(columns), means=self.means[:, at], products=self.products[:, at][:, :, at])

    def merged(self, other: Self) -> Self:
        """Return those of the rows of both."""
        self._check(other)
        groups = np.union1d(self.groups, other.groups)
        left, right = self.spread(groups), other.spread(groups)
        weights = left.weights + right.weights
        share = np.divide(right.weights, weights, out=np.zeros_like(weights), where=weights != 0)
        pairs = (left.weights * share)[:, np.newaxis, np.newaxis]
        with np.errstate(over="ignore", invalid="ignore"):  # whoever reads a column refuses what is too large
            apart = right.means - left.means
            means = left.means + apart * share[:, np.newaxis]
            between = apart[:, :, np.newaxis] * apart[:, np.newaxis, :] * pairs
            products = left.products + right.products + between
        return replace(
            self, groups=groups, rows=left.rows + right.rows, weights=weights, means=means, products=products
        )

    def removed(self, other: Self) -> Self:
        """Return those of the rows that are in these and not in `other`, all of whose rows are in these.

        The inverse of `merged`. Digits are lost as far as what is left is smaller than what was.

        Raises
        ------
        PlanError
            A group of `other` has more rows than here.
        """
        self._check(other)
        right = other.spread(np.union1d(self.groups, other.groups))
        whole = self.spread(right.groups)
        rows, weights = whole.rows - right.rows, whole.weights - right.weights
        if (rows < 0).any():
            group = int(right.groups[rows < 0][0])
            raise PlanError(f"group {group} has fewer rows than are to be removed", "moments", "compute them anew")
        left = rows > 0
        means = np.zeros_like(whole.means)
        scale = (right.weights[left] / weights[left])[:, np.newaxis]
        means[left] = whole.means[left] + (whole.means[left] - right.means[left]) * scale
        apart = right.means[left] - means[left]
        shrink = (weights[left] * right.weights[left] / whole.weights[left])[:, np.newaxis, np.newaxis]
        between = apart[:, :, np.newaxis] * apart[:, np.newaxis, :] * shrink
        products = whole.products[left] - right.products[left] - between
        return replace(
            self,
            groups=right.groups[left],
            rows=rows[left],
            weights=weights[left],
            means=means[left],
            products=products,
        )

    def to_batch(self) -> pa.RecordBatch:
        """Return them as one row of `SCHEMA`, the upper triangle of the products row by row."""
        above = np.triu_indices(len(self.columns))
        lists = [self.groups, self.rows, self.weights, self.means.ravel(), self.products[:, above[0], above[1]].ravel()]
        return pa.RecordBatch.from_arrays([list_of(arrow_of(values)) for values in lists], schema=SCHEMA)

    @classmethod
    def from_batch(cls, columns: Sequence[str], batch: pa.RecordBatch) -> Iterator[Self]:
        """Yield the moments of each row of `SCHEMA`."""
        width = len(columns)
        above = np.triu_indices(width)
        for at in range(batch.num_rows):
            groups, rows, weights, means, packed = (numpy_of(column[at].values) for column in batch.columns)
            products = np.empty((len(groups), width, width))
            products[:, above[0], above[1]] = packed.reshape(len(groups), len(above[0]))
            products[:, above[1], above[0]] = products[:, above[0], above[1]]
            yield cls(tuple(columns), groups, rows, weights, means.reshape(len(groups), width), products)

    def _check(self, other: Self) -> None:
        if self.columns != other.columns:
            raise PlanError(
                f"moments of {', '.join(self.columns)} and of {', '.join(other.columns)} do not add up",
                "moments",
                "compute both of the same columns, in the same order",
            )

    def _at(self, at: NDArray[np.intp]) -> Self:
        return replace(
            self,
            groups=self.groups[at],
            rows=self.rows[at],
            weights=self.weights[at],
            means=self.means[at],
            products=self.products[at],
        )

    def spread(self, groups: Integers) -> Self:
        """Return these with an empty place for each group that is not among them."""
        if len(groups) == len(self.groups):
            return self
        at = np.searchsorted(groups, self.groups)

        def wide(mine: NDArray[Any]) -> NDArray[Any]:
            spread = np.zeros((len(groups), *mine.shape[1:]), mine.dtype)
            spread[at] = mine
            return spread

        return replace(
            self,
            groups=groups,
            rows=wide(self.rows),
            weights=wide(self.weights),
            means=wide(self.means),
            products=wide(self.products),
        )


def _starts(group: Integers) -> Integers:
    """Return where each run of equal numbers begins."""
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(group[1:] != group[:-1]) + 1])
