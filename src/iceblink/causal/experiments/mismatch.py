"""Whether the arms have as many rows as they were meant to have: a test of the experiment itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from iceblink.causal.distributions import chi2_above
from iceblink.causal.sheet import p_cell
from iceblink.errors import ConfigError, nearest

ALARM = 1e-3
"""A p-value below which results are not to be believed [1]_: of a thousand sound experiments one has such.

.. [1] Fabijan et al.: Diagnosing sample ratio mismatch in online controlled experiments, KDD 2019.
"""


@dataclass(frozen=True)
class SampleRatio:
    """How rows, or clusters, are shared among the arms, and Pearson's χ² test that this is by chance.

    Parameters
    ----------
    arms : tuple
    counts : tuple of int
    expected : tuple of float
        As the allocation has it.
    statistic, p_value : float
        Of χ² with one degree of freedom less than there are arms.
    """

    arms: tuple[Any, ...]
    counts: tuple[int, ...]
    expected: tuple[float, ...]
    statistic: float
    p_value: float

    @property
    def alarming(self) -> bool:
        """Whether something is wrong with the experiment: assignment, logging or joins lost rows of one arm."""
        return self.p_value < ALARM

    def __str__(self) -> str:
        shown = ", ".join(f"{arm} {count:,}" for arm, count in zip(self.arms, self.counts, strict=True))
        said = f"sample ratio: {shown}; p {p_cell(self.p_value)}"
        return said if not self.alarming else f"{said}: MISMATCH, do not believe what follows"


def sample_ratio(
    arms: Sequence[Any], counts: Sequence[int], allocation: Mapping[Any, float], where: str
) -> SampleRatio:
    """Compare the sizes of arms with their allocation.

    Parameters
    ----------
    arms, counts : sequences
    allocation : mapping
        Of an arm to its share, in any unit; empty for equal shares.

    Raises
    ------
    ConfigError
        The allocation has other arms, or a share that is not positive.
    """
    shares = dict(allocation) or dict.fromkeys(arms, 1.0)
    for arm in arms:
        share = shares.get(arm, 0)
        if not isinstance(share, Real) or not 0 < float(share) < np.inf:
            raise ConfigError(f"arm {arm!r} has no share in the allocation", where, "a positive number for each arm")
    for arm in shares:
        if arm not in arms:
            raise ConfigError(f"no row is in arm {arm!r}", where, nearest(str(arm), [str(one) for one in arms], "arms"))
    weights = np.array([shares[arm] for arm in arms], float)
    expected = weights / weights.sum() * sum(counts)
    statistic = float(((np.array(counts) - expected) ** 2 / expected).sum())
    p_value = float(chi2_above(statistic, len(arms) - 1))
    return SampleRatio(tuple(arms), tuple(counts), tuple(map(float, expected)), statistic, p_value)
