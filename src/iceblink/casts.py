"""Lossless conversions of Arrow arrays: every value survives, or the conversion is refused with an example.

`types.conform` turns what is raised here into errors a user can read.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt


class Unfit(Exception):
    """A type, or one value, that cannot become `expected`.

    Parameters
    ----------
    path : str
        Dotted path of the column.
    expected, got : pa.DataType
    example : object
        The first value that did not fit; None when the types never fit.
    """

    def __init__(self, path: str, expected: pa.DataType, got: pa.DataType, example: object = None) -> None:
        super().__init__(path, expected, got, example)
        self.path, self.expected, self.got, self.example = path, expected, got, example


class UnknownFields(Exception):
    """A struct whose fields are not the expected ones.

    Parameters
    ----------
    path : str
        Dotted path of the struct.
    expected, got : list of str
    """

    def __init__(self, path: str, expected: list[str], got: list[str]) -> None:
        super().__init__(path, expected, got)
        self.path, self.expected, self.got = path, expected, got


def is_text(dtype: pa.DataType) -> bool:
    """Tell whether values are strings, of any layout."""
    return bool(pt.is_string(dtype) or pt.is_large_string(dtype) or pt.is_string_view(dtype))


def is_binary(dtype: pa.DataType) -> bool:
    """Tell whether values are bytes, of any layout."""
    kinds = (pt.is_binary, pt.is_large_binary, pt.is_binary_view, pt.is_fixed_size_binary)
    return any(kind(dtype) for kind in kinds)


def is_list_like(dtype: pa.DataType) -> bool:
    """Tell whether values are lists, of any layout; maps are not."""
    kinds = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(kind(dtype) for kind in kinds)


def _is_uuid(dtype: pa.DataType) -> bool:
    return isinstance(dtype, pa.UuidType)


def _is_exact_number(dtype: pa.DataType) -> bool:
    return bool(pt.is_integer(dtype) or pt.is_decimal(dtype))


def _keeps_values(got: pa.DataType, want: pa.DataType) -> bool:
    """Tell whether Arrow's safe cast from `got` to `want` keeps every value or raises."""
    if pt.is_integer(got) and pt.is_floating(want):
        return True
    if pt.is_floating(got) and pt.is_floating(want):
        return bool(want.bit_width >= got.bit_width)
    if pt.is_timestamp(got) and pt.is_timestamp(want):
        return (got.tz is None) == (want.tz is None)
    same_kind = (_is_exact_number, pt.is_date, pt.is_time, pt.is_duration, is_text, is_binary)
    return any(kind(got) and kind(want) for kind in same_kind)


def lossless(array: pa.Array, want: pa.DataType, path: str) -> pa.Array:
    """Return `array` as exactly `want`; the same object when it is that already.

    Parameters
    ----------
    array : pa.Array
    want : pa.DataType
        Structs are matched by field name; integers, decimals, timestamps and times may change width or unit when
        every value survives; layouts of strings, binaries, lists and tensors may change freely.
    path : str
        Dotted path of the column, for the errors.

    Raises
    ------
    Unfit
        The types do not fit, or a value would be lost.
    UnknownFields
        A struct lacks a field or has one too many.
    """
    got = array.type
    if got.equals(want):
        return array
    if pt.is_null(got):
        return pa.nulls(len(array), want)
    if pt.is_dictionary(got):
        return lossless(array.dictionary_decode(), want, path)
    if pt.is_run_end_encoded(got):
        return lossless(pc.run_end_decode(array), want, path)
    if pt.is_dictionary(want):
        return lossless(array, want.value_type, path).dictionary_encode().cast(want)
    if _is_uuid(got) or _is_uuid(want):
        return _uuid(array, want, path)
    if isinstance(want, pa.FixedShapeTensorType):
        return _tensor(array, want, path)
    if isinstance(got, pa.BaseExtensionType):
        return lossless(array.storage, want, path)
    if pt.is_struct(got) and pt.is_struct(want):
        return _struct(array, want, path)
    if pt.is_map(got) and pt.is_map(want):
        return _map(array, want, path)
    if is_list_like(got) and is_list_like(want):
        return _list(array, want, path)
    if not _keeps_values(got, want):
        raise Unfit(path, want, got)
    if pt.is_integer(got) and pt.is_decimal(want):
        array = array.cast(pa.decimal128(38, 0))  # Arrow asks the integer type, not its values, for digits
    return _checked(array, want, path, lambda part: part.cast(want))


