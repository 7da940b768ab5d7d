"""One column that a function returned, arrays or Python values, as Arrow: of one type, or an error names two values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from iceblink.casts import Unfit, UnknownFields, is_list_like, lossless
from iceblink.errors import BatchContractBroken
from iceblink.types import show_field

REFUSED = (pa.ArrowException, OverflowError, ValueError, TypeError)  # what Arrow raises for values of no or two types


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pt.is_string(dtype) or pt.is_large_string(dtype) or pt.is_string_view(dtype))


def _is_bytes(dtype: pa.DataType) -> bool:
    return bool(pt.is_binary(dtype) or pt.is_large_binary(dtype) or pt.is_fixed_size_binary(dtype))


_SAME_KIND = (pt.is_decimal, pt.is_struct, pt.is_map, pt.is_time, pt.is_timestamp, is_list_like, _is_text, _is_bytes)


def from_values(name: str, values: Any, where: str, want: pa.DataType | None = None) -> pa.Array:
    """Return what a function gave for one column.

    Parameters
    ----------
    name : str
    values : array of any library, list or tuple
        NumPy arrays of several dimensions become tensors; so do lists of NumPy arrays of one shape, unless `want`
        is a list. Other lists become lists, ragged and nested ones too.
    where : str
        What an error should name.
    want : pa.DataType, optional
        What the column was before, or should be: settles what the values themselves leave open.

    Raises
    ------
    BatchContractBroken
        It is no column, it mixes types, or it holds objects that Arrow does not know.
    """
    try:
        if isinstance(values, pa.Array):
            return values
        if isinstance(values, pa.ChunkedArray):
            return values.combine_chunks()
        if isinstance(values, list | tuple):
            return _restored(_from_objects(name, values, where, want), want)
        if hasattr(values, "to_arrow"):  # a polars Series
            return pa.array(values.to_arrow())
        if hasattr(values, "__arrow_array__"):
            return pa.array(values)
        if isinstance(values, np.ndarray) or hasattr(values, "__array__"):
            return _from_numpy(name, values if isinstance(values, np.ndarray) else np.asarray(values), where, want)
    except (*REFUSED, RuntimeError) as error:
        raise BatchContractBroken(f"column {name!r} is no column: {_line(error)}", where) from error
    raise BatchContractBroken(
        f"column {name!r} is a {type(values).__name__}, not an array",
        where,
        "return an array or a list for each column",
    )


def of_type(field: pa.Field, values: Sequence[Any], where: str) -> pa.Array:
    """Return Python values as the type that was declared for them.

    Raises
    ------
    BatchContractBroken
        A value does not fit.
    """
    tensor = isinstance(field.type, pa.FixedShapeTensorType)
    try:
        if tensor:
            flat = [_flat(value, field.type) for value in values]
            return pa.ExtensionArray.from_storage(field.type, pa.array(flat, field.type.storage_type))
        plain = [_listed(value) for value in values]
        array = pa.array(plain, field.type)
        if pt.is_integer(field.type) or pt.is_nested(field.type):
            _refuse_fractions(plain, field.type)
        return array
    except REFUSED as error:
        what = f"column {field.name!r} was declared {show_field(field)}: {_line(error)}"
        raise BatchContractBroken(what, where) from error


def _refuse_fractions(values: list[Any], dtype: pa.DataType) -> None:
    """Raise ValueError for floats among values that shall be integers: Arrow cuts them off without a word."""
    try:
        lossless(pa.array(values), dtype, "")
    except Unfit as misfit:
        if pt.is_floating(misfit.got) and pt.is_integer(misfit.expected):
            raise ValueError("a value is a float") from None
    except (*REFUSED, UnknownFields):  # what has no type of its own was converted knowing the one that is wanted
        pass


def _from_numpy(name: str, values: np.ndarray[Any, Any], where: str, want: pa.DataType | None) -> pa.Array:
    if values.ndim > 1:
        return _tensors(values)
    if values.dtype == object:
        known = ~np.ma.getmaskarray(values)
        objects = [value if there else None for value, there in zip(np.ma.getdata(values), known, strict=True)]
        return _restored(_from_objects(name, objects, where, want), want)
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    return _restored(_zoned(pa.array(np.ma.getdata(values), mask=mask), want), want)


def _from_objects(name: str, values: Sequence[Any], where: str, want: pa.DataType | None) -> pa.Array:
    deep = [np.shape(value) for value in values if isinstance(value, np.ndarray) and value.ndim > 1]
    if deep and len(set(deep)) == 1 and (want is None or not is_list_like(want)):
        zeros = np.zeros(deep[0], next(value.dtype for value in values if value is not None))
        if all(value is None or np.shape(value) == deep[0] for value in values):
            stacked = np.stack([zeros if value is None else value for value in values])
            missing = np.array([value is None for value in values]).reshape(-1, *(1 for _ in deep[0]))
            return _tensors(np.ma.MaskedArray(stacked, np.broadcast_to(missing, stacked.shape)))
    plain = [_listed(value) for value in values]
    try:
        array = pa.array(plain)
    except REFUSED as error:
        raise _mixed(name, plain, where, error) from error
    if any(isinstance(value, np.ndarray) and value.dtype.kind == "M" for value in plain):
        array = _zoned(array, want)
    if pt.is_binary(array.type) and any(isinstance(value, str) for value in plain):
        raise _two_kinds(name, plain, where, lambda value: isinstance(value, str))
    return array


def _zoned(array: pa.Array, want: pa.DataType | None) -> pa.Array:
    """Give NumPy's times, or lists of them, the zone they are wanted in: NumPy has none, they are moments in UTC."""

    def zoned(dtype: pa.DataType, want: pa.DataType) -> pa.DataType:
        if pt.is_timestamp(dtype) and pt.is_timestamp(want):
            return pa.timestamp(dtype.unit, want.tz)
        if pt.is_list(dtype) and is_list_like(want):
            return pa.list_(zoned(dtype.value_type, want.value_type))
        return dtype

    return array if want is None else array.cast(zoned(array.type, want))


