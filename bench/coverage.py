"""How often intervals of effects hold the truth, of studies drawn many times: ``python -m bench.coverage [studies]``.

Each study has 500 rows, a binary and a normal confounder, a treatment that depends on both, and outcomes that do, with
an effect that differs between rows. Of 1,000 studies 95 % intervals should hold the truth in 93 to 97 %.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

import iceblink as ib
from iceblink import causal as ci

ROWS = 500
ESTIMATORS: dict[str, Any] = {
    "IPW": ci.IPW(),
    "IPW, Horvitz-Thompson": ci.IPW(normalized=False),
    "IPW of the treated": ci.IPW("ATT"),
    "regression adjustment": ci.RegressionAdjustment(),
    "AIPW": ci.AIPW(),
    "AIPW of the treated": ci.AIPW("ATT"),
    "IPW-RA": ci.IPWRA(),
    "entropy balancing": ci.EntropyBalancing(),
    "nearest neighbour": ci.NearestNeighbour(),
}


def study(seed: int) -> tuple[pa.Table, dict[str, float]]:
    """Return the rows of a study, and the effects that its population has."""
    draw = np.random.default_rng(seed)
    x, g = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    treated = draw.uniform(size=ROWS) < 1 / (1 + np.exp(-(0.6 * x - 0.8 * g)))
    outcome = x + g + treated * (1 + 0.5 * x) + draw.normal(size=ROWS)
    return pa.table({"y": outcome, "t": treated, "x": x, "g": g}), TRUTH


def of_population() -> dict[str, float]:
    """Return the effects on all and on the treated, by integrals over the normal confounder."""
    at, mass = np.polynomial.hermite_e.hermegauss(60)
    mass = mass / mass.sum()
    chance = sum(1 / (1 + np.exp(-(0.6 * at - 0.8 * g))) / 2 for g in (0, 1))
    return {"ATE": 1.0, "ATT": float(mass @ (chance * (1 + 0.5 * at)) / (mass @ chance))}


TRUTH = of_population()


def main(studies: int) -> None:
    """Draw studies, and print a line for each estimator."""
    held: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ib.connect(folder) as lake:
        for seed in range(studies):
            rows, truth = study(seed)
            problem = ci.Problem(lake.from_arrow(rows), "y", "t", "x + g")
            for name, estimator in ESTIMATORS.items():
                found = estimator.fit(problem)
                low, high = found.interval()[0]
                held[name] += int(low <= truth[found.names[0]] <= high)
    for name in ESTIMATORS:
        low, high = stats.beta.interval(0.95, held[name] + 0.5, studies - held[name] + 0.5)
        print(f"{name:24} {held[name] / studies:.1%} of {studies:,} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
