"""Ray keeps the contract of a backend, and what only Ray can do wrong goes right."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

from contract import works
from contract.backend_contract import BackendContract, DeathContract, Driver
from contract.works import numbers, order, value
from iceblink.config import MIB, Settings
from iceblink.errors import ConfigError
from iceblink.run.pipeline.backend import Backend, Call, Died, Output, Slice
from iceblink.run.ray.capacity import Capacity, Node
from iceblink.run.ray.objects import RayRows
from iceblink.run.ray.ray_backend import RayBackend
from iceblink.run.ray.session import Session


@pytest.fixture
def backend(ray_session: Session) -> Iterator[Backend]:
    backend = RayBackend(ray_session)
    yield backend
    backend.close()


@pytest.fixture
def driver(backend: Backend) -> Driver:
    return Driver(backend)


hosted = partial(order, processes=True)


class TestRayHosts(DeathContract):
    processes = True

    @pytest.fixture
    def backend(self, backend: Backend) -> Backend:
        return backend


class TestThreadsBesideRay(BackendContract):
    processes = False

    @pytest.fixture
    def backend(self, backend: Backend) -> Backend:
        return backend


def _pid(call: Call, begun: object) -> Iterator[Output]:
    yield Output("rows", value(os.getpid()))


def _total(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Give the sum of the first column of all parts."""
    begun(0)
    yield Output("rows", value(sum(int(part.data.column(0).to_numpy().sum()) for part in call.parts)), len(call.parts))


def pid_of(driver: Driver, worker: int) -> int:
    (batch,) = driver.batches(worker, numbers(1))
    return int(batch.data.column(0)[0].as_py())


def test_a_host_is_used_again(driver: Driver) -> None:
    first = driver.start(hosted(_pid))
    pid = pid_of(driver, first)
    driver.backend.stop_worker(first)
    driver.backend.wait(0.5)  # for nothing: the end that was asked for is no signal
    pids = {pid_of(driver, driver.start(hosted(_pid, label=f"other {n}"))) for n in range(2)}
    assert pid in pids
    assert len(pids) == 2, "a host that is at work is nobody else's"


def test_a_host_stopped_at_once_is_gone(driver: Driver) -> None:
    worker = driver.start(hosted(_pid))
    pid = pid_of(driver, worker)
    driver.backend.stop_worker(worker, at_once=True)
    assert pid_of(driver, driver.start(hosted(_pid))) != pid


