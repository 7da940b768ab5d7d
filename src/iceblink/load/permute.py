"""Permutations that a key decides: the same on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iceblink.splitmix import numbers

ROUNDS = 8
SMALL = 1 << 16
"""Up to so many numbers are shuffled in memory: a network over few values favours some of their permutations."""


def shuffled(count: int, key: int) -> NDArray[np.int64]:
    """Return the numbers below `count` in the order of their random numbers; takes 24 bytes for each."""
    return np.argsort(numbers(key, np.arange(count, dtype=np.uint64)), kind="stable")


class Permutation:
    """A permutation of the numbers below `count` that is never made: any of its places may be asked for.

    An alternating Feistel network over the smallest power of two that is large enough, walked until it comes back into
    range [1]_. It takes no memory, so it serves tables of any size.

    References
    ----------
    .. [1] Black, Rogaway: Ciphers with arbitrary finite domains, CT-RSA 2002, section 4 and 5.
    """

    def __init__(self, count: int, key: int) -> None:
        self.count, self.key = count, key
        self._whole = shuffled(count, key) if count <= SMALL else None
        bits = max(2, (max(1, count) - 1).bit_length())
        self._low = np.uint64(bits // 2)
        self._low_mask = np.uint64((1 << bits // 2) - 1)
        self._high_mask = np.uint64((1 << bits - bits // 2) - 1)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what stands at some places, all of them below `count`."""
        if self._whole is not None:
            return self._whole[places]
        found = self._once(places.astype(np.uint64))
        out = np.flatnonzero(found >= self.count)
        while len(out):
            found[out] = self._once(found[out])
            out = out[found[out] >= self.count]
        return found.astype(np.int64)

    def _once(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low, high = values & self._low_mask, values >> self._low
        for number in range(ROUNDS):
            if number % 2:
                high = high ^ (self._round(number, low) & self._high_mask)
            else:
                low = low ^ (self._round(number, high) & self._low_mask)
        return (high << self._low) | low

    def _round(self, number: int, half: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return numbers(self.key + number & (1 << 64) - 1, half)
