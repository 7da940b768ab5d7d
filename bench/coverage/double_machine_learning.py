"""Studies of treatments of several kinds, and what double machine learning says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from bench.coverage.memory import Memory
from bench.coverage.studies import Held
from iceblink import causal as ci


def double_machine_learning(seed: int) -> Held:
    """500 rows, two confounders, treatments of several kinds that depend on them, and effects that are known."""
    draw = np.random.default_rng(seed)
    x, g = draw.normal(size=500), draw.integers(0, 2, 500)
    shop = draw.integers(0, 60, 500)
    t = 0.5 * x + g + draw.normal(size=500)
    chance = 1 / (1 + np.exp(-(0.6 * x - 0.8 * g)))
    d = (draw.uniform(size=500) < chance).astype(int)
    hidden, noise = draw.normal(size=500), draw.normal(size=500)
    w = 0.5 * x + draw.normal(size=500)
    moved = w + x + hidden + draw.normal(size=500)
    z = (draw.uniform(size=500) < chance).astype(int)
    kind = draw.choice(3, 500, p=[0.2, 0.2, 0.6])  # always, never, as the instrument says
    taken = np.where(kind == 0, 1, np.where(kind == 1, 0, z))
    of_shop, by_shop = draw.normal(size=(2, 60))
    data = Memory.of(
        id=np.arange(500), x=x, g=g, t=t, d=d, w=w, z=z, moved=moved, taken=taken, shop=shop,
        plain=t + x + g + noise * (0.5 + np.abs(t)), varied=t * (1 + 0.5 * x) + x + g + noise,
        treated=d * (1 + 0.5 * g) + x + g + noise, steered=moved + x + g + hidden,
        local=taken * (1 + (kind == 0)) + x + g + 0.5 * kind + noise,
        shared=(t + of_shop[shop]) + x + g + by_shop[shop] + noise, between=t + of_shop[shop],
    )  # fmt: skip
    few = ["x", "g"]
    keys: dict[str, Any] = {"key": "id", "folds": 3, "seed": seed}
    of_treated = 1 + 0.5 * 0.5 * float(_chances(1).mean()) / float((_chances(0) + _chances(1)).mean() / 2)
    asked: dict[str, tuple[Any, dict[str, float]]] = {
        "PLR": (ci.PLR("plain", "t", few, **keys), {"t": 1}),
        "PLR by cluster": (ci.PLR("shared", "between", few, cluster="shop", **keys), {"between": 1}),
        "PLIV": (ci.PLIV("steered", "moved", few, instrument="w", **keys), {"moved": 1}),
        "IRM": (ci.IRM("treated", "d", few, **keys), {"ATE": 1.25, "mean[1]": 1.75}),
        "IRM of the treated": (ci.IRM("treated", "d", few, estimand="ATT", **keys), {"ATT": of_treated}),
        "IIVM": (ci.IIVM("local", "taken", few, instrument="z", **keys), {"LATE": 1}),
        "LinearDML": (ci.LinearDML("varied", "t", "g", modifiers="x", **keys), {"t": 1, "t:x": 0.5}),
        "LinearDML, discrete": (
            ci.LinearDML("treated", "d", "x", modifiers="g", discrete=True, **keys),
            {"d[1]": 1, "d[1]:g": 0.5},
        ),
    }
    for name, (estimator, truths) in asked.items():
        found = estimator.fit(data)
        for of, truth in truths.items():
            low, high = found.interval()[found.names.index(of)]
            yield f"{name}: {of}", low, high, truth


def _chances(g: int) -> Any:
    """Return the chance of treatment at normal quantiles of the first confounder."""
    at = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    return 1 / (1 + np.exp(-(0.6 * at - 0.8 * g)))
