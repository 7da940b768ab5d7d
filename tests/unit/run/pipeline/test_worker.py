"""A worker of map operators, held against plain Python: batches, what is dealt with, generators, rows, one schema."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.errors import BatchContractBroken, FunctionError, TypeMismatch
from iceblink.plan.function import Function, Policy
from iceblink.run.pipeline.backend import PAUSED, Call, Output
from iceblink.run.pipeline.worker import MapWork, MapWorker, first_schema
from iceblink.scan.batch import Batch

SCHEMA = pa.schema([("x", pa.int64())])
LONGS = pa.schema([("x", pa.int64())])


def parts(*lengths: int, first: int = 0) -> list[Batch]:
    """One part of each length, each from a file of its own; values count on, positions start at 10."""
    made = []
    for number, length in enumerate(lengths):
        data = pa.RecordBatch.from_arrays([pa.array(range(first, first + length), pa.int64())], schema=SCHEMA)
        made.append(Batch(data, f"{number}.parquet", 10))
        first += length
    return made


def skipped(batches: list[Batch], rows: int) -> list[Batch]:
    left = []
    for batch in batches:
        take = min(rows, batch.data.num_rows)
        left.append(Batch(batch.data.slice(take), batch.path, batch.first_row + take))
        rows -= take
    return left


def outputs(
    worker: MapWorker, batches: list[Batch], batch_rows: int | None = None, schema: pa.Schema | None = None
) -> list[Output]:
    return list(worker(Call(batches, batch_rows, schema), lambda consumed: None))


def values(made: list[Output], kind: str = "rows") -> list[Any]:
    return [value for output in made if output.kind == kind for value in output.data.data.column(0).to_pylist()]


def worker(*targets: Any, **options: Any) -> MapWorker:
    return MapWork(tuple(Function(target, **options) for target in targets))()


def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


lengths = st.lists(st.integers(0, 9), max_size=8)
sizes = st.none() | st.integers(1, 12)


@given(lengths=lengths, batch_rows=sizes)
def test_every_call_has_exactly_as_many_rows_as_asked_for(lengths: list[int], batch_rows: int | None) -> None:
    seen: list[list[int]] = []

    def noted(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(batch["x"].to_pylist())
        return batch

    made = outputs(worker(noted), parts(*lengths), batch_rows)
    rows = list(range(sum(lengths)))
    if batch_rows is None:
        assert [len(call) for call in seen] == [length for length in lengths if length]
    else:
        assert seen == [rows[start : start + batch_rows] for start in range(0, len(rows), batch_rows)]
    assert values(made) == rows
    assert [output.consumed for output in made[-1:]] == [len(rows)] * bool(rows)


@given(lengths=lengths, batch_rows=sizes)
def test_begun_is_told_what_is_done_before_each_call(lengths: list[int], batch_rows: int | None) -> None:
    begun: list[int] = []
    calls: list[tuple[int, int]] = []

    def seen(batch: pa.RecordBatch) -> pa.RecordBatch:
        calls.append((begun[-1], batch["x"][0].as_py()))
        return batch

    list(worker(seen)(Call(parts(*lengths), batch_rows, None), begun.append))
    assert begun[1::2] == [PAUSED] * len(calls)
    assert len(begun) == 2 * len(calls)
    assert all(told == first for told, first in calls)


def repeated(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield each value as often as it says, modulo three, in batches of one value."""
    for value in batch["x"].to_pylist():
        yield {"x": pa.array([value] * (value % 3), pa.int64())}