def _tensors(values: np.ndarray[Any, Any]) -> pa.Array:
    """Rows of one shape as tensors; a row whose every element is masked is null."""
    flat = pa.array(np.ascontiguousarray(np.ma.getdata(values)).reshape(-1))
    mask = None
    if isinstance(values, np.ma.MaskedArray):
        mask = pa.array(np.ma.getmaskarray(values).reshape(len(values), -1).all(axis=1))
    storage = pa.FixedSizeListArray.from_arrays(flat, prod(values.shape[1:]), mask=mask)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, values.shape[1:]), storage)


def _flat(value: Any, dtype: pa.FixedShapeTensorType) -> Any:
    """Return the elements of one tensor in a row, as Arrow stores them."""
    if value is None or np.ndim(value) == 1:
        return value
    if np.shape(value) != tuple(dtype.shape):
        raise ValueError(f"a tensor has the shape {np.shape(value)}")
    return np.asarray(value).reshape(-1)


def _listed(value: Any) -> Any:
    """Return arrays that Arrow does not take in the place of a list as lists: of several dimensions, or of days."""
    awkward = isinstance(value, np.ndarray) and (value.ndim > 1 or value.dtype == np.dtype("M8[D]"))
    return value.tolist() if awkward else value


def _restored(array: pa.Array, want: pa.DataType | None) -> pa.Array:
    """Give back the type that values have lost on their way through Python; numbers have kept theirs."""
    if want is None or array.type.equals(want):
        return array
    if isinstance(want, pa.BaseExtensionType):
        lost = array.type.equals(want.storage_type) or (_is_bytes(array.type) and _is_bytes(want.storage_type))
    else:
        lost = any(kind(array.type) and kind(want) for kind in _SAME_KIND)
    if not lost:
        return array
    try:
        return lossless(array, want, "")
    except (Unfit, UnknownFields):
        return array


def restored(batch: pa.RecordBatch, like: pa.Schema | None) -> pa.RecordBatch:
    """Give columns of a data frame back the types that it does not know, such as tensors."""
    if like is None:
        return batch
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        arrays.append(_restored(array, type_in(like, name)))
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def type_in(schema: pa.Schema | None, name: str) -> pa.DataType | None:
    """Return the type of a column, if there is one of that name."""
    index = -1 if schema is None else schema.get_field_index(name)
    return None if index < 0 or schema is None else schema.field(index).type


def _mixed(name: str, values: list[Any], where: str, error: Exception) -> BatchContractBroken:
    """Name the first value that does not go with those before it, and one of these."""
    alone = next((index for index, value in enumerate(values) if not _fits([value])), None)
    if alone is not None:
        what = f"column {name!r} holds a {type(values[alone]).__name__} in row {alone:,}, which is no type of a column"
        return BatchContractBroken(
            f"{what}: {_line(error)}", where, "return numbers, text, bytes, dates, lists or dicts"
        )
    fits, fails = 1, len(values)  # values[:fits] fits and values[:fails] does not
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if _fits(values[:middle]) else (fits, middle)
    culprit = values[fails - 1]
    return _two_kinds(name, values, where, lambda value: not _fits([value, culprit]), fails - 1)


def _two_kinds(
    name: str, values: list[Any], where: str, differs: Any, second: int | None = None
) -> BatchContractBroken:
    solid = [index for index, value in enumerate(values) if value is not None]
    first = next((index for index in solid if differs(values[index])), solid[0])
    if second is None:
        second = next(index for index in solid if not differs(values[index]))
    shown = [
        f"{type(values[index]).__name__} {_shortened(values[index])} in row {index:,}"
        for index in sorted((first, second))
    ]
    return BatchContractBroken(
        f"column {name!r} mixes types: {' and '.join(shown)}", where, "return values of one type, or nulls"
    )


def _fits(values: list[Any]) -> bool:
    try:
        pa.array(values)
    except REFUSED:
        return False
    return True


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
