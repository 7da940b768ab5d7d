"""What a task costs: ten thousand tiny files read on Ray, one a task or packed together: ``python -m bench.splits``.

``--files`` is how many, ``--limit-s`` what each may take: Ray Data needs tens of milliseconds for each task.
``--parts`` count, sum, map: some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from bench.command import Options, heading, read_options
from bench.many_files import FILE_ROWS, NAME, ensure_many
from bench.measure import Contestant, Job, Result, in_turns
from bench.report import OURS, middle, problem_of, problems, ratio, seconds, table
from bench.tpch_engines import start_ray

TITLE = "Ten thousand small splits"
COUNT, SUM, MAP = "count", "sum", "map"


def packed(folder: str, what: str, files: int, cpus: int) -> Job:
    """Splits as they are planned: small files together, as long as that leaves work for all CPUs."""
    return _ours(folder, what, files, cpus)


def single(folder: str, what: str, files: int, cpus: int) -> Job:
    """One file a split and one split a task, which nobody should want."""
    import iceblink.run.distributed.tables as tables

    tables.LEAST_BYTES = 1  # of a task: each then has one split, and a split one file
    tables.TASK_BYTES = 1
    return _ours(folder, what, files, cpus, split_bytes=1)


def _ours(folder: str, what: str, files: int, cpus: int, **settings: Any) -> Job:
    import iceblink as ib

    engine = ib.RayEngine(threads=cpus, small_bytes=0, **settings)
    lake = ib.connect(folder, engine=engine)
    assert lake.sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]  # Ray is started
    if what == COUNT:
        return summed(lambda: lake.sql(f"SELECT count(*) AS n FROM {NAME}").to_pylist()[0]["n"])
    if what == SUM:
        return summed(lambda: lake.sql(f"SELECT count(*) AS n, sum(c01) AS s FROM {NAME}").to_pylist()[0]["n"])
    rows = lake.table(NAME).select("c00").map_batches(same, schema={"c00": "long"})
    return summed(lambda: sum(batch.num_rows for batch in rows.to_batches()))


def ray_packed(folder: str, what: str, files: int, cpus: int) -> Job:
    """``read_parquet`` as it divides the files itself."""
    return _ray_data(folder, what, cpus, None)


def ray_single(folder: str, what: str, files: int, cpus: int) -> Job:
    """A task for each file."""
    return _ray_data(folder, what, cpus, files)


def _ray_data(folder: str, what: str, cpus: int, tasks: int | None) -> Job:
    import ray.data

    start_ray(cpus)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def rows() -> int:
        column = "c01" if what == SUM else "c00"
        paths = sorted(map(str, (Path(folder) / "files").glob("*.parquet")))
        if what == COUNT:
            return int(ray.data.read_parquet(paths, override_num_blocks=tasks).count())
        read = ray.data.read_parquet(paths, columns=[column], override_num_blocks=tasks)
        if what == SUM:
            found = read.aggregate(ray.data.aggregate.Count(), ray.data.aggregate.Sum(column))
            return int(found["count()"])
        mapped = read.map_batches(same, batch_format="pyarrow")
        return sum(len(batch) for batch in mapped.iter_batches(batch_size=None, batch_format="pyarrow"))

    return summed(rows)


def same(batch: Any) -> Any:
    """Return the batch."""
    return batch


def summed(rows: Callable[[], int]) -> Job:
    """Return a job that counts the rows."""

    def job() -> Generator[int, None, None]:
        yield rows()

    return job


CONTESTANTS = (
    Contestant("iceblink", packed, ("iceblink", "ray")),
    Contestant("iceblink, a file a task", single, ("iceblink", "ray")),
    Contestant("Ray Data", ray_packed, ("ray",)),
    Contestant("Ray Data, a file a task", ray_single, ("ray",)),
)


def report(options: Options) -> str:
    """Measure a count, a sum and a function over every file."""
    files = 40 if options.small else options.files
    folder = str(ensure_many(files))
    parts = [heading(TITLE, options)]
    titles = {COUNT: "a count", SUM: "a count and a sum", MAP: "map_batches of a function that returns its batch"}
    for what, title in titles.items():
        if not options.wants(what):
            continue
        arguments = {"folder": folder, "what": what, "files": files, "cpus": options.cpus}
        results = in_turns(options.chosen(CONTESTANTS), arguments, options.runs, options.cpus, options.limit_s)
        parts.append(f"### {title} over {files:,} files of {FILE_ROWS} rows\n\n{per_file(results, files)}\n")
    return "\n".join(parts)


def per_file(results: dict[str, list[Result]], files: int) -> str:
    """Return one row a contestant: what all files took, and each of them."""
    header = ["", "wall s", "CPU s", "wall ms a file", "CPU ms a file", "rows", f"{OURS} / it: wall", "CPU"]
    lines: list[Sequence[str]] = []
    for name, runs in results.items():
        if problem := problem_of(runs):
            lines.append([name, problem.partition(":")[0], *[""] * (len(header) - 2)])
            continue
        wall_s, cpu_s = middle(runs, lambda one: one.wall_s), middle(runs, lambda one: one.cpu_s)
        cells = [name, seconds(wall_s), seconds(cpu_s), f"{wall_s / files * 1e3:.2f}", f"{cpu_s / files * 1e3:.2f}"]
        ours = results.get(OURS, ())
        ratios = [ratio(ours, runs, lambda one: one.wall_s), ratio(ours, runs, lambda one: one.cpu_s)]
        lines.append([*cells, f"{runs[-1].rows:,}", *ratios])
    return table(header, lines) + problems(results)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
