"""Grow uplift and causal forests from a table, beside CausalML and EconML: ``python -m bench.forests --rows 100000``.

Peers, whose pins fight ours, are run by the Python that ``ICEBLINK_CAUSAL_PEERS`` names, over arrays that are in memory
before it is measured; without it they are left out. How good the effects of 20,000 other rows are stands below.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.command import DATA, Options, heading, read_options
from bench.forest_data import FEATURES, drawn, judged
from bench.forest_peers import TEST_ROWS
from bench.measure import ROOT, Contestant, Job, Result, in_turns
from bench.report import comparison, problem_of, table

TITLE = "Forests"
PEERS = os.environ.get("ICEBLINK_CAUSAL_PEERS", "")
CHUNK_ROWS = 100_000
SHAPES = {"uplift": (10, 5, 100), "causal": (24, 8, 50)}
"""Trees, depth and rows of a leaf."""


def ensure_table(rows: int) -> Path:
    """Return a lake with a table of this many rows."""
    import iceblink as ib

    folder = DATA / f"forests-{rows}"
    with ib.connect(folder) as lake:
        if "bench.train" not in lake.tables():
            columns = pa.table(drawn(rows, 0))
            batches: Iterator[pa.RecordBatch] = iter(columns.to_batches(CHUNK_ROWS))
            lake.write("bench.train", pa.RecordBatchReader.from_batches(columns.schema, batches), "create")
    return folder


def uplift(folder: str, cpus: int, rows: int) -> Job:
    """Our uplift forest."""
    from iceblink import causal as ci

    trees, depth, leaf = SHAPES["uplift"]
    forest = ci.UpliftForest("bought", "lot", FEATURES, "id", None, trees, depth, min_leaf=leaf, max_features=None)
    return ours(forest, "uplift", folder, cpus)


def causal(folder: str, cpus: int, rows: int) -> Job:
    """Our causal forest."""
    from iceblink import causal as ci

    trees, depth, leaf = SHAPES["causal"]
    forest = ci.CausalForest("spent", "chosen", FEATURES, "id", trees=trees, depth=depth, min_leaf=leaf)
    return ours(forest, "effect", folder, cpus)


def ours(forest: Any, truth: str, folder: str, cpus: int) -> Job:
    """Grow a forest of ours."""
    import iceblink as ib

    lake = ib.connect(folder, engine=ib.LocalEngine(threads=cpus))
    test = drawn(TEST_ROWS, 1)
    truths = test.pop(truth)
    test.pop("uplift" if truth == "effect" else "effect")

    def job() -> Generator[int, None, dict[str, float]]:
        train = lake.table("bench.train")
        grown = forest.fit(train)
        yield train.count()
        found = grown.effect(lake.from_arrow(pa.table(test)), "found").to_arrow()["found"]
        return judged(np.asarray(found.to_numpy()), truths)

    return job


def causalml(folder: str, cpus: int, rows: int) -> Job:
    """CausalML's uplift forest."""
    return theirs("causalml", rows, SHAPES["uplift"])


def econml(folder: str, cpus: int, rows: int) -> Job:
    """EconML's causal forest."""
    return theirs("econml", rows, SHAPES["causal"])


def theirs(peer: str, rows: int, shape: tuple[int, ...]) -> Job:
    """Start a peer, and wait until it has its data."""
    command = [PEERS, "-m", "bench.forest_peers", peer, str(rows), *map(str, shape)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    orders, answers = process.stdin, process.stdout
    if answers.readline().strip() != "ready":
        raise RuntimeError(f"{peer} is not there")

    def job() -> Generator[int, None, dict[str, float]]:
        orders.write("go\n")
        orders.flush()
        found: dict[str, float] = json.loads(answers.readline())
        yield rows
        return found

    return job


def accuracy(results: Mapping[str, Sequence[Result]]) -> str:
    """Return a line for each contestant: the error of its effects, and what choosing rows by them gains."""
    found = {name: runs[-1].detail for name, runs in results.items() if not problem_of(runs)}
    lines = [[name, f"{detail['PEHE']:.4f}", f"{detail['AUUC']:.4f}"] for name, detail in found.items()]
    return table(["", "PEHE", "AUUC"], lines)


PARTS = {
    "uplift": [Contestant("iceblink", uplift, ("iceblink",)), *([Contestant("CausalML", causalml)] if PEERS else [])],
    "causal": [Contestant("iceblink", causal, ("iceblink",)), *([Contestant("EconML", econml)] if PEERS else [])],
}


def report(options: Options) -> str:
    """Grow each kind of forest."""
    rows = 2_000 if options.small else options.rows
    given = {"folder": str(ensure_table(rows)), "cpus": options.cpus, "rows": rows}
    parts = [heading(TITLE, options), f"{rows:,} rows of {len(FEATURES)} features.\n"]
    for name, contestants in PARTS.items():
        if options.wants(name):
            trees, depth, leaf = SHAPES[name]
            results = in_turns(options.chosen(contestants), given, options.runs, options.cpus, options.limit_s)
            parts.append(f"### {name}: {trees} trees of depth {depth}, leaves of {leaf} rows\n")
            parts.append(f"{comparison(results)}\n\n{accuracy(results)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
