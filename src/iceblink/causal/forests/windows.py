"""How a node counts codes: those that its rows may have, as many neighbours as one bin as there are too many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.forests.bins import Codes
from iceblink.causal.forests.trees import Places


@dataclass(frozen=True, eq=False)
class Windows:
    """The bins of t features in each of k nodes, so that a cut above makes those below finer.

    Parameters
    ----------
    first : int array (k, t)
        The code that begins the first bin.
    shift : int array (k, t)
        2 to the power of it neighbouring codes are one bin.
    width : int
        How many bins there are (C), the last of what is missing.
    """

    first: Places
    shift: Places
    width: int

    @classmethod
    def of(cls, first: Places, last: Places, width: int) -> Windows:
        """Return as fine bins as there may be, for codes between a first and a last one of each feature (k, t)."""
        shift = np.zeros_like(first)
        while (wide := (last - first) >> shift >= width - 1).any():
            shift += wide
        return cls(first, shift, width)

    def places(self, feature: int, node: Places, codes: Codes, missing: int) -> Places:
        """Return the place (n,) of rows in a histogram (k, C), given their nodes and their codes of a feature."""
        shift, begin = self.shift[:, feature], np.arange(len(self.shift)) * self.width
        ahead = (begin << shift) - self.first[:, feature]  # so that places need one addition for each row
        found = ahead[node]
        found += codes
        found >>= shift[node]
        gone = np.flatnonzero(codes == missing)
        found[gone] = begin[node[gone]] + self.width - 1
        return found

    def bins(self, features: Places, count: int) -> NDArray[np.intp]:
        """Return the bin (k, B) of each of so many codes, of which the last is missing, of one feature of each node."""
        node = np.arange(len(features))[:, np.newaxis]
        of = features[:, np.newaxis]
        found = np.clip((np.arange(count) - self.first[node, of]) >> self.shift[node, of], 0, self.width - 2)
        found[:, -1] = self.width - 1
        return np.asarray(found)
