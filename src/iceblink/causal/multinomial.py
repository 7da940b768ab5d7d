"""The multinomial logit: chances of several arms or classes by a linear score of each but the first.

References
----------
.. [1] Efron: The efficiency of logistic regression compared to normal discriminant analysis, JASA 1975, eqs. 1.2-1.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iceblink.causal.late import special
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.newton import Start
from iceblink.causal.solve import TOLERANCE, solved


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

    def start(
        self, shares: Floats, means: Floats, products: Floats, weight: float, ridge: Floats | float = 0.0
    ) -> Start:
        """Return the coefficients (L (1 + k)) of discriminant analysis [1]_: where the climb to the maximum begins.

        If columns were normal in each arm, with one covariance, these would be the maximum but for chance; if they are
        not they are near it. A step leads there from equal chances for all rows, whose likelihood is known.

        Parameters
        ----------
        shares : float64 array (J,)
            Of each arm in the rows' weight, none of which is 0.
        means : float64 array (J, k)
            Of columns, in each arm.
        products : float64 array (k, k)
            Products of their deviations from the means of all rows, over the rows' weight.
        weight : float
            Of all rows.
        ridge : float64 array (k, k)
            Half of its quadratic form is what the coefficients of two arms are penalised by.
        """
        parameters, step = np.zeros((2, len(shares) - 1, 1 + means.shape[1]))
        parameters[:, 0] = np.log(shares[1:] / shares[0])
        apart = means - shares @ means
        within = products - (apart.T * shares) @ apart
        for at, share in enumerate(shares[1:], start=1):
            bent = within + ridge * (1 / share + 1 / shares[0]) / weight
            by = solved(np.where(np.diag(bent) > TOLERANCE * np.diag(products), bent, 0.0))
            if len(by.kept) < len(bent):  # columns tell the arms apart, as the climb will say
                return Start.at(parameters.ravel())
            step[at - 1, 1:] = by.inverse @ (means[at] - means[0])
            step[at - 1, 0] = -step[at - 1, 1:] @ (means[at] + means[0]) / 2
        return Start(parameters.ravel(), step.ravel(), weight * float(shares @ np.log(shares)))

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


LOGITS = Logits()


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
