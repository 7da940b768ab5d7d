"""Splits that make what treatment does differ between children: divergences of outcomes' distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.forests.rows import Values
from iceblink.causal.forests.trees import Places
from iceblink.causal.late import special
from iceblink.causal.moments import Floats

Criterion = Literal["KL", "ED", "Chi"]
CELL = "cell"
TINY = 1e-6
ALPHA = 0.9
"""What the normalisation gives to the treatments taken together, and 1 less this to each of them."""


def _kl(p: Floats, q: Floats) -> Floats:
    """Return KL(p : q) of two outcomes; of none of the second 0, as CausalML has it."""
    near = np.clip(q, TINY, 1 - TINY)
    found = special.xlogy(p, p) + special.xlogy(1 - p, 1 - p) - special.xlogy(p, near) - special.xlogy(1 - p, 1 - near)
    return np.asarray(np.where(q == 0, 0.0, found))


def _ed(p: Floats, q: Floats) -> Floats:
    return np.asarray(2 * (p - q) ** 2)


def _chi(p: Floats, q: Floats) -> Floats:
    return np.asarray((p - q) ** 2 / np.maximum(q, TINY) + (p - q) ** 2 / np.maximum(1 - q, TINY))


DIVERGENCES: dict[Criterion, Callable[[Floats, Floats], Floats]] = {"KL": _kl, "ED": _ed, "Chi": _chi}


@dataclass(frozen=True)
class Divergence:
    """The gain in divergence of the arms' outcomes from the control's [1]_.

    With D the sum over the treatments of the divergence of P(Y | treatment) from P(Y | control), and a share w of the
    rows on the left, a split is worth w D(left) + (1 - w) D(right) - D(node), over the paper's
    normalisation, which punishes splits that tell the arms apart and those that make small pieces. As in CausalML its
    factors are of the right child, the shares have 0.1 in their denominators, and outcomes' chances are drawn towards
    those of the node above, as by `n_reg` rows of it; those of arms of no more than `min_arm` rows are its own.

    Parameters
    ----------
    arms : int
        How many (J), the control first; cells are counts of rows by arm and outcome (0 or 1), so S is 2 J.
    criterion : {"KL", "ED", "Chi"}
    normalization : bool
    min_leaf : int
        Rows of a child, at least.
    min_arm : int
        Rows of each arm in a child, at least.
    n_reg : float

    References
    ----------
    .. [1] Rzepakowski, Jaroszewicz: Decision trees for uplift modeling with single and multiple treatments, Knowledge
       and Information Systems 2012.
    """

    arms: int
    criterion: Criterion
    normalization: bool
    min_leaf: int
    min_arm: int
    n_reg: float

    @property
    def cells(self) -> int:
        return 2 * self.arms

    def counted(self, values: Values, index: Places, size: int) -> Floats:
        at = index * self.cells + values[CELL].astype(np.intp)
        return np.bincount(at, minlength=size * self.cells).astype(np.float64).reshape(size, self.cells)

    def rows(self, sums: Floats) -> Floats:
        return np.asarray(sums.sum(axis=-1))

    def divisible(self, nodes: Floats) -> NDArray[np.bool_]:
        by_arm = _by_arm(nodes)[0]
        return np.asarray((self.rows(nodes) >= 2 * self.min_leaf) & (by_arm.min(axis=-1) >= 2 * self.min_arm))

    def prior(self, nodes: Floats, above: Floats | None) -> Floats:
        """Return the chances of outcome 1 in each arm (k, J), drawn towards those above."""
        rows, ones = _by_arm(nodes)
        if above is None:
            return np.divide(ones, rows, out=np.zeros_like(ones), where=rows > 0)
        return self._drawn(nodes, above)

    def order(self, bins: Floats) -> Floats:
        rows, ones = _by_arm(bins)
        chances = (ones + 0.5) / (rows + 1)
        return np.asarray((chances[..., 1:] - chances[..., :1]).mean(axis=-1))

    def scores(self, left: Floats, node: Floats, prior: Floats) -> Floats:
        right = node - left
        sizes = self.rows(left), self.rows(right)
        whole = np.minimum(*sizes) >= self.min_leaf
        for side in (left, right):
            whole = whole & (_by_arm(side)[0].min(axis=-1) >= self.min_arm)
        with np.errstate(divide="ignore", invalid="ignore"):  # a bootstrap without rows, or those of an arm: none whole
            share = sizes[0] / self.rows(node)
            apart = share * self._divergence(self._drawn(left, prior))
            apart = apart + (1 - share) * self._divergence(self._drawn(right, prior)) - self._divergence(prior)
            if self.normalization:
                apart = apart / _normalisation(_by_arm(node)[0], _by_arm(right)[0])
        return np.asarray(np.where(whole, apart, -np.inf))

    def _drawn(self, sums: Floats, towards: Floats) -> Floats:
        rows, ones = _by_arm(sums)
        drawn = (ones + towards * self.n_reg) / np.maximum(rows + self.n_reg, TINY)
        return np.where(rows > self.min_arm, drawn, towards)

    def _divergence(self, chances: Floats) -> Floats:
        """Return the divergences (...) of the treatments' chances (..., J) from the control's, summed."""
        return np.asarray(DIVERGENCES[self.criterion](chances[..., 1:], chances[..., :1]).sum(axis=-1))


def _by_arm(sums: Floats) -> tuple[Floats, Floats]:
    """Return how many rows each arm has (..., J), and how many of outcome 1."""
    return sums[..., ::2] + sums[..., 1::2], sums[..., 1::2]


def _normalisation(node: Floats, child: Floats) -> Floats:
    """Return what gains are divided by (...), of the rows of each arm (..., J) in the node and in a child."""
    treated, control = node[..., 1:].sum(axis=-1), node[..., 0]
    rows = treated + control
    of_treated, of_control = child[..., 1:].sum(axis=-1) / (treated + 0.1), child[..., 0] / (control + 0.1)
    found = ALPHA * -special.xlogy(treated / rows, control / rows) * _kl(of_treated, of_control)
    for arm in range(1, node.shape[-1]):
        here = node[..., arm]
        part = child[..., arm] / (here + 0.1)
        both = here + control
        found = found + (1 - ALPHA) * -special.xlogy(here / both, control / both) * _kl(part, of_control)
        found = found - here / rows * special.xlogy(part, part)
    return np.asarray(found - control / rows * special.xlogy(of_control, of_control) + 0.5)
