"""Cross-fitting again by other folds, so that an estimate hangs less on how units were dealt into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from iceblink.causal.clipping import ROWS_CLIPPED
from iceblink.causal.estimates import Estimates
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Folds, Grouping
from iceblink.errors import ConfigError, PlanError

Found = TypeVar("Found", bound=Estimates)
Groupings = Grouping | Sequence[Grouping]
"""Folds that a user gives: a grouping, or of several repeats a list of one for each."""


def check_repeats(repeats: int, where: str) -> None:
    """Raise ConfigError unless there is a repeat."""
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}", where, "1, or more to see how much folds matter: 5 are usual")


def folds_of(folds: Folds, repeats: int, given: Groupings | None, where: str) -> tuple[Grouping, ...]:
    """Return the folds of each repeat: those of a seed, or those that are given.

    Raises
    ------
    ConfigError
        As many folds are given as there are no repeats.
    """
    if given is None:
        return tuple(replace(folds, repeat=at) for at in range(repeats))
    found = tuple(given) if isinstance(given, Sequence) else (given,)
    if len(found) != repeats:
        raise ConfigError(
            f"repeats is {repeats}, and {len(found)} groupings are given", where, "a list of a grouping for each repeat"
        )
    return found


def combined(found: Sequence[Found]) -> Found:
    """Return the medians of estimates by different folds, with how far these lie apart in their errors [1]_.

    Of a coefficient with estimates θ_r and variances v_r the estimate is θ = median θ_r, and the variance
    median (v_r + (θ_r - θ)²). Several coefficients have the correlations of the mean of the matrices
    V_r + (θ_r - θ) (θ_r - θ)', for medians of each of their numbers need not be a covariance.

    Parameters
    ----------
    found : sequence of Estimates
        Of the same coefficients. A single one is returned as it is.

    Raises
    ------
    PlanError
        A repeat left out other columns than the first, since they follow from others.

    References
    ----------
    .. [1] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018, definition 3.3, by medians.
    """
    first = found[0]
    if len(found) == 1:
        return first
    if other := next((one for one in found if one.names != first.names), None):
        left = sorted({*first.names} ^ {*other.names})
        raise PlanError(
            f"{', '.join(left)} can be told from other columns by some folds, and not by others",
            first.title,
            "leave it out: it is nearly a sum of others",
        )
    every = np.stack([one.values for one in found])
    values = np.median(every, axis=0)
    apart = every - values
    spread = np.stack([one.covariance for one in found]) + apart[:, :, np.newaxis] * apart[:, np.newaxis]
    convention = f"{first.convention}, median of repeats"
    facts = {**first.facts, "repeats": len(found)}
    if ROWS_CLIPPED in facts:
        facts[ROWS_CLIPPED] = max(one.facts[ROWS_CLIPPED] for one in found)
    said = tuple(name for name in first.provenance.conventions if name != first.convention)
    return replace(
        first,
        values=values,
        covariance=_covariance(spread),
        convention=convention,
        dropped=tuple(dict.fromkeys(name for one in found for name in one.dropped)),
        facts=facts,
        provenance=replace(first.provenance, conventions=said),
    )


def _covariance(spread: Floats) -> Floats:
    """Return a covariance (k, k) with medians of the variances of some (r, k, k), and correlations of their mean."""
    mean = spread.mean(axis=0)
    variances = np.median(np.diagonal(spread, axis1=1, axis2=2), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(np.diag(mean) > 0, np.sqrt(variances / np.diag(mean)), 0.0)
    return np.asarray(mean * np.outer(scale, scale))
