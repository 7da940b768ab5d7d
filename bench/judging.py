"""How often intervals of judges hold the truth, of studies drawn many times: ``python -m bench.judging [studies]``.

Each study is an experiment of 1,000 rows with a normal covariate x, an effect of 0.3 + 0.5 x, and a prediction of it
that is half noise. Of 1,000 studies 95 % intervals should hold the truth in 93 to 97 %.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from scipy import stats

from bench.coverage import Memory
from iceblink import causal as ci

ROWS = 1_000


@dataclass(frozen=True)
class Asked(Memory):
    """Knows the words of a dataset that judges use, too."""

    @property
    def columns(self) -> list[str]:
        return list(self.rows.schema.names)

    def select(self, *names: str) -> Asked:
        return Asked(self.rows.select(list(names)))

    def map_batches(self, function: Any, **_: Any) -> Asked:
        return Asked(function(self.rows))

    def sql(self, text: str) -> Asked:
        with duckdb.connect() as database:
            database.register("this", pa.Table.from_batches([self.rows]))
            found = database.sql(text).to_arrow_table().combine_chunks()
        batches = found.to_batches()
        return Asked(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=found.schema))

    def to_arrow(self) -> pa.Table:
        return pa.Table.from_batches([self.rows])

    def to_pylist(self) -> list[dict[str, Any]]:
        return list(self.rows.to_pylist())


def drawn(seed: int) -> Any:
    """Draw a study."""
    draw = np.random.default_rng(seed)
    x, t = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    effect = (x + draw.normal(size=ROWS)) / 2
    y = x + t * (0.3 + 0.5 * x) + draw.normal(size=ROWS)
    columns = {"id": np.arange(ROWS), "x": x, "t": t, "y": y, "effect": effect, "treat": effect > 0}
    return Asked(pa.RecordBatch.from_pydict(columns))


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


def main(studies: int) -> None:
    """Draw studies, and print a line for each number that has an interval."""
    held: Counter[str] = Counter()
    values = truth()
    for seed in range(studies):
        for (name, value), (low, high) in zip(values.items(), intervals(drawn(seed)), strict=True):
            held[name] += int(low <= value <= high)
    for name in values:
        low, high = stats.beta.interval(0.95, held[name] + 0.5, studies - held[name] + 0.5)
        print(f"{name:24} {held[name] / studies:.1%} of {studies:,} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
