"""What every backend must do, whoever runs its workers; a backend's test is a subclass that makes one.

class TestRayBackend(BackendContract):
    processes = True

    @pytest.fixture
    def backend(self) -> Iterator[Backend]: ...
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from contract import works
from contract.works import numbers, order, value
from iceblink.errors import FunctionError, SchemaMismatch
from iceblink.run.pipeline.backend import (
    Backend,
    Block,
    Died,
    Failed,
    Finished,
    Order,
    Produced,
    Ready,
    Signal,
    Slice,
    Task,
    Work,
)
from iceblink.run.pipeline.scheduler import LOOK_S
from iceblink.scan.batch import Batch

PATIENCE_S = 60
"""After this a test gives up; no test waits for it when all is well."""

MANY = 1_000_000


class Driver:
    """A scheduler that a test can read: it waits for signals and keeps all of them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.heard: list[Signal] = []
        self._numbers = count(1)

    def until(self, enough: Callable[[Signal], bool]) -> Signal:
        """Wait for a signal that is not yet in `heard`, and return it."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            new = self.backend.wait(min(LOOK_S, end - time.monotonic()))  # a scheduler, too, looks often
            self.heard += new
            found = next(filter(enough, new), None)
            if found is not None:
                return found
        raise AssertionError(f"only {self.heard}")

    def start(self, wanted: Order) -> int:
        worker = self.backend.start_worker(wanted)
        assert worker is not None
        assert self.until(lambda signal: True) == Ready(worker)
        return worker

    def task(self, batches: Sequence[Batch]) -> Task:
        """Return a task of whole batches."""
        blocks = [self.backend.put(batch) for batch in batches]
        return self.of(tuple(Slice(block, 0, block.rows) for block in blocks))

    def of(self, slices: tuple[Slice, ...]) -> Task:
        return Task(next(self._numbers), slices)

    def submit(self, worker: int, *batches: Batch, credit: int = MANY) -> Task:
        task = self.task(batches)
        self.backend.submit(worker, task, credit)
        return task

    def outputs(self, worker: int, task: Task) -> list[Produced]:
        """Run a task and return what it gave."""
        self.backend.submit(worker, task, MANY)
        end = self.until(lambda signal: isinstance(signal, Finished | Failed | Died))
        assert isinstance(end, Finished), end
        return [signal for signal in self.heard if isinstance(signal, Produced) and signal.task == task.number]

    def batches(self, worker: int, *batches: Batch) -> list[Batch]:
        """Run a task on `batches` and return the rows that it gave."""
        return [self.backend.fetch(signal.block) for signal in self.outputs(worker, self.task(batches))]


def finished(task: Task) -> Callable[[Signal], bool]:
    return lambda signal: isinstance(signal, Finished) and signal.task == task.number


def produced(task: Task) -> Callable[[Signal], bool]:
    return lambda signal: isinstance(signal, Produced) and signal.task == task.number


def shapes() -> dict[str, pa.RecordBatch]:
    """Return batches of every make."""
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 3])
    images = pa.ExtensionArray.from_storage(
        tensor, pa.array(np.arange(24.0, dtype="f4").reshape(4, 6).tolist(), tensor.storage_type)
    )
    mixed = pa.record_batch(
        {
            "text": ["eins", None, "", "vier 🧊"],
            "image": images,
            "word": pa.array(["a", "b", None, "a"]).dictionary_encode(),
            "nested": [[{"x": 1, "y": ["p"]}], [], None, [{"x": None, "y": None}, {"x": 2, "y": []}]],
            "pairs": pa.array([[("k", 1)], [], None, [("l", None)]], pa.map_(pa.string(), pa.int32())),
            "raw": [b"\0\1", b"", None, b"\xff"],
            "none": pa.nulls(4),
            "yes": [True, None, False, True],
        }
    ).replace_schema_metadata({"origin": "here"})
    return {
        "mixed": mixed,
        "a slice": mixed.slice(1, 2),
        "empty": mixed.slice(0, 0),
        "no columns": mixed.select([]),
        "no columns and no rows": mixed.select([]).slice(0, 0),
        "a part of many": numbers(100_003).data.slice(7, 12_345),
    }


class BackendContract:
    """The tests; `processes` says whether workers may die."""

    processes: ClassVar[bool]

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """Make a backend, and close it."""
        raise NotImplementedError

    @pytest.fixture
    def driver(self, backend: Backend) -> Driver:
        return Driver(backend)

    def order(self, work: Work, **how: object) -> Order:
        return order(work, processes=self.processes, **how)  # type: ignore[arg-type]

    def test_a_worker_is_built_once(self, driver: Driver, tmp_path: Path) -> None:
        wanted = Order("op", partial(works.count_builds, str(tmp_path)), self.processes)
        workers = [driver.start(wanted) for _ in range(2)]
        for worker in workers * 3:
            assert len(driver.batches(worker, numbers(1))) == 1
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_worker_that_cannot_be_built_says_so_once(self, driver: Driver) -> None:
        worker = driver.backend.start_worker(Order("op", works.cannot_build, self.processes))
        failed = driver.until(lambda signal: True)
        assert isinstance(failed, Failed)
        assert (failed.worker, failed.task) == (worker, None)
        assert isinstance(failed.error, SchemaMismatch)
        assert failed.error.hint == "find one"
        self.nothing_follows(driver)

    def test_tasks_of_one_worker_run_in_order(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        tasks = [driver.submit(worker, numbers(3, first)) for first in range(20)]
        driver.until(finished(tasks[-1]))
        ends = [signal.task for signal in driver.heard if isinstance(signal, Finished)]
        assert ends == [task.number for task in tasks]
        blocks = [signal.block for signal in driver.heard if isinstance(signal, Produced)]
        assert [driver.backend.fetch(block).first_row for block in blocks] == list(range(20))

    def test_outputs_stream_before_their_task_ends(self, driver: Driver, tmp_path: Path) -> None:
        worker = driver.start(self.order(works.until_a_file))
        task = driver.submit(worker, value(str(tmp_path / "go")))
        driver.until(produced(task))
        assert not [signal for signal in driver.heard if isinstance(signal, Finished)]
        (tmp_path / "go").touch()
        driver.until(finished(task))

    def test_a_task_never_goes_beyond_its_credit(self, driver: Driver, tmp_path: Path) -> None:
        worker = driver.start(self.order(works.endless))
        task = driver.submit(worker, value(str(tmp_path)), credit=3)
        for given in range(3, 20):
            while len([signal for signal in driver.heard if isinstance(signal, Produced)]) < given:
                driver.until(produced(task))
            assert len(list(tmp_path.iterdir())) == given
            assert driver.backend.wait(0.0) == []
            driver.backend.allow(task.number)

    def test_a_failed_task_leaves_its_worker_alive(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.fails_on_odd))
        tasks = [driver.submit(worker, numbers(1, first)) for first in range(4)]
        driver.until(lambda signal: isinstance(signal, Failed) and signal.task == tasks[3].number)
        assert [type(signal) for signal in driver.heard[1:]] == [Produced, Finished, Failed] * 2
        failed = driver.heard[3]
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, SchemaMismatch)
        assert failed.error.args == ("it is odd", "op, row 1", "give even ones")

    def test_an_error_tells_where_the_function_raised_it(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.fails_on_odd))
        driver.submit(worker, numbers(1, 1))
        failed = driver.until(lambda signal: isinstance(signal, Failed))
        assert isinstance(failed, Failed)
        assert "in fails_on_odd" in "".join(traceback.format_exception(failed.error))

    def test_an_error_that_does_not_travel_keeps_its_words(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.fails_strangely))
        driver.submit(worker, numbers(1))
        failed = driver.until(lambda signal: isinstance(signal, Failed))
        assert isinstance(failed, Failed)
        assert "1 and 2" in str(failed.error)

    def test_a_function_cannot_end_the_program(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.leaves_python))
        driver.submit(worker, numbers(1))
        failed = driver.until(lambda signal: isinstance(signal, Failed))
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, FunctionError)

    def test_rows_arrive_as_they_were(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        for make, data in shapes().items():
            (got,) = driver.batches(worker, Batch(data, "a/ä 1.parquet", 17))
            got.data.validate(full=True)
            assert got.data.equals(data, check_metadata=True), make
            assert (got.path, got.first_row, got.data.num_rows) == ("a/ä 1.parquet", 17, data.num_rows), make

    def test_a_task_gets_the_slices_that_it_names(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        block, other = driver.backend.put(numbers(1000, 50)), driver.backend.put(numbers(10))
        cuts = [(block, 0, 10), (block, 10, 900), (other, 3, 0), (block, 999, 1), (other, 0, 10), (block, 0, 1)]
        slices = tuple(Slice(of, start, rows) for of, start, rows in cuts)
        outputs = driver.outputs(worker, driver.of(slices))
        got = [driver.backend.fetch(signal.block) for signal in outputs]
        assert [(batch.first_row, batch.data.num_rows) for batch in got] == [
            (part.block.first_row + part.start, part.rows) for part in slices
        ]
        assert [batch.data.column("n").to_pylist() for batch in got] == [
            list(range(part.block.first_row + part.start, part.block.first_row + part.start + part.rows))
            for part in slices
        ]

    def test_a_block_goes_on_to_other_workers(self, driver: Driver) -> None:
        first, second = driver.start(self.order(works.same)), driver.start(self.order(works.same))
        block = driver.backend.put(numbers(1000))
        for worker in (first, second, first):
            (output,) = driver.outputs(worker, driver.of((Slice(block, 0, block.rows),)))
            driver.backend.free(block)
            block = output.block
        assert driver.backend.fetch(block).data.equals(numbers(1000).data)

    def test_a_fetched_batch_outlives_its_block(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        (output,) = driver.outputs(worker, driver.task([numbers(100_000)]))
        batch = driver.backend.fetch(output.block)
        driver.backend.free(output.block)
        driver.backend.free(output.block)
        assert batch.data.equals(numbers(100_000).data)

    def test_a_block_says_what_it_holds(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        data = shapes()["mixed"]
        (output,) = driver.outputs(worker, driver.task([Batch(data, "f", 3)]))
        block: Block = output.block
        assert (block.rows, block.nbytes, block.path, block.first_row) == (4, data.nbytes, "f", 3)
        assert block.schema.equals(data.schema, check_metadata=True)
        assert output.consumed == 4

    def test_ten_million_rows_come_in_one_output(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.ten_million))
        (got,) = driver.batches(worker, numbers(1))
        assert got.data.num_rows == 10_000_000

    def test_a_task_may_have_hundreds_of_blocks(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        got = driver.batches(worker, *(numbers(2, first) for first in range(450)))
        assert [batch.first_row for batch in got] == list(range(450))

    def test_a_label_may_have_any_letters(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same, label="größe 🧊"))
        assert len(driver.batches(worker, numbers(1))) == 1

    def test_a_stopped_worker_finishes_its_tasks(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.same))
        tasks = [driver.submit(worker, numbers(1, first)) for first in range(10)]
        driver.backend.stop_worker(worker)
        driver.until(finished(tasks[-1]))
        assert len([signal for signal in driver.heard if isinstance(signal, Finished)]) == 10
        self.nothing_follows(driver)

    def test_a_worker_stopped_at_once_is_not_heard_again(self, driver: Driver, tmp_path: Path) -> None:
        worker = driver.start(self.order(works.endless))
        task = driver.submit(worker, value(str(tmp_path)))
        driver.until(produced(task))
        driver.backend.stop_worker(worker, at_once=True)
        self.nothing_follows(driver)
        driver.backend.stop_worker(worker, at_once=True)
        driver.backend.stop_worker(worker)
        driver.backend.allow(task.number)
        driver.submit(worker, numbers(1))
        self.nothing_follows(driver)

    def test_a_call_that_takes_too_long_ends_its_worker(self, driver: Driver) -> None:
        worker = driver.start(self.order(works.sleeps, timeout_s=0.05))
        driver.submit(worker, numbers(1))
        died = driver.until(lambda signal: isinstance(signal, Died))
        assert isinstance(died, Died)
        assert died.worker == worker
        assert "took longer than 0.05 s" in died.why
        assert [type(signal) for signal in driver.heard] == [Ready, Produced, Died]
        self.nothing_follows(driver)

    def ahead(self, driver: Driver, build: Callable[[], Work], timeout_s: float | None = None) -> int:
        """Start a worker that has made a call, long enough for the next ones to be made ahead, and another one."""
        worker = driver.start(Order("op", build, self.processes, timeout_s=timeout_s))
        for row in (-2, -1):
            assert driver.batches(worker, numbers(1, row))
        driver.heard.clear()
        return worker

    @pytest.mark.parametrize("tasks", [1, 2])
    def test_the_next_call_is_made_while_the_output_of_one_is_looked_at(
        self, driver: Driver, tmp_path: Path, tasks: int
    ) -> None:
        worker = self.ahead(driver, works.aside(str(tmp_path)))
        _, last = self.calls(driver, worker, tasks)
        driver.until(lambda signal: isinstance(signal, Finished) and signal.task == last)
        made = [driver.backend.fetch(signal.block) for signal in driver.heard if isinstance(signal, Produced)]
        assert [row for batch in made for row in batch.data["n"].to_pylist()] == [0, 1]

    def test_one_thread_builds_calls_and_closes(self, driver: Driver, tmp_path: Path) -> None:
        worker = self.ahead(driver, works.aside(str(tmp_path)))
        driver.until(finished(driver.submit(worker, *(numbers(1, row) for row in range(5)))))
        driver.backend.stop_worker(worker)
        works.seen(tmp_path / "closed")
        files = list(tmp_path.iterdir())
        assert {file.name for file in files} == {"built", *(f"called {row}" for row in range(-2, 5)), "closed"}
        assert len({file.read_text() for file in files}) == 1

    @pytest.mark.parametrize("tasks", [1, 2])
    def test_a_call_is_too_late_while_the_output_before_it_is_looked_at(
        self, driver: Driver, tmp_path: Path, tasks: int
    ) -> None:
        worker = self.ahead(driver, works.aside(str(tmp_path), "never", "waits"), timeout_s=1.5)
        first, second = self.calls(driver, worker, tasks)
        died = driver.until(lambda signal: isinstance(signal, Died))
        assert driver.heard == [died]
        assert isinstance(died, Died)
        assert died.calling is not None
        assert (died.calling.task, died.calling.consumed) == ((second, 0) if tasks == 2 else (first, 1))
        (tmp_path / "never").touch()  # a thread cannot be ended otherwise
        (tmp_path / "go on").touch()
        self.nothing_follows(driver)

    def calls(self, driver: Driver, worker: int, tasks: int) -> tuple[int, int]:
        """Ask for calls with row 0 and 1, in one task or two; return the tasks of each."""
        rows = [numbers(1, 0), numbers(1, 1)]
        given = [driver.submit(worker, *rows)] if tasks == 1 else [driver.submit(worker, row) for row in rows]
        return given[0].number, given[-1].number

    def test_a_call_may_be_made_for_which_there_is_no_credit_but_not_two(self, driver: Driver, tmp_path: Path) -> None:
        worker = self.ahead(driver, works.aside(str(tmp_path)))
        task = driver.submit(worker, *(numbers(1, row) for row in range(100)), credit=1)
        output = driver.until(produced(task))
        assert isinstance(output, Produced)
        made = output.block.rows  # of several calls: outputs so small are joined
        works.seen(tmp_path / f"called {made}")
        assert driver.backend.wait(0.1) == []
        assert not (tmp_path / f"called {made + 1}").exists()

    def test_no_call_begins_once_a_worker_is_ended(self, driver: Driver, tmp_path: Path) -> None:
        worker = self.ahead(driver, works.aside(str(tmp_path), "never", "waits"))
        driver.submit(worker, *(numbers(1, row) for row in range(4)))
        works.seen(tmp_path / "called 1")
        driver.backend.stop_worker(worker, at_once=True)
        (tmp_path / "never").touch()
        (tmp_path / "go on").touch()
        if not self.processes:
            works.seen(tmp_path / "closed")
        assert not (tmp_path / "called 2").exists()
        self.nothing_follows(driver)

    def test_waiting_for_credit_is_no_call_that_takes_too_long(self, driver: Driver, tmp_path: Path) -> None:
        worker = driver.start(self.order(works.same, timeout_s=0.05))
        task = driver.submit(worker, numbers(1), credit=0)
        assert driver.backend.wait(0.15) == []
        driver.backend.allow(task.number)
        driver.until(produced(task))
        assert driver.backend.wait(0.15) == []
        driver.backend.allow(task.number)
        driver.until(finished(task))

    def test_waiting_ends_when_somebody_wakes_it(self, driver: Driver) -> None:
        threading.Thread(target=driver.backend.wake).start()
        assert driver.backend.wait(math.inf) == []

    def test_waiting_ends_with_its_time(self, driver: Driver) -> None:
        assert driver.backend.wait(0.001) == []

    def test_closing_does_not_wait_for_calls(self, driver: Driver) -> None:
        workers = [driver.start(self.order(works.sleeps)) for _ in range(2)]
        for worker in workers:
            driver.until(produced(driver.submit(worker, numbers(1))))
        driver.backend.close()
        driver.backend.close()
        assert driver.backend.wait(0.0) == []

    def test_memory_counts_what_is_resident(self, driver: Driver) -> None:
        with_pyarrow = 30 << 20
        driver.start(self.order(works.same))
        assert driver.backend.memory_bytes() > with_pyarrow * (2 if self.processes else 1)

    def nothing_follows(self, driver: Driver) -> None:
        """Hold that the backend has nothing more to say, by the time that another worker has come and gone."""
        other = driver.start(self.order(works.same))
        assert driver.batches(other, numbers(1))
        driver.backend.stop_worker(other, at_once=True)
        assert driver.backend.wait(0.0) == []


class DeathContract(BackendContract):
    """More tests, for backends whose workers are processes."""

    @pytest.mark.parametrize(
        ("how", "why"),
        [
            ("exits 0", "exited with status 0"),
            ("exits 1", "exited with status 1"),
            ("is killed", "was killed by signal 9, Killed (out of memory?)"),
            ("crashes", "was killed by signal 11, Segmentation fault (a crash in native code?)"),
            ("exhausts its memory", "ran out of memory"),
            ("leaves a child", "exited with status 7"),
            ("closes everything", "closed the connection to its parent"),
        ],
    )
    def test_a_death_is_told_once_and_last(self, driver: Driver, how: str, why: str) -> None:
        worker = driver.start(self.order(partial(works.dies, how)))
        driver.submit(worker, numbers(1))
        driver.submit(worker, numbers(1))
        died = driver.until(lambda signal: isinstance(signal, Died))
        assert isinstance(died, Died)
        assert died.worker == worker
        assert why in died.why
        assert [type(signal) for signal in driver.heard] == [Ready, Produced, Died]
        self.nothing_follows(driver)

    @pytest.mark.parametrize("tasks", [1, 2])
    def test_a_death_in_a_call_that_is_made_ahead_names_it(self, driver: Driver, tmp_path: Path, tasks: int) -> None:
        worker = self.ahead(driver, works.aside(str(tmp_path), "never", "is killed"))
        first, second = self.calls(driver, worker, tasks)
        died = driver.until(lambda signal: isinstance(signal, Died))
        assert driver.heard == [died]
        assert isinstance(died, Died)
        assert died.calling is not None
        assert (died.calling.task, died.calling.consumed) == ((second, 0) if tasks == 2 else (first, 1))

    def test_a_worker_that_dies_while_it_is_stopped_says_so(self, driver: Driver) -> None:
        worker = driver.start(self.order(partial(works.dies, "exits 0")))
        driver.submit(worker, numbers(1))
        driver.backend.stop_worker(worker)
        died = driver.until(lambda signal: isinstance(signal, Died))
        assert isinstance(died, Died)

    def test_what_cannot_travel_is_named(self, driver: Driver) -> None:
        lock = threading.Lock()

        def work() -> object:
            return lock

        with pytest.raises(FunctionError, match="captured variable 'lock', a _thread\\.lock") as caught:
            driver.backend.start_worker(Order("op", work, True))  # type: ignore[arg-type]
        assert caught.value.where == "op"
        assert driver.backend.wait(0.0) == []
