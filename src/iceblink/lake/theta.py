"""Theta sketches: how many distinct values there are, told by the smallest of their hashes.

A sketch keeps the hashes below a bound, 4,096 at most: among so many, hashes being evenly spread, the bound tells the
number of all within 2 % or so, and sketches of parts merge to that of the whole. The bytes are those of
Apache DataSketches, which other engines read; decision 28 says why they are made here.

References
----------
.. [1] Apache DataSketches, "Theta Sketch Framework"; Dasgupta, Lang, Rhodes, Thaler, "A Framework for Estimating Stream
   Expression Cardinalities", ICDT 2016.
.. [2] Iceberg Puffin spec, "apache-datasketches-theta-v1 blob type".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

NOMINAL = 4096
"""Hashes that a sketch keeps, as DataSketches does by default: the estimate's standard error is 1/64."""
EVERY = (1 << 63) - 1
"""The bound of a sketch that has seen no more values than it keeps: hashes have 63 bits."""
SEED_HASH = 0x93CC
"""Tells that values were hashed with the default seed, 9001; see `lake.value_hashes`."""
_SERIAL_VERSION, _COMPACT_FAMILY = 3, 3
_BIG_ENDIAN, _READ_ONLY, _EMPTY, _COMPACT, _ORDERED = 1, 2, 4, 8, 16
_HEAD = "<BBBHBH"  # longs of preamble, version, family, unused, flags, seed hash


class NotASketch(ValueError):
    """The bytes are no compact theta sketch with the default seed, or a damaged one."""


@dataclass(frozen=True)
class Theta:
    """A theta sketch; immutable, picklable.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,)
        Ascending, without repeats, above 0 and below `bound`.
    bound : int
        `EVERY`, or the smallest hash that is left out.
    """

    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    bound: int = EVERY

    def adding(self, hashes: Hashes) -> Theta:
        """Return the sketch that has seen these values too, by their hashes in any order."""
        new = hashes[(hashes < self.bound) & (hashes > 0)]
        if not len(new):
            return self
        return _cut(np.union1d(self.hashes, new), self.bound)

    def merged(self, other: Theta) -> Theta:
        """Return the sketch of the values of both."""
        bound = min(self.bound, other.bound)
        both = np.union1d(self.hashes, other.hashes)
        return _cut(both[both < bound], bound)

    @property
    def estimate(self) -> float:
        """Number of distinct values: exact where no more were seen than a sketch keeps."""
        return len(self.hashes) / (self.bound / EVERY)

    def to_bytes(self) -> bytes:
        """Return the ordered compact form of DataSketches, serial version 3."""
        count, exact = len(self.hashes), self.bound == EVERY
        longs = 3 if not exact else 1 if count <= 1 else 2
        flags = _READ_ONLY | _COMPACT | _ORDERED | (_EMPTY if exact and not count else 0)
        head = struct.pack(_HEAD, longs, _SERIAL_VERSION, _COMPACT_FAMILY, 0, flags, SEED_HASH)
        if longs > 1:
            head += struct.pack("<If", count, 1.0)
        if longs > 2:
            head += struct.pack("<Q", self.bound)
        return head + self.hashes.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Theta:
        """Read a compact sketch, of whichever engine: it may keep more hashes than ours.

        Raises
        ------
        NotASketch
        """
        try:
            longs, version, family, _, flags, seed_hash = struct.unpack_from(_HEAD, content)
            longs &= 63  # the upper bits are of sketches that grow
            if (version, family) != (_SERIAL_VERSION, _COMPACT_FAMILY) or flags & _BIG_ENDIAN or not 1 <= longs <= 3:
                raise NotASketch(f"a sketch of version {version}, family {family} and flags {flags}")
            if flags & _EMPTY:
                return cls()
            if seed_hash != SEED_HASH:
                raise NotASketch("its values were hashed with another seed")
            count = struct.unpack_from("<I", content, 8)[0] if longs > 1 else 1
            bound = struct.unpack_from("<Q", content, 16)[0] if longs > 2 else EVERY
            hashes = np.frombuffer(content, "<u8", count, 8 * longs).astype(np.uint64)
        except (struct.error, ValueError) as error:
            raise NotASketch(f"it cannot be decoded: {error}") from error
        hashes = np.unique(hashes)
        if len(hashes) != count or (count and not 0 < int(hashes[0]) <= int(hashes[-1]) < bound):
            raise NotASketch("its hashes are not what they must be")
        return cls(hashes, bound)


def _cut(hashes: Hashes, bound: int) -> Theta:
    """Keep the smallest of ascending hashes."""
    if len(hashes) <= NOMINAL:
        return Theta(hashes, bound)
    return Theta(hashes[:NOMINAL].copy(), int(hashes[NOMINAL]))
