"""Values of a column as the hashes that sketches of all engines have of them.

A value is hashed as the bytes of Iceberg's single-value serialization, by MurmurHash3 of 128 bits with the seed 9001;
the upper 63 bits of the first half count. An empty text has no bytes and is not counted, as in DataSketches.

References
----------
.. [1] Iceberg Puffin spec, "apache-datasketches-theta-v1 blob type"; Iceberg table spec, "Binary single-value
   serialization".
.. [2] Austin Appleby, "MurmurHash3", function MurmurHash3_x64_128.
"""

from __future__ import annotations

import mmh3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from iceblink.lake.theta import Hashes

SEED = 9001
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_WORDS: dict[int, np.dtype[np.unsignedinteger]] = {
    8: np.dtype("u1"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
"""By the bits of a value."""
_MIX1, _MIX2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def hashable(dtype: pa.DataType) -> bool:
    """Whether there are hashes of a column's values: it is neither nested nor a tensor."""
    plain = _plain(dtype)
    return bool(_is_bytes(plain) or pt.is_decimal128(plain) or _number(plain) is not None)


def hashes(values: pa.Array) -> Hashes:
    """Return the hashes of the values that are not null, in any order; of equal ones perhaps only one.

    Parameters
    ----------
    values : pa.Array
        Of a type that is `hashable`.

    Returns
    -------
    ndarray of uint64, shape (at most len(values),)
    """
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    values = values.drop_null()
    if _is_bytes(values.type):
        return _of_bytes(pc.unique(values).cast(pa.large_binary()).to_pylist())
    if pt.is_decimal(values.type):
        return _of_decimals(values)
    if pt.is_boolean(values.type):
        values = values.cast(pa.uint8())
    numbers = _view(values, _number(values.type))
    return _of_short(numbers.astype(np.uint64), np.uint64(numbers.itemsize))


def _plain(dtype: pa.DataType) -> pa.DataType:
    return dtype.storage_type if isinstance(dtype, pa.UuidType) else dtype


def _is_bytes(dtype: pa.DataType) -> bool:
    return bool(
        pt.is_string(dtype)
        or pt.is_large_string(dtype)
        or pt.is_binary(dtype)
        or pt.is_large_binary(dtype)
        or pt.is_fixed_size_binary(dtype)
    )


def _number(dtype: pa.DataType) -> np.dtype[np.unsignedinteger] | None:
    """Return the unsigned integers that have the same bytes; None for what has no fixed number of eight at most."""
    if pt.is_boolean(dtype):
        return np.dtype(np.uint8)
    if pt.is_integer(dtype) or pt.is_floating(dtype) or pt.is_temporal(dtype):
        return _WORDS.get(dtype.bit_width)
    return None


def _view(values: pa.Array, dtype: np.dtype[np.unsignedinteger] | None) -> NDArray[np.unsignedinteger]:
    """Return the bytes of values without nulls as unsigned integers, without a copy."""
    assert dtype is not None  # of what is hashable
    _, data = values.buffers()
    if not len(values) or data is None:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, len(values), values.offset * dtype.itemsize)


def _of_bytes(values: list[bytes]) -> Hashes:
    found = (mmh3.hash64(value, SEED, x64arch=True, signed=False)[0] >> 1 for value in values if value)
    return np.fromiter(found, np.uint64)


def _of_decimals(values: pa.Array) -> Hashes:
    """Hash unscaled integers, big-endian, in as few bytes as have them in two's complement."""
    words = np.frombuffer(values.buffers()[1], "<i8", 2 * len(values), 16 * values.offset).reshape(-1, 2)
    low, high = words[:, 0], words[:, 1]
    short = high == low >> np.int64(63)
    number = low[short]
    magnitude = (number ^ (number >> np.int64(63))).view(np.uint64)
    size = np.ones(len(number), np.uint64)
    for width in range(1, 8):
        size += magnitude >> np.uint64(8 * width - 1) != 0
    shifted = number.view(np.uint64) << (np.uint64(64) - np.uint64(8) * size)
    wide = [(int(h) << 64) | (int(at) & (1 << 64) - 1) for at, h in words[~short].tolist()]
    left = [one.to_bytes((one if one >= 0 else ~one).bit_length() // 8 + 1, "big", signed=True) for one in wide]
    return np.concatenate([_of_short(shifted.byteswap(), size), _of_bytes(left)])


def _of_short(words: Hashes, size: Hashes | np.uint64) -> Hashes:
    """Return MurmurHash3 of values of `size` bytes, 8 at most, each as a little-endian integer."""
    seed = np.uint64(SEED)
    first = _rotated(words * _C1, 31) * _C2 ^ seed ^ size
    second = np.full(len(words), seed) ^ size
    first = first + second
    second = second + first
    return (_mixed(first) + _mixed(second)) >> np.uint64(1)


def _rotated(words: Hashes, bits: int) -> Hashes:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def _mixed(words: Hashes) -> Hashes:
    words = (words ^ words >> np.uint64(33)) * _MIX1
    words = (words ^ words >> np.uint64(33)) * _MIX2
    return words ^ words >> np.uint64(33)
