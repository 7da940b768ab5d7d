"""Threads keep the contract of a backend."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import works
from contract.backend_contract import BackendContract, Driver
from contract.works import numbers
from iceblink.events import BatchDone, Event, emit, observing
from iceblink.run.pipeline.backend import Backend, Call, Output, Slice, Slots
from iceblink.run.pipeline.local_backend import LocalBackend


class TestLocalThreads(BackendContract):
    processes = False

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        backend = LocalBackend(Slots(2, 0, 1 << 30), str(tmp_path / "spill"))
        yield backend
        backend.close()

    def test_rows_are_not_copied(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        batch = numbers(1000)
        (output,) = driver.outputs(worker, driver.of((Slice(driver.backend.put(batch), 0, 1000),)))
        got = driver.backend.fetch(output.block).data.column(0)
        assert got.buffers()[1].address == batch.data.column(0).buffers()[1].address

    def test_events_reach_who_watches(self, driver: Driver) -> None:
        seen: list[Event] = []

        def work(call: Call, begun: object) -> Iterator[Output]:
            emit(BatchDone("op", 1, 2, 3.0))
            yield Output("rows", call.parts[0])

        with observing(seen.append):
            worker = driver.start(self.order(work))
        driver.batches(worker, numbers(1))
        assert seen == [BatchDone("op", 1, 2, 3.0)]

    def test_a_worker_that_waits_holds_no_rows(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        batch = numbers(10)
        gone = weakref.ref(batch.data)
        (output,) = driver.outputs(worker, driver.task([batch]))
        driver.backend.free(output.block)
        driver.heard.clear()
        del batch, output
        driver.batches(worker, numbers(1))  # by then the worker is through with the first
        gc.collect()
        assert gone() is None
