"""One pass over a dataset: blocks of rows become states where workers are, and states become one state here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.hashing import below, hashed
from iceblink.causal.matrix import Floats, Matrix, floats
from iceblink.causal.moments import SCHEMA, Integers, Moments
from iceblink.causal.sums import SCHEMA as SUMS
from iceblink.causal.sums import Sums
from iceblink.causal.tree import merged
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

BLOCK_ROWS = 65_536
"""Rows of a state. A pass gives the same bits wherever it is done, since its blocks are cut by the dataset's order."""

Missing = Literal["raise", "drop"]


def check_missing(missing: str, where: str) -> None:
    """Raise ConfigError unless it says what to do about rows that lack a value."""
    if missing not in ("raise", "drop"):
        raise ConfigError(f"missing is {missing!r}", where, 'it is "raise" or "drop"')


def check_differ(outcome: str, treatment: str, where: str) -> None:
    """Raise ConfigError where one column is to be both."""
    if outcome == treatment:
        raise ConfigError(f"{outcome!r} is outcome and treatment", where, "name two columns")


class Grouping(Protocol):
    """Says which group a row belongs to."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at."""

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        """Return the group of each row of a batch."""


@dataclass(frozen=True)
class Folds:
    """Folds that the keys of a row decide: rows of one unit are in one fold, whoever asks, now and later.

    Parameters
    ----------
    keys : tuple of str
    count : int
    seed : int
    repeat : int
        Other folds of the same seed, which have nothing to do with those of another number.
    """

    keys: tuple[str, ...]
    count: int
    seed: int = 0
    repeat: int = 0

    @classmethod
    def by(cls, key: str | Sequence[str], count: int, seed: int = 0) -> Self:
        """Return the folds that a column decides, or several."""
        return cls(several(key), count, seed)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.keys

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        words = ("fold", self.repeat) if self.repeat else ("fold",)
        return below(hashed([batch.column(key) for key in self.keys], self.seed, *words), self.count)


@dataclass(frozen=True)
class _Blocks:
    """The function that a worker calls: a block of rows becomes one row of moments."""

    matrix: Matrix
    grouping: Grouping | None
    weight: str | None
    missing: Missing
    where: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        group = None if self.grouping is None else self.grouping.numbers(batch)
        order = None if group is None else by_group(group)
        values = self.matrix.filled(batch, order)
        weight = None if self.weight is None else floats(batch.column(self.weight)).astype(np.float64)
        if weight is not None and (weight < 0).any():
            raise QueryError(
                f"weight {self.weight!r} is {weight[weight < 0][0]:g}", self.where, "weights are 0 or more"
            )
        if order is not None and group is not None:
            group = group[order]
            weight = None if weight is None else weight[order]
        with np.errstate(over="ignore", invalid="ignore"):  # `moments` refuses what is too large
            if not np.isfinite(values.sum() + (0.0 if weight is None else weight.sum())):  # one look at all rows
                whole = np.isfinite(values).all(axis=0) & (True if weight is None else np.isfinite(weight))
                if self.missing == "raise" and not whole.all():
                    raise self._missing(values, weight)
                values = np.ascontiguousarray(values[:, whole])
                group = None if group is None else group[whole]
                weight = None if weight is None else weight[whole]
            return Moments.of(self.matrix.names, values, group, weight).to_batch()

    def _missing(self, values: Floats, weight: Floats | None) -> QueryError:
        columns = dict(zip(self.matrix.names, values, strict=True))
        if self.weight is not None and weight is not None:
            columns[self.weight] = weight
        name = max(columns, key=lambda one: int((~np.isfinite(columns[one])).sum()))
        count, infinite = int(np.isnan(columns[name]).sum()), int(np.isinf(columns[name]).sum())
        return QueryError(
            f"{name} is {'missing' if count else 'infinite'} in {count or infinite:,} of {values.shape[1]:,} rows",
            self.where,
            'filter the rows, fill them by mutate, or say missing="drop" to leave out rows that lack a value',
        )


def moments(
    data: Dataset,
    matrix: Matrix,
    *,
    grouping: Grouping | None = None,
    weight: str | None = None,
    missing: Missing = "raise",
    where: str = "moments",
) -> Moments:
    """Read a dataset once and return the moments of its rows.

    Eager; runs on the dataset's engine, in memory for a few blocks.

    Parameters
    ----------
    data : Dataset
    matrix : Matrix
    grouping : Grouping, optional
        Folds or segments. Default: all rows are in group 0.
    weight : str, optional
        A column of weights, none below 0.
    missing : {"raise", "drop"}
        What to do about rows that lack a value.
    where : str
        Who asks, for errors.

    Raises
    ------
    ColumnNotFound, TypeMismatch, ConfigError
        Before anything is read.
    QueryError
        A value is missing, infinite, or so large that its square is.
    """
    check_missing(missing, where)
    needed = dict.fromkeys((*matrix.inputs, *(grouping.inputs if grouping else ()), *([weight] if weight else ())))
    schema = data.schema
    for name in needed:
        if name not in schema.names:
            raise ColumnNotFound.of(name, schema.names, where)
    for term in matrix.terms:
        term.check(schema, where)
    blocks = data.select(*needed).map_batches(
        _Blocks(matrix, grouping, weight, missing, where), schema=SCHEMA, batch_size=BLOCK_ROWS
    )
    names = matrix.names
    with np.errstate(over="ignore", invalid="ignore"):  # sums that are larger than a float64 are looked for below
        found = merged(state for batch in blocks.to_batches() for state in Moments.from_batch(names, batch))
    found = Moments.nothing(names) if found is None else found
    check_finite(found, where)
    return found


def check_finite(found: Moments, where: str) -> None:
    """Refuse a column whose sum of squares is no number: solvers would leave it out as if it were constant."""
    squares = np.diagonal(found.products, axis1=1, axis2=2)
    for name, of_groups in zip(found.columns, squares.T, strict=True):
        if not np.isfinite(of_groups).all():
            raise too_large(name, where)


def too_large(name: str, where: str) -> QueryError:
    """Return the error of a column whose values have squares that no float64 holds."""
    hint = "filter such rows, which may stand for missing values, or divide the column"
    return QueryError(f"squares of {name} are larger than a float64", where, hint)


def summed(data: Dataset, function: Callable[[pa.RecordBatch], Sums], block_rows: int = BLOCK_ROWS) -> Sums:
    """Call a function for each block of rows of a dataset, and return the sum of what it gives. Eager."""
    blocks = data.map_batches(_Summed(function), schema=SUMS, batch_size=block_rows)
    found = merged(state for batch in blocks.to_batches() for state in Sums.from_batch(batch))
    if found is None:
        raise PlanError("there are no rows", "a pass", "look at the filters")
    return found


@dataclass(frozen=True)
class _Summed:
    function: Callable[[pa.RecordBatch], Sums]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self.function(batch).to_batch()


def several(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a user named, one or a list."""
    return (names,) if isinstance(names, str) else tuple(names)


def by_group(group: Integers) -> NDArray[np.intp]:
    """Return the order that puts equal groups side by side; numbers of 8 and 16 bits are sorted by their digits."""
    if len(group) and group.min() >= 0 and (most := int(group.max())) < 65_536:
        return np.argsort(group.astype(np.uint8 if most < 256 else np.uint16), kind="stable")
    return np.argsort(group, kind="stable")
