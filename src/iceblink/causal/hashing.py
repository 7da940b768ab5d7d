"""Folds, bootstrap weights and subsamples that a unit's key alone decides.

So they are the same for any number of partitions, on any engine, in any order, and all rows of a unit share them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.buffers import data_of, valid_of
from iceblink.errors import TypeMismatch
from iceblink.splitmix import numbers, start_of
from iceblink.types import show_type

Hashes = NDArray[np.uint64]
_NULL = np.uint64(0xA5A5A5A5A5A5A5A5)


def hashed(keys: Sequence[pa.Array], *words: object) -> Hashes:
    """Return a number of 64 random bits for each row, decided by its keys and by words (a seed, a purpose).

    Parameters
    ----------
    keys : sequence of Array
        Of equal length: integers, booleans, dates and times, decimals, texts, bytes, or dictionaries of these. Floats
        are refused: a key that was rounded is another key.
    *words
        Other words give numbers that have nothing to do with these.

    Raises
    ------
    TypeMismatch
    """
    start = start_of(*words)
    found = np.full(len(keys[0]), start, np.uint64)
    for key in keys:
        found = numbers(start, found ^ _words(key))
    return found


def below(hashes: Hashes, count: int) -> NDArray[np.int64]:
    """Return for each row a number from 0 to `count` - 1, each as likely as the others to one part in 2**32 / count."""
    return ((hashes >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


def uniform(hashes: Hashes) -> NDArray[np.float64]:
    """Return for each row a number in [0, 1), of 53 random bits."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def poisson(hashes: Hashes, most: int = 12) -> NDArray[np.int64]:
    """Return for each row a draw of the Poisson distribution of mean 1: the weights of a bootstrap [1]_.

    Unlike draws from an urn they need not know of each other. More than `most` are as likely as 6e-11.

    References
    ----------
    .. [1] Chamandy, Muralidharan, Najmi, Naidu: Estimating uncertainty for massive data streams, 2012.
    """
    chances = np.exp(-1) / np.cumprod(np.concatenate([[1.0], np.arange(1, most + 1)]))
    return np.searchsorted(np.cumsum(chances), uniform(hashes), side="right").astype(np.int64)


def _words(key: pa.Array) -> Hashes:
    """Return 64 bits of each value, of equal values the same ones."""
    if pa.types.is_dictionary(key.type):
        inside = np.append(_words(key.dictionary), _NULL)
        at = data_of(key.indices).astype(np.intp)  # theirs may be too narrow for the place of null
        return np.asarray(inside[np.where(valid_of(key.indices), at, len(key.dictionary))])
    kind = key.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        whole = key.cast(pa.uint64() if pa.types.is_uint64(kind) else pa.int64())
    elif pa.types.is_temporal(kind):
        whole = key.view(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        return _texts(key.cast(pa.large_binary()))
    elif pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind) or isinstance(kind, pa.UuidType):
        return _texts(key.cast(pa.string()).cast(pa.large_binary()) if pa.types.is_decimal(kind) else _bytes(key))
    else:
        raise TypeMismatch(f"{show_type(kind)} cannot be a key", "folds", "name a column of whole numbers or texts")
    values = data_of(whole).view(np.uint64)
    return np.where(valid_of(key), values, _NULL) if key.null_count else values


def _bytes(key: pa.Array) -> pa.Array:
    storage = key.storage if isinstance(key.type, pa.ExtensionType) else key
    return storage.cast(pa.binary()).cast(pa.large_binary())


def _texts(values: pa.Array) -> Hashes:
    """Return 64 bits of each text: its words of eight bytes, mixed one after the other, all rows at a time."""
    _, ends, data = values.buffers()
    offsets = np.frombuffer(ends, np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(offsets)
    size = 0 if data is None else data.size
    padded = np.zeros(size + 8, np.uint8)
    if data is not None:
        padded[:size] = np.frombuffer(data, np.uint8)
    found = numbers(0, lengths.astype(np.uint64))
    for begin in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > begin)
        at = offsets[rows] + begin
        word = np.ascontiguousarray(padded[at[:, np.newaxis] + np.arange(8)]).view("<u8").ravel().astype(np.uint64)
        bits = np.minimum(lengths[rows] - begin, 8).astype(np.uint64) * np.uint64(8)
        mask = np.where(bits == 64, ~np.uint64(0), (np.uint64(1) << (bits % np.uint64(64))) - np.uint64(1))
        found[rows] = numbers(0, found[rows] ^ (word & mask))
    return np.where(valid_of(values), found, _NULL) if values.null_count else found
