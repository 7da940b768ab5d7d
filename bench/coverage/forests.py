"""Small experiments, and what a causal forest says of the effect on five rows.

Errors are of the forest's chance and of the rows: what a leaf's mean hides of a steep effect they do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from bench.coverage.memory import Memory
from bench.coverage.studies import Held
from iceblink.causal.forests.bins import Bins, Cuts
from iceblink.causal.forests.drawing import LittleBags
from iceblink.causal.forests.growth import Shape, filled, grown
from iceblink.causal.forests.heterogeneity import Heterogeneity
from iceblink.causal.forests.little_bags import LocalEffects
from iceblink.causal.forests.residuals import Given
from iceblink.causal.forests.rows import Binner
from iceblink.causal.matrix import Matrix, Number

ROWS, TREES, BAG, LEAF, DEPTH = 400, 48, 4, 5, 4
AT = np.array([[0.0, 0.5, -0.5, 1.0, -1.0], [0.0, 0.5, 0.5, -1.0, 1.0]])
Effect = Callable[[NDArray[np.float64]], NDArray[np.float64]]
EFFECTS: dict[str, Effect] = {
    "the same": lambda x: np.ones_like(x),
    "a line": lambda x: 1 + 0.5 * x,
    "a step": lambda x: np.where(x > 0.25, 2.0, 1.0),
}


def forests(seed: int) -> Held:
    """400 rows, two features, a treatment by lot; an effect that is the same for all, a line, or a step in one."""
    for name, effect in EFFECTS.items():
        found, error = said(seed, effect)
        for value, width, truth in zip(found, stats.norm.ppf(0.975) * error, effect(AT[0]), strict=True):
            yield f"causal forest, {name}", value - width, value + width, truth


def said(seed: int, effect: Effect) -> NDArray[np.float64]:
    """Draw a study, grow a forest of 48 trees, and return the effects that it says and their errors (2, 5)."""
    draw = np.random.default_rng(seed)
    x, w = draw.normal(size=(2, ROWS)), draw.integers(0, 2, ROWS) - 0.5
    y = w * effect(x[0]) + draw.normal(size=ROWS)
    cuts = [Cuts(name, np.unique(np.quantile(one, np.arange(1, 16) / 16))) for name, one in zip("ab", x, strict=True)]
    bins, given = Bins(tuple(cuts)), Given(Matrix((Number("y"), Number("w"))))
    batch = pa.RecordBatch.from_pydict({"id": np.arange(ROWS), "a": x[0], "b": x[1], "y": y, "w": w})
    rows: Any = Memory(pa.Table.from_batches([Binner(bins, ("id",), given, seed)(batch)]))
    rule, drawing = Heterogeneity(LEAF, 0.05, "mse"), LittleBags(0.45, BAG, seed)
    trees = grown(rows, bins, rule, drawing, Shape(TREES, DEPTH, 2, 16, seed))
    means = []
    for tree, sums in zip(trees, filled(rows, trees, rule, drawing, 2), strict=True):
        means.append(tree.inherited(sums[:, 1:] / np.maximum(sums[:, :1], 1), sums[:, 0] >= LEAF))
    points = pa.RecordBatch.from_pydict({"a": AT[0], "b": AT[1]})
    return np.asarray(LocalEffects(bins, tuple(trees), tuple(means), BAG, True)(points))
