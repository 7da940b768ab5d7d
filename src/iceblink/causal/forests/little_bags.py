"""Effects of a forest of honest trees, and their errors by bootstrap of little bags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.forests.bins import Bins, Codes
from iceblink.causal.forests.trees import Tree
from iceblink.causal.late import special
from iceblink.causal.moments import Floats

STRIPE_ROWS = 4_096
"""Rows whose values in all trees are at hand at a time."""


@dataclass(frozen=True, eq=False)
class LocalEffects:
    """The local effect of each row, and its standard error.

    With the means w, w², y, w y of a row's leaves, averaged over trees, the effect is the slope
    θ = (wy - w y) / (w² - w w) [1]_. A tree's influence on it is
    δ_b = ((wy_b - θ w²_b - μ w_b) - w (y_b - θ w_b - μ)) / (w² - w w), μ = y - θ w. Trees of a bag share half of the
    rows: the variance of bags' means of δ_b, less that which comes of a bag's few trees, is that of θ [1]_ [2]_. Where
    less than nothing is left it is replaced by its expected value given that it is positive, as in grf.

    Parameters
    ----------
    bins : Bins
    trees : tuple of Tree
    means : tuple of float64 array (m, 4)
        Of w, w², y, w y in the nodes of each tree.
    bag : int
        Trees of a bag, that follow each other.
    errors : bool
        Whether errors are wanted too.

    References
    ----------
    .. [1] Athey, Tibshirani, Wager: Generalized random forests, Annals of Statistics 2019, sections 2.1, 4 and 6.
    .. [2] Sexton, Laake: Standard errors for bagged and random forest estimators, CSDA 2009.
    """

    bins: Bins
    trees: tuple[Tree, ...]
    means: tuple[Floats, ...]
    bag: int
    errors: bool

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return self.of(self.bins.codes(batch))

    def of(self, codes: Codes) -> Floats:
        """Return effects and, if wanted, their errors (1 or 2, n) of rows of codes (p, n)."""
        found = np.empty((1 + self.errors, codes.shape[1]))
        for stripe, values in self._stripes(codes):
            found[:, stripe] = self._of(values)
        return found

    def unseen(self, codes: Codes, counts: NDArray[np.bool_]) -> Floats:
        """Return effects (n,) by those trees that count (T, n) for a row; NaN where none does."""
        found = np.full(codes.shape[1], np.nan)
        for stripe, values in self._stripes(codes):
            of = counts[:, stripe]
            sums = np.einsum("tn,tnc->cn", of.astype(np.float64), values)
            w, ww, y, wy = sums / np.maximum(of.sum(axis=0), 1)
            varied = ww - w * w
            np.divide(wy - w * y, varied, out=found[stripe], where=of.any(axis=0))
        return found

    def _stripes(self, codes: Codes) -> Iterator[tuple[slice, Floats]]:
        """Yield some rows, and their values in all trees (T, n, 4)."""
        for begin in range(0, codes.shape[1], STRIPE_ROWS):
            stripe = slice(begin, begin + STRIPE_ROWS)
            mine = np.ascontiguousarray(codes[:, stripe])
            pairs = zip(self.means, self.trees, strict=True)
            yield stripe, np.stack([mean[tree.leaves(mine)] for mean, tree in pairs])

    def _of(self, values: Floats) -> Floats:
        """Return the same of values (T, n, 4)."""
        w, ww, y, wy = np.moveaxis(values.mean(axis=0), -1, 0)
        varied = ww - w * w
        effect = (wy - w * y) / varied
        if not self.errors:
            return np.asarray(effect[np.newaxis])
        level = y - effect * w
        w_b, ww_b, y_b, wy_b = np.moveaxis(values, -1, 0)
        influence = (wy_b - effect * ww_b - level * w_b) - w * (y_b - effect * w_b - level)
        influence /= varied
        bags = influence.reshape(-1, self.bag, len(effect))
        between = (bags.mean(axis=1) ** 2).mean(axis=0)
        within = ((bags**2).mean(axis=(0, 1)) - between) / (self.bag - 1)
        return np.stack([effect, np.sqrt(_positive(between, within, len(bags)))])


def _positive(between: Floats, within: Floats, bags: int) -> Floats:
    """Return the variance between bags less the noise within, or what that is expected to be if it is positive."""
    raw = between - within
    error: NDArray[np.float64] = np.maximum(between, within) * np.sqrt(2.0 / bags)
    ratio = np.divide(raw, error, out=np.zeros_like(raw), where=error > 0)
    density = np.exp(-0.5 * ratio**2 - special.log_ndtr(ratio)) / np.sqrt(2 * np.pi)
    return np.asarray(raw + error * density)
