"""From one column to another: where a block finds its values, and where it puts what it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from iceblink.casts import is_binary
from iceblink.config import MIB
from iceblink.errors import ColumnNotFound, DuplicateColumn, TypeMismatch
from iceblink.types import show_type

PART_BYTES = 8 * MIB
"""Rows go on when so much of them is made, however long the batch is: little enough for queues of a small budget."""

BYTES = "bytes"
"""The field of a struct that has the file."""

T = TypeVar("T")


def found(schema: pa.Schema, column: str, accepts: Callable[[pa.DataType], bool], kind: str, where: str) -> pa.Field:
    """Return the field of the column that a block reads.

    Raises
    ------
    ColumnNotFound
    TypeMismatch
        It is not of a type that `accepts` is true of.
    """
    if column not in schema.names:
        raise ColumnNotFound.of(column, schema.names, where)
    field = schema.field(column)
    if not accepts(field.type):
        raise TypeMismatch(f"column {column!r} is {show_type(field.type)}, not {kind}", where)
    return field


def is_encoded(dtype: pa.DataType) -> bool:
    """Whether a column has files: bytes, or structs with a field `bytes`, as Hugging Face's images and sounds are."""
    if not pt.is_struct(dtype):
        return bool(is_binary(dtype))
    place = dtype.get_field_index(BYTES)
    return place >= 0 and bool(is_binary(dtype.field(place).type))


def with_column(schema: pa.Schema, column: str, made: pa.Field, keep: bool, where: str) -> pa.Schema:
    """Return `schema` with the field `made` at its end, and without `column` unless it is kept.

    Raises
    ------
    DuplicateColumn
        There is a column of that name already.
    """
    left = [field for field in schema if keep or field.name != column]
    if made.name in (field.name for field in left):
        raise DuplicateColumn(f"there is a column {made.name!r} already", where, "give it another name: to='...'")
    return pa.schema([*left, made])


def with_values(batch: pa.RecordBatch, schema: pa.Schema, **made: pa.Array) -> pa.RecordBatch:
    """Return a batch of `schema`: the columns `made`, and the others as they are."""
    arrays = [made[name] if name in made else batch.column(name) for name in schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def each(batch: pa.RecordBatch, column: str, read: Callable[[pa.Buffer], T]) -> Iterator[T | None]:
    """Yield what `read` makes of the bytes in each row, and None for null.

    Raises
    ------
    ValueError
        `read` failed: names the column, the row and the reason.
    """
    values = batch.column(column)
    if pt.is_struct(values.type):
        values = pc.struct_field(values, BYTES)
    for row, value in enumerate(values):
        if not value.is_valid:
            yield None
            continue
        try:
            made = read(value.as_buffer())
        except MemoryError:
            raise
        except Exception as error:  # decoders raise a dozen kinds for damaged bytes
            raise ValueError(f"column {column!r}, row {row:,} of this batch: {error}") from error
        yield made


def parts(
    batch: pa.RecordBatch, values: Iterable[T], nbytes: Callable[[T], int]
) -> Iterator[tuple[pa.RecordBatch, list[T]]]:
    """Yield the rows of a batch with their values, each time that `PART_BYTES` have come together, and at the end."""
    start = held = 0
    waiting: list[T] = []
    for value in values:
        waiting.append(value)
        held += nbytes(value)
        if held >= PART_BYTES:
            yield batch.slice(start, len(waiting)), waiting
            start, held, waiting = start + len(waiting), 0, []
    if waiting or not start:
        yield batch.slice(start), waiting
