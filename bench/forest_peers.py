"""A forest of a peer, in a Python that has it: ``python -m bench.forest_peers causalml ROWS TREES DEPTH LEAF``.

It draws its data, says that it is ready, grows when a line comes, and says how good it is as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression

from bench.forest_data import FEATURES, Array, drawn, judged

TEST_ROWS = 20_000


def causalml(module: Any, train: dict[str, Any], trees: int, depth: int, leaf: int) -> Callable[[Array], Array]:
    """Grow an uplift forest."""
    forest = module.UpliftRandomForestClassifier(
        "control", trees, max_depth=depth, min_samples_leaf=leaf, max_features=None, n_jobs=1, random_state=0
    )
    groups = np.array(["control", "lot"])[train["lot"]]
    forest.fit(features(train), treatment=groups, y=train["bought"].astype(int))
    return lambda x: np.asarray(forest.predict(x), np.float64).ravel()


def econml(module: Any, train: dict[str, Any], trees: int, depth: int, leaf: int) -> Callable[[Array], Array]:
    """Grow a causal forest over residuals of linear models."""
    linear = {"model_y": LinearRegression(), "model_t": LinearRegression(), "cv": 5}
    forest = module.CausalForestDML(
        **linear, n_estimators=trees, max_depth=depth, min_samples_leaf=leaf, n_jobs=1, random_state=0
    )
    forest.fit(train["spent"], train["chosen"].astype(float), X=features(train))
    return lambda x: np.asarray(forest.effect(x), np.float64).ravel()


PEERS = {"causalml": (causalml, "causalml.inference.tree", "uplift"), "econml": (econml, "econml.dml", "effect")}


def features(columns: dict[str, Any]) -> Array:
    """Return the features as a matrix."""
    return np.column_stack([columns[name] for name in FEATURES])


def main(peer: str, rows: int, trees: int, depth: int, leaf: int) -> None:
    """Wait for the word, and grow."""
    grow, module, truth = PEERS[peer]
    train, test = drawn(rows, 0), drawn(TEST_ROWS, 1)
    imported = import_module(module)
    print("ready", flush=True)
    sys.stdin.readline()
    effect = grow(imported, train, trees, depth, leaf)
    print(json.dumps(judged(effect(features(test)), test[truth])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