def _checked(array: pa.Array, want: pa.DataType, path: str, convert: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Apply `convert`; when a value does not survive, find the first such by halving."""
    try:
        return convert(array)
    except (pa.ArrowInvalid, ValueError):
        suspects = array
    while len(suspects) > 1:
        left = suspects.slice(0, len(suspects) // 2)
        try:
            convert(left)
            suspects = suspects.slice(len(left))
        except (pa.ArrowInvalid, ValueError):
            suspects = left
    raise Unfit(path, want, array.type, suspects[0].as_py()) from None


def _uuid(array: pa.Array, want: pa.DataType, path: str) -> pa.Array:
    if _is_uuid(array.type):
        if is_text(want):
            texts = [None if value is None else str(value) for value in array.to_pylist()]
            return pa.array(texts, pa.string()).cast(want)
        return lossless(array.storage, want, path)
    if is_text(array.type):
        return _checked(array, want, path, _parse_uuids)
    if is_binary(array.type):
        return pa.ExtensionArray.from_storage(want, lossless(array, want.storage_type, path))
    raise Unfit(path, want, array.type)


def _parse_uuids(texts: pa.Array) -> pa.Array:
    raw = [None if text is None else uuid.UUID(text).bytes for text in texts.to_pylist()]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(raw, pa.binary(16)))


def _tensor(array: pa.Array, want: pa.FixedShapeTensorType, path: str) -> pa.Array:
    got = array.type
    if isinstance(got, pa.FixedShapeTensorType):
        as_it_comes = list(range(len(got.shape)))  # what NumPy's arrays say, and no permutation means the same
        if got.shape != want.shape or (got.permutation or as_it_comes) != (want.permutation or as_it_comes):
            raise Unfit(path, want, got)
        array = array.storage
    try:
        return pa.ExtensionArray.from_storage(want, lossless(array, want.storage_type, path))
    except Unfit as misfit:  # a person knows the tensor, not the list that stores it
        if misfit.path == path:
            raise Unfit(path, want, got, misfit.example) from None
        raise


def _struct(array: pa.StructArray, want: pa.StructType, path: str) -> pa.Array:
    names, expected = [field.name for field in array.type], [field.name for field in want]
    if sorted(names) != sorted(expected):
        raise UnknownFields(path, expected, names)
    children = [lossless(array.field(field.name), field.type, f"{path}.{field.name}") for field in want]
    # pyarrow wants no mask at all when there is nothing to mask
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(want), mask=mask)


def _list(array: pa.Array, want: pa.DataType, path: str) -> pa.Array:
    # not Arrow's own cast: it makes lists with wrong offsets of list views that hold nulls
    values = lossless(array.flatten(), want.value_type, f"{path}.element")
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    mask = array.is_null() if array.null_count else None
    rebuilt = pa.ListArray.from_arrays(offsets, values, type=pa.list_(want.value_field), mask=mask)
    return rebuilt if pt.is_list(want) else _checked(rebuilt, want, path, lambda part: part.cast(want))


def _map(array: pa.MapArray, want: pa.MapType, path: str) -> pa.Array:
    first = array.offsets[0].as_py()
    length = array.offsets[len(array)].as_py() - first
    keys = lossless(array.keys.slice(first, length), want.key_type, f"{path}.key")
    items = lossless(array.items.slice(first, length), want.item_type, f"{path}.value")
    offsets = pc.subtract(array.offsets, pa.scalar(first, pa.int32()))
    mask = array.is_null() if array.null_count else None
    return pa.MapArray.from_arrays(offsets, keys, items, type=want, mask=mask)


def required_nulls(array: pa.Array, field: pa.Field, path: str) -> tuple[str, int] | None:
    """Find the first required field, at any depth, that holds nulls where its parent is present.

    Parameters
    ----------
    array : pa.Array
        Values of exactly ``field.type``.

    Returns
    -------
    (str, int) or None
        Dotted path and number of nulls.
    """
    if not field.nullable and array.null_count:
        return path, array.null_count
    dtype = field.type
    children: list[tuple[pa.Array, pa.Field, str]] = []
    if not _requires(dtype):
        return None
    if pt.is_struct(dtype):
        present = array.filter(array.is_valid()) if array.null_count else array
        children = [(present.field(i), child, f"{path}.{child.name}") for i, child in enumerate(dtype)]
    elif pt.is_map(dtype):
        first = array.offsets[0].as_py()
        length = array.offsets[len(array)].as_py() - first
        children = [(array.items.slice(first, length), dtype.item_field, f"{path}.value")]
    elif is_list_like(dtype):
        children = [(array.flatten(), dtype.value_field, f"{path}.element")]
    return next((found for child in children if (found := required_nulls(*child))), None)


def _requires(dtype: pa.DataType) -> bool:
    """Tell whether any field inside `dtype` is required; keys of maps always are, by Arrow itself."""
    if pt.is_map(dtype):
        inside = [dtype.item_field]
    elif pt.is_struct(dtype):
        inside = list(dtype)
    elif is_list_like(dtype):
        inside = [dtype.value_field]
    else:
        return False
    return any(not field.nullable or _requires(field.type) for field in inside)
