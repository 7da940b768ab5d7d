"""Bloom filters of Parquet: whether a row group can hold a value at all.

References
----------
.. [1] Apache Parquet format, ``BloomFilter.md``: split block Bloom filters, hashed by xxHash64 with seed 0.
.. [2] xxHash fast digest algorithm, XXH64.
"""

from __future__ import annotations

from dataclasses import dataclass

from iceblink.lake.storage import Storage
from iceblink.scan.footer import Footer
from iceblink.scan.thrift import Want, read_struct

_BLOCK_BYTES = 32
_SALT = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)

# ids in parquet.thrift: the length, and three unions of which this is the one member there is
_NUM_BYTES, _ALGORITHM, _HASH, _COMPRESSION, _ONLY = 1, 2, 3, 4, 1
_HEADER: dict[int, Want] = {_NUM_BYTES: None, **{union: {_ONLY: {}} for union in (_ALGORITHM, _HASH, _COMPRESSION)}}
_HEADER_BYTES = 64  # it takes some 15

_64 = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


@dataclass(frozen=True)
class BloomFilter:
    """A split block Bloom filter: no false negatives, few false positives.

    Parameters
    ----------
    bits : bytes
        Blocks of 32 bytes.
    """

    bits: bytes

    def may_contain(self, plain: bytes) -> bool:
        """Tell whether a value, in Parquet's plain encoding, may have been written."""
        digest = xxh64(plain)
        block = ((digest >> 32) * (len(self.bits) // _BLOCK_BYTES)) >> 32
        key = digest & 0xFFFFFFFF
        for word, salt in enumerate(_SALT):
            at = block * _BLOCK_BYTES + 4 * word
            bit = ((key * salt) & 0xFFFFFFFF) >> 27
            if not int.from_bytes(self.bits[at : at + 4], "little") >> bit & 1:
                return False
        return True


def read_bloom(storage: Storage, footer: Footer, group: int, leaf: int) -> BloomFilter | None:
    """Read the filter of a column chunk; None when there is none, or none of a known kind.

    Raises
    ------
    OSError, ThriftError
        The file cannot be read there.
    """
    offset = footer.metadata.row_group(group).column(leaf).bloom_filter_offset
    if offset is None:
        return None
    with storage.open_input(footer.path, constant=True) as file:
        file.seek(offset)
        start = file.read(_HEADER_BYTES)
        header, length = read_struct(start, _HEADER)
        size = header.get(_NUM_BYTES, 0)
        known = all(_ONLY in header.get(union, {}) for union in (_ALGORITHM, _HASH, _COMPRESSION))
        if not known or size <= 0 or size % _BLOCK_BYTES:
            return None
        file.seek(offset + length)
        bits = file.read(size)
    return BloomFilter(bits) if len(bits) == size else None


def xxh64(data: bytes) -> int:
    """Return the 64-bit xxHash of `data`, seed 0."""
    length, at = len(data), 0
    if length >= 32:
        lanes = [(_P1 + _P2) & _64, _P2, 0, -_P1 & _64]
        while at + 32 <= length:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        digest = sum(_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _64
        for lane in lanes:
            digest = ((digest ^ _round(0, lane)) * _P1 + _P4) & _64
    else:
        digest = _P5
    digest = (digest + length) & _64
    while at + 8 <= length:
        digest ^= _round(0, int.from_bytes(data[at : at + 8], "little"))
        digest = (_rotated(digest, 27) * _P1 + _P4) & _64
        at += 8
    if at + 4 <= length:
        digest ^= int.from_bytes(data[at : at + 4], "little") * _P1 & _64
        digest = (_rotated(digest, 23) * _P2 + _P3) & _64
        at += 4
    for byte in data[at:]:
        digest = _rotated(digest ^ byte * _P5 & _64, 11) * _P1 & _64
    digest = (digest ^ digest >> 33) * _P2 & _64
    digest = (digest ^ digest >> 29) * _P3 & _64
    return digest ^ digest >> 32


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _64, 31) * _P1 & _64


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _64
