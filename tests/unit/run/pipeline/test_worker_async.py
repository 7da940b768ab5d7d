"""Coroutine functions: order, how many are awaited at once, time limits, and what is left at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.errors import FunctionError
from iceblink.plan.function import Function, Policy
from iceblink.run.pipeline.backend import Call, Output
from iceblink.run.pipeline.worker import MapWork, MapWorker, first_schema
from iceblink.scan.batch import Batch

SCHEMA = pa.schema([("x", pa.int64())])


def parts(*lengths: int) -> list[Batch]:
    made, first = [], 0
    for length in lengths:
        made.append(Batch(pa.RecordBatch.from_pydict({"x": list(range(first, first + length))}, SCHEMA), "f", first))
        first += length
    return made


def made_of(works: MapWorker, batches: list[Batch], batch_rows: int | None = None) -> list[Output]:
    return list(works(Call(batches, batch_rows, None), lambda consumed: None))


def values(made: list[Output], kind: str = "rows") -> list[int]:
    return [value for output in made if output.kind == kind for value in output.data.data["x"].to_pylist()]


class Meter:
    """Counts the calls that are awaited at the same time."""

    def __init__(self, turns: list[int]) -> None:
        self.turns, self.now, self.most = turns, 0, 0

    async def one(self, value: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(self.turns[self.now % len(self.turns)]):  # calls that began later may end earlier
            await asyncio.sleep(0)
        self.now -= 1
        return value


@pytest.mark.parametrize("per_row", [False, True])
@settings(max_examples=30)
@given(
    rows=st.integers(0, 40),
    calls=st.integers(1, 8),
    turns=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    batch_rows=st.integers(1, 10),
)
def test_outputs_come_in_order_and_no_more_calls_are_awaited_than_allowed(
    per_row: bool, rows: int, calls: int, turns: list[int], batch_rows: int
) -> None:
    meter = Meter(turns)
    works = MapWork((Function(meter.one, per_row=per_row, calls=calls),))()
    assert values(made_of(works, parts(rows), batch_rows)) == list(range(rows))
    works.close()
    assert meter.most <= calls


@pytest.mark.parametrize("per_row", [False, True])
def test_calls_are_awaited_together(per_row: bool) -> None:
    """Nobody comes through a barrier alone."""
    barrier = asyncio.Barrier(4)

    async def together(value: Any) -> Any:
        await barrier.wait()
        return value

    works = MapWork((Function(together, per_row=per_row, calls=4),))()
    assert values(made_of(works, parts(8), 8 if per_row else 1)) == list(range(8))
    works.close()


class Client:
    """Wants a running loop to be built, as clients of servers do."""

    closed: threading.Event

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        assert asyncio.get_running_loop() is self.loop
        return batch

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.closed.set()


def test_a_class_lives_in_one_loop_from_beginning_to_end() -> None:
    Client.closed = threading.Event()
    before = threading.active_count()
    works = MapWork((Function(Client, calls=2),))()
    assert values(made_of(works, parts(5), 1)) == list(range(5))
    assert values(made_of(works, parts(5), 2)) == list(range(5))
    works.close()
    assert Client.closed.is_set()
    assert threading.active_count() == before


def hangs_at(bad: int) -> Callable[[Any], Any]:
    async def hangs(batch: pa.RecordBatch) -> pa.RecordBatch:
        if bad in batch["x"].to_pylist():
            await asyncio.Event().wait()
        return batch

    return hangs


def test_a_call_that_takes_too_long_has_failed() -> None:
    works = MapWork((Function(hangs_at(2), policy=Policy(timeout_s=0.01)),))()
    with pytest.raises(FunctionError, match=r"it took longer than 0\.01 s\n.*rows 0 to 3 of f"):
        made_of(works, parts(4))
    works.close()
    works = MapWork((Function(hangs_at(2), policy=Policy(timeout_s=0.2, on_error="quarantine")),))()
    made = made_of(works, parts(4))
    works.close()
    assert (values(made), values(made, "rejected")) == ([0, 1, 3], [2])


def test_a_call_is_tried_again_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.failures.FIRST_PAUSE_S", 0.001)
    failed: set[int] = set()

    async def flaky(row: dict[str, Any]) -> dict[str, Any]:
        if row["x"] % 2 and row["x"] not in failed:
            failed.add(row["x"])
            raise ConnectionError
        return row

    works = MapWork((Function(flaky, per_row=True, calls=3, policy=Policy(retry_on=(ConnectionError,))),))()
    assert values(made_of(works, parts(9))) == list(range(9))
    works.close()
    assert failed == {1, 3, 5, 7}


def test_leaving_a_task_cancels_what_is_awaited() -> None:
    cancelled = threading.Event()
    second = asyncio.Event()

    async def hangs(batch: pa.RecordBatch) -> pa.RecordBatch:
        try:
            if batch["x"][0].as_py():
                second.set()
                await asyncio.Event().wait()
            await second.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return batch

    works = MapWork((Function(hangs, calls=2, policy=Policy(timeout_s=None)),))()
    task: Any = works(Call(big_parts(), None, None), lambda consumed: None)
    assert next(task).consumed
    task.close()
    assert cancelled.wait(10)
    works.close()


def big_parts() -> list[Batch]:
    """Parts large enough for outputs of their own."""
    return [
        Batch(pa.RecordBatch.from_arrays([pa.array([n] * 200_000, pa.int64())], schema=SCHEMA), "f", 0) for n in (0, 1)
    ]


def test_the_first_schema_awaits_one_call() -> None:
    async def same(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch

    before = threading.active_count()
    assert first_schema(Function(same, calls=8), parts(3, 3), SCHEMA) == SCHEMA
    assert threading.active_count() == before
