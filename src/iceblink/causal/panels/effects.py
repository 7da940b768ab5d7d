"""Several effects of a panel together: what is joint in their errors, averages of them, and bands for all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import linalg

from iceblink.causal.estimates import Estimates
from iceblink.causal.late import stats
from iceblink.causal.moments import Floats
from iceblink.errors import ConfigError

SINGULAR = 1e-8
"""Correlations whose smallest eigenvalue is below this say nothing of what differs."""


@dataclass(frozen=True, eq=False, repr=False)
class PanelEffects(Estimates):
    """Effects by time, with intervals that hold for each and a band that holds for all.

    Parameters
    ----------
    title, names, values, covariance, convention, rows, freedom, dropped, facts
        As of `Estimates`; `rows` are those of units that were compared.
    """

    def band(self, level: float = 0.95, draws: int = 20_000, seed: int = 0) -> Floats:
        """Return bounds (k, 2) that hold all effects at once with a probability: a sup-t band [1]_.

        The critical value is a quantile of the largest |t| of draws from the normal distribution of the estimates,
        which is what a multiplier bootstrap of their influence functions tends to.

        Parameters
        ----------
        level : float
        draws : int
        seed : int
            Same seed, same band.

        References
        ----------
        .. [1] Montiel Olea, Plagborg-Møller: Simultaneous confidence bands, J. Applied Econometrics 2019, section 2.
        """
        if not 0 < level < 1 or draws < 1:
            raise ConfigError(f"band({level}, draws={draws})", self.title, "a level between 0 and 1, and some draws")
        errors = self.errors
        sure = errors > 0
        scaled = self.covariance[np.ix_(sure, sure)] / np.outer(errors[sure], errors[sure])
        values, vectors = linalg.eigh(scaled)
        root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T  # whatever the vectors' signs
        drawn = np.random.default_rng(seed).standard_normal((draws, int(sure.sum()))) @ root
        reach = float(np.quantile(np.abs(drawn).max(axis=1), level)) * errors if sure.any() else errors
        return np.column_stack([self.values - reach, self.values + reach])

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return a row for each effect: as of `Estimates`, and the band as band_lower, band_upper."""
        band = self.band(level)
        return (
            super().to_arrow(level).append_column("band_lower", [band[:, 0]]).append_column("band_upper", [band[:, 1]])
        )


def wald(values: Floats, covariance: Floats) -> tuple[float, float] | None:
    """Return the statistic of all values being 0, and its p by χ²; None where the covariance is all but singular."""
    scale = np.sqrt(np.diag(covariance))
    scaled = covariance / np.outer(scale, scale)
    if not len(values) or linalg.eigvalsh(scaled)[0] < SINGULAR:
        return None
    statistic = float(values / scale @ linalg.solve(scaled, values / scale, assume_a="pos"))
    return statistic, float(stats.chi2.sf(statistic, len(values)))


def shown(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that say something."""
    return {name: value for name, value in facts.items() if value not in (0, None)}