@pytest.mark.parametrize("end", ["the worker", "the run"])
def test_a_host_that_was_ended_does_nothing_afterwards(driver: Driver, tmp_path: Path, end: str) -> None:
    worker = driver.start(hosted(_tells_pid_and_hangs))
    driver.submit(worker, value(str(tmp_path)))
    while not (told := list(tmp_path.iterdir())):
        time.sleep(0.001)
    if end == "the worker":
        driver.backend.stop_worker(worker, at_once=True)
    else:
        driver.backend.close()
    with suppress(FileNotFoundError):  # what its parent has not yet buried runs no more
        assert Path("/proc", told[0].name, "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_host_killed_from_outside_is_a_death_that_knows_its_call(driver: Driver, tmp_path: Path) -> None:
    worker = driver.start(hosted(_tells_pid_and_hangs))
    task = driver.submit(worker, value(str(tmp_path)))
    while not (told := list(tmp_path.iterdir())):
        time.sleep(0.001)
    os.kill(int(told[0].name), signal.SIGKILL)
    died = driver.until(lambda signal: isinstance(signal, Died))
    assert isinstance(died, Died)
    assert (died.worker, died.why) == (worker, "was killed by signal 9, Killed (out of memory?)")
    assert died.calling is not None
    assert (died.calling.task, died.calling.consumed) == (task.number, 2)
    assert len(driver.batches(driver.start(hosted(works.same)), numbers(3))) == 1


def _tells_pid_and_hangs(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    begun(2)
    (Path(call.parts[0].data.column(0)[0].as_py()) / str(os.getpid())).touch()
    time.sleep(3600)
    yield from works.same(call, begun)


def test_a_call_that_lets_no_thread_run_is_ended_too(driver: Driver) -> None:
    worker = driver.start(hosted(_hangs, timeout_s=0.2))
    driver.submit(worker, numbers(5))
    died = driver.until(lambda signal: isinstance(signal, Died))
    assert isinstance(died, Died)
    assert (died.worker, died.why) == (worker, "took longer than 0.2 s for a call")
    assert died.calling is not None
    assert died.calling.consumed == 3


def _hangs(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    begun(3)
    yield from works.holds_the_lock(call, begun)


def test_a_task_larger_than_the_object_store_spills_and_is_read_part_by_part(driver: Driver) -> None:
    store = ray.cluster_resources()["object_store_memory"]
    rows = 2_000_000
    batches = [numbers(rows, first) for first in range(5)]
    many = int(store * 2 // batches[0].data.nbytes) + 1
    blocks = [driver.backend.put(batches[n % 5]) for n in range(many)]
    assert sum(block.nbytes for block in blocks) > 2 * store
    worker = driver.start(hosted(_total))
    task = driver.of(tuple(Slice(block, 0, block.rows) for block in blocks))
    (output,) = driver.outputs(worker, task)
    expected = sum(rows * (rows - 1) // 2 + rows * (n % 5) for n in range(many))
    assert driver.backend.fetch(output.block).data.column(0)[0].as_py() == expected
    for block in blocks:
        driver.backend.free(block)


def test_a_slice_of_many_rows_does_not_take_the_others_along(driver: Driver) -> None:
    batch = numbers(1_000_000)
    block = driver.backend.put(batch.slice(10, 100_000))
    assert block.ref.nbytes < 1 * MIB


def test_more_gpus_than_any_node_has_are_refused_at_once(driver: Driver) -> None:
    with pytest.raises(ConfigError, match="no node has any") as caught:
        driver.backend.check(hosted(works.same, gpus=1))
    assert caught.value.where == "op"


def test_the_memory_of_hosts_and_objects_is_counted_and_given_back(driver: Driver) -> None:
    gc.collect()
    before = RayRows.held_bytes
    worker = driver.start(hosted(works.same))
    (output,) = driver.outputs(worker, driver.task([numbers(1_000_000)]))
    assert RayRows.held_bytes >= before + 8_000_000
    assert driver.backend.memory_bytes() > RayRows.held_bytes + (60 << 20)
    driver.backend.free(output.block)
    driver.heard.clear()
    del output
    gc.collect()
    assert RayRows.held_bytes == before


def test_nothing_is_left_after_a_session(ray_session: Session) -> None:
    session = Session(Settings())
    driver = Driver(RayBackend(session))
    worker = driver.start(hosted(_pid))
    pids = [pid_of(driver, worker), pid_of(driver, driver.start(hosted(_pid)))]
    driver.backend.stop_worker(worker)
    driver.backend.close()
    session.close()
    for pid in pids:
        _gone(pid)
    assert ray.is_initialized(), "others still use it"


def test_another_cluster_cannot_be_joined_meanwhile(ray_session: Session) -> None:
    with pytest.raises(ConfigError, match="this process is in the Ray cluster at"):
        Session(Settings(), address="10.1.2.3:6379")


def test_a_start_that_fails_is_tried_again_and_explained(ray_session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def init(**how: object) -> None:
        tries.append(how)
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="did not start in 3 tries: The current node timed out") as caught:
        Session(Settings())
    assert len(tries) == 3
    assert "ray start --head" in caught.value.hint
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    with pytest.raises(ConfigError, match="no Ray cluster can be joined") as caught:
        Session(Settings())
    assert caught.value.where == "10.1.2.3:6379"


def _gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([watch], [], [], 30)[0]
    finally:
        os.close(watch)


@pytest.fixture
def growing(ray_session: Session) -> Iterator[Capacity]:
    """Tell Ray, as an autoscaler does, that there may be two nodes of four CPUs and one with a GPU."""
    groups = [
        NodeGroupConfig(name="cpu", resources={"CPU": 4}, max_count=2),
        NodeGroupConfig(name="gpu", resources={"CPU": 1, "GPU": 1}, max_count=1),
    ]
    raylet: Any = ray._raylet
    key, namespace = raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    gcs = ray._private.worker.global_worker.gcs_client
    config = ClusterConfig(node_group_configs=groups).SerializeToString()
    gcs.internal_kv_put(key.encode(), config, True, namespace.encode())
    capacity = Capacity()
    yield capacity
    capacity.close()
    gcs.internal_kv_del(key.encode(), False, namespace.encode())


def asked_for() -> int:
    """Return the CPUs that the autoscaler is asked for."""
    gcs = ray._private.worker.global_worker.gcs_client
    return len(json.loads(gcs.internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL, None) or b"[]"))


def test_a_cluster_that_can_grow_is_asked_to_when_all_its_cpus_are_at_work(growing: Capacity) -> None:
    growing.want(1)
    assert asked_for() == 0
    growing.want(2)
    assert asked_for() == 3, "half as many again as there are"
    growing.want(1)
    assert asked_for() == 3, "not taken back at once"
    growing.close()
    assert asked_for() == 0


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("a", ["a"]), ("!a", ["b", None]), ("in(a, b)", ["a", "b"]), ("in(b)", ["b"]), ("!in(a,b)", [None])],
)
def test_a_selector_chooses_the_nodes_that_are_called_so(wanted: str, found: list[str | None]) -> None:
    nodes = {name: Node("id", {}, {"zone": name} if name else {}) for name in ("a", "b", None)}
    assert [name for name, node in nodes.items() if node.has({}, {"zone": wanted})] == found


def test_a_label_that_a_node_to_come_may_have_is_waited_for(growing: Capacity) -> None:
    elsewhere = replace(hosted(works.same), labels={"zone": "a"})
    growing.check(elsewhere)
    with pytest.raises(ConfigError):
        growing.check(replace(elsewhere, resources={"licence": 1}))


def test_a_gpu_that_can_come_is_waited_for(growing: Capacity) -> None:
    growing.check(hosted(works.same, gpus=1))
    assert growing.slots(0).gpus == 1
    with pytest.raises(ConfigError, match="a worker needs 2 of GPU"):
        growing.check(hosted(works.same, gpus=2))
