"""Calls that fail: tried again, or their rows found, left out, or sent on with where they come from and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.errors import BatchContractBroken, FunctionError, IceblinkError
from iceblink.plan.function import Function, Policy
from iceblink.run.pipeline.backend import Call, Output
from iceblink.run.pipeline.failures import LONGEST_PAUSE_S, pause_s
from iceblink.run.pipeline.worker import MapWork, MapWorker
from iceblink.scan.batch import Batch

SCHEMA = pa.schema([("x", pa.int64())])


def parts(*lengths: int) -> list[Batch]:
    """Parts whose value is file number times 100 plus position."""
    return [
        Batch(pa.RecordBatch.from_pydict({"x": list(range(100 * n, 100 * n + length))}, schema=SCHEMA), f"f{n}", 0)
        for n, length in enumerate(lengths)
    ]


def made_of(works: MapWorker, batches: list[Batch], batch_rows: int | None = None) -> list[Output]:
    return list(works(Call(batches, batch_rows, None), lambda consumed: None))


def column(made: list[Output], kind: str, name: str) -> list[Any]:
    return [value for output in made if output.kind == kind for value in output.data.data[name].to_pylist()]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.failures.FIRST_PAUSE_S", 0.0)


Form = Literal["raises", "wrong type", "generator", "row", "async", "async row"]


def target(form: Form, bad: set[int]) -> Function:
    """Return a function that adds one to good values, and fails on bad ones."""

    def checked(values: list[int]) -> list[int]:
        if found := bad.intersection(values):
            raise ValueError(f"bad {min(found)}")
        return [value + 1 for value in values]

    def raises(batch: pa.RecordBatch) -> dict[str, Any]:
        return {"x": checked(batch["x"].to_pylist())}

    def wrong_type(batch: pa.RecordBatch) -> dict[str, Any]:
        return {"x": [str(x) if x in bad else x + 1 for x in batch["x"].to_pylist()]}

    def generator(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        for value in batch["x"].to_pylist():
            yield {"x": checked([value])}

    def row(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": checked([row["x"]])[0]}

    async def async_batch(batch: pa.RecordBatch) -> dict[str, Any]:
        return raises(batch)

    async def async_row(value: dict[str, Any]) -> dict[str, Any]:
        return row(value)

    targets: dict[Form, Callable[..., Any]] = {
        "raises": raises,
        "wrong type": wrong_type,
        "generator": generator,
        "row": row,
        "async": async_batch,
        "async row": async_row,
    }
    return Function(targets[form], per_row="row" in form, declared=SCHEMA, calls=3)


def with_policy(function: Function, **policy: Any) -> Function:
    return Function(function.target, function.per_row, declared=SCHEMA, calls=3, policy=Policy(**policy))


@pytest.mark.parametrize("form", ["raises", "wrong type", "generator", "row", "async", "async row"])
@given(
    lengths=st.lists(st.integers(0, 9), max_size=4),
    bad=st.sets(st.integers(0, 3).flatmap(lambda n: st.integers(100 * n, 100 * n + 9))),
    batch_rows=st.none() | st.integers(1, 20),
)
def test_exactly_the_bad_rows_are_refused_with_their_origin(
    form: Form, lengths: list[int], bad: set[int], batch_rows: int | None
) -> None:
    rows = [x for part in parts(*lengths) for x in part.data["x"].to_pylist()]
    refused = [x for x in rows if x in bad]
    for on_error in ("quarantine", "skip"):
        works = MapWork((with_policy(target(form, bad), on_error=on_error),))()
        made = made_of(works, parts(*lengths), batch_rows)
        works.close()
        assert column(made, "rows", "x") == [x + 1 for x in rows if x not in bad]
        assert column(made, "rejected", "x") == refused
        if on_error == "skip":
            assert all(output.data.data.schema.names == ["x"] for output in made)
            continue
        assert column(made, "rejected", "iceblink_file") == [f"f{x // 100}" for x in refused]
        assert column(made, "rejected", "iceblink_row") == [x % 100 for x in refused]
        if form != "wrong type":
            assert column(made, "rejected", "iceblink_error") == [f"ValueError: bad {x}" for x in refused]
            for text in column(made, "rejected", "iceblink_traceback"):
                assert text.startswith("Traceback")
                assert "in checked" in text
                assert "iceblink/run" not in text
        consumed = [output.consumed for output in made]
        assert consumed == sorted(consumed)
        assert consumed[-1:] == [len(rows)] * bool(rows)


@given(bad=st.sets(st.integers(0, 19)), batch_rows=st.none() | st.integers(1, 20))
def test_what_is_dealt_with_counts_refused_rows(bad: set[int], batch_rows: int | None) -> None:
    works = MapWork((with_policy(target("raises", bad), on_error="quarantine"),))()
    for output in made_of(works, parts(20), batch_rows):
        before = [x for x in range(output.consumed) if (x in bad) == (output.kind == "rejected")]
        assert output.data.data["x"][-1].as_py() == before[-1] + (output.kind == "rows")


@given(bad=st.sets(st.integers(0, 9)), batch_rows=st.none() | st.integers(1, 10), cut=st.booleans())
def test_a_task_begun_again_from_any_output_refuses_no_row_twice(
    bad: set[int], batch_rows: int | None, cut: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "iceblink.run.pipeline.outputs.LARGE_BYTES" if cut else "iceblink.run.pipeline.outputs.SMALL_BYTES", 9
        )
        function = with_policy(target("generator", bad), on_error="quarantine")
        (part,) = parts(10)
        made = made_of(MapWork((function,))(), [part], batch_rows)
        for end in range(1, len(made) + 1):
            consumed, since = 0, 0
            for output in made[:end]:
                rows = output.data.data.num_rows
                consumed, since = (output.consumed, 0) if output.consumed > consumed else (consumed, since + rows)
            left = Batch(part.data.slice(consumed), part.path, consumed)
            again = list(MapWork((function,))()(Call([left], batch_rows, None, since), lambda consumed: None))
            for kind in ("rows", "rejected"):
                assert column(made[:end] + again, kind, "x") == column(made, kind, "x")


def test_rows_are_called_once_however_many_fail() -> None:
    called: list[int] = []

    def noted(row: dict[str, Any]) -> dict[str, Any]:
        called.append(row["x"])
        return {"x": 1 // (row["x"] % 3)}

    works = MapWork((Function(noted, per_row=True, policy=Policy(on_error="skip")),))()
    made_of(works, parts(20))
    assert called == list(range(20))


def test_a_row_of_two_types_or_other_columns_names_both_rows() -> None:
    odd = Function(lambda row: {"a": row["x"]} if row["x"] % 7 else {"a": "seven"}, per_row=True)
    with pytest.raises(BatchContractBroken, match=r"'a' mixes types: str 'seven' in row 0 and int 1 in row 1"):
        made_of(MapWork((odd,))(), parts(9))
    less = Function(lambda row: {"a": 1, "b": 2} if row["x"] < 3 else {"a": 1}, per_row=True)
    with pytest.raises(
        BatchContractBroken, match=r"no 'b' for a row, and did for rows 0 to 0 of f0\n.*rows 3 to 3 of f0"
    ):
        made_of(MapWork((less,))(), parts(9))


def flaky(times: int, error: Exception) -> tuple[Callable[[Any], Any], list[int]]:
    calls: list[int] = []

    def target(batch: pa.RecordBatch) -> pa.RecordBatch:
        calls.append(batch.num_rows)
        if len(calls) <= times:
            raise error
        return batch

    return target, calls


def test_a_call_is_tried_again_as_often_as_was_said() -> None:
    policy = Policy(retry_on=(ConnectionError,), retries=2)
    target, calls = flaky(2, ConnectionResetError("gone"))
    assert column(made_of(MapWork((Function(target, policy=policy),))(), parts(3)), "rows", "x") == [0, 1, 2]
    assert calls == [3, 3, 3]
    target, calls = flaky(3, ConnectionResetError("gone"))
    with pytest.raises(FunctionError, match="ConnectionResetError: gone"):
        made_of(MapWork((Function(target, policy=policy),))(), parts(3))
    assert len(calls) == 3


def test_other_errors_are_not_tried_again() -> None:
    target, calls = flaky(1, ValueError("no"))
    with pytest.raises(FunctionError):
        made_of(MapWork((Function(target, policy=Policy(retry_on=(ConnectionError,))),))(), parts(3))
    assert calls == [3]


def test_a_generator_that_is_tried_again_gives_its_rows_once() -> None:
    tries: list[int] = []

    def target(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        tries.append(1)
        yield batch
        if len(tries) < 3:
            raise ConnectionError
        yield batch

    policy = Policy(retry_on=(ConnectionError,))
    made = made_of(MapWork((Function(target, policy=policy),))(), parts(2))
    assert column(made, "rows", "x") == [0, 1, 0, 1]


def test_stopping_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.failures.FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr("iceblink.run.pipeline.failures.LONGEST_PAUSE_S", 1000.0)
    works: list[MapWorker] = []

    def target(batch: pa.RecordBatch) -> pa.RecordBatch:
        works[0].stop()
        raise ConnectionError

    works.append(MapWork((Function(target, policy=Policy(retry_on=(ConnectionError,))),))())
    with pytest.raises(FunctionError):
        made_of(works[0], parts(2))


def test_pauses_double_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.failures.FIRST_PAUSE_S", 0.1)
    assert all(0.05 * 2**tried <= pause_s(tried) <= 0.1 * 2**tried for tried in range(6))
    assert LONGEST_PAUSE_S / 2 <= pause_s(10_000) <= LONGEST_PAUSE_S


def test_errors_of_iceblink_come_out_as_they_are_and_can_be_skipped() -> None:
    def target(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise IceblinkError("mine")

    with pytest.raises(IceblinkError, match=r"^mine$"):
        made_of(MapWork((Function(target),))(), parts(2))
    made = made_of(MapWork((Function(target, policy=Policy(on_error="quarantine")),))(), parts(2))
    assert column(made, "rejected", "iceblink_error") == ["mine", "mine"]


def test_a_function_that_exits_has_failed() -> None:
    def target(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise SystemExit(0)

    with pytest.raises(FunctionError, match="SystemExit: 0"):
        made_of(MapWork((Function(target),))(), parts(2))


def test_rows_refused_by_the_first_of_two_functions_keep_their_place() -> None:
    first = with_policy(target("raises", {3}), on_error="quarantine")
    second = with_policy(target("raises", {6, 9}), on_error="quarantine")
    made = made_of(MapWork((first, second))(), parts(10), 5)
    assert column(made, "rows", "x") == [2, 3, 4, 6, 8, 9, 11]
    assert column(made, "rejected", "x") == [3, 6, 9]
    assert [output.consumed for output in made][-1] == 10


async def asynchronous(batch: pa.RecordBatch) -> AsyncIterator[pa.RecordBatch]:
    yield batch


@pytest.mark.parametrize("wrong", [lambda batch: [batch], lambda batch: None, asynchronous])
def test_what_is_no_batch_names_the_rows(wrong: Callable[..., Any]) -> None:
    with pytest.raises(BatchContractBroken, match=r"not a batch\n.*rows 0 to 1 of f0"):
        made_of(MapWork((Function(wrong),))(), parts(2))
