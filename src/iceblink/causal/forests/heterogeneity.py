"""Splits that make effects differ between children, of residuals of outcome and treatment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.forests.rows import Values
from iceblink.causal.forests.trees import Places
from iceblink.causal.moments import Floats

OUTCOME, TREATMENT = "outcome", "treatment"
Criterion = Literal["mse", "het"]
CRITERIA: tuple[Criterion, ...] = ("mse", "het")


@dataclass(frozen=True)
class Heterogeneity:
    """How far apart the effects of two children are.

    In a node P of n rows with residuals y and w of outcome and treatment the effect is θ = Σ(w - w̄)(y - ȳ) / A, with
    A = Σ(w - w̄)². Of children L and R a split is worth, over n,

    - het: (Σ_L δ)² / n_L + (Σ_R δ)² / n_R, with δ = (w - w̄) (y - ȳ - θ (w - w̄)) n / A: to first order the squared
      difference of effects (eqs. 8 and 9 of [1]_);
    - mse: n_L ȳ_L² + A_L θ_L² + n_R ȳ_R² + A_R θ_R² - n ȳ² - A θ²: by how much the squared residuals of regressions
      of y on w fall if each child has its own, exactly, as EconML's criterion of this name for one treatment.

    Both follow from the sums of w, w², y and w y, which is what is counted: a pass for each level, and not another for
    its gradients.

    Parameters
    ----------
    min_leaf : int
        Rows of a child, at least.
    balance : float
        The part of its parent's rows, and of the variation of its treatments, that a child has at least.
    criterion : {"mse", "het"}

    References
    ----------
    .. [1] Athey, Tibshirani, Wager: Generalized random forests, Annals of Statistics 2019.
    """

    min_leaf: int
    balance: float
    criterion: Criterion

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
        """Order categories by the means of their pseudo-outcomes δ, those of no rows last."""
        rows = bins[..., 0]
        gradients = _gradients(bins, bins.sum(axis=-2, keepdims=True))
        return np.divide(gradients, rows, out=np.full_like(rows, np.inf), where=rows > 0)

    def scores(self, left: Floats, node: Floats, prior: Floats) -> Floats:
        right = node - left
        rows = node[..., 0]
        varied = variation(left), variation(right), variation(node)
        whole = np.minimum(left[..., 0], right[..., 0]) >= np.maximum(self.min_leaf, self.balance * rows)
        whole &= np.minimum(varied[0], varied[1]) > self.balance * varied[2]
        if self.criterion == "het":  # both sums of δ are the same but for their signs
            both = np.maximum(left[..., 0] * right[..., 0], 1.0)
            worth = _gradients(left, node) ** 2 / both
        else:
            parts = (_explained(*one) for one in zip((left, right, node), varied, strict=True))
            worth = (next(parts) + next(parts) - next(parts)) / np.maximum(rows, 1.0)
        return np.asarray(np.where(whole, worth, -np.inf))


def variation(sums: Floats) -> Floats:
    """Return Σ(w - w̄)² (...) of sums (..., 5)."""
    return np.asarray(sums[..., 2] - sums[..., 1] ** 2 / np.maximum(sums[..., 0], 1.0))


def _explained(sums: Floats, varied: Floats) -> Floats:
    """Return n ȳ² + A θ² (...) of sums (..., 5)."""
    rows = np.maximum(sums[..., 0], 1.0)
    crossed = sums[..., 4] - sums[..., 1] * sums[..., 3] / rows
    slope = np.divide(crossed**2, varied, out=np.zeros_like(crossed), where=varied > 0)
    return np.asarray(sums[..., 3] ** 2 / rows + slope)


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
