"""How evenly tasks that read share out what they decode, and what memory that takes: ``python -m bench.balance``.

What a task decodes is what it really yields, counted where the task runs, not what was estimated: each contestant's own
tasks, as its own planner made them, are run on Ray, each in a fresh worker that only that task uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pyarrow as pa

from bench.balance_files import NAME, ensure_balance
from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, Result, in_turns
from bench.report import MIB, problem_of, problems, table
from bench.tpch_engines import start_ray

TITLE = "Balance of a scan"
ASKED = 1.15  # max / mean

Rows = Callable[[], Iterable[pa.Table | pa.RecordBatch]]
"""One task: picklable, and yields what it decodes."""


def ours(folder: str, cpus: int, tasks: int) -> Job:
    """The shares that tasks of our own engine read on a cluster of so many CPUs."""
    from iceblink.config import Settings
    from iceblink.lake.catalog import Catalog
    from iceblink.predicate import Everything
    from iceblink.run.distributed.tables import ScanTable, split_bytes
    from iceblink.scan.plan import plan_scan

    start_ray(os.cpu_count() or 1)
    made = Catalog.embedded(folder).load(NAME)
    settings = Settings(threads=1)
    plan = plan_scan(made, None, Everything(), split_bytes(settings))
    shares = ScanTable(plan, plan.schema, tuple(plan.schema.names)).shares(cpus)
    common = (plan.table_schema, plan.storage, settings, plan.owner)
    return each_task([partial(decoded, share, *common) for share in shares])


def decoded(splits: Sequence[Any], schema: pa.Schema, storage: Any, settings: Any, owner: str) -> Iterable[Any]:
    """Yield the rows of some splits, as a task does for its statement."""
    from iceblink.scan.read import read_split

    for split in splits:
        for batch in read_split(split, schema, storage, settings, owner):
            yield batch.data


def ours_in_ray_data(folder: str, cpus: int, tasks: int) -> Job:
    """The read tasks that ``ib.ray.read_iceberg`` gives to Ray Data."""
    from iceblink.config import Settings
    from iceblink.lake.catalog import Catalog
    from iceblink.neighbours.ray_datasource import IceblinkDatasource
    from iceblink.run.local_engine import LocalEngine
    from iceblink.run.parts import Parts
    from iceblink.run.session import Session

    start_ray(os.cpu_count() or 1)
    settings = Settings(threads=cpus)
    plan = Session(Catalog.embedded(folder), LocalEngine(threads=cpus)).table(NAME)
    parts = Parts.of(plan, settings)
    assert parts is not None, "a table is a scan"
    return each_task(IceblinkDatasource(plan, settings, parts).get_read_tasks(tasks))


def ray_data(folder: str, cpus: int, tasks: int) -> Job:
    """The read tasks of ``ray.data.read_iceberg``."""
    from ray.data._internal.datasource.iceberg_datasource import IcebergDatasource

    start_ray(os.cpu_count() or 1)
    catalog = {"name": "default", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": folder, "type": "sql"}
    return each_task(IcebergDatasource(NAME, catalog_kwargs=catalog).get_read_tasks(tasks))


def each_task(tasks: Sequence[Rows]) -> Job:
    """Return a job that runs every task in a worker of its own and tells what each decoded and took."""
    import ray

    fresh: Any = ray.remote(max_calls=1, max_retries=0)(alone)

    def job() -> Generator[int, None, list[tuple[int, int]]]:
        found = []
        for answer in [fresh.remote(task) for task in tasks]:
            rows, nbytes, private = ray.get(answer)
            found.append((nbytes, private))
            yield rows
        return found

    return job


def alone(task: Rows) -> tuple[int, int, int]:
    """Run a task, dropping what it yields, and return its rows, decoded bytes and most private memory added."""
    from bench.exchange import peak_memory

    rows = nbytes = 0
    with peak_memory(every_s=0.005) as peak:
        for block in task():
            rows += block.num_rows
            nbytes += block.nbytes
            del block
    return rows, nbytes, peak.nbytes


CONTESTANTS = (
    Contestant("iceblink", ours, ("iceblink", "ray")),
    Contestant("ib.ray.read_iceberg", ours_in_ray_data, ("iceblink", "ray")),
    Contestant("ray.data.read_iceberg", ray_data, ("ray", "pyiceberg")),
)


def report(options: Options) -> str:
    """Measure our own shares for a few CPUs, and as many tasks of Ray Data, four for each CPU."""
    files, groups, cpus = (6, 3, 1) if options.small else (48, 12, 4)
    folder = str(Path(ensure_balance(files, groups)))
    arguments = {"folder": folder, "cpus": cpus, "tasks": 4 * cpus}
    results = in_turns(options.chosen(CONTESTANTS), arguments, options.runs, options.cpus)
    return f"{heading(TITLE, options)}\n{balance(results)}\n\nAsked: max / mean of decoded bytes at most {ASKED}.\n"


def balance(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant: how even its tasks are, and the memory of the largest."""
    header = ["", "tasks", "mean MiB", "max MiB", "max / mean", "memory MiB, median", "largest", "rows"]
    lines = []
    for name, runs in results.items():
        if problem := problem_of(runs):
            lines.append([name, problem.partition(":")[0], *[""] * (len(header) - 2)])
            continue
        sizes = [nbytes for nbytes, _ in runs[-1].detail]
        private = [[nbytes for _, nbytes in one.detail] for one in runs]
        lines.append(
            [
                name,
                f"{len(sizes)}",
                f"{fmean(sizes) / MIB:.1f}",
                f"{max(sizes) / MIB:.1f}",
                f"{max(sizes) / fmean(sizes):.2f}",
                f"{median(map(median, private)) / MIB:.0f}",
                f"{median(map(max, private)) / MIB:.0f}",
                f"{runs[-1].rows:,}",
            ]
        )
    return table(header, lines) + problems(results)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
