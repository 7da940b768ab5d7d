"""Deletion vectors: row positions in a 64-bit roaring bitmap, wrapped as Puffin wraps them.

References
----------
.. [1] Iceberg Puffin spec, "deletion-vector-v1 blob type".
.. [2] RoaringFormatSpec, "Standard 32-bit Roaring Bitmap" and "Extension for 64-bit Implementations".
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

MAGIC = b"\xd1\xd3\x39\x64"
_WITH_RUNS, _WITHOUT_RUNS = 12347, 12346
_ARRAY_MAX = 4096  # a container of more values is a bitmap
_BITMAP_BYTES = 8192
_OFFSETS_FROM = 4  # with runs, this many containers are needed for an offset header


class NotAVector(ValueError):
    """The bytes are no deletion vector, or a damaged one."""


def read_vector(blob: bytes) -> Positions:
    """Return the row positions of a ``deletion-vector-v1`` blob, ascending.

    Raises
    ------
    NotAVector
        Wrong magic, wrong checksum, or cut short.
    """
    if len(blob) < 12 or blob[4:8] != MAGIC:
        raise NotAVector("it does not begin as a deletion vector does")
    length = int.from_bytes(blob[:4], "big")
    if len(blob) != length + 8:
        raise NotAVector(f"it has {len(blob):,} bytes, its header says {length + 8:,}")
    if zlib.crc32(blob[4:-4]) != int.from_bytes(blob[-4:], "big"):
        raise NotAVector("its checksum does not fit its bytes")
    try:
        return _bitmap64(blob[8:-4])
    except (struct.error, ValueError) as error:
        raise NotAVector(f"it cannot be decoded: {error}") from error


def write_vector(positions: Positions) -> bytes:
    """Return a ``deletion-vector-v1`` blob of row positions, which ascend and are all different."""
    highs = positions >> 32
    keys, starts = np.unique(highs, return_index=True)
    parts = [MAGIC, struct.pack("<Q", len(keys))]
    lows = np.split(positions & 0xFFFFFFFF, starts[1:])
    for key, low in zip(keys.tolist(), lows, strict=False):  # no positions are split into one part
        parts += [struct.pack("<I", key), _written32(low)]
    body = b"".join(parts)
    return len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def _written32(values: Positions) -> bytes:
    """Return a 32-bit bitmap: each container in the form that takes the fewest bytes."""
    keys, starts = np.unique(values >> 16, return_index=True)
    groups = np.split(values & 0xFFFF, starts[1:])
    containers, flags = zip(*map(_container, groups), strict=True)
    count = len(keys)
    if any(flags):
        marks = np.packbits(np.array(flags, bool), bitorder="little").tobytes()
        head = struct.pack("<I", _WITH_RUNS | (count - 1) << 16) + marks
    else:
        head = struct.pack("<II", _WITHOUT_RUNS, count)
    sizes = np.array([(key, len(group) - 1) for key, group in zip(keys, groups, strict=True)], "<u2")
    head += sizes.tobytes()
    if not any(flags) or count >= _OFFSETS_FROM:
        lengths = np.array([len(one) for one in containers])
        head += (len(head) + 4 * count + np.cumsum(lengths) - lengths).astype("<u4").tobytes()
    return head + b"".join(containers)


def _container(values: Positions) -> tuple[bytes, bool]:
    """Return 16-bit values, and whether as runs."""
    breaks = np.flatnonzero(np.diff(values) != 1)
    first, last = values[np.r_[0, breaks + 1]], values[np.r_[breaks, len(values) - 1]]
    if 2 + 4 * len(first) < min(2 * len(values), _BITMAP_BYTES):
        return struct.pack("<H", len(first)) + np.column_stack([first, last - first]).astype("<u2").tobytes(), True
    if len(values) <= _ARRAY_MAX:
        return values.astype("<u2").tobytes(), False
    bits = np.zeros(1 << 16, bool)
    bits[values] = True
    return np.packbits(bits, bitorder="little").tobytes(), False


def _bitmap64(data: bytes) -> Positions:
    (count,) = struct.unpack_from("<Q", data)
    at, parts = 8, []
    for _ in range(count):
        (high,) = struct.unpack_from("<I", data, at)
        low, at = _bitmap32(data, at + 4)
        parts.append(low + (high << 32))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _bitmap32(data: bytes, at: int) -> tuple[Positions, int]:
    """Return the values of the 32-bit bitmap that begins at `at`, and where it ends."""
    (cookie,) = struct.unpack_from("<I", data, at)
    at += 4
    if cookie & 0xFFFF == _WITH_RUNS:
        size = (cookie >> 16) + 1
        flags = np.frombuffer(data, np.uint8, (size + 7) // 8, at)
        runs = np.unpackbits(flags, bitorder="little")[:size].astype(bool)
        at += len(flags)
    elif cookie == _WITHOUT_RUNS:
        (size,) = struct.unpack_from("<I", data, at)
        runs = np.zeros(size, bool)
        at += 4
    else:
        raise ValueError(f"no such cookie: {cookie}")
    header = np.frombuffer(data, "<u2", 2 * size, at).reshape(size, 2).astype(np.int64)
    at += 4 * size
    if cookie == _WITHOUT_RUNS or size >= _OFFSETS_FROM:
        at += 4 * size
    parts = [np.empty(0, np.int64)]
    for (key, last), is_run in zip(header.tolist(), runs.tolist(), strict=True):
        if is_run:
            (count,) = struct.unpack_from("<H", data, at)
            pairs = np.frombuffer(data, "<u2", 2 * count, at + 2).reshape(count, 2).astype(np.int64)
            values = np.concatenate([np.arange(start, start + more + 1) for start, more in pairs])
            at += 2 + 4 * count
        elif last + 1 <= _ARRAY_MAX:
            values = np.frombuffer(data, "<u2", last + 1, at).astype(np.int64)
            at += 2 * (last + 1)
        else:
            bits = np.frombuffer(data, np.uint8, _BITMAP_BYTES, at)
            values = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
            at += _BITMAP_BYTES
        parts.append(values + (key << 16))
    return np.concatenate(parts), at
