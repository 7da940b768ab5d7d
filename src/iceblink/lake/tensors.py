"""Tensors as the bytes of their numbers: Iceberg's ``fixed``, to which and from which nothing is copied.

Iceberg has no lists of fixed length. Stored as a list, each number has levels of its own; stored as bytes, a row is one
value, which costs a fraction to decode, but which only those understand who know what it is. Numbers are little-endian
and in row-major order, as Arrow has them.

What a column is, lies in the table property ``iceblink.tensor.<field-id>``: of bytes NumPy's word and the shape,
``float32[384]``; of a list the shape, ``384``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

import numpy as np
import pyarrow as pa

from iceblink.errors import ConfigError, DataCorrupt, NullInRequired, nearest

PROPERTY = "iceblink.tensor."
STORAGE = "iceblink.tensor-storage"
"""Table property: how new tensor columns are stored, ``list`` or ``fixed``."""
FORMS = ("list", "fixed")


def stored_fixed(columns: Collection[str], properties: Mapping[str, object]) -> Collection[str]:
    """Return which of some new columns are stored as bytes if they are tensors: all or none.

    Raises
    ------
    ConfigError
        The property is neither of the two words.
    """
    form = str(properties.get(STORAGE, FORMS[0]))
    if form not in FORMS:
        raise ConfigError(f"{STORAGE} is {form!r}", "table properties", nearest(form, FORMS, "forms"))
    return columns if form == "fixed" else ()


def byte_width(tensor: pa.FixedShapeTensorType) -> int:
    """Return the size of one tensor [bytes]."""
    return int(prod(tensor.shape) * tensor.value_type.bit_width // 8)


def described(tensor: pa.FixedShapeTensorType, fixed: bool) -> str:
    """Return the property of a tensor column."""
    shape = ",".join(map(str, tensor.shape))
    return f"{np.dtype(tensor.value_type.to_pandas_dtype()).name}[{shape}]" if fixed else shape


def tensor_of(said: str, stored: pa.DataType, column: str) -> pa.FixedShapeTensorType:
    """Return the type of a column of which the property says this, and which is stored so.

    Raises
    ------
    DataCorrupt
        The property says nothing of this kind, or speaks of other bytes.
    """
    word, _, shape = said.removesuffix("]").rpartition("[")
    try:
        element = pa.type_for_alias(word) if word else stored.value_type
        tensor = pa.fixed_shape_tensor(element, [int(side) for side in shape.split(",")])
        if pa.types.is_fixed_size_binary(stored) and byte_width(tensor) != stored.byte_width:
            raise ValueError
    except (ValueError, AttributeError) as error:
        raise DataCorrupt(
            f"table property {PROPERTY}* says that column {column!r} is {said!r}, and it is stored as {stored}",
            f"column {column!r}",
            "set it to the shape of lists, 3,224,224, or to what the bytes are, float32[384]",
        ) from error
    return tensor


def to_bytes(tensors: pa.FixedShapeTensorArray, column: str, where: str) -> pa.FixedSizeBinaryArray:
    """Return tensors as their bytes, which they share; a null tensor stays null.

    Raises
    ------
    NullInRequired
        A tensor has nulls inside: bytes have none.
    """
    lists, dtype = tensors.storage, pa.binary(byte_width(tensors.type))
    values = lists.values
    if values.null_count and (holes := lists.flatten().null_count):
        raise NullInRequired(
            f"column {column!r} has {holes:,} null{'s' if holes > 1 else ''} inside tensors that are stored as bytes",
            where,
            "fill them, or let the whole tensor be null",
        )
    numbers = values.buffers()[-1] or pa.py_buffer(b"")
    first = values.offset * values.type.bit_width // 8
    buffers = [lists.buffers()[0], numbers.slice(first)]
    return pa.Array.from_buffers(dtype, len(lists), buffers, lists.null_count, lists.offset)


def from_bytes(rows: pa.FixedSizeBinaryArray, tensor: pa.FixedShapeTensorType) -> pa.FixedShapeTensorArray:
    """Return bytes as the tensors that they are, which share them; null stays null."""
    validity, numbers = rows.buffers()
    end = rows.offset + len(rows)
    values = pa.Array.from_buffers(tensor.value_type, end * prod(tensor.shape), [None, numbers], 0)
    lists = pa.Array.from_buffers(
        tensor.storage_type, len(rows), [validity], rows.null_count, rows.offset, children=[values]
    )
    return pa.ExtensionArray.from_storage(tensor, lists)
