"""Rows come after the checks that run beside the work for them, and what a check says comes before all else."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator

import pyarrow as pa
import pytest

from iceblink.errors import DataCorrupt, IceblinkError, QueryError
from iceblink.run.checked import checked

ROWS = [pa.record_batch({"x": [number]}) for number in range(3)]


def rows(failing: IceblinkError | None = None) -> Generator[pa.RecordBatch, None, None]:
    if failing is not None:
        raise failing
    yield from ROWS


def refuse() -> None:
    raise DataCorrupt("a page is damaged")


def passing() -> None:
    pass


@pytest.mark.parametrize("checks", [[], [passing], [passing, passing]])
def test_rows_are_what_they_were(checks: list[Callable[[], None]]) -> None:
    assert list(checked(rows(), checks)) == ROWS


def test_no_row_comes_when_a_check_fails() -> None:
    with pytest.raises(DataCorrupt):
        next(checked(rows(), [passing, refuse]))


def test_a_check_is_heard_before_the_kernel() -> None:
    with pytest.raises(DataCorrupt):
        next(checked(rows(QueryError("out of buffer")), [passing, refuse]))


def test_an_error_of_the_kernel_stays_when_the_checks_pass() -> None:
    with pytest.raises(QueryError):
        next(checked(rows(QueryError("a division by zero")), [passing]))


def test_the_first_batch_is_made_beside_the_checks() -> None:
    begun, seen = threading.Event(), []

    def slowly() -> Generator[pa.RecordBatch, None, None]:
        begun.set()
        yield from ROWS

    assert list(checked(slowly(), [lambda: seen.append(begun.wait(60))])) == ROWS
    assert seen == [True]


def test_who_leaves_early_ends_the_work() -> None:
    batches = rows()
    one = checked(batches, [passing])
    next(one)
    one.close()
    assert inspect.getgeneratorstate(batches) == inspect.GEN_CLOSED