def kept_few(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.filter([value % 4 == 1 for value in batch["x"].to_pylist()])


def doubled(batch: pa.RecordBatch) -> dict[str, Any]:
    return {"x": [value for value in batch["x"].to_pylist() for _ in range(2)]}


@pytest.mark.parametrize("impatient", [False, True])
@settings(max_examples=300)
@given(
    lengths=lengths,
    batch_rows=sizes,
    targets=st.lists(st.sampled_from([same, repeated, kept_few, doubled]), min_size=1, max_size=3),
)
def test_a_task_begun_again_from_any_output_gives_the_other_rows(
    lengths: list[int], batch_rows: int | None, targets: list[Callable[..., Any]], impatient: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if impatient:
            patch.setattr("iceblink.run.pipeline.outputs.SMALL_BYTES", 1)
        batches = parts(*lengths)
        made = outputs(worker(*targets, declared=LONGS), batches, batch_rows)
        for end in range(1, len(made) + 1):
            kept = made[:end]
            consumed = kept[-1].consumed
            grown = [one.consumed > before for one, before in zip(kept, [0, *(o.consumed for o in kept)], strict=False)]
            since = end - grown[::-1].index(True) if any(grown) else 0
            again = Call(skipped(batches, consumed), batch_rows, None, sum(o.data.data.num_rows for o in kept[since:]))
            rest = list(worker(*targets, declared=LONGS)(again, lambda consumed: None))
            assert values(kept) + values(rest) == values(made)


def test_what_a_generator_yields_goes_on_before_it_is_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.outputs.PATIENCE_S", 0.0)
    asked: list[int] = []

    def slow(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for number in range(3):
            asked.append(number)
            yield batch

    made = worker(slow)(Call(parts(2), None), lambda consumed: None)
    for number in range(3):
        assert next(made).consumed == 0
        assert asked[-1] == number
    assert list(made) == []


def test_small_batches_of_a_generator_are_joined_across_its_calls() -> None:
    def alone(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield batch

    first, others = outputs(worker(alone), parts(6), 2)  # how long the others take is not known at first
    assert (values([first]), first.consumed) == ([0, 1], 0)
    assert (values([others]), others.consumed) == ([2, 3, 4, 5], 6)


def test_the_rows_of_several_functions_are_those_of_one_after_the_other() -> None:
    made = outputs(worker(doubled, kept_few, repeated, declared=LONGS), parts(5, 7, 3), 4)
    expected = [x for x in range(15) for _ in range(2) if x % 4 == 1 for _ in range(x % 3)]
    assert values(made) == expected


def test_an_output_has_the_origin_of_its_first_row_and_its_own_file() -> None:
    made = outputs(worker(same), parts(3, 4), 2)
    assert [(output.data.path, output.data.first_row, output.data.data.num_rows) for output in made] == [
        ("0.parquet", 10, 4),
        ("1.parquet", 11, 3),
    ]


def test_rows_are_dicts_and_may_become_none_or_several() -> None:
    def some(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for _ in range(row["x"] % 3):
            yield dict(row)

    made = outputs(worker(some, per_row=True, declared=LONGS), parts(4, 3))
    assert values(made) == [x for x in range(7) for _ in range(x % 3)]


class Counted:
    """Counts how often it is built and closed."""

    built: ClassVar[Counter[str]] = Counter()

    def __init__(self, by: int = 1) -> None:
        self.by = by
        self.built["built"] += 1

    def __call__(self, batch: pa.RecordBatch) -> dict[str, Any]:
        return {"x": [value * self.by for value in batch["x"].to_pylist()]}

    def close(self) -> None:
        self.built["closed"] += 1


def test_a_class_is_built_once_and_closed_at_the_end() -> None:
    Counted.built.clear()
    works = worker(Counted, functools.partial(Counted, 3))
    assert values(outputs(works, parts(2, 2))) == [0, 3, 6, 9]
    outputs(works, parts(1))
    assert Counted.built == {"built": 2}
    works.close()
    assert Counted.built == {"built": 2, "closed": 2}


def test_a_worker_that_cannot_be_built_is_an_error_and_closes_what_was() -> None:
    class Broken:
        def __init__(self) -> None:
            raise OSError("no such model")

        def __call__(self, batch: Any) -> Any: ...

    Counted.built.clear()
    with pytest.raises(FunctionError, match=r"OSError: no such model\n.*Broken\(\), building a worker"):
        worker(Counted, Broken, policy=Policy(on_error="skip"))
    assert Counted.built == {"built": 1, "closed": 1}


def test_an_error_names_the_function_its_line_and_all_places_of_its_rows() -> None:
    def broken(batch: pa.RecordBatch) -> None:
        raise ValueError("not this\nnor that")

    with pytest.raises(FunctionError) as caught:
        outputs(worker(broken), parts(2, 3), 4)
    assert caught.value.what == "ValueError: not this"
    assert "broken), rows 10 to 11 of 0.parquet, rows 10 to 11 of 1.parquet, " in caught.value.where
    assert "test_worker.py:" in caught.value.where


def test_a_generator_is_heard_until_it_fails() -> None:
    def broken(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield batch
        raise ValueError("late")

    with pytest.raises(FunctionError, match=r"late(?s:.*)rows 10 to 12 of 0\.parquet"):
        outputs(worker(broken), parts(3))


def by_first(**columns: Callable[[int], Any]) -> Callable[[pa.RecordBatch], dict[str, Any]]:
    return lambda batch: {name: make(batch["x"][0].as_py()) for name, make in columns.items()}


@pytest.mark.parametrize(
    ("later", "what"),
    [
        ({"a": ["x"]}, "column 'a': expected long, got string"),
        ({"a": [1.5]}, "column 'a': expected long, got double"),
        ({}, "column 'a' is missing"),
        ({"a": [1], "b": [1]}, "column 'b' is not expected"),
    ],
)
def test_the_first_batch_sets_the_schema_and_an_error_names_both(later: dict[str, Any], what: str) -> None:
    def drifts(batch: pa.RecordBatch) -> dict[str, Any]:
        return {"a": [1]} if batch["x"][0].as_py() == 0 else later

    with pytest.raises(BatchContractBroken) as caught:
        outputs(worker(drifts), parts(2, 2))
    assert caught.value.what == what
    assert "rows 10 to 11 of 1.parquet" in caught.value.where
    assert "rows 10 to 11 of 0.parquet" in caught.value.hint


def test_what_is_declared_or_known_of_other_workers_goes_before_the_first_batch() -> None:
    doubles = pa.schema([("x", pa.float64())])
    for made in (outputs(worker(same), parts(2), schema=doubles), outputs(worker(same, declared=doubles), parts(2))):
        assert made[0].data.data.schema == doubles
    required = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    nulls = pa.RecordBatch.from_arrays([pa.array([None], pa.int64())], schema=required)
    with pytest.raises(BatchContractBroken, match="required and has 1 null"):
        outputs(worker(lambda batch: nulls, declared=required), parts(1))


def test_a_first_column_of_nulls_must_be_declared_whatever_the_policy() -> None:
    target = by_first(x=lambda _: [None])
    with pytest.raises(BatchContractBroken, match="only nulls in the first batch"):
        outputs(worker(target, policy=Policy(on_error="skip")), parts(2))
    assert values(outputs(worker(target, declared=LONGS), parts(2))) == [None]


def test_nulls_for_numpy_are_an_error_whatever_the_policy() -> None:
    data = pa.RecordBatch.from_arrays([pa.array([1, None], pa.int64())], schema=SCHEMA)
    with pytest.raises(TypeMismatch, match=r"1 nulls(?s:.*)map_batches\(same\), rows 0 to 1") as caught:
        outputs(worker(same, batch_format="numpy", policy=Policy(on_error="skip")), [Batch(data, "", 0)])
    assert "numpy_masked" in caught.value.hint
    assert "on_error='skip' is for rows at fault" in caught.value.hint


@pytest.mark.parametrize("form", ["arrow", "numpy", "numpy_masked", "pandas", "polars"])
def test_no_format_changes_a_type(form: Any) -> None:
    schema = pa.schema(
        [
            ("m", pa.decimal128(12, 3)),
            ("ts", pa.timestamp("us", "UTC")),
            ("l", pa.list_(pa.int32())),
            ("n", pa.list_(pa.list_(pa.int16()))),
            ("st", pa.struct([("a", pa.int32())])),
            ("i", pa.int8()),
            ("u", pa.uuid()),
            ("t", pa.fixed_shape_tensor(pa.float32(), [2, 1])),
        ]
    )
    raw = {"m": 1, "ts": 7, "l": [1], "n": [[1], []], "st": {"a": 1}, "i": 3, "u": b"0" * 16, "t": [1.0, 2.0]}
    arrays = []
    for field in schema:
        storage = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
        array = pa.array([raw[field.name]] * 2, storage)
        arrays.append(array if storage is field.type else pa.ExtensionArray.from_storage(field.type, array))
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    (made,) = outputs(worker(same, batch_format=form), [Batch(batch, "", 0)])
    assert made.data.data.schema == schema
    assert made.data.data.to_pylist() == batch.to_pylist()


def test_the_first_schema_waits_for_rows_and_asks_with_an_empty_batch_at_last() -> None:
    late = Function(lambda batch: {"x": [v for v in batch["x"].to_pylist() if v > 3]})
    assert first_schema(late, parts(2, 2, 2), SCHEMA) == LONGS
    assert first_schema(Function(same), [], SCHEMA) == SCHEMA
    with pytest.raises(BatchContractBroken, match="declare them"):
        first_schema(late, [], SCHEMA)


def test_an_output_without_rows_tells_the_schema_of_a_task_that_has_none() -> None:
    (made,) = outputs(worker(lambda batch: batch.slice(0, 0)), parts(2, 3), 2)
    assert (made.data.data.num_rows, made.data.data.schema, made.consumed) == (0, SCHEMA, 5)
