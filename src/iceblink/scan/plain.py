"""Single values in Parquet's plain encoding, as page indexes and Bloom filters hold them.

References
----------
.. [1] Apache Parquet format, ``Encodings.md``, "Plain"; ``LogicalTypes.md``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

_WIDTHS = {"INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}
_INTEGERS = ("INT32", "INT64")


def encode(value: object, dtype: pa.DataType, leaf: Any) -> bytes | None:
    """Return the bytes that a file would hold for `value`; None when they cannot be told.

    Parameters
    ----------
    value : object
        A plain Python value.
    dtype : pa.DataType
        Arrow type of the column in the file.
    leaf : pq.ColumnSchema
        Its Parquet type.
    """
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode() if leaf.physical_type == "BYTE_ARRAY" else None
    if pt.is_floating(dtype) and (value == 0 or value != value):
        return None  # two zeros, many not-a-numbers: one hash would not do
    try:
        if pt.is_decimal(dtype):
            return _unscaled(pa.scalar(value, dtype).as_py(), dtype, leaf)
        array = pa.array([value], dtype)
    except (pa.ArrowException, TypeError, OverflowError):
        return None  # the file's type, which may be narrower than the table's, has no such value
    if pt.is_primitive(dtype) and _WIDTHS.get(leaf.physical_type) == dtype.bit_width // 8:
        return bytes(array.buffers()[1])[: dtype.bit_width // 8]
    return None


def _unscaled(value: Decimal, dtype: pa.DataType, leaf: Any) -> bytes:
    number = int(value.scaleb(dtype.scale))
    if leaf.physical_type in _INTEGERS:
        return number.to_bytes(_WIDTHS[leaf.physical_type], "little", signed=True)
    return number.to_bytes(leaf.length or (number.bit_length() + 8) // 8, "big", signed=True)


def decode(values: Sequence[bytes], dtype: pa.DataType, leaf: Any) -> list[Any] | None:
    """Return what bounds in plain encoding mean, as plain Python values; None when that cannot be told.

    Parameters
    ----------
    values : sequence of bytes
    dtype, leaf
        As for `encode`.
    """
    try:
        if pt.is_string(dtype) or pt.is_large_string(dtype):
            return [value.decode() for value in values]
        if pt.is_binary(dtype) or pt.is_fixed_size_binary(dtype) or isinstance(dtype, pa.UuidType):
            return list(values)
        if pt.is_decimal(dtype):
            order = "little" if leaf.physical_type in _INTEGERS else "big"
            return [
                Decimal(int.from_bytes(value, order, signed=True)).scaleb(-dtype.scale)  # type: ignore[arg-type]
                for value in values
            ]
        width = _WIDTHS.get(leaf.physical_type)
        if pt.is_primitive(dtype) and width == dtype.bit_width // 8 and all(len(value) == width for value in values):
            buffer = pa.py_buffer(b"".join(values))
            found: list[Any] = pa.Array.from_buffers(dtype, len(values), [None, buffer]).to_pylist()
            return found
    except (ValueError, OverflowError):
        pass
    return None
