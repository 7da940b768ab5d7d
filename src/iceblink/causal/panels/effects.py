"""Several effects of a panel together: what is joint in their errors, averages of them, and bands for all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import chi2_above
from iceblink.causal.estimates import Estimates
from iceblink.causal.late import linalg
from iceblink.causal.moments import Floats
from iceblink.causal.plots.event_study import event_study
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SINCE = "periods since treatment"
REFERENCE = -1.0
"""The period since treatment that others are compared with, where one is."""
SINGULAR = 1e-8
"""Correlations whose smallest eigenvalue is below this say nothing of what differs."""


@dataclass(frozen=True, eq=False, repr=False)
class PanelEffects(Estimates):
    """Effects by time, with intervals that hold for each and a band that holds for all.

    Parameters
    ----------
    title, names, values, covariance, convention, rows, freedom, dropped, facts, provenance
        As of `Estimates`; `rows` are those of units that were compared.
    along : str
        What the names that are numbers count.
    """

    along: str = SINCE

    def band(self, level: float = 0.95, draws: int = 20_000, seed: int = 0) -> Floats:
        """Return bounds (k, 2) that hold all effects at once with a probability: a sup-t band [1]_.

        The critical value is a quantile of the largest |t| of draws from the normal distribution of the estimates,
        which is what a multiplier bootstrap of their influence functions tends to; of few clusters from Student's t of
        their degrees of freedom.

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
        check_whole(self.title, draws=draws, seed=seed)
        if not 0 < level < 1 or draws < 1 or seed < 0:
            what = f"band({level}, draws={draws}, seed={seed})"
            raise ConfigError(what, self.title, "a level between 0 and 1, some draws, and a seed of 0 or more")
        errors = self.errors
        sure = errors > 0
        scaled = self.covariance[np.ix_(sure, sure)] / np.outer(errors[sure], errors[sure])
        values, vectors = linalg.eigh(scaled)
        root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T  # whatever the vectors' signs
        chance = np.random.default_rng(seed)
        drawn = chance.standard_normal((draws, int(sure.sum()))) @ root
        if np.isfinite(self.freedom):
            drawn /= np.sqrt(chance.chisquare(self.freedom, draws) / self.freedom)[:, np.newaxis]
        reach = float(np.quantile(np.abs(drawn).max(axis=1), level)) * errors if sure.any() else errors
        return np.column_stack([self.values - reach, self.values + reach])

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return a row for each effect: as of `Estimates`, and the band as band_lower, band_upper."""
        band = self.band(level)
        return (
            super().to_arrow(level).append_column("band_lower", [band[:, 0]]).append_column("band_upper", [band[:, 1]])
        )

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, level: float = 0.95) -> Axes:
        """Draw effects by time, with intervals (thick) and the band for all of them (thin): an event study.

        The reference period, if the estimator has one, is drawn hollow. Effects without a time are drawn as those of
        `Estimates.plot`.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        names : sequence of str, optional
            Which. Default: all that have a time.
        level : float

        Raises
        ------
        ColumnNotFound
        ConfigError
            matplotlib is not installed.
        """
        places = [self._at(name) for name in (self.names if names is None else names)]
        times = {place: time for place in places if (time := _time(self.names[place])) is not None}
        if not times or (names is not None and len(times) < len(names)):
            return super().plot(ax, names=names, level=level)
        table = self.to_arrow(level).take(list(times)).append_column("time", [list(times.values())])
        since, before = self.along == SINCE, [time for time in times.values() if time < REFERENCE]
        reference = REFERENCE if since and before and REFERENCE not in times.values() else None
        return event_study(table, reference=reference, start=0.0 if since else None, xlabel=self.along, ax=ax)


def _time(name: str) -> float | None:
    """Return the time that a name says, if it does."""
    try:
        return float(name)
    except ValueError:
        return None


def wald(values: Floats, covariance: Floats) -> tuple[float, float] | None:
    """Return the statistic of all values being 0, and its p by χ²; None where the covariance is all but singular."""
    scale = np.sqrt(np.diag(covariance))
    scaled = covariance / np.outer(scale, scale)
    if not len(values) or linalg.eigvalsh(scaled)[0] < SINGULAR:
        return None
    statistic = float(values / scale @ linalg.solve(scaled, values / scale, assume_a="pos"))
    return statistic, float(chi2_above(statistic, len(values)))


def shown(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that say something."""
    return {name: value for name, value in facts.items() if value not in (0, None)}
