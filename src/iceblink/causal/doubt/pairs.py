"""Rosenbaum bounds of matched pairs with a binary outcome: how far chance of treatment may differ within a pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import binomial_above
from iceblink.errors import ConfigError


def rosenbaum_bounds(
    treated_only: int, control_only: int, gammas: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
) -> pa.Table:
    """Return what p-values are possible if an unobserved confounder makes one of a pair likelier to be treated [1]_.

    Of matched pairs in which one of both had the outcome, McNemar's test asks whether it was the treated one more often
    than by chance. If within pairs the odds of treatment differ by a factor of up to Γ, that chance is between
    1 / (1 + Γ) and Γ / (1 + Γ).

    Parameters
    ----------
    treated_only, control_only : int
        Pairs in which only the treated one had the outcome, and only the control.
    gammas : sequence of float

    Returns
    -------
    Table
        A row for each: gamma, lower and upper, the smallest and the largest one-sided p that is possible, exact.

    Raises
    ------
    ConfigError
        A number of pairs is no whole number from 0 on, both are 0, or a factor is below 1.

    References
    ----------
    .. [1] Rosenbaum: Observational Studies, 2002, section 4.3.2.
    """
    counts = (treated_only, control_only)
    if not all(float(one).is_integer() and one >= 0 for one in counts) or not any(counts):
        raise ConfigError(f"{treated_only} and {control_only} pairs", "rosenbaum_bounds", "pairs whose outcomes differ")
    factors = np.asarray(gammas, np.float64)
    if not len(factors) or not (factors >= 1).all():
        raise ConfigError(f"gammas are {list(gammas)}", "rosenbaum_bounds", "factors of 1, no confounder, or more")
    pairs = treated_only + control_only
    lower, upper = (binomial_above(treated_only - 1, pairs, share / (1 + factors)) for share in (1.0, factors))
    return pa.table({"gamma": factors, "lower": lower, "upper": upper})
