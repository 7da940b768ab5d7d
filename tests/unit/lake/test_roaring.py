"""Deletion vectors against the roaring library."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroaring import BitMap64

from iceblink.lake.roaring import MAGIC, NotAVector, read_vector, write_vector


def blob(bitmap: BitMap64) -> bytes:
    body = MAGIC + bitmap.serialize()
    return len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def optimized(bitmap: BitMap64) -> BitMap64:
    """Return it with each container in its smallest form."""
    smallest = BitMap64(list(bitmap))  # without runs: of two forms of one size the library keeps the one that there is
    smallest.run_optimize()
    return smallest


ranges = st.tuples(st.integers(0, 1 << 34), st.integers(1, 9_000), st.integers(1, 3))


@example(ranges=[(0, 3, 1)], singles=[], runs=False)
@given(ranges=st.lists(ranges, max_size=4), singles=st.lists(st.integers(0, 1 << 20), max_size=20), runs=st.booleans())
def test_a_vector_holds_what_was_put_in(ranges: list[tuple[int, int, int]], singles: list[int], runs: bool) -> None:
    bitmap = BitMap64(singles)
    for start, length, step in ranges:
        bitmap |= BitMap64(range(start, start + length * step, step))
    if runs:
        bitmap.run_optimize()
    assert read_vector(blob(bitmap)).tolist() == list(bitmap)
    written = write_vector(np.array(bitmap, np.int64))
    assert BitMap64.deserialize(written[8:-4]) == bitmap
    assert written == blob(optimized(bitmap))
    assert read_vector(written).tolist() == list(bitmap)


def test_every_flipped_bit_is_found() -> None:
    good = blob(BitMap64([1, 5, 70_000, 1 << 33]))
    assert read_vector(good).tolist() == [1, 5, 70_000, 1 << 33]
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            with pytest.raises(NotAVector):
                read_vector(bytes(bad))


@pytest.mark.parametrize("length", [0, 3, 11, 20])
def test_a_vector_cut_short_is_refused(length: int) -> None:
    with pytest.raises(NotAVector):
        read_vector(blob(BitMap64(range(100)))[:length])


def test_an_unknown_container_is_refused() -> None:
    body = MAGIC + (1).to_bytes(8, "little") + bytes(4) + b"\x01\x02\x03\x04"
    with pytest.raises(NotAVector, match="decoded"):
        read_vector(len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big"))
