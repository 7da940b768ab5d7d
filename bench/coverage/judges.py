"""Experiments with a known effect and a noisy prediction of it, and what judges say of that."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from bench.coverage.memory import Memory
from bench.coverage.studies import Held
from iceblink import causal as ci

ROWS = 1_000


def judges(seed: int) -> Held:
    """A normal covariate x, an effect of 0.3 + 0.5 x, and a prediction of it that is half noise."""
    draw = np.random.default_rng(seed)
    x, t = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    effect = (x + draw.normal(size=ROWS)) / 2
    y = x + t * (0.3 + 0.5 * x) + draw.normal(size=ROWS)
    data = Memory.of(id=np.arange(ROWS), x=x, t=t, y=y, effect=effect, treat=effect > 0)
    for (name, value), (low, high) in zip(truth().items(), intervals(data), strict=True):
        yield name, low, high, value


@cache
def truth() -> dict[str, float]:
    """Return what is estimated: E[effect | prediction S] = 0.3 + 0.5 S, S being normal with variance 0.5."""
    spread = 0.5 * np.sqrt(0.5)
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    density = spread * stats.norm.pdf(stats.norm.isf(0.2))
    area = spread / (2 * np.sqrt(np.pi))
    return {
        "AUUC": 0.15 + area,
        "AUUC above random": area,
        "Qini of the uplift curve": area / 2,
        "gain of a fifth": 0.06 + density,
        "AUTOC": float(spread * (stats.norm.isf(u) * -np.log(u)).mean()),
        "Qini of the TOC": area,
        "TOC of a fifth": density / 0.2,
        "average effect": 0.3,
        "heterogeneity": 0.5,
        "the last of five groups": 0.3 + density / 0.2,
        "policy": 0.1 + spread * stats.norm.pdf(0),
        "over random": spread * stats.norm.pdf(0),
    }


def intervals(data: Any) -> list[Any]:
    """Return the interval of each of `truth`, of one study."""
    uplift = ci.UpliftCurve("effect", "y", "t", key="id").fit(data)
    scored = ci.DoublyRobust("id", 0.5).fit(ci.Problem(data, "y", "t", "x")).scored()
    toc = ci.TOC("effect", "score", key="id").fit(scored)
    predictor = ci.BestLinearPredictor("effect", "score").fit(scored)
    groups = ci.Calibration("effect", "score").fit(scored)
    value = ci.PolicyValue("score", cost=0.1).fit(scored)
    return [
        *uplift.areas.interval(),
        uplift.interval("gain")[19],
        *toc.areas.interval(),
        toc.interval("TOC")[19],
        *predictor.interval(),
        groups.interval()[-1],
        *value.interval()[[0, 2]],
    ]
