"""Processes keep the contract of a backend, and leave nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract import works
from contract.backend_contract import DeathContract, Driver
from contract.works import numbers
from iceblink.run.pipeline.backend import Backend, Call, Order, Output, Slots, Work
from iceblink.run.pipeline.local_backend import LocalBackend
from iceblink.run.pipeline.shared_rows import SharedRows


class _Counting:
    """Builds a work, and counts how often it was pickled."""

    pickled = 0

    def __call__(self) -> Work:
        return works.same

    def __reduce__(self) -> tuple[Any, ...]:
        self.pickled += 1
        return partial, (works.order(works.same, processes=True).build,)


class TestLocalProcesses(DeathContract):
    processes = True

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        backend = LocalBackend(Slots(2, 2, 1 << 30), str(tmp_path / "spill"))
        yield backend
        backend.close()

    def test_what_is_freed_is_given_back(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))

        def run() -> None:
            (output,) = driver.outputs(worker, driver.task([numbers(1000)]))
            driver.backend.fetch(output.block)
            driver.backend.free(output.block)
            driver.heard.clear()

        for _ in range(10):
            run()
        here = len(os.listdir("/proc/self/fd"))
        there = _descriptors_of_children()
        for _ in range(200):
            run()
        assert len(os.listdir("/proc/self/fd")) <= here + 4
        assert _descriptors_of_children() <= there + 4

    def test_what_builds_workers_is_pickled_once_for_all_of_them(self, driver: Driver) -> None:
        build = _Counting()
        wanted = Order("op", build, processes=True)
        for _ in range(2):
            assert driver.batches(driver.start(wanted), numbers(3))[0].data == numbers(3).data
        assert build.pickled == 1

    def test_a_block_counts_once_until_it_is_freed(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.ten_million))
        (output,) = driver.outputs(worker, driver.task([numbers(1)]))
        held = SharedRows.held_bytes
        here = driver.backend.fetch(output.block).data.column(0).to_numpy().sum()  # mapped, and every page touched
        assert here == sum(range(10_000_000))
        with_block = driver.backend.memory_bytes()
        driver.backend.free(output.block)
        assert held - SharedRows.held_bytes >= 80_000_000
        assert with_block - driver.backend.memory_bytes() > 60_000_000

    def test_an_interrupt_is_the_parents_to_answer(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        for child in _children(os.getpid()):
            os.kill(child, signal.SIGINT)
        assert len(driver.batches(worker, numbers(1))) == 1

    def test_a_worker_sees_its_device_only(self, driver: Driver) -> None:
        seen = [
            driver.batches(driver.start(self.order(_visible, gpus=share)), numbers(1))[0].data.column(0)[0].as_py()
            for share in (0.5, 1, 0.5)
        ]
        assert seen == ["0", "1", "0"]

    @pytest.mark.parametrize("work", ["sleeps", "holds_the_lock"])
    def test_a_killed_parent_leaves_no_worker(self, work: str) -> None:
        script = f"""
import sys
sys.path[:] = {sys.path!r}
from contract import works
from contract.backend_contract import Driver, produced
from iceblink.run.pipeline.backend import Slots
from iceblink.run.pipeline.local_backend import LocalBackend
from iceblink.run.pipeline.shared_rows import SharedRows
driver = Driver(LocalBackend(Slots(2, 0, 1 << 30), "."))
worker = driver.start(works.order(works.{work}, processes=True))
driver.until(produced(driver.submit(worker, works.numbers(1))))
print("ready", flush=True)
driver.backend.wait(3600)
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "ready\n"
            (child,) = _children(parent.pid)
            watch = os.pidfd_open(child)
            parent.send_signal(signal.SIGKILL)
        try:
            assert select.select([watch], [], [], 30)[0]
        finally:
            os.close(watch)


def _visible(call: Call, begun: object) -> Iterator[Output]:
    yield Output("rows", works.value(os.environ["CUDA_VISIBLE_DEVICES"]))


def _children(parent: int) -> list[int]:
    threads = Path(f"/proc/{parent}/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


def _descriptors_of_children() -> int:
    return sum(len(os.listdir(f"/proc/{child}/fd")) for child in _children(os.getpid()))
