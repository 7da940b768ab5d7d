"""How often intervals of effects hold the truth, of studies drawn many times: ``python -m bench.coverage [studies]``.

Each study has 500 rows, a binary and a normal confounder, a treatment that depends on both, and outcomes that do, with
an effect that differs between rows. Of 1,000 studies 95 % intervals should hold the truth in 93 to 97 %. A word behind
their number asks for the estimators that have it in their names: ``python -m bench.coverage 1000 learner``.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.observational.study import Arms, Reader, Study
from iceblink.causal.passes import moments

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
LEARNERS: dict[str, Any] = {
    "DR learner": ci.DRLearner("y", "t", ["x", "g"], "id"),
    "R learner": ci.RLearner("y", "t", ["x", "g"], "id"),
}
SLOPE = 0.5
"""What a unit of x adds to the effect."""


@cache
def lake() -> ib.Lake:
    """Return a lake that answers questions of rows in memory."""
    return ib.connect(tempfile.mkdtemp())


@dataclass(frozen=True)
class Memory:
    """Has the words of a dataset that estimators use, without an engine: a thousand studies then take a minute."""

    rows: pa.RecordBatch

    @property
    def schema(self) -> pa.Schema:
        return self.rows.schema

    def select(self, *names: str) -> Memory:
        return Memory(self.rows.select(list(names)))

    def order_by(self, name: str) -> Memory:
        return Memory(self.rows.sort_by(name))

    def sql(self, text: str) -> ib.Dataset:
        return lake().from_arrow(pa.Table.from_batches([self.rows])).sql(text)

    def map_batches(self, function: Callable[[pa.RecordBatch], pa.RecordBatch], **_: Any) -> Memory:
        return Memory(function(self.rows))

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        yield self.rows


@dataclass(frozen=True)
class Drawn:
    """Stands for a problem."""

    study: Study


def drawn(seed: int) -> Drawn:
    """Draw a study."""
    draw = np.random.default_rng(seed)
    x, g = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    treated = draw.uniform(size=ROWS) < 1 / (1 + np.exp(-(0.6 * x - 0.8 * g)))
    outcome = x + g + treated * (1 + SLOPE * x) + draw.normal(size=ROWS)
    rows = {"id": np.arange(ROWS), "y": outcome, "t": treated.astype(int), "x": x, "g": g}
    data: Any = Memory(pa.RecordBatch.from_pydict(rows))
    arms, matrix = Arms("t", pa.array([0, 1])), Matrix((Number("y"), Number("x"), Number("g")))
    found = moments(data, matrix, grouping=arms)
    total = found.total
    reader = Reader(matrix, arms, None, total.means[0, 1:], np.sqrt(np.diag(total.products[0])[1:] / total.weights[0]))
    return Drawn(Study(data, ("y", "t", "x", "g"), reader, found, (0, 1), (0, 1), (0, 1), ()))


def truth() -> dict[str, float]:
    """Return the effects on all and on the treated, by integrals over the normal confounder."""
    at, mass = np.polynomial.hermite_e.hermegauss(60)
    mass = mass / mass.sum()
    chance = sum((1 / (1 + np.exp(-(0.6 * at - 0.8 * g))) / 2 for g in (0, 1)), np.zeros(60))
    return {"ATE": 1.0, "ATT": float(mass @ (chance * (1 + SLOPE * at)) / (mass @ chance))}


def found_of(seed: int, word: str) -> Iterator[tuple[str, ci.Estimates, str, float]]:
    """Yield the name of each estimator with a word in it, what it says of a study, and what is true of which part."""
    problem, effects = drawn(seed), truth()
    for name, estimator in ESTIMATORS.items():
        if word in name:
            found = estimator.fit(problem)
            yield name, found, found.names[0], effects[found.names[0]]
    for name, learner in LEARNERS.items():
        if word in name:
            learnt = learner.fit(problem.study.data)
            yield name, learnt.ate(), "ATE", effects["ATE"]
            yield f"{name}, slope", learnt.coefficients(), "x", SLOPE


def main(studies: int, word: str = "") -> None:
    """Draw studies, and print a line for each estimator."""
    held: Counter[str] = Counter()
    for seed in range(studies):
        for name, found, part, true in found_of(seed, word):
            low, high = found.interval()[found.names.index(part)]
            held[name] += int(low <= true <= high)
    for name, count in held.items():
        low, high = stats.beta.interval(0.95, count + 0.5, studies - count + 0.5)
        print(f"{name:24} {count / studies:.1%} of {studies:,} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, *sys.argv[2:3])
