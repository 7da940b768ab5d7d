"""The 22 TPC-H queries as SQL over Iceberg tables: ``python -m bench.tpch``.

In one process first, answers compared with DuckDB's; then on Ray, where they are compared with those of one process.
Ray Data has no SQL: of the queries, those that its words can express (`tpch_ray_data`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.answers import difference
from bench.command import Options, heading, read_options
from bench.measure import Contestant, Result, in_turns
from bench.report import OURS, mean_ratio, problem_of, problems, seconds, table
from bench.tpch_data import QUERIES, ensure_lake, tpch_folder
from bench.tpch_engines import ENGINES, NOT_EXPRESSED, RAY_ENGINES

TITLE = "TPC-H"
OURS_TOLERANCE = 1e-9
PEER_TOLERANCE = 1e-4  # a peer may average decimals to six digits


def report(options: Options) -> str:
    """Measure every engine and print one row a query."""
    return "\n".join(
        part_report(options, title, engines, ours, reference)
        for title, engines, ours, reference in (
            (TITLE, ENGINES, OURS, "DuckDB"),
            (f"{TITLE} on Ray", RAY_ENGINES, f"{OURS} on Ray", OURS),
        )
        if options.chosen(engines)
    )


def part_report(options: Options, title: str, engines: Sequence[Contestant], ours: str, reference: str) -> str:
    """Measure engines that belong together; answers are compared with those of `reference`."""
    scale = 0.01 if options.small else 1
    ensure_lake(scale)
    folder = tpch_folder(scale)
    arguments = {"folder": str(folder), "answers": str(folder / "answers"), "cpus": options.cpus}
    results = in_turns(options.chosen(engines), arguments, options.runs, options.cpus, options.limit_s)
    measured = queries_table(results, folder / "answers", ours, reference)
    return f"{heading(f'{title} at scale factor {scale:g}', options)}\n{measured}\n"


def queries_table(results: Mapping[str, Sequence[Result]], answers: Path, ours: str, reference: str) -> str:
    """Return medians of wall seconds, `ours` divided by each peer's, and whether its answer equals the reference's."""
    peers = [name for name in results if name != ours]
    header = ["query", *(f"{name} s" for name in results), *(f"{ours} / {peer}" for peer in peers), "answer"]
    rows, notes = [], []
    ratios: dict[str, list[float]] = {peer: [] for peer in peers}
    for query in QUERIES:
        verdicts = {name: verdict(results[name], answers / name, answers / reference, query) for name in results}
        row = [query, *(cell(results[name], query, bool(verdicts[name])) for name in results)]
        for peer in peers:
            mine, theirs = walls(results.get(ours, ()), query), walls(results[peer], query)
            pairs = [one / other for one, other in zip(mine, theirs, strict=False)]
            row.append(f"{median(pairs):.2f}" if pairs else "-")
            ratios[peer] += [median(pairs)] if pairs else []
        rows.append([*row, "differs" if verdicts.get(ours) else "equal"])
        notes += [
            f"{query}, {name}: {text}"
            for name, text in verdicts.items()
            if text and text != NOT_EXPRESSED and not problem_of(results[name])
        ]
    blanks = [""] * len(results)
    rows.append(["geometric mean", *blanks, *(mean_ratio(ratios[peer]) for peer in peers), ""])
    rows.append(["peak MB", *(peak(runs) for runs in results.values()), *[""] * (len(peers) + 1)])
    return table(header, rows) + problems(results) + "".join(f"\n\n{note}" for note in notes)


def verdict(runs: Sequence[Result], answers: Path, reference: Path, query: str) -> str:
    """Return what is wrong with the answer of one engine to `query`, or nothing."""
    if problem := problem_of(runs):
        return problem
    if problem := runs[-1].detail[query].get("problem", ""):
        return str(problem)
    tolerance = OURS_TOLERANCE if answers.name.startswith(OURS) else PEER_TOLERANCE
    return difference(answers / f"{query}.arrow", reference / f"{query}.arrow", tolerance)


def walls(runs: Sequence[Result], query: str) -> list[float]:
    """Return the wall times of one query, none if it failed."""
    if problem_of(runs):
        return []
    return [run.detail[query]["wall_s"] for run in runs if "wall_s" in run.detail[query]]


def cell(runs: Sequence[Result], query: str, wrong: bool) -> str:
    """Return the median wall time, or that there is none."""
    times = walls(runs, query)
    if not times:
        problem = problem_of(runs) or runs[-1].detail[query]["problem"]
        return problem.partition(":")[0] if problem_of(runs) or problem == NOT_EXPRESSED else "failed"
    return ("wrong " if wrong else "") + seconds(median(times))


def peak(runs: Sequence[Result]) -> str:
    """Return the memory added by all queries together [MB]."""
    return "-" if problem_of(runs) else f"{median(run.added_bytes for run in runs) / (1 << 20):,.0f}"


if __name__ == "__main__":
    print(report(read_options(TITLE)))
