"""Decoded rows as columns for a model: arrays of NumPy where rows have one size, Arrow's own where they have not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from iceblink.errors import BatchContractBroken, ConfigError
from iceblink.types import show_type

Column: TypeAlias = "NDArray[Any] | pa.Array"
Columns: TypeAlias = dict[str, Column]
Kind: TypeAlias = Literal["numbers", "tensor", "ragged", "text", "other"]

MASK = "{}_valid"
"""Name of the column that says which rows of another are not null."""


@dataclass(frozen=True)
class Layout:
    """How one column of a dataset becomes an array.

    Parameters
    ----------
    name : str
    kind : {"numbers", "tensor", "ragged", "text", "other"}
        "numbers" have shape (rows,), a "tensor" (rows, *shape); "ragged" are lists of numbers of any length, "text" is
        strings and bytes; what is "other" stays as Arrow has it.
    dtype : np.dtype or None
        Of numbers and tensors, and of the values of ragged lists.
    shape : tuple of int
        Of one row of a tensor.
    fill : object
        What nulls become; None to refuse them.
    masked : bool
        Whether a column of its own says which rows are not null.
    """

    name: str
    kind: Kind
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    fill: object = None
    masked: bool = False

    def columns(self, array: pa.Array, where: str) -> Columns:
        """Return the array of the rows, without a copy where there are no nulls, and the mask if there is to be one.

        Raises
        ------
        BatchContractBroken
            A null, or a list of another length than those before.
        """
        found: Columns = {}
        if self.masked:
            found[MASK.format(self.name)] = array.is_valid().to_numpy(zero_copy_only=False)
        if array.null_count and self.kind in ("numbers", "tensor") and self.fill is None:
            raise BatchContractBroken(
                f"column {self.name!r} has {array.null_count:,} nulls, which a tensor has no place for",
                where,
                f"nulls={{{self.name!r}: 0}} fills them, nulls='mask' says where they are; or filter them out",
            )
        match self.kind:
            case "numbers":
                found[self.name] = self._numbers(array)
            case "tensor":
                found[self.name] = self._tensor(array, where)
            case _:
                found[self.name] = array
        return found

    def _numbers(self, array: pa.Array) -> NDArray[Any]:
        if array.null_count:
            array = array.fill_null(pa.scalar(self.fill, array.type))
        if pt.is_boolean(array.type):
            return np.asarray(array.to_numpy(zero_copy_only=False))
        return _values_of(array, self.dtype)

    def _tensor(self, array: pa.Array, where: str) -> NDArray[Any]:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pt.is_fixed_size_binary(array.type):
            rows = np.frombuffer(array.buffers()[1] or b"", np.uint8)
            first = array.offset * self.shape[0]
            found = rows[first : first + len(array) * self.shape[0]].reshape(len(array), *self.shape)
        else:
            size = int(np.prod(self.shape))
            if pt.is_fixed_size_list(array.type):
                values = array.values[array.offset * size : (array.offset + len(array)) * size]
            else:
                values = self._constant(array, size, where)
            if values.null_count:
                raise BatchContractBroken(f"column {self.name!r} has nulls inside its lists", where)
            found = _values_of(values, self.dtype).reshape(len(array), *self.shape)
        if array.null_count:
            found = np.where(_wide(array.is_valid(), found.ndim), found, np.asarray(self.fill, found.dtype))
        return found

    def _constant(self, array: pa.Array, size: int, where: str) -> pa.Array:
        """Return the values of lists that all have one length."""
        offsets = np.asarray(array.offsets)
        lengths = np.diff(offsets)
        valid = np.asarray(array.is_valid())
        wrong = np.flatnonzero((lengths != size) & valid)
        if len(wrong):
            raise BatchContractBroken(
                f"column {self.name!r} has a list of {lengths[wrong[0]]:,} values, and those before have {size:,}",
                where,
                f"tensors={{{self.name!r}: False}} takes it for lists of any length",
            )
        if array.null_count:
            places = np.zeros((len(array), size), np.int64)
            places[valid] = offsets[:-1][valid, None] + np.arange(size)
            return array.values.take(pa.array(places.ravel()))
        return array.values[int(offsets[0]) : int(offsets[-1])]


def _wide(valid: pa.Array, dimensions: int) -> NDArray[np.bool_]:
    flags = np.asarray(valid)
    return flags.reshape(len(flags), *(1,) * (dimensions - 1))


def _values_of(array: pa.Array, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    """Return the values of a fixed-width array without nulls, without a copy."""
    if pt.is_boolean(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    buffer = array.buffers()[1]
    if buffer is None:
        return np.empty(0, dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * array.type.byte_width)


def layouts_of(
    schema: pa.Schema, sample: pa.Table, tensors: Mapping[str, bool], nulls: Any, where: str
) -> tuple[Layout, ...]:
    """Decide how the columns of a dataset become arrays.

    Parameters
    ----------
    schema : pa.Schema
    sample : pa.Table
        Rows of it: lists that all have one length there are taken for tensors, and held to it.
    tensors : mapping of str to bool
        Whether a column of lists has one length, for those that it is not asked of the sample.
    nulls : "raise", "mask", or mapping of str to "mask" or a value
        What becomes of them in numbers and tensors.

    Raises
    ------
    ConfigError
    """
    if nulls not in ("raise", "mask") and not isinstance(nulls, Mapping):
        raise ConfigError(f"nulls={nulls!r}", where, "nulls is 'raise', 'mask', or a mapping of column to value")
    for given in (tensors, nulls if isinstance(nulls, Mapping) else {}):
        for name in given:
            if name not in schema.names:
                raise ConfigError(f"no column {name!r}", where, f"the columns are {', '.join(schema.names)}")
    return tuple(_layout(field, sample.column(field.name), tensors.get(field.name), nulls) for field in schema)


def _layout(field: pa.Field, sample: pa.ChunkedArray, tensor: bool | None, nulls: Any) -> Layout:
    dtype, name = field.type, field.name
    shape: tuple[int, ...] = ()
    kind: Kind
    if isinstance(dtype, pa.FixedShapeTensorType):
        kind, shape, dtype = "tensor", tuple(dtype.shape), dtype.value_type
    elif isinstance(dtype, pa.BaseExtensionType):
        return Layout(name, "other")
    elif pt.is_fixed_size_list(dtype) and is_number(dtype.value_type):
        kind, shape, dtype = "tensor", (dtype.list_size,), dtype.value_type
    elif pt.is_fixed_size_binary(dtype):
        kind, shape, dtype = "tensor", (dtype.byte_width,), pa.uint8()
    elif pt.is_list(dtype) or pt.is_large_list(dtype):
        if not is_number(dtype.value_type):
            return Layout(name, "other")
        lengths = set() if tensor is False else _lengths(sample)
        constant = len(lengths) == 1
        kind, shape, dtype = "tensor" if constant else "ragged", tuple(lengths) if constant else (), dtype.value_type
    elif is_number(dtype):
        kind = "numbers"
    elif pt.is_temporal(dtype):
        kind, dtype = "numbers", pa.int64() if dtype.bit_width == 64 else pa.int32()
    else:
        texts = (pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_binary, pt.is_large_binary)
        return Layout(name, "text" if any(is_text(dtype) for is_text in texts) else "other")
    asked = nulls.get(name) if isinstance(nulls, Mapping) else nulls
    mask = asked == "mask" and field.nullable and kind in ("numbers", "tensor")
    fill = 0 if mask else None if asked in ("raise", "mask") else asked
    return Layout(name, kind, np.dtype(dtype.to_pandas_dtype()), shape, fill, mask)


def _lengths(lists: pa.ChunkedArray) -> set[int]:
    lengths = lists.drop_null().combine_chunks().value_lengths() if len(lists) else pa.array([], pa.int32())
    return {int(length) for length in np.unique(np.asarray(lengths))}


def is_number(dtype: pa.DataType) -> bool:
    """Whether NumPy has a type for values that are counted with."""
    return bool(pt.is_integer(dtype) or pt.is_floating(dtype) or pt.is_boolean(dtype))


def columns_of(table: pa.Table, layouts: Sequence[Layout], where: str) -> Columns:
    """Return the rows of a unit as columns; see `Layout.columns`."""
    found: Columns = {}
    for layout in layouts:
        column = table.column(layout.name)
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        found |= layout.columns(array, where)
    return found


def taken(columns: Columns, places: NDArray[np.int64]) -> Columns:
    """Return the rows at some places, copied."""
    indices = pa.array(places)
    return {
        name: column.take(places, axis=0) if isinstance(column, np.ndarray) else column.take(indices)
        for name, column in columns.items()
    }


def sliced(columns: Columns, start: int, stop: int) -> Columns:
    """Return consecutive rows, not copied."""
    return {
        name: column[start:stop] if isinstance(column, np.ndarray) else column.slice(start, stop - start)
        for name, column in columns.items()
    }


def compact(columns: Columns) -> Columns:
    """Return the same rows where Arrow holds no others beside them: it would pickle those too."""
    return {
        name: column if isinstance(column, np.ndarray) else pa.concat_arrays([column, column[:0]])
        for name, column in columns.items()
    }


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the rows of several parts, one behind the other, copied if there are several."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(column, np.ndarray)
        else pa.concat_arrays([part[name] for part in parts])
        for name, column in parts[0].items()
    }


def bytes_of(columns: Columns) -> int:
    """Return the size of the rows [bytes]."""
    return sum(int(column.nbytes) for column in columns.values())


def rows_of(columns: Columns) -> int:
    """Return the number of rows."""
    return next((len(column) for column in columns.values()), 0)


def shown(layout: Layout, field: pa.Field) -> str:
    """Return a column in words."""
    if layout.kind in ("numbers", "tensor"):
        return f"{layout.name}: {layout.dtype} [{', '.join(['rows', *map(str, layout.shape)])}]"
    return f"{layout.name}: {layout.kind} {show_type(field.type)}"
