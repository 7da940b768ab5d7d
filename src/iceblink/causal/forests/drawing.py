"""Which rows a tree sees, decided by their keys: bootstraps, and honest halves of subsamples in little bags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.forests.trees import Places
from iceblink.causal.hashing import Hashes, poisson, uniform
from iceblink.splitmix import numbers, start_of


@dataclass(frozen=True)
class EveryRow:
    """Each row, once."""

    def splitting(self, places: Hashes, tree: int) -> Places:
        return np.arange(len(places))

    filling = splitting


@dataclass(frozen=True)
class Bootstrap:
    """A row as often as a draw of the Poisson distribution of mean 1 says."""

    seed: int

    def splitting(self, places: Hashes, tree: int) -> Places:
        times = poisson(numbers(start_of(self.seed, "bootstrap", tree), places))
        return np.repeat(np.arange(len(places)), times)

    filling = splitting


@dataclass(frozen=True)
class LittleBags:
    """Half of the rows for each bag of trees, of which each tree takes a part, half of it to split and half to fill.

    Parameters
    ----------
    part : float
        Of all rows, that a tree sees; at most 0.5.
    bag : int
        How many trees are drawn of the same half.
    seed : int
    """

    part: float
    bag: int
    seed: int

    def splitting(self, places: Hashes, tree: int) -> Places:
        return np.flatnonzero(self._drawn(places, tree) < self.part)

    def filling(self, places: Hashes, tree: int) -> Places:
        drawn = self._drawn(places, tree)
        return np.flatnonzero((drawn >= self.part) & (drawn < 2 * self.part))

    def seen(self, places: Hashes, tree: int) -> NDArray[np.bool_]:
        """Return which rows a tree has seen at all (n,)."""
        return self._drawn(places, tree) < 2 * self.part

    def _drawn(self, places: Hashes, tree: int) -> NDArray[np.float64]:
        """Return a number in [0, 1) for each row of the half, and one for the others."""
        inside = uniform(numbers(start_of(self.seed, "bag", tree // self.bag), places)) < 0.5
        return np.where(inside, uniform(numbers(start_of(self.seed, "tree", tree), places)), 1.0)
