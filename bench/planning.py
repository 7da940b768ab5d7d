"""Plan a table of ten thousand files: the files, the splits, and what a split weighs: ``python -m bench.planning``."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.command import Options, heading, read_options
from bench.many_files import FILE_ROWS, NAME, ensure_many
from bench.measure import Contestant, Job, Result, in_turns
from bench.mixed import open_catalog
from bench.report import comparison, problem_of, table

TITLE = "Planning"
FILES = "iceblink Table.files"


def pyiceberg_files(folder: str, below: int) -> Job:
    """``plan_files``."""
    made = open_catalog(Path(folder)).load_table(NAME)
    return counted(lambda: made.scan(row_filter=f"c00 < {below}" if below else "true").plan_files())


def iceblink_files(folder: str, below: int) -> Job:
    """``Table.files``: the same question, answered with plain entries."""
    from iceblink.lake.catalog import Catalog

    made = Catalog.embedded(folder).load(NAME)
    return counted(lambda: made.files(predicate(below)))


def iceblink_packed(folder: str, below: int) -> Job:
    """``plan_scan``: footers read as well, small files packed together."""
    return counted(splits(folder, below, None))


def iceblink_single(folder: str, below: int) -> Job:
    """``plan_scan`` asked for splits so small that each file is one."""
    return counted(splits(folder, below, 1))


def splits(folder: str, below: int, split_bytes: int | None) -> Callable[[], Iterable[Any]]:
    """Return a function that plans the scan of all columns."""
    from iceblink.config import Settings
    from iceblink.lake.catalog import Catalog
    from iceblink.scan.plan import plan_scan

    made = Catalog.embedded(folder).load(NAME)
    settings = Settings() if split_bytes is None else Settings(split_bytes=split_bytes)
    return lambda: plan_scan(made, None, predicate(below), settings).splits


def predicate(below: int) -> Any:
    """Return ``c00 < below`` as iceblink's planner takes it."""
    from iceblink.predicate import Compare, Everything

    return Compare("c00", "<", below) if below else Everything()


def counted(plan: Callable[[], Iterable[Any]]) -> Job:
    """Return a job that plans and counts the files; its detail is the size of what it planned."""

    def job() -> Generator[int, None, dict[str, int]]:
        planned = []
        for item in plan():
            planned.append(item)
            yield len(getattr(item, "pieces", (item,)))  # a split may hold several files
        return weighed(planned)

    return job


def weighed(planned: Sequence[Any]) -> dict[str, int]:
    """Return the largest and the mean pickled size of a sample of two hundred [bytes]."""
    sizes = [len(pickle.dumps(item)) for item in planned[:: max(1, len(planned) // 200)]]
    return {"count": len(planned), "largest": max(sizes, default=0), "mean": sum(sizes) // max(1, len(sizes))}


LISTERS = (
    Contestant(FILES, iceblink_files, ("iceblink",)),
    Contestant("PyIceberg plan_files", pyiceberg_files, ("pyiceberg",)),
)
SPLITTERS = (
    Contestant("iceblink plan_scan", iceblink_packed, ("iceblink",)),
    Contestant("iceblink plan_scan, a file a split", iceblink_single, ("iceblink",)),
)


def report(options: Options) -> str:
    """Measure a plan of every file, and one that the statistics narrow to a hundredth."""
    files = 200 if options.small else 10_000
    folder = ensure_many(files)
    parts = [heading(TITLE, options)]
    few = files // 100
    # the made-up statistics that narrow the second plan are not those of the footers, which only a split planner reads
    plans = ((0, f"all {files:,} files", LISTERS + SPLITTERS), (few * FILE_ROWS, f"{few} of {files:,} files", LISTERS))
    for below, name, planners in plans:
        arguments = {"folder": str(folder), "below": below}
        results = in_turns(options.chosen(planners), arguments, options.runs, options.cpus)
        parts.append(f"### {name}\n\n{comparison(results, reference=FILES, amount='files')}\n")
        parts.append(f"{weights(results)}\n")
    return "\n".join(parts)


def weights(results: Mapping[str, Sequence[Result]]) -> str:
    """Return what one planned item weighs when it is pickled."""
    rows = [
        [name, f"{runs[-1].detail['mean']:,}", f"{runs[-1].detail['largest']:,}"]
        for name, runs in results.items()
        if not problem_of(runs)
    ]
    return table(["pickled", "mean bytes", "largest bytes"], rows)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
