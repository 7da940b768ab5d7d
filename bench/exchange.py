"""Rows that have to meet, on Ray: more of them than memory, very many groups, one key with most of them.

``python -m bench.exchange``; `--gb` is the size of each of two tables that are joined and sorted, in a quarter as much
memory. Memory is what all processes have for themselves, and the object store once: sampled, less what an idle Ray has.
Two tables of 4 GiB in 1 GiB, beside Ray Data, each for an hour at most::

    python -m bench.exchange --gb 4 --parts join sort --only iceblink "Ray Data" --limit-s 3600
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa

from bench.command import Options, heading, read_options
from bench.exchange_tables import data_files, ensure_exchange
from bench.measure import Contestant, Job, Result, family, in_turns
from bench.mixed import open_catalog
from bench.report import OURS, middle, problem_of, problems, ratio, seconds, table
from bench.tpch_engines import start_ray

TITLE = "Rows that meet on Ray"
MEMORY_PART = 4  # the tables are so many times larger than the memory
PLENTY = 4 << 30  # bytes, where memory is not what is measured
PARTITIONS = 32  # Ray Data wants to be told
SUMS = ", ".join(f"sum(l.x{number} + r.x{number}) AS s{number}" for number in range(7))
STATEMENTS = {
    "join": f"SELECT count(*) AS n, {SUMS} FROM {{left_side}} AS l JOIN {{right_side}} AS r ON l.id = r.id",
    "groups": "SELECT count(*) AS n, sum(s) AS s FROM (SELECT k, sum(v) AS s FROM {groups} GROUP BY k) AS g",
    "even": "SELECT count(*) AS n, sum(v * w) AS s FROM {even} AS f JOIN {dimension} AS d ON f.k = d.k",
    "skewed": "SELECT count(*) AS n, sum(v * w) AS s FROM {skewed} AS f JOIN {dimension} AS d ON f.k = d.k",
}
SORT = "SELECT * FROM {left_side} ORDER BY x0"
NAMES = ("left_side", "right_side", "groups", "even", "skewed", "dimension")


@dataclass
class Peak:
    """The most memory seen [bytes]."""

    nbytes: int = 0


@contextmanager
def peak_memory(every_s: float = 0.1) -> Iterator[Peak]:
    """Sample the memory of all processes inside the block, over what it was before."""
    before, peak, over = memory(), Peak(), threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            peak.nbytes = max(peak.nbytes, memory() - before)

    sampler = threading.Thread(target=look)
    sampler.start()
    try:
        yield peak
    finally:
        over.set()
        sampler.join()


def memory() -> int:
    """Return the private memory of all processes, and what they share, once [bytes]."""
    private, shared = 0, 0
    for pid in family():
        try:
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        except (OSError, ValueError):  # ended meanwhile
            continue
        private += int(lines.get("RssAnon", "0").split()[0]) * 1024
        shared = max(shared, int(lines.get("RssShmem", "0").split()[0]) * 1024)
    return private + shared


def iceblink_on_ray(folder: str, what: str, memory_bytes: int, cpus: int) -> Job:
    """SQL over Iceberg, within the memory."""
    import iceblink as ib

    engine = ib.RayEngine(threads=cpus, memory_bytes=memory_bytes)
    lake = ib.connect(folder, engine=engine)
    assert lake.sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]  # Ray is started
    names = {name: f"bench.{name}" for name in NAMES}
    if what == "sort":
        return sorted_job(lambda: lake.sql(SORT.format(**names)).to_batches())
    return summed_job(lambda: lake.sql(STATEMENTS[what].format(**names)).to_arrow())


def ray_data(folder: str, what: str, memory_bytes: int, cpus: int) -> Job:
    """Ray Data, its object store as large as the memory; what its workers have besides is measured, not limited."""
    return _ray_data(folder, what, memory_bytes, cpus)


def ray_data_on_disk(folder: str, what: str, memory_bytes: int, cpus: int) -> Job:
    """The same, joins and groups shuffled through files, as is advised for what is larger than the object store."""
    return _ray_data(folder, what, memory_bytes, cpus, use_disk_based_hash_shuffle=True)


def _ray_data(folder: str, what: str, memory_bytes: int, cpus: int, **options: Any) -> Job:
    import ray
    import ray.data

    settings: dict[str, Any] = {"object_store_memory": memory_bytes} if what in ("join", "sort") else {}
    start_ray(cpus, **settings)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.default_hash_shuffle_parallelism = PARTITIONS
    for name, value in options.items():
        setattr(context, name, value)

    def read(name: str) -> Any:
        return ray.data.read_parquet(data_files(folder, name))

    def totals(rows: Any, columns: dict[str, str]) -> pa.Table:
        found = rows.aggregate(ray.data.aggregate.Count(), *(ray.data.aggregate.Sum(one) for one in columns))
        return pa.table({name: [found[one]] for one, name in {"count()": "n", **_summed(columns)}.items()})

    def joined() -> pa.Table:
        both = read("left_side").join(
            read("right_side"), "inner", PARTITIONS, on=("id",), right_suffix="_r", left_suffix="_l"
        )
        added = both.map_batches(_added, batch_format="pyarrow")
        return totals(added, {f"s{number}": f"s{number}" for number in range(7)})

    def met(name: str) -> pa.Table:
        both = read(name).join(read("dimension"), "inner", PARTITIONS, on=("k",))
        return totals(both.map_batches(_multiplied, batch_format="pyarrow"), {"s": "s"})

    def grouped() -> pa.Table:
        return totals(read("groups").groupby("k").sum("v").rename_columns({"sum(v)": "s"}), {"s": "s"})

    if what == "sort":
        ordered = read("left_side").sort("x0")
        return sorted_job(lambda: ordered.iter_batches(batch_size=None, batch_format="pyarrow"))
    answers: dict[str, Callable[[], pa.Table]] = {"join": joined, "groups": grouped}
    return summed_job(answers.get(what, lambda: met(what)))


def daft_on_ray(folder: str, what: str, memory_bytes: int, cpus: int) -> Job:
    """SQL over Iceberg with Daft; no memory can be set for it."""
    import daft

    start_ray(cpus)
    daft.set_runner_ray(noop_if_initialized=True)
    catalog = open_catalog(Path(folder))
    frames: dict[str, Any] = {name: daft.read_iceberg(catalog.load_table(f"bench.{name}")) for name in NAMES}
    names = {name: name for name in NAMES}
    if what == "sort":
        return sorted_job(lambda: daft.sql(SORT.format(**names), **frames).to_arrow_iter())
    return summed_job(lambda: daft.sql(STATEMENTS[what].format(**names), **frames).to_arrow())


def _added(batch: pa.Table) -> pa.Table:
    sides = [(_side(batch, number, "l"), _side(batch, number, "r")) for number in range(7)]
    return pa.table({f"s{number}": pa.compute.add(*side) for number, side in enumerate(sides)})


def _side(batch: pa.Table, number: int, side: str) -> pa.ChunkedArray:
    return batch[f"x{number}_{side}"]


def _multiplied(batch: pa.Table) -> pa.Table:
    return pa.table({"s": pa.compute.multiply(batch["v"], batch["w"])})


def _summed(columns: dict[str, str]) -> dict[str, str]:
    return {f"sum({column})": name for column, name in columns.items()}


def summed_job(answer: Callable[[], pa.Table]) -> Job:
    """Return a job that gives one row: how many rows met, and sums of them."""

    def job() -> Generator[int, None, dict[str, Any]]:
        with peak_memory() as peak:
            (row,) = answer().to_pylist()
        yield int(row["n"])
        return {"peak": peak.nbytes, "sums": [float(value) for name, value in row.items() if name != "n"]}

    return job


def sorted_job(batches: Callable[[], Any]) -> Job:
    """Return a job that takes all rows in order."""

    def job() -> Generator[int, None, dict[str, Any]]:
        last, began = float("-inf"), time.perf_counter()
        with peak_memory() as peak:
            for batch in batches():
                keys = batch["x0"].to_numpy()
                assert last <= keys[0], "not in order"
                assert (keys[1:] >= keys[:-1]).all(), "not in order"
                last = float(keys[-1])
                yield batch.num_rows
        return {"peak": peak.nbytes, "sums": [], "wall_s": time.perf_counter() - began}

    return job


CONTESTANTS = (
    Contestant("iceblink", iceblink_on_ray, ("iceblink", "ray")),
    Contestant("Ray Data", ray_data, ("ray",)),
    Contestant("Ray Data, shuffle on disk", ray_data_on_disk, ("ray",)),
    Contestant("Daft on Ray", daft_on_ray, ("daft", "ray")),
)


def report(options: Options) -> str:
    """Measure the five tasks, or those that were asked for."""
    wide_bytes = int((0.002 if options.small else options.gb) * 2**30)
    rows = 20_000 if options.small else 20_000_000
    memory_bytes = max(256 << 20, wide_bytes // MEMORY_PART)
    folder = str(ensure_exchange(wide_bytes, rows))
    chosen = options.chosen(CONTESTANTS)
    found: dict[str, dict[str, list[Result]]] = {}
    for what in filter(options.wants, ("join", "sort", "groups", "even", "skewed")):
        memory = memory_bytes if what in ("join", "sort") else PLENTY
        arguments = {"folder": folder, "what": what, "memory_bytes": memory, "cpus": options.cpus}
        found[what] = in_turns(chosen, arguments, options.runs, options.cpus, options.limit_s)
    titles = {
        "join": f"two tables of {wide_bytes / 2**30:.3g} GiB joined within {memory_bytes / 2**30:.3g} GiB",
        "sort": f"one of them sorted within {memory_bytes / 2**30:.3g} GiB",
        "groups": f"{rows:,} rows in {rows // 2:,} groups",
        "even": f"{rows:,} rows joined with {rows // 4:,}",
        "skewed": "the same, one key with 40 % of the rows",
    }
    parts = [heading(TITLE, options)]
    parts += [f"### {titles[what]}\n\n{task_table(results)}\n" for what, results in found.items()]
    if {"even", "skewed"} <= found.keys():
        parts.append(skew_line(found["even"], found["skewed"]))
    return "\n".join(parts)


def task_table(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant."""
    header = ["", "wall s", "CPU s", "peak MB", "rows", f"{OURS} / it: wall", "CPU", "peak"]
    lines = []
    for name, runs in results.items():
        if problem := problem_of(runs):
            lines.append([name, problem.partition(":")[0], *[""] * (len(header) - 2)])
            continue
        lines.append(
            [
                name,
                seconds(middle(runs, lambda one: one.wall_s)),
                seconds(middle(runs, lambda one: one.cpu_s)),
                f"{median(one.detail['peak'] for one in runs) / 2**20:,.0f}",
                f"{runs[-1].rows:,}",
                ratio(results.get(OURS, ()), runs, lambda one: one.wall_s),
                ratio(results.get(OURS, ()), runs, lambda one: one.cpu_s),
                ratio(results.get(OURS, ()), runs, lambda one: one.detail["peak"]),
            ]
        )
    return table(header, lines) + problems(results) + differing(results)


def differing(results: dict[str, list[Result]]) -> str:
    """Return a warning where the contestants did not find the same."""
    found = {name: runs[-1] for name, runs in results.items() if not problem_of(runs)}
    answers = [(one.rows, *one.detail["sums"]) for one in found.values()]
    if not answers or all(_close(answers[0], answer) for answer in answers[1:]):
        return ""
    return f"\n\n**not the same answers**: {dict(zip(found, answers, strict=True))}"


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= 1e-6 * abs(a) for a, b in zip(one, other, strict=True))


def skew_line(even: dict[str, list[Result]], skewed: dict[str, list[Result]]) -> str:
    """Return how much longer the uneven join takes."""
    parts = [
        f"{name} {middle(skewed[name], lambda one: one.wall_s) / middle(runs, lambda one: one.wall_s):.2f}"
        for name, runs in even.items()
        if not problem_of(runs) and not problem_of(skewed[name])
    ]
    return f"Time of the uneven join, times that of the even one: {', '.join(parts)}.\n"


if __name__ == "__main__":
    print(report(read_options(TITLE)))
