"""Campaigns whose effects are known, and how well a forest found them; NumPy alone, for peers have other Pythons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEATURES = [f"x{number}" for number in range(20)]
Array = NDArray[np.float64]


def drawn(rows: int, seed: int) -> dict[str, Array]:
    """Draw 20 normal features, a treatment by lot for `bought`, one by features for `spent`, and both true effects."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, len(FEATURES)))
    lot, noise, chance = draw.integers(0, 2, rows), draw.normal(size=rows), draw.uniform(size=(2, rows))
    base = x[:, 0] - 1
    move = 0.5 * (x[:, 1] > 0) + 0.3 * x[:, 2]
    uplift = _logistic(base + move) - _logistic(base)
    bought = chance[0] < _logistic(base + lot * move)
    chosen = chance[1] < _logistic(x[:, 0])
    effect = 1 + 0.5 * x[:, 0] + (x[:, 1] > 0)
    spent = x[:, 0] + 0.5 * x[:, 2] + chosen * effect + noise
    columns = {"id": np.arange(rows), "lot": lot, "bought": bought, "chosen": chosen, "spent": spent}
    columns |= {"uplift": uplift, "effect": effect}
    return columns | {name: x[:, at] for at, name in enumerate(FEATURES)}


def judged(found: Array, truth: Array) -> dict[str, float]:
    """Return the root of the mean squared error of effects, and the mean true effect over all shares of best rows."""
    order = np.argsort(-found, kind="stable")
    gained = np.cumsum(truth[order]) / len(truth)
    return {"PEHE": float(np.sqrt(np.mean((found - truth) ** 2))), "AUUC": float(gained.mean())}


def _logistic(score: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-score)))
