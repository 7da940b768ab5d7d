"""Chances that are kept away from 0 and 1: a row of hardly any chance would count without end."""

from __future__ import annotations

import numpy as np

from iceblink.causal.moments import Floats
from iceblink.errors import ConfigError

ROWS_CLIPPED = "rows clipped"
"""The fact that says how many rows had a chance beyond the bounds."""


def check_bound(bound: float, where: str, name: str = "clip") -> None:
    """Raise ConfigError unless a bound of chances is one."""
    if not 0 < bound < 0.5:
        raise ConfigError(f"{name} is {bound}", where, "it is a chance above 0 and below 0.5, as 0.01")


def clipped(chances: Floats, clip: float) -> tuple[Floats, Floats]:
    """Return chances (J, n) no nearer to 0 and 1 than `clip`, and 1 (n,) where one was, else 0."""
    found = np.clip(chances, clip, 1 - clip)
    return found, (found != chances).any(axis=0).astype(np.float64)
