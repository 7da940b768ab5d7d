"""Columns of a table as columns of a matrix: numbers as they are, categories as ones and zeros, and products."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from iceblink.buffers import numpy_of
from iceblink.errors import QueryError, TypeMismatch
from iceblink.types import is_number, show_type

Floats = NDArray[np.float64]
Order = NDArray[np.intp]


class Term(Protocol):
    """One or more columns of a matrix."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its columns are called."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it is made of."""

    def check(self, schema: pa.Schema, where: str) -> None:
        """Raise TypeMismatch where a column of the table cannot be what it is to be."""

    def fill(self, batch: pa.RecordBatch, order: Order | None, out: Floats) -> None:
        """Write its columns (k, n) of the rows of a batch, in an order."""


def can_be_number(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers, or true (1) and false (0)."""
    return is_number(kind) or pa.types.is_boolean(kind)


@dataclass(frozen=True)
class Number:
    """A column of numbers, or of true (1) and false (0), as it is."""

    column: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def check(self, schema: pa.Schema, where: str) -> None:
        kind = schema.field(self.column).type
        if not can_be_number(kind):
            raise TypeMismatch(
                f"column {self.column!r} is {show_type(kind)}, not a number",
                where,
                f"a category is written i({self.column})",
            )

    def fill(self, batch: pa.RecordBatch, order: Order | None, out: Floats) -> None:
        values = floats(batch.column(self.column))
        out[0] = values if order is None else values.take(order)


@dataclass(frozen=True)
class Category:
    """A column of categories: a column of ones and zeros for each level but the first, which is what they differ from.

    Parameters
    ----------
    column : str
    levels : Array
        All values that occur, the reference first.
    """

    column: str
    levels: pa.Array
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(f"{self.column}[{level}]" for level in self.levels[1:].to_pylist()))

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def check(self, schema: pa.Schema, where: str) -> None:
        """Any column that its levels were read from will do."""

    def fill(self, batch: pa.RecordBatch, order: Order | None, out: Floats) -> None:
        values = batch.column(self.column)
        codes = pc.index_in(values if values.type == self.levels.type else values.cast(self.levels.type), self.levels)
        if codes.null_count > values.null_count:
            value = values.filter(pc.and_(codes.is_null(), values.is_valid()))[0].as_py()
            raise QueryError(f"column {self.column!r} has {value!r}, which is none of its levels", "matrix", "")
        numbers = numpy_of(codes)  # as floats where one is missing: NaN
        numbers = numbers if order is None else numbers[order]
        for at in range(len(out)):
            np.equal(numbers, at + 1, out=out[at])
        if codes.null_count:
            out[:, np.isnan(numbers)] = np.nan


@dataclass(frozen=True)
class Product:
    """Every column of one term times every column of another."""

    left: Term
    right: Term

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{left}:{right}" for left in self.left.names for right in self.right.names)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.left.inputs, *self.right.inputs)))

    def check(self, schema: pa.Schema, where: str) -> None:
        self.left.check(schema, where)
        self.right.check(schema, where)

    def fill(self, batch: pa.RecordBatch, order: Order | None, out: Floats) -> None:
        left = np.empty((len(self.left.names), batch.num_rows))
        right = np.empty((len(self.right.names), batch.num_rows))
        self.left.fill(batch, order, left)
        self.right.fill(batch, order, right)
        np.multiply(left[:, np.newaxis], right[np.newaxis], out=out.reshape(len(left), len(right), -1))


@dataclass(frozen=True)
class Matrix:
    """Terms side by side."""

    terms: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for term in self.terms for name in term.names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it is made of, each once."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.inputs))

    def filled(self, batch: pa.RecordBatch, order: Order | None = None) -> Floats:
        """Return the matrix (p, n) of the rows of a batch, column by column; rows may be put in an order.

        Raises
        ------
        QueryError
            A value is missing: null or NaN.
        """
        widths = [len(term.names) for term in self.terms]
        out = np.empty((sum(widths), batch.num_rows))
        at = 0
        for term, width in zip(self.terms, widths, strict=True):
            term.fill(batch, order, out[at : at + width])
            at += width
        return out


def floats(values: pa.Array) -> NDArray[Any]:
    """Return numbers as a NumPy array, a missing one as NaN; floats without nulls are not copied."""
    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    return numpy_of(values)
