"""Observational studies with an effect by a unit of x, and what learners with errors say of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.coverage.memory import Memory
from bench.coverage.studies import Held
from iceblink import causal as ci

SLOPE = 0.5
"""What a unit of x adds to the effect."""
LEARNERS: dict[str, Any] = {
    "DR learner": ci.DRLearner("y", "t", ["x", "g"], "id"),
    "R learner": ci.RLearner("y", "t", ["x", "g"], "id"),
}


def learners(seed: int) -> Held:
    """500 rows, a binary and a normal confounder, a treatment by both."""
    draw = np.random.default_rng(seed)
    x, g = draw.normal(size=500), draw.integers(0, 2, 500)
    treated = draw.uniform(size=500) < 1 / (1 + np.exp(-(0.6 * x - 0.8 * g)))
    outcome = x + g + treated * (1 + SLOPE * x) + draw.normal(size=500)
    data = Memory.of(id=np.arange(500), y=outcome, t=treated.astype(int), x=x, g=g)
    for name, learner in LEARNERS.items():
        learnt = learner.fit(data)
        for part, found, truth in ((name, learnt.ate(), 1.0), (f"{name}, slope", learnt.coefficients(), SLOPE)):
            at = found.names.index("x") if truth == SLOPE else 0
            low, high = found.interval()[at]
            yield part, float(low), float(high), truth
