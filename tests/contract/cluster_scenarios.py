"""What drivers do on the clusters of `cluster_tool`: ``python -m contract.cluster_scenarios NAME``.

A scenario says a word on its standard output when it wants something done to a node, and waits for an answer.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import ray

from cluster_tool import SAYS
from contract import works
from contract.backend_contract import PATIENCE_S, Driver, finished
from contract.works import numbers, order, value
from iceblink.config import Settings
from iceblink.errors import RowsLost
from iceblink.run.pipeline.backend import Call, Died, Failed, Output, Slice
from iceblink.run.ray.ray_backend import RayBackend
from iceblink.run.ray.ray_worker import RayWorker
from iceblink.run.ray.session import Session


def say(word: str) -> None:
    """Ask for something, and wait until it is done."""
    print(f"{SAYS}{word}", flush=True)
    assert sys.stdin.readline() == "done\n"


def node_of(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Name the node; for rows, give them back."""
    yield Output("rows", value(ray.get_runtime_context().get_node_id()))
    yield from works.same(call, begun)


def hangs(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    yield Output("rows", value(ray.get_runtime_context().get_node_id()))
    yield from works.sleeps(call, begun)


def workers_by_node(driver: Driver, wanted: int = 2) -> dict[str, int]:
    """Start as many workers as there are nodes: each has one."""
    found: dict[str, int] = {}
    for _ in range(wanted):
        worker = driver.start(order(node_of, processes=True))
        found[driver.batches(worker, numbers(1))[0].data.column(0)[0].as_py()] = worker
    assert len(found) == wanted
    return found


def a_node_dies(driver: Driver) -> None:
    """Workers there die, rows there are lost and named, all else goes on."""
    here = ray.get_runtime_context().get_node_id()
    workers = workers_by_node(driver)
    (there,) = set(workers) - {here}
    made = driver.outputs(workers[there], driver.task([numbers(1_000_000)]))[-1].block
    kept = driver.outputs(workers[here], driver.task([numbers(1_000_000, 5)]))[-1].block
    hanging = driver.submit(workers[there], numbers(2))
    driver.until(finished(hanging))
    say("kill")
    died = driver.until(lambda signal: isinstance(signal, Died))
    assert isinstance(died, Died)
    assert died.worker == workers[there]
    assert "its node" in died.why, died
    (_, again) = driver.outputs(workers[here], driver.of((Slice(kept, 0, kept.rows),)))
    assert driver.backend.fetch(again.block).data.equals(numbers(1_000_000, 5).data)
    driver.backend.submit(workers[here], driver.of((Slice(made, 0, made.rows),)), 9)
    failed = driver.until(lambda signal: isinstance(signal, Failed))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, RowsLost)
    assert "1,000,000 rows of numbers.parquet are lost" in failed.error.what
    end = time.monotonic() + PATIENCE_S
    while driver.backend.slots().cpus != 1:  # it is looked at once a second
        assert time.monotonic() < end
        time.sleep(0.1)


def a_call_hangs_elsewhere(driver: Driver) -> None:
    """The steward of another node ends a call that takes too long, and tells the memory there."""
    workers_by_node(driver)
    before = driver.backend.memory_bytes()
    late = [driver.start(order(hangs, processes=True, timeout_s=0.3)) for _ in range(2)]
    for worker in late:
        driver.submit(worker, numbers(1))
    seen = set()
    for _ in late:
        died = driver.until(lambda signal: isinstance(signal, Died))
        assert isinstance(died, Died)
        assert died.why == "took longer than 0.3 s for a call"
        assert died.calling is not None
        assert died.calling.consumed == 1
        seen.add(died.worker)
    assert seen == set(late)
    assert before > (60 << 20) * 3


def a_stream_never_ends(driver: Driver) -> None:
    """Who lives on a node that is gone is known, even where Ray says nothing to whoever listens to a worker there."""
    hear = RayWorker._hear

    def for_ever(worker: RayWorker) -> bool:
        try:
            return hear(worker)
        except ray.exceptions.RayError:
            threading.Event().wait()
            raise

    RayWorker._hear = for_ever  # type: ignore[method-assign, assignment]
    a_node_dies(driver)


SCENARIOS = {made.__name__: made for made in (a_node_dies, a_call_hangs_elsewhere, a_stream_never_ends)}

if __name__ == "__main__":
    session = Session(Settings())
    SCENARIOS[sys.argv[1]](Driver(RayBackend(session)))
    session.close()
    print(f"{SAYS}right", flush=True)
