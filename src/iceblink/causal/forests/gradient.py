"""Splits that make effects differ between children, by the gradients of their estimating equations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.forests.rows import Values
from iceblink.causal.forests.trees import Places
from iceblink.causal.moments import Floats

OUTCOME, TREATMENT = "outcome", "treatment"


@dataclass(frozen=True)
class Gradient:
    """The heterogeneity of effects between children, to first order [1]_.

    In a node P of n rows with residuals y and w of outcome and treatment, the effect is θ = Σ(w - w̄)(y - ȳ) / A,
    A = Σ(w - w̄)², and a row's pseudo-outcome (eq. 8 with the moments of section 6.1)

    ρ = (w - w̄) (y - ȳ - θ (w - w̄)) n / A.

    A split is worth (Σ_left ρ)² / n_left + (Σ_right ρ)² / n_right over n (eq. 9). Sums of ρ follow from the sums of w,
    w², y and w y, which is what is counted: a pass for each level, and not another for its gradients.

    Parameters
    ----------
    min_leaf : int
        Rows of a child, at least.
    balance : float
        The part of its parent's rows, and of the variation of its treatments, that a child has at least.

    References
    ----------
    .. [1] Athey, Tibshirani, Wager: Generalized random forests, Annals of Statistics 2019.
    """

    min_leaf: int
    balance: float

    @property
    def cells(self) -> int:
        """Rows, w, w², y, w y."""
        return 5

    def counted(self, values: Values, index: Places, size: int) -> Floats:
        y, w = values[OUTCOME], values[TREATMENT]
        found = np.empty((size, 5))
        found[:, 0] = np.bincount(index, minlength=size)
        for cell, each in enumerate((w, w * w, y, w * y), 1):
            found[:, cell] = np.bincount(index, each, size)
        return found

    def rows(self, sums: Floats) -> Floats:
        return sums[..., 0]

    def divisible(self, nodes: Floats) -> NDArray[np.bool_]:
        return np.asarray(nodes[..., 0] >= 2 * self.min_leaf)

    def prior(self, nodes: Floats, above: Floats | None) -> Floats:
        """Children need to know nothing of their parents."""
        return np.zeros((len(nodes), 0))

    def order(self, bins: Floats) -> Floats:
        """Order categories by the sums of their pseudo-outcomes over their rows, those of no rows last."""
        rows = bins[..., 0]
        gradients = _gradients(bins, bins.sum(axis=-2, keepdims=True))
        return np.divide(gradients, rows, out=np.full_like(rows, np.inf), where=rows > 0)

    def scores(self, left: Floats, node: Floats, prior: Floats) -> Floats:
        right = node - left
        gradients, rows = _gradients(left, node), node[..., 0]
        least = np.maximum(self.min_leaf, self.balance * rows)
        whole = np.minimum(left[..., 0], right[..., 0]) >= least
        for side in (left, right):
            whole = whole & (variation(side) > self.balance * variation(node))
        over = np.divide(1, left[..., 0] * right[..., 0], out=np.zeros_like(gradients), where=whole)
        return np.asarray(np.where(whole, gradients**2 * over, -np.inf))  # n_left + n_right = n: it cancels


def variation(sums: Floats) -> Floats:
    """Return Σ(w - w̄)² (...) of sums (..., 5)."""
    rows = np.maximum(sums[..., 0], 1.0)
    return np.asarray(sums[..., 2] - sums[..., 1] ** 2 / rows)


def _gradients(part: Floats, node: Floats) -> Floats:
    """Return the sums of pseudo-outcomes (...) over parts of nodes; over a whole node they are 0."""
    rows, w, ww, y, wy = (part[..., cell] for cell in range(5))
    count = np.maximum(node[..., 0], 1.0)
    w_mean, y_mean, curved = node[..., 1] / count, node[..., 3] / count, variation(node)
    per = np.divide(1.0, curved, out=np.zeros_like(curved), where=curved > 0)
    effect = (node[..., 4] - node[..., 1] * y_mean) * per
    crossed = wy - w_mean * y - y_mean * w + rows * w_mean * y_mean
    squares = ww - 2 * w_mean * w + rows * w_mean**2
    return np.asarray((crossed - effect * squares) * count * per)
