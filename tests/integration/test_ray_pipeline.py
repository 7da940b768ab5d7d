"""A pipeline over Ray gives the rows that it must, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from iceblink.errors import FunctionError
from iceblink.plan.function import Function, Policy, Pool
from iceblink.run.pipeline.backend import Output
from iceblink.run.pipeline.chain import Fed, mapped, source
from iceblink.run.pipeline.scheduler import Scheduler
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.ray.ray_backend import RayBackend
from iceblink.run.ray.session import Session
from iceblink.scan.batch import Batch

SCHEMA = pa.schema({"x": pa.int64()})
POOL = Pool(1, 2, processes=True)


def rows(count: int, step: int) -> Fed:
    for first in range(0, count, step):
        data = pa.record_batch([pa.array(range(first, min(count, first + step)))], schema=SCHEMA)
        yield Output("rows", Batch(data, "numbers", first))


def run(session: Session, functions: list[Function], opened: Callable[[], Fed]) -> list[int]:
    operators = [source("numbers", opened), *(mapped([function], SCHEMA) for function in functions)]
    scheduler = Scheduler(operators, RayBackend(session), Recorder([operator.label for operator in operators]))
    with closing(scheduler.run()) as found:
        return [x for _, _, batch in found for x in batch.data.column(0).to_pylist()]


def function(target: Callable[..., Any], **how: Any) -> Function:
    return Function(target, declared=SCHEMA, pool=POOL, **how)


def plus_one(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch([pa.array([x + 1 for x in batch.column(0).to_pylist()])], schema=SCHEMA)


def dies_once(mark: str, at: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Kill the process the first time that it meets a value."""
    if at in batch.column(0).to_pylist() and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def dies(at: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    if at in batch.column(0).to_pylist():
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def test_rows_keep_their_order_through_two_operators(ray_session: Session) -> None:
    functions = [function(plus_one, batch_rows=700), function(plus_one, batch_rows=1000)]
    assert run(ray_session, functions, partial(rows, 20_000, 1_300)) == list(range(2, 20_002))


def test_large_batches_go_from_one_operator_to_the_next_as_objects(ray_session: Session) -> None:
    functions = [function(_same), function(_same)]
    assert run(ray_session, functions, partial(rows, 1_000_000, 200_000)) == list(range(1_000_000))


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


@pytest.mark.parametrize("at", [0, 4_711, 9_999])
def test_a_host_that_dies_in_the_middle_costs_no_row_and_doubles_none(
    ray_session: Session, tmp_path: Path, at: int
) -> None:
    functions = [function(partial(dies_once, str(tmp_path / "dead"), at), batch_rows=100), function(plus_one)]
    assert run(ray_session, functions, partial(rows, 10_000, 1_000)) == list(range(1, 10_001))
    assert (tmp_path / "dead").exists()


def test_rows_that_kill_their_host_again_are_named(ray_session: Session) -> None:
    with pytest.raises(FunctionError, match="signal 9") as caught:
        run(ray_session, [function(partial(dies, 250), batch_rows=100)], partial(rows, 1_000, 1_000))
    assert "rows 200 to 299 of numbers" in str(caught.value)


def test_rows_that_kill_their_host_again_can_be_left_out(ray_session: Session) -> None:
    skipping = function(partial(dies, 250), batch_rows=1, policy=Policy(on_error="skip"))
    assert run(ray_session, [skipping], partial(rows, 300, 300)) == [x for x in range(300) if x != 250]
