"""Numbers and texts between Arrow and NumPy, by their buffers.

``pa.array``, ``pa.scalar`` and `to_numpy` import pandas wherever it is installed, to see whether what they are given is
of it: twice the CPU seconds of PyArrow's own import, and 50 MB, in every process. What each worker does for each block
goes this way instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def arrow_of(values: NDArray[Any]) -> pa.Array:
    """Return integers or floats (n,) as an Arrow array of their type, without nulls; they are not copied.

    As ``pa.array(values)``: NaN is a value.
    """
    if values.dtype.kind not in "iuf" or not values.dtype.isnative:
        raise TypeError(f"{values.dtype} is neither an integer nor a float of this machine")
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def texts_of(values: Sequence[str]) -> pa.Array:
    """Return texts as an Arrow array of strings."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def list_of(values: pa.Array) -> pa.Array:
    """Return an array of one list, which is all of `values`."""
    return pa.ListArray.from_arrays(arrow_of(np.array([0, len(values)], np.int32)), values)


def numpy_of(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Return Arrow's values as NumPy's (n,); numbers without nulls are not copied, and are read-only.

    As ``values.to_numpy(zero_copy_only=False)``: integers with nulls become float64, and nulls NaN.
    """
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or (_is_flag(kind) and not values.null_count)):
        found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return found
    numbers = data_of(values)
    if values.null_count:
        numbers = numbers.astype(np.float64) if pa.types.is_integer(kind) else numbers.copy()
        numbers[~valid_of(values)] = np.nan
    return numbers


def data_of(values: pa.Array) -> NDArray[Any]:
    """Return integers, floats or booleans (n,) as they are in memory: where one is null, any value."""
    _, data = values.buffers()
    if _is_flag(values.type):
        return _bits(data, values.offset, len(values))
    dtype = np.dtype(values.type.to_pandas_dtype())
    return (
        np.zeros(0, dtype) if data is None else np.frombuffer(data, dtype, len(values), values.offset * dtype.itemsize)
    )


def valid_of(values: pa.Array) -> NDArray[np.bool_]:
    """Return which values (n,) are not null."""
    if values.null_count == 0:
        return np.ones(len(values), np.bool_)
    return _bits(values.buffers()[0], values.offset, len(values))


def _is_flag(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind))


def _bits(data: pa.Buffer | None, offset: int, count: int) -> NDArray[np.bool_]:
    """Return some of the bits of a buffer."""
    begin, skipped = divmod(offset, 8)  # a block of a long array costs what the block does
    whole = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[begin:]
    return np.unpackbits(whole, count=skipped + count, bitorder="little")[skipped:].view(np.bool_)
