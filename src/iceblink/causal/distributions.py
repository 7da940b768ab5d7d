"""Tails and quantiles of the distributions that tests and intervals speak of, each a special function of SciPy.

They are what ``scipy.stats`` calls underneath, to the bit, without its import. All take and give float64, numbers or
arrays, broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from iceblink.causal.late import special
from iceblink.causal.moments import Floats


def normal_below(z: ArrayLike) -> Floats:
    """Return the probability that a standard normal number is at most `z`."""
    return np.asarray(special.ndtr(z))


def normal_above(z: ArrayLike) -> Floats:
    """Return the probability that a standard normal number is more than `z`."""
    return np.asarray(special.ndtr(np.negative(z)))


def normal_quantile(share: ArrayLike) -> Floats:
    """Return what a standard normal number is below with a probability."""
    return np.asarray(special.ndtri(share))


def t_above(t: ArrayLike, freedom: ArrayLike) -> Floats:
    """Return the probability that Student's t, of some degrees of freedom or infinitely many, is more than `t`."""
    return np.asarray(special.stdtr(freedom, np.negative(t)))


def t_quantile(share: ArrayLike, freedom: ArrayLike) -> Floats:
    """Return what Student's t, of some degrees of freedom or infinitely many, is below with a probability above 0."""
    return np.asarray(special.stdtrit(freedom, share))


def chi2_below(x: ArrayLike, freedom: ArrayLike) -> Floats:
    """Return the probability that chi-squared, of some degrees of freedom, is at most `x`, or 0."""
    return np.asarray(special.chdtr(freedom, np.maximum(x, 0.0)))


def chi2_above(x: ArrayLike, freedom: ArrayLike) -> Floats:
    """Return the probability that chi-squared, of some degrees of freedom, is more than `x`, or 0."""
    return np.asarray(special.chdtrc(freedom, np.maximum(x, 0.0)))


def f_above(f: ArrayLike, freedom: ArrayLike, below: ArrayLike) -> Floats:
    """Return the probability that F, of degrees of freedom above and below the line, is more than `f`, or 0."""
    return np.asarray(special.fdtrc(freedom, below, np.maximum(f, 0.0)))


def binomial_above(successes: ArrayLike, trials: ArrayLike, chance: ArrayLike) -> Floats:
    """Return the probability of more than `successes` in some independent trials of one chance.

    By the incomplete beta function: ``scipy.special.bdtrc`` has no right digits far out.
    """
    more, left = np.add(successes, 1), np.subtract(trials, successes)
    found = special.betainc(np.maximum(more, 1), np.maximum(left, 1), chance)
    return np.where(more <= 0, 1.0, np.where(left <= 0, 0.0, found))
