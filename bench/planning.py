"""Plan tables of ten and fifty thousand files: the files, the splits, what a split weighs; here and by workers on Ray:
``python -m bench.planning``.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.command import Options, heading, read_options
from bench.many_files import FILE_ROWS, NAME, ensure_many
from bench.measure import Contestant, Job, Result, in_turns
from bench.mixed import open_catalog
from bench.report import comparison, middle, problem_of, seconds, table

TITLE = "Planning"
FILES = "iceblink Table.files"
MANY = 50_000


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


def planned_here(folder: str, cpus: int) -> Job:
    """``plan_scan`` in this process, which has read none of the metadata before."""
    from iceblink.mapped import here

    return planned_by(folder, cpus, here)


def planned_on_ray(folder: str, cpus: int) -> Job:
    """``plan_scan`` in workers that are there already; not asked whether that is worth it."""
    import iceblink as ib
    from iceblink.config import Settings
    from iceblink.mapped import Each
    from iceblink.run.distributed import planning
    from iceblink.run.distributed.planning import OverWorkers
    from iceblink.run.distributed.runner import Runner

    engine = ib.RayEngine(threads=cpus)
    runner = Runner(engine.backend(), Settings(threads=cpus), lambda _: None, processes=True)
    mapped = OverWorkers(runner, NAME)
    planning.WORTH_S = 0  # measured also where it is not worth it
    list(mapped(Each("warm-up", warming, lambda _: 1.0, 1), range(2 * cpus)))
    list(planned_by(str(ensure_many(20)), cpus, mapped)())
    return planned_by(folder, cpus, mapped)


def warming() -> Callable[[int], None]:
    """Return work so long that every worker has to do some."""
    import iceblink.scan.plan  # what a worker imports once is no part of a plan

    assert iceblink.scan.plan
    return lambda _: time.sleep(1)


def planned_by(folder: str, cpus: int, mapped: Any) -> Job:
    """Return a job that plans all columns and counts the files; its detail is what this process itself did."""
    from iceblink.config import Settings
    from iceblink.lake.catalog import Catalog
    from iceblink.predicate import Everything
    from iceblink.scan.plan import plan_scan

    made = Catalog.embedded(folder).load(NAME)

    def job() -> Generator[int, None, dict[str, float]]:
        before_s = time.process_time()
        planned = plan_scan(made, None, Everything(), Settings(threads=cpus), mapped)
        driver_s = time.process_time() - before_s
        yield planned.files
        return {"driver_s": driver_s}

    return job


LISTERS = (
    Contestant(FILES, iceblink_files, ("iceblink",)),
    Contestant("PyIceberg plan_files", pyiceberg_files, ("pyiceberg",)),
)
SPLITTERS = (
    Contestant("iceblink plan_scan", iceblink_packed, ("iceblink",)),
    Contestant("iceblink plan_scan, a file a split", iceblink_single, ("iceblink",)),
)

HERE = "iceblink plan_scan, here"
PLANNERS = (
    Contestant(HERE, planned_here, ("iceblink",)),
    Contestant("iceblink plan_scan, on Ray", planned_on_ray, ("iceblink", "ray")),
)


def report(options: Options) -> str:
    """Measure a plan of every file, and one that the statistics narrow to a hundredth."""
    files = 200 if options.small else 10_000
    folder = ensure_many(files)
    parts = [heading(TITLE, options)]
    few = files // 100
    # the made-up statistics that narrow the second plan are not those of the footers, which only a split planner reads
    plans = ((0, f"all {files:,} files", LISTERS + SPLITTERS), (few * FILE_ROWS, f"{few} of {files:,} files", LISTERS))
    for below, name, planners in options.some(plans):
        arguments = {"folder": str(folder), "below": below}
        results = in_turns(options.chosen(planners), arguments, options.runs, options.cpus)
        parts.append(f"### {name}\n\n{comparison(results, reference=FILES, amount='files')}\n")
        parts.append(f"{weights(results)}\n")
    parts.append(many(files if options.small else MANY, options))
    for count, what in {files: "manifests are most of it", 200: "every footer is read"}.items():
        arguments = {"folder": str(ensure_many(count)), "cpus": options.cpus}
        results = in_turns(options.chosen(PLANNERS), arguments, options.runs, options.cpus)
        name = f"{count:,} files, {what}; here and on Ray with {options.cpus} CPUs"
        parts.append(f"### {name}\n\n{comparison(results, reference=HERE, amount='files')}\n")
        parts.append(f"{driver_seconds(results)}\n")
    return "\n".join(parts)


def many(files: int, options: Options) -> str:
    """Measure a plan of very many files, in one process, beside PyIceberg's list of them."""
    results = in_turns(
        options.chosen((SPLITTERS[0], LISTERS[1])),
        {"folder": str(ensure_many(files)), "below": 0},
        options.runs,
        options.cpus,
    )
    said = [
        f"{name}: {middle(runs, lambda one: one.wall_s) / runs[-1].rows * 1e6:,.0f} microseconds a file"
        for name, runs in results.items()
        if not problem_of(runs)
    ]
    return f"### {files:,} files\n\n{comparison(results, SPLITTERS[0].name, 'files')}\n\n{'; '.join(said)}\n"


def weights(results: Mapping[str, Sequence[Result]]) -> str:
    """Return what one planned item weighs when it is pickled."""
    rows = [
        [name, f"{runs[-1].detail['mean']:,}", f"{runs[-1].detail['largest']:,}"]
        for name, runs in results.items()
        if not problem_of(runs)
    ]
    return table(["pickled", "mean bytes", "largest bytes"], rows)


def driver_seconds(results: Mapping[str, Sequence[Result]]) -> str:
    """Return the CPU time of the process that asked for a plan, beside that of all."""
    rows = [
        [name, seconds(median(run.detail["driver_s"] for run in runs)), seconds(median(run.cpu_s for run in runs))]
        for name, runs in results.items()
        if not problem_of(runs)
    ]
    return table(["", "driver CPU s", "all CPU s"], rows)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
