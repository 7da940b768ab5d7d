"""The multinomial logit: chances of several arms or classes by a linear score of each but the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iceblink.causal.late import special
from iceblink.causal.moments import Floats, Integers


@dataclass(frozen=True, eq=False)
class Chances:
    """The chance of each of `J` arms for each of `n` rows, and how it moves with the `L` = J - 1 linear scores.

    Parameters
    ----------
    of : float64 array (J, n)
    slopes : float64 array (J, L, n)
        Derivatives of the logarithm of each chance by each score.
    """

    of: Floats
    slopes: Floats


@dataclass(frozen=True)
class Logits:
    """Multinomial logit; of two arms logistic regression."""

    def start(self, shares: Floats) -> Floats:
        return np.asarray(np.log(shares[1:] / shares[0]))

    def chances(self, scores: Floats) -> Chances:
        of = special.softmax(np.concatenate([np.zeros((1, scores.shape[1])), scores]), axis=0)
        slopes = np.broadcast_to(-of[1:], (len(of), *scores.shape)).copy()
        for at in range(len(scores)):
            slopes[at + 1, at] += 1.0
        return Chances(of, slopes)

    def likelihood(self, scores: Floats, arm: Integers) -> Floats:
        every = np.concatenate([np.zeros((1, scores.shape[1])), scores])
        return np.asarray(every[arm, np.arange(len(arm))] - special.logsumexp(every, axis=0))

    def curvature(self, scores: Floats, arm: Integers, chances: Chances) -> Floats:
        of = chances.of[1:]
        curved = -of[:, np.newaxis] * of[np.newaxis]
        for at in range(len(of)):
            curved[at, at] += of[at]
        return curved


def crossed(factors: Floats, left: Floats, right: Floats) -> Floats:
    """Return the sums over rows of factors (a, b, n) times the products of columns (k, n) and (m, n): (ak, bm)."""
    blocks = [[(left * factor) @ right.T for factor in row] for row in factors]
    return np.block(blocks)


def curved(factors: Floats, columns: Floats) -> Floats:
    """Return the sums that `crossed` does, of symmetric factors (L, L, n) and one set of columns (k, n): (Lk, Lk)."""
    count, width = len(factors), len(columns)
    found = np.empty((count * width, count * width))
    for one in range(count):
        for other in range(one + 1):
            block = (columns * factors[one, other]) @ columns.T
            mine, theirs = slice(one * width, (one + 1) * width), slice(other * width, (other + 1) * width)
            found[mine, theirs] = block
            found[theirs, mine] = block.T
    return found
