"""Errors of anything that sums decide: leave out one part of the units after the other.

Units fall into buckets by a hash of their key. One pass sums rows by bucket; what is estimated is computed of all
buckets, and of all but one. Rows of one unit are in one bucket, so they may depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from iceblink.causal.hashing import below, hashed
from iceblink.causal.moments import Floats, Integers
from iceblink.errors import PlanError

BUCKETS = 200


def buckets_of(batch: pa.RecordBatch, keys: Sequence[str]) -> Integers:
    """Return the bucket of each row of a batch."""
    return below(hashed([batch.column(key) for key in keys], 0, "jackknife"), BUCKETS)


def jackknifed(sums: Floats, statistic: Callable[[Floats], Floats], where: str) -> tuple[Floats, Floats, int]:
    """Return statistics of sums, their covariance, and its degrees of freedom [1]_.

    The covariance is (G - 1) / G · Σ (θ₍g₎ - θ̄)(θ₍g₎ - θ̄)' of G buckets with rows, θ₍g₎ being what is estimated without
    bucket g. With fewer units than buckets it is that of Quenouille's jackknife.

    Parameters
    ----------
    sums : float64 array (G, ...)
        By bucket.
    statistic : callable
        Turns sums (m, ...) of m sets of rows into statistics (m, k).
    where : str
        For errors.

    Returns
    -------
    values : float64 array (k,)
    covariance : float64 array (k, k)
    freedom : int

    Raises
    ------
    PlanError
        All rows are of one unit.

    References
    ----------
    .. [1] Wolter: Introduction to Variance Estimation, 2007, chapter 4; Kott: The delete-a-group jackknife, J.
       Official Statistics 2001.
    """
    used = sums[sums.reshape(len(sums), -1).any(axis=1)]
    whole = used.sum(axis=0)
    if len(used) < 2:
        raise PlanError("all rows are of one unit", where, "errors compare units: is the key the same in all rows?")
    values = statistic(whole[np.newaxis])[0]
    without = statistic(whole - used)
    apart = without - without.mean(axis=0)
    return values, np.asarray(apart.T @ apart * ((len(used) - 1) / len(used))), len(used) - 1
