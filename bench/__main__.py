"""Run every benchmark, one after the other: ``python -m bench``."""

from __future__ import annotations

from bench import (
    balance,
    changes,
    codecs,
    compaction,
    distinct,
    dml,
    driver,
    embed,
    estimate,
    experiments,
    forests,
    imports,
    layout,
    learners,
    loaders,
    pipeline,
    planning,
    remote,
    scan,
    splits,
    tpch,
    transform,
    udf,
    write,
)
from bench.command import read_options

BENCHMARKS = (
    imports,
    estimate,
    planning,
    udf,
    pipeline,
    embed,
    scan,
    remote,
    layout,
    loaders,
    transform,
    balance,
    driver,
    distinct,
    experiments,
    learners,
    forests,
    dml,
    tpch,
    write,
    codecs,
    changes,
    compaction,
    splits,
)  # the quick ones first


def main() -> None:
    """Print each report as soon as it is there."""
    options = read_options("All benchmarks of iceblink against its peers")
    for benchmark in BENCHMARKS:
        print(benchmark.report(options), flush=True)


if __name__ == "__main__":
    main()
