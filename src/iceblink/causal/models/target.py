"""What a model learns to predict, of which rows, and how much each of these counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.matrix import Number, floats
from iceblink.causal.moments import Floats


class Values(Protocol):
    """Makes a number for each row of a batch where workers are, so it pickles; fitted models may be inside of it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at."""

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        """Return float64 (n,)."""


@dataclass(frozen=True)
class Column:
    """A column of numbers, or of true (1) and false (0); missing ones are NaN."""

    name: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.name,)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return floats(batch.column(self.name)).astype(np.float64)


@dataclass(frozen=True)
class Equals:
    """1 where a column of numbers is `value`, else 0."""

    name: str
    value: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.name,)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return np.asarray(floats(batch.column(self.name)) == self.value, np.float64)


@dataclass(frozen=True)
class Target:
    """What is learnt.

    Parameters
    ----------
    of : str or Values
        A column of numbers, or what makes a number of a row: a pseudo-outcome.
    rows : Values, optional
        Rows for which this is 0 are not learnt from, and may lack a value: one arm of a study. Default: all rows.
    weight : str or Values, optional
        How much a row counts, 0 or more. Default: all the same.
    binary : bool
        Whether values are 0 and 1, and the chance of a 1 is to be predicted.
    classes : tuple of str
        Names of J classes, where values are their numbers 0, ..., J - 1, and the chance of each is to be predicted.
    name : str
        What it is called in errors. Default: its column.
    """

    of: str | Values
    rows: Values | None = None
    weight: str | Values | None = None
    binary: bool = False
    classes: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.of if isinstance(self.of, str) else "the target")

    @property
    def width(self) -> int:
        """How many numbers are predicted of a row."""
        return len(self.classes) or 1

    @property
    def scores(self) -> int:
        """How many linear scores chances of it follow from: of J classes J - 1."""
        return max(len(self.classes) - 1, 1)

    @property
    def values(self) -> Values:
        return Column(self.of) if isinstance(self.of, str) else self.of

    def values_where(self, learnt: NDArray[np.bool_], batch: pa.RecordBatch) -> Floats:
        """Return values (n,) of a batch; where nothing is learnt (n,) they are 0 if they would have to be computed."""
        if isinstance(self.of, str) or learnt.all():
            return self.values(batch)
        values = np.zeros(len(learnt))
        values[learnt] = self.values(batch.select(self.values.inputs).filter(pa.array(learnt)))
        return values

    @property
    def weights(self) -> Values | None:
        return Column(self.weight) if isinstance(self.weight, str) else self.weight

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        parts = (self.values, self.rows, self.weights)
        return tuple(dict.fromkeys(name for part in parts if part is not None for name in part.inputs))

    def check(self, schema: pa.Schema, where: str) -> None:
        """Raise TypeMismatch where a column cannot be a number."""
        for column in (self.of, self.weight):
            if isinstance(column, str):
                Number(column).check(schema, where)

    def counts_as(self, other: Target) -> bool:
        """Return whether both learn from the same rows with the same weights, as far as can be seen from here."""
        return _same(self.rows, other.rows) and _same(self.weights, other.weights)


def _same(one: Values | None, other: Values | None) -> bool:
    """What is computed may hold arrays, which have no one answer to ``==``: there only identity counts."""
    return one is other or (isinstance(one, Column | Equals) and one == other)
