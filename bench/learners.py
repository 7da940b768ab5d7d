"""Learn the effect on each row by an X-learner of boosted trees, beside CausalML's.

``python -m bench.learners --rows 1000000``, with ``ICEBLINK_CAUSAL_PEERS=/path/to/python`` of an environment that has
causalml and xgboost, whose versions fight ours; without it they are looked for here. All have XGBoost's trees by the
same parameters for outcomes and imputed effects, and logistic regression for the propensity.

A measurement is everything from the first import to the effect on every row and how far it is from the truth (PEHE, the
root of the mean squared error): the table is in an Iceberg lake, of which CausalML reads the data files into arrays.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, family_peak_bytes, in_turns
from bench.report import MIB, comparison, problem_of, table

TITLE = "Learners"
FEATURES, CHUNK_ROWS = 20, 500_000
NAMES = [f"x{number}" for number in range(FEATURES)]
PEERS = os.environ.get("ICEBLINK_CAUSAL_PEERS", "")
ROUNDS, DEPTH, RATE = 100, 4, 0.1


def ensure_table(rows: int) -> Path:
    """Return a lake with this many rows: a key, an outcome, a treatment, features, and the effect that is true."""
    import numpy as np
    import pyarrow as pa

    import iceblink as ib

    folder = DATA / f"learners-{rows}"
    schema = pa.schema([("id", pa.int64()), *((name, pa.float32()) for name in ("y", "t", "effect", *NAMES))])

    def made() -> Iterator[pa.RecordBatch]:
        draw = np.random.default_rng(11)
        for begin in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - begin)
            x = draw.standard_normal((FEATURES, count), np.float32)
            treated = (draw.random(count) < 0.1 + 0.3 / (1 + np.exp(-x[0] - x[1]))).astype(np.float32)
            effect = 1 + np.maximum(x[0], 0) + x[2] / 2
            y = (
                np.sin(2 * x[1])
                + np.where(x[3] > 0, x[0], 0)
                + treated * effect
                + draw.standard_normal(count, np.float32)
            )
            arrays = [np.arange(begin, begin + count), *(one.astype(np.float32) for one in (y, treated, effect)), *x]
            yield pa.record_batch(list(map(pa.array, arrays)), schema=schema)

    with ib.connect(folder) as lake:
        if "bench.learners" not in lake.tables():
            lake.write("bench.learners", pa.RecordBatchReader.from_batches(schema, made()), "create")
    return folder


def files_of(folder: Path) -> list[str]:
    """Return the paths of the table's data files."""
    import iceblink as ib

    with ib.connect(folder) as lake:
        found = lake.table("bench.learners.files").to_arrow()["file_path"].to_pylist()
        return [path.removeprefix("file://") for path in found]


def ours(folder: str, files: list[str], cpus: int) -> Job:
    """Learn where the rows are."""

    def job() -> Generator[int, None, Any]:
        import iceblink as ib
        from iceblink import causal as ci

        with ib.connect(folder, engine=ib.LocalEngine(threads=cpus)) as lake:
            data = lake.table("bench.learners")
            trees = ci.models.XGBoost(rounds=ROUNDS, depth=DEPTH, learning_rate=RATE, threads=cpus)
            learnt = ci.XLearner("y", "t", NAMES, outcome_model=trees).fit(data)
            scored = learnt.effect(data, "learnt").sql(
                "SELECT sqrt(avg((learnt - effect) ** 2)) AS missed, count(*) AS n FROM this"
            )
            found = scored.to_arrow()
            yield found["n"][0].as_py()
        return {"missed": found["missed"][0].as_py(), "peak_bytes": family_peak_bytes()}

    return job


def causalml(folder: str, files: list[str], cpus: int) -> Job:
    """CausalML's BaseXRegressor."""

    def job() -> Generator[int, None, Any]:
        import numpy as np
        import pyarrow.parquet as pq
        from causalml.inference.meta import BaseXRegressor
        from sklearn.linear_model import LogisticRegression
        from xgboost import XGBRegressor

        read = pq.read_table(files, columns=["y", "t", "effect", *NAMES])
        x = np.column_stack([read[name].to_numpy() for name in NAMES])
        y, t, effect = (read[name].to_numpy() for name in ("y", "t", "effect"))
        del read
        treatment = t.astype(int)
        chance = LogisticRegression(C=np.inf).fit(x, treatment).predict_proba(x)[:, 1]
        trees = XGBRegressor(n_estimators=ROUNDS, max_depth=DEPTH, learning_rate=RATE, tree_method="hist", n_jobs=cpus)
        learner = BaseXRegressor(learner=trees, control_name=0)
        found = learner.fit_predict(x, treatment, y, p=chance, verbose=False).ravel()
        yield len(y)
        return {"missed": float(np.sqrt(np.mean((found - effect) ** 2))), "peak_bytes": family_peak_bytes()}

    return job


CONTESTANTS = (
    Contestant("iceblink", ours, ("iceblink", "xgboost")),
    Contestant("CausalML BaseXRegressor", causalml, ("causalml", "xgboost"), PEERS),
)


def sizes(options: Options) -> list[int]:
    """Return the numbers of rows to measure: up to those asked for, by tens."""
    return [2_000] if options.small else [rows for rows in (100_000, 1_000_000) if rows <= options.rows]


def report(options: Options) -> str:
    """Measure each size."""
    text = heading(TITLE, options)
    for rows in sizes(options):
        folder = ensure_table(rows)
        given = {"folder": str(folder), "files": files_of(folder), "cpus": options.cpus}
        results = in_turns(options.chosen(CONTESTANTS), given, options.runs, options.cpus, options.limit_s)
        lines = [
            [name, f"{runs[-1].detail['missed']:.4f}", f"{runs[-1].detail['peak_bytes'] / MIB:,.0f}"]
            for name, runs in results.items()
            if not problem_of(runs)
        ]
        detail = table(["", "PEHE", "whole process, peak MB"], lines)
        text += f"\n### {rows:,} rows\n\n{comparison(results)}\n\n{detail}\n"
    return text


if __name__ == "__main__":
    print(report(read_options(TITLE)))
