"""How often intervals and verdicts of doubt are right, of studies drawn many times: ``python -m bench.doubt_coverage``.

Each study has 500 rows. In its first part a confounder is hidden and a mediator is not, and the 95 % interval of the
frontdoor should hold the effect in 93 to 97 % of 1,000 studies. In the second, whose residuals are skewed, one-sided
intervals of 95 % should reach down to the lower bound, and up to the upper one, in as many. In the third nothing is
wrong, and in a quarter of the studies refuters are asked, which should find nothing in 95 % at least.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from bench.coverage import Memory
from iceblink import causal as ci

ROWS = 500
STRENGTH = 0.2


@dataclass(frozen=True)
class Rows(Memory):
    """Has a few words of a dataset more."""

    def select(self, *names: str) -> Rows:
        return Rows(self.rows.select(list(names)))

    def map_batches(self, function: Any, **_: Any) -> Rows:
        return Rows(function(self.rows))

    def order_by(self, *names: str) -> Rows:
        return Rows(self.rows.sort_by([(name, "ascending") for name in names]))

    def limit(self, count: int) -> Rows:
        return Rows(self.rows.slice(0, count))

    def to_arrow(self) -> pa.Table:
        return pa.Table.from_batches([self.rows])


def drawn(seed: int, rows: int = ROWS) -> Any:
    """Draw a study."""
    draw = np.random.default_rng(seed)
    hidden, x = draw.normal(size=(2, rows))
    chosen = hidden + draw.normal(size=rows)
    mediator = 0.5 * chosen + draw.normal(size=rows) * (1 + 0.3 * np.abs(chosen))
    outcome = 2 * mediator - hidden + draw.normal(size=rows)
    t = x + draw.exponential(size=rows)
    y = t + x + draw.exponential(size=rows) * (1 + (t > 1))
    columns = {"chosen": chosen, "mediator": mediator, "outcome": outcome, "t": t, "y": y, "x": x}
    return Rows(pa.RecordBatch.from_pydict({"id": np.arange(rows), **columns}))


def main(studies: int) -> None:
    """Draw studies, and print a line for each."""
    held: Counter[str] = Counter()
    plr = ci.LinearPLR("y", "t", ["x"], key="id")
    true = ci.sensitivity(plr, drawn(-1 % 2**32, 2_000_000)).bounds(STRENGTH, STRENGTH)
    for seed in range(studies):
        data = drawn(seed)
        low, high = ci.FrontDoor("outcome", "chosen", ["mediator"]).fit(data).interval()[0]
        held["frontdoor"] += int(low <= 1.0 <= high)
        low, high = ci.sensitivity(plr, data).bounds(STRENGTH, STRENGTH).interval
        held["lower bound"] += int(low <= true.lower)
        held["upper bound"] += int(high >= true.upper)
        if seed % 4:
            continue
        found = ci.refute(ci.OLS("y ~ t + x"), data, treatment="t", key="id", seed=seed)
        held["nothing refuted"] += int(not found.refuted)
    for name, count in held.items():
        asked = (studies + 3) // 4 if name == "nothing refuted" else studies
        low, high = stats.beta.interval(0.95, count + 0.5, asked - count + 0.5)
        print(f"{name:24} {count / asked:.1%} of {asked:,} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
