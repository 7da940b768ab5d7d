"""Calls asked for ahead give what calls made in turn give: rows, refusals, tries, iterators; in one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.plan.function import Function, OnError, Policy
from iceblink.run.pipeline.backend import PAUSED, Call, Output
from iceblink.run.pipeline.worker import MapWork
from iceblink.scan.batch import Batch

SCHEMA = pa.schema([("x", pa.int64())])


def rows(*lengths: int) -> list[Batch]:
    made, first = [], 0
    for length in lengths:
        made.append(Batch(pa.RecordBatch.from_pydict({"x": list(range(first, first + length))}, SCHEMA), "f", first))
        first += length
    return made


def served(functions: tuple[Function, ...], call: Call) -> tuple[list[Output], list[int]]:
    """Do a task beside the thread that makes the calls, twice; return the outputs of the second and what was noted."""
    worker = MapWork(functions)()
    made: list[Output] = []
    noted: list[int] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            list(worker(call, lambda consumed: None))
            made.extend(worker(call, noted.append))
        except Exception as error:
            errors.append(error)

    assert worker.ahead is not None
    worker.ahead.serve(ask, lambda: None)
    worker.close()
    if errors:
        raise errors[0]
    return made, noted


def values(made: list[Output], kind: str = "rows") -> list[int]:
    return [value for output in made if output.kind == kind for value in output.data.data["x"].to_pylist()]


class Adds:
    """Adds one; fails on some values, each time or the first two; says in which thread it is."""

    def __init__(self, form: str = "batch", bad: frozenset[int] = frozenset(), passing: bool = False) -> None:
        self.form, self.bad, self.passing = form, bad, passing
        self.failed = 0
        self.thread = threading.get_ident()

    def close(self) -> None:
        assert self.thread == threading.get_ident()

    def __call__(self, given: Any) -> Any:
        assert self.thread == threading.get_ident()
        values = [given["x"]] if isinstance(given, dict) else given["x"].to_pylist()
        if self.bad.intersection(values) and not (self.passing and self.failed > 1):
            self.failed += 1
            raise ValueError("bad")
        self.failed = 0
        if self.form == "row":
            return {"x": given["x"] + 1}
        return self.each(values) if self.form == "iterator" else {"x": [value + 1 for value in values]}

    def each(self, values: list[int]) -> Iterator[dict[str, Any]]:
        for value in values:
            assert self.thread == threading.get_ident()
            yield {"x": [value + 1]}


def adds(form: str, on_error: OnError = "raise", retries: int = 0, **how: Any) -> Function:
    policy = Policy(on_error, retry_on=(ValueError,) if retries else (), retries=retries)
    return Function(partial(Adds, form, **how), form == "row", declared=SCHEMA, policy=policy)


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.failures.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("iceblink.run.pipeline.outputs.PATIENCE_S", 3600.0)  # which outputs are joined is not chance


lengths = st.lists(st.integers(0, 9), max_size=6)
forms = st.sampled_from(["batch", "iterator", "row"])


@settings(max_examples=60, deadline=None)
@given(lengths=lengths, batch_rows=st.none() | st.integers(1, 9), chain=st.lists(forms, min_size=1, max_size=3))
def test_rows_and_what_is_dealt_with_are_as_in_turn(
    lengths: list[int], batch_rows: int | None, chain: list[str]
) -> None:
    functions = tuple(adds(form) for form in chain)
    made, noted = served(functions, Call(rows(*lengths), batch_rows))
    in_turn = list(MapWork(functions)()(Call(rows(*lengths), batch_rows), lambda consumed: None))
    assert values(made) == values(in_turn) == [value + len(chain) for value in range(sum(lengths))]
    assert [output.consumed for output in made][-1:] == [output.consumed for output in in_turn][-1:]
    assert noted[1::2] == [PAUSED] * (len(noted) // 2)
    assert PAUSED not in noted[::2]


@settings(max_examples=60, deadline=None)
@given(lengths=lengths, bad=st.frozensets(st.integers(0, 30)), form=forms)
def test_exactly_the_bad_rows_are_refused(lengths: list[int], bad: frozenset[int], form: str) -> None:
    made, _ = served((adds(form, "skip", bad=bad),), Call(rows(*lengths)))
    assert values(made, "rejected") == [value for value in range(sum(lengths)) if value in bad]
    assert values(made) == [value + 1 for value in range(sum(lengths)) if value not in bad]


@pytest.mark.parametrize("form", ["batch", "iterator", "row"])
def test_a_call_that_fails_is_tried_again_before_the_next_one(form: str) -> None:
    made, _ = served((adds(form, retries=2, bad=frozenset({3, 4, 8}), passing=True),), Call(rows(3, 3, 3)))
    assert values(made) == list(range(1, 10))


def test_iterators_are_drawn_before_the_next_call_begins() -> None:
    done: list[str] = []

    class Reads:
        def __call__(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
            done.append("called")
            return self.parts(batch)

        def parts(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
            for at in range(batch.num_rows):
                done.append("drawn")
                yield batch.slice(at, 1)

    served((Function(Reads, declared=SCHEMA),), Call(rows(2, 2)))
    assert done == ["called", "drawn", "drawn"] * 4


def test_the_next_task_is_looked_for_while_the_last_call_of_one_goes_on() -> None:
    looked = threading.Event()

    class Waits:
        def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            last = batch["x"][0].as_py() == 2
            assert looked.wait(60) if last else not looked.is_set()
            return batch

    worker = MapWork((Function(Waits, declared=SCHEMA),))()
    made: list[Output] = []
    assert worker.ahead is not None
    worker.ahead.serve(lambda: made.extend(worker(Call(rows(1, 1, 1)), lambda consumed: None)), looked.set)
    assert values(made) == [0, 1, 2]
