"""Studies of a hidden confounder, and what frontdoor, bounds and refuters say of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bench.coverage.memory import Memory
from bench.coverage.studies import Held
from iceblink import causal as ci

STRENGTH = 0.2
PLR = ci.LinearPLR("y", "t", ["x"], key="id")


def doubt(seed: int) -> Held:
    """500 rows: a hidden confounder with a mediator; nothing to be refuted; skewed residuals, of 2,000 rows too."""
    data = drawn(seed, 500)
    low, high = ci.FrontDoor("outcome", "chosen", ["mediator"]).fit(data).interval()[0]
    yield "frontdoor", low, high, 1.0
    least, most = true_bounds()
    for rows, study in ((500, data), (2_000, drawn(seed, 2_000))):
        low, high = ci.sensitivity(PLR, study).bounds(STRENGTH, STRENGTH).interval
        yield f"lower bound of {rows:,} rows, one side", low, np.inf, least
        yield f"upper bound of {rows:,} rows, one side", -np.inf, high, most
    if seed % 4 == 0:
        found = ci.refute(ci.OLS("y ~ t + x"), data, treatment="t", key="id", seed=seed)
        yield "nothing refuted (at least 95 %)", 0, 0, int(bool(found.refuted))


@cache
def true_bounds() -> tuple[float, float]:
    """Return what confounders of that strength make of an estimate, by two million rows."""
    found = ci.sensitivity(PLR, drawn(-1 % 2**32, 2_000_000)).bounds(STRENGTH, STRENGTH)
    return found.lower, found.upper


def drawn(seed: int, rows: int) -> Any:
    """Draw a study."""
    draw = np.random.default_rng(seed)
    hidden, x = draw.normal(size=(2, rows))
    chosen = hidden + draw.normal(size=rows)
    mediator = 0.5 * chosen + draw.normal(size=rows) * (1 + 0.3 * np.abs(chosen))
    outcome = 2 * mediator - hidden + draw.normal(size=rows)
    t = x + draw.exponential(size=rows)
    y = t + x + draw.exponential(size=rows) * (1 + (t > 1))
    return Memory.of(id=np.arange(rows), chosen=chosen, mediator=mediator, outcome=outcome, t=t, y=y, x=x)
