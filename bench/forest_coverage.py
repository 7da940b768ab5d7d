"""How often intervals of a causal forest hold the true effect: ``python -m bench.forest_coverage [studies]``.

Each study has 400 rows, two features, a treatment by lot, and an effect that is the same for all rows, a straight line
in the first feature, or a step there. A forest of 48 trees says the effect of five rows, the first in the middle.
Errors are of the forest's chance and of the rows: what a leaf's mean hides of a steep effect they do not know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from bench.coverage import Memory
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
EFFECTS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "the same": lambda x: np.ones_like(x),
    "a line": lambda x: 1 + 0.5 * x,
    "a step": lambda x: np.where(x > 0.25, 2.0, 1.0),
}


def held(seed: int, effect: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Draw a study, grow a forest, and return whether each interval holds the truth."""
    draw = np.random.default_rng(seed)
    x, w = draw.normal(size=(2, ROWS)), draw.integers(0, 2, ROWS) - 0.5
    y = w * effect(x[0]) + draw.normal(size=ROWS)
    cuts = [Cuts(name, np.unique(np.quantile(one, np.arange(1, 16) / 16))) for name, one in zip("ab", x, strict=True)]
    bins, given = Bins(tuple(cuts)), Given(Matrix((Number("y"), Number("w"))))
    batch = pa.RecordBatch.from_pydict({"id": np.arange(ROWS), "a": x[0], "b": x[1], "y": y, "w": w})
    rows: Any = Memory(Binner(bins, ("id",), given, seed)(batch))
    rule, drawing = Heterogeneity(LEAF, 0.05, "mse"), LittleBags(0.45, BAG, seed)
    trees = grown(rows, bins, rule, drawing, Shape(TREES, DEPTH, 2, seed))
    means = []
    for tree, sums in zip(trees, filled(rows, trees, rule, drawing, 2), strict=True):
        means.append(tree.inherited(sums[:, 1:] / np.maximum(sums[:, :1], 1), sums[:, 0] >= LEAF))
    points = pa.RecordBatch.from_pydict({"a": AT[0], "b": AT[1]})
    found, error = LocalEffects(bins, tuple(trees), tuple(means), BAG, True)(points)
    return np.asarray(np.abs(found - effect(AT[0])) < stats.norm.ppf(0.975) * error)


def main(studies: int) -> None:
    """Draw studies, and print a line for each kind of effect."""
    for name, effect in EFFECTS.items():
        counts = np.sum([held(seed, effect) for seed in range(studies)], axis=0)
        shown = ", ".join(f"{count / studies:.1%}" for count in counts)
        print(f"{name:9} {counts.mean() / studies:.1%} of {studies:,} ({shown})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
