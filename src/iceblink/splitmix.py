"""Numbers that look random and that a start and a place alone decide: SplitMix64, the same on every machine."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def start_of(*words: object) -> int:
    """Return a start of 64 bits for some words; other words give one that has nothing to do with it."""
    return int.from_bytes(blake2b("\0".join(map(str, words)).encode(), digest_size=8).digest(), "little")


def numbers(start: int, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the numbers at some places of the SplitMix64 [1]_ that begins at `start`; no two places share one.

    References
    ----------
    .. [1] Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    state = np.uint64(start) + (places + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
