"""What the driver of a run does for each task, output, worker and piece of an exchange, on paper to be multiplied:
``python -m bench.driver``.

The scheduler runs over a backend whose workers do nothing (`idle_backend`), so that all the CPU time is its own. What
Ray takes besides is measured with workers of Ray that do nothing. `docs/explanation/a-thousand-nodes.md` multiplies.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, Result, family_peak_bytes, in_turns
from bench.report import problem_of, problems, table

TITLE = "The driver's work"
Found = dict[str, float]
OUTPUTS = 20


def told(measure: Callable[[], Found]) -> Job:
    """Return a job whose detail is what was measured."""

    def job() -> Generator[int, None, Found]:
        yield 1
        return measure()

    return job


def nothing(outputs: int) -> Any:
    """Build a worker that yields so many small outputs a task."""
    from iceblink.run.distributed.packed import packed
    from iceblink.run.pipeline.backend import Call, Output

    def work(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        begun(0)
        for part in range(outputs):
            yield Output("rows", packed(None), part=part)

    return work


def chain(backend: Any, tasks: int, partitions: int = 1, shares: Sequence[Any] = ()) -> tuple[Any, float]:
    """Run one stage, as `Staged` does, of so many tasks without splits, or of shares of an exchange.

    Returns what it left, and the CPU time of this process [s].
    """
    from iceblink.config import Settings
    from iceblink.run.distributed.flow import Flow
    from iceblink.run.distributed.packed import PACKED
    from iceblink.run.distributed.runner import Runner
    from iceblink.run.distributed.share import grouped
    from iceblink.run.distributed.staged import Task
    from iceblink.run.pipeline.backend import Stored
    from iceblink.run.pipeline.chain import Fed

    runner = Runner(backend, Settings(), lambda _: None, processes=True)

    def fed() -> Fed:
        for shared in shares or [{}] * tasks:
            block = backend.put(Task({}, shared).share(0).packed())
            read = [one for blocks in shared.values() for one in blocks]
            yield Stored(grouped(block.schema, [block, *read]))

    operator = runner.operator("nothing", partial(nothing, partitions), ordered=False, call_bytes=1, atomic=True)
    before_s = time.process_time()
    kept = runner.exchange(Flow("tasks", fed, PACKED).then(operator, PACKED), partitions)
    return kept, time.process_time() - before_s


def per_task(workers: int, tasks: int, together: bool) -> Found:
    """One small output each; what it takes to start the workers is in it."""
    from bench.idle_backend import IdleBackend

    _, cpu_s = chain(IdleBackend(workers, together=together), tasks)
    return {f"us a task, {workers:,} workers": cpu_s / tasks * 1e6}


def behind(workers: int, tasks: int) -> Job:
    """The driver hears of all workers at once, for it is what they wait for."""
    return told(lambda: per_task(workers, tasks, together=True))


def in_time(workers: int, tasks: int) -> Job:
    """The driver hears of one worker after the other."""
    return told(lambda: per_task(workers, tasks, together=False))


def pieces(makers: int, partitions: int) -> Job:
    """An exchange: every task of one stage leaves a block for every task of the next."""

    def measure() -> Found:
        from bench.idle_backend import IdleBackend
        from iceblink.config import MIB
        from iceblink.run.distributed.kept import shares_of_partitions

        count = makers * partitions
        _, alone_s = chain(IdleBackend(16), makers)
        gc.collect()
        before = family_peak_bytes(reset=True)
        kept, made_s = chain(IdleBackend(16, partitions), makers, partitions)
        gc.collect()
        held = family_peak_bytes(reset=True) - before
        before_s = time.process_time()
        shares = list(shares_of_partitions({"rows": [kept]}, ["rows"], 1, makers * MIB))
        shared_s = time.process_time() - before_s
        _, read_s = chain(IdleBackend(16), len(shares), shares=shares)
        _, tasks_s = chain(IdleBackend(16), len(shares))
        return {
            "us a piece made": (made_s - alone_s) / count * 1e6,
            "us a piece shared out and given": (shared_s + read_s - tasks_s) / count * 1e6,
            "bytes a piece held": held / count,
        }

    return told(measure)


def on_ray(tasks: int, cpus: int) -> Job:
    """Tasks on Ray that do nothing: CPU time of this process, threads of Ray in it included, and of all."""
    import iceblink as ib
    from bench.measure import family_cpu_s

    backend = ib.RayEngine(threads=cpus).backend()
    chain(backend, 20 * cpus)

    def measure() -> Found:
        all_s = family_cpu_s()
        began_s = time.perf_counter()
        _, cpu_s = chain(backend, tasks)
        return {
            "us a task, with Ray": cpu_s / tasks * 1e6,
            "us a task, all processes": (family_cpu_s() - all_s) / tasks * 1e6,
            "us a task, wall": (time.perf_counter() - began_s) / tasks * 1e6,
            "us an output more, with Ray": (
                chain(backend, tasks // OUTPUTS, OUTPUTS)[1] / (tasks // OUTPUTS) - cpu_s / tasks
            )
            / (OUTPUTS - 1)
            * 1e6,
        }

    return told(measure)


def hosts_of_ray(hosts: int, cpus: int) -> Job:
    """Hosts that come up one after the other."""
    import iceblink as ib
    from bench.measure import family_cpu_s
    from iceblink.run.pipeline.backend import Order

    backend = ib.RayEngine(threads=cpus).backend()
    chain(backend, cpus)

    def measure() -> Found:
        before, own_s, all_s = own_bytes(), time.process_time(), family_cpu_s()
        began_s, left = time.perf_counter(), hosts
        for _ in range(hosts):  # what rests is used first, so these are a few less that are new
            backend.start_worker(Order("nothing", partial(nothing, 1), processes=True))
        while left:
            left -= len(backend.wait(1.0))
        return {
            "us a worker": (time.process_time() - own_s) / hosts * 1e6,
            "us a worker, all processes": (family_cpu_s() - all_s) / hosts * 1e6,
            "us a worker, wall": (time.perf_counter() - began_s) / hosts * 1e6,
            "bytes a worker in the driver": (own_bytes() - before) / hosts,
        }

    return told(measure)


def references(objects: int, cpus: int) -> Job:
    """Objects of Ray that this process owns, and their references on their way to an actor."""
    import ray

    from bench.tpch_engines import start_ray

    start_ray(cpus, object_store_memory=256 << 20)

    class Taker:
        """Takes references and does not follow them."""

        def take(self, held: Any) -> int:
            return len(held)

    taker: Any = ray.remote(num_cpus=0)(Taker).remote()
    ray.get(taker.take.remote([ray.put(b"")]))

    def measure() -> Found:
        before, began_s = own_bytes(), time.process_time()
        made = [ray.put(bytes(1024)) for _ in range(objects)]
        made_s, held = time.process_time() - began_s, own_bytes() - before
        began_s = time.process_time()
        for start in range(0, objects, 500):
            ray.get(taker.take.remote(made[start : start + 500]))
        given_s = time.process_time() - began_s
        return {
            "us a reference put": made_s / objects * 1e6,
            "us a reference given": given_s / objects * 1e6,
            "bytes a reference held": held / objects,
        }

    return told(measure)


def own_bytes() -> int:
    """Return what is resident of this process [bytes]."""
    from iceblink.run.pipeline.resources import resident

    gc.collect()
    return resident().own


BEHIND = Contestant("scheduler, behind", behind, ("iceblink", "ray"))
IN_TIME = Contestant("scheduler, in time", in_time, ("iceblink", "ray"))
PIECES = Contestant("exchange", pieces, ("iceblink", "ray"))
ON_RAY = Contestant("tasks on Ray", on_ray, ("iceblink", "ray"))
HOSTS = Contestant("workers on Ray", hosts_of_ray, ("iceblink", "ray"))
REFERENCES = Contestant("references of Ray", references, ("ray",))


def report(options: Options) -> str:
    """Measure each constant, and how those of a task grow with the workers."""
    few = 20 if options.small else 1
    crowds = (10, 100) if options.small else (10, 100, 1_000, 10_000)
    measured: list[tuple[Contestant, Mapping[str, Any]]] = [
        (one, {"workers": workers, "tasks": max(2 * workers, 6_000 // few)})
        for one in (BEHIND, IN_TIME)
        for workers in crowds
        if one is BEHIND or workers <= 1_000
    ]
    measured += [
        (PIECES, {"makers": 400 // few, "partitions": 400 // few}),
        (ON_RAY, {"tasks": 4_000 // few, "cpus": options.cpus}),
        (HOSTS, {"hosts": 2 if options.small else 16, "cpus": options.cpus}),
        (REFERENCES, {"objects": 20_000 // few, "cpus": options.cpus}),
    ]
    rows, failed = [], ""
    for contestant, arguments in measured:
        if not options.chosen([contestant]):
            continue
        results = in_turns([contestant], arguments, options.runs, options.cpus)
        (runs,) = results.values()
        rows += constants(contestant.name, runs)
        failed += problems(results)
    return f"{heading(TITLE, options)}\n{table(['', 'what', 'median'], rows)}{failed}\n"


def constants(name: str, runs: Sequence[Result]) -> list[list[str]]:
    """Return a row for each number that was measured."""
    if problem := problem_of(runs):
        return [[name, problem.partition(":")[0], ""]]
    return [[name, what, f"{median(one.detail[what] for one in runs):,.1f}"] for what in runs[0].detail]


if __name__ == "__main__":
    print(report(read_options(TITLE)))
