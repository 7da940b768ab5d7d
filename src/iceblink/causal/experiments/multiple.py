"""P-values of many comparisons at once."""

from __future__ import annotations

from typing import Literal

import numpy as np

from iceblink.causal.moments import Floats

Correction = Literal["bonferroni", "holm", "bh", "by"]
CORRECTIONS = ("bonferroni", "holm", "bh", "by")


def adjusted(p_values: Floats, correction: Correction) -> Floats:
    """Return p-values to be compared with the level of the whole family; what is NaN is no member of it.

    Parameters
    ----------
    p_values : float64 array (m,)
    correction : {"bonferroni", "holm", "bh", "by"}
        The first two hold the chance of any false discovery, under any dependence; ``holm`` [1]_ is never worse.
        ``bh`` [2]_ holds the share of false ones among discoveries under independence or positive dependence, ``by``
        [3]_ under any.

    References
    ----------
    .. [1] Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    .. [2] Benjamini, Hochberg: Controlling the false discovery rate, J. Royal Statistical Society B 1995.
    .. [3] Benjamini, Yekutieli: The control of the false discovery rate under dependency, Annals of Statistics 2001.
    """
    found = np.full(len(p_values), np.nan)
    members = np.flatnonzero(~np.isnan(p_values))
    members = members[np.argsort(p_values[members], kind="stable")]
    count = len(members)
    if not count:
        return found
    p, ranks = p_values[members], np.arange(1, count + 1)
    if correction == "bonferroni":
        raised = p * count
    elif correction == "holm":
        raised = np.maximum.accumulate(p * (count + 1 - ranks))
    else:
        factor = count if correction == "bh" else count * (1 / ranks).sum()
        raised = np.minimum.accumulate((p * factor / ranks)[::-1])[::-1]
    found[members] = np.minimum(raised, 1.0)
    return found
