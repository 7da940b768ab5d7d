"""Columns are found by field id through every change that Iceberg allows, and nested ones likewise."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from iceblink.errors import DataCorrupt
from iceblink.scan.project import Projection

HandMade = Any  # see conftest.py
Make = Callable[[pa.Schema], HandMade]


def field(name: str, dtype: pa.DataType, number: int, nullable: bool = True, **metadata: str) -> pa.Field:
    return pa.field(name, dtype, nullable, metadata={"PARQUET:field_id": str(number), **metadata})


def read(make: Make, stored: pa.Table, schema: pa.Schema, **options: Any) -> list[dict[str, Any]]:
    table = make(schema)
    table.add(stored, **options)
    (batch,) = table.batches()
    assert batch.data.schema.equals(schema, check_metadata=True)
    batch.data.validate(full=True)
    return batch.data.to_pylist()  # type: ignore[no-any-return]


def test_columns_are_renamed_reordered_dropped_and_added(hand_made: Make) -> None:
    stored = pa.table([[1, 2], ["a", "b"], [0.5, 1.5]], schema=pa.schema(
        [field("a", pa.int64(), 1), field("b", pa.string(), 2), field("c", pa.float64(), 3)]
    ))  # fmt: skip
    schema = pa.schema([field("c", pa.string(), 2), field("new", pa.int32(), 4), field("b", pa.int64(), 1)])
    assert read(hand_made, stored, schema) == [{"c": "a", "new": None, "b": 1}, {"c": "b", "new": None, "b": 2}]


@pytest.mark.parametrize(
    ("stored", "dtype", "values"),
    [
        (pa.int32(), pa.int64(), [1, None, -(1 << 31)]),
        (pa.float32(), pa.float64(), [0.5, None, float("inf")]),
        (pa.decimal128(9, 2), pa.decimal128(20, 2), [Decimal("1.25"), None, Decimal("-0.01")]),
        (pa.large_string(), pa.string(), ["a", None, "b"]),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), ["a", None, "a"]),
        (pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"), [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None, None]),
        (pa.binary(16), pa.uuid(), [uuid.UUID(int=7).bytes, None, None]),
        (pa.large_list(pa.int32()), pa.list_(pa.int64()), [[1, None], None, []]),
    ],
)
def test_values_are_promoted(hand_made: Make, stored: pa.DataType, dtype: pa.DataType, values: list[Any]) -> None:
    data = pa.table([pa.array(values, stored)], schema=pa.schema([field("x", stored, 1)]))
    got = [row["x"] for row in read(hand_made, data, pa.schema([field("x", dtype, 1)]))]
    assert got == [uuid.UUID(bytes=v) if isinstance(v, bytes) else v for v in values]


DEFAULTS = [
    (pa.int64(), "7", 7),
    (pa.bool_(), "true", True),
    (pa.float64(), "1.5", 1.5),
    (pa.string(), '"x"', "x"),
    (pa.date32(), '"2020-02-01"', dt.date(2020, 2, 1)),
    (pa.time64("us"), '"10:11:12.000013"', dt.time(10, 11, 12, 13)),
    (pa.timestamp("us"), '"2020-02-01T10:11:12.000013"', dt.datetime(2020, 2, 1, 10, 11, 12, 13)),
    (pa.timestamp("us", "UTC"), '"2020-02-01T10:11:12+00:00"', dt.datetime(2020, 2, 1, 10, 11, 12, tzinfo=dt.UTC)),
    (pa.decimal128(9, 2), '"14.20"', Decimal("14.20")),
    (pa.uuid(), f'"{uuid.UUID(int=5)}"', uuid.UUID(int=5)),
    (pa.binary(), '"00ff"', b"\x00\xff"),
    (pa.binary(2), '"00ff"', b"\x00\xff"),
]


@pytest.mark.parametrize(("dtype", "text", "value"), DEFAULTS)
def test_a_column_that_the_file_lacks_has_its_default(
    hand_made: Make, dtype: pa.DataType, text: str, value: object
) -> None:
    stored = pa.table([[1, 2]], schema=pa.schema([field("a", pa.int64(), 1)]))
    added = field("x", dtype, 2, nullable=False, **{"iceblink:default": text})
    rows = read(hand_made, stored, pa.schema([field("a", pa.int64(), 1), added]))
    assert rows == [{"a": 1, "x": value}, {"a": 2, "x": value}]


def test_only_added_columns_may_be_read(hand_made: Make) -> None:
    stored = pa.table([[1, 2]], schema=pa.schema([field("a", pa.int64(), 1)]))
    assert read(hand_made, stored, pa.schema([field("x", pa.int64(), 2)])) == [{"x": None}, {"x": None}]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pa.string(), "emea"),
        (pa.date32(), dt.date(2020, 1, 1)),
        (pa.uuid(), uuid.UUID(int=1)),
        (pa.decimal128(9, 2), Decimal("1.50")),
    ],
)
def test_a_partition_value_stands_for_a_column_that_the_file_lacks(
    hand_made: Make, dtype: pa.DataType, value: object
) -> None:
    stored = pa.table([[1]], schema=pa.schema([field("a", pa.int64(), 1)]))
    schema = pa.schema([field("part", dtype, 2)])
    assert read(hand_made, stored, schema, identity={2: value}) == [{"part": value}]


def test_the_file_comes_before_the_partition_value(hand_made: Make) -> None:
    schema = pa.schema([field("a", pa.int64(), 1)])
    assert read(hand_made, pa.table([[1]], schema=schema), schema, identity={1: 5}) == [{"a": 1}]


OLD = pa.struct([field("x", pa.int32(), 11), field("gone", pa.string(), 12), field("y", pa.string(), 13)])
NEW = pa.struct([field("why", pa.string(), 13), field("added", pa.int64(), 14), field("x", pa.int64(), 11)])


def old(i: int) -> dict[str, Any]:
    return {"x": i, "gone": "g", "y": f"y{i}"}


def new(i: int) -> dict[str, Any]:
    return {"why": f"y{i}", "added": None, "x": i}


@pytest.mark.parametrize(
    ("before", "after", "stored", "expected"),
    [
        (OLD, NEW, [old(1), None, old(2)], [new(1), None, new(2)]),
        (
            pa.list_(field("element", OLD, 10)),
            pa.list_(field("element", NEW, 10)),
            [[old(1), None], None, [], [old(2)]],
            [[new(1), None], None, [], [new(2)]],
        ),
        (
            pa.map_(field("key", pa.string(), 9, False), field("value", OLD, 10)),
            pa.map_(field("key", pa.string(), 9, False), field("value", NEW, 10)),
            [[("k", old(1))], None, [], [("a", None), ("b", old(2))]],
            [[("k", new(1))], None, [], [("a", None), ("b", new(2))]],
        ),
        (
            pa.struct([field("in", OLD, 10)]),
            pa.struct([field("inner", NEW, 10)]),
            [{"in": old(1)}, None, {"in": None}],
            [{"inner": new(1)}, None, {"inner": None}],
        ),
    ],
)
def test_nested_fields_change_likewise(
    hand_made: Make, before: pa.DataType, after: pa.DataType, stored: list[Any], expected: list[Any]
) -> None:
    other = field("other", pa.int64(), 2)
    data = pa.table(
        [pa.array(range(len(stored))), pa.array(stored, before)], schema=pa.schema([other, field("n", before, 1)])
    )
    got = read(hand_made, data, pa.schema([field("n", after, 1), other]))
    assert got == [{"n": value, "other": at} for at, value in enumerate(expected)]


def test_a_struct_of_none_but_added_fields_keeps_its_nulls(hand_made: Make) -> None:
    data = pa.table([pa.array([old(1), None], OLD)], schema=pa.schema([field("s", OLD, 1)]))
    schema = pa.schema([field("s", pa.struct([field("z", pa.int64(), 20)]), 1)])
    assert read(hand_made, data, schema) == [{"s": {"z": None}}, {"s": None}]


def test_a_field_of_the_same_name_and_another_id_is_another_field(hand_made: Make) -> None:
    stored = pa.struct([field("x", pa.int64(), 11), field("y", pa.int64(), 12)])
    again = pa.struct([field("x", pa.int64(), 99), field("y", pa.int64(), 12)])
    data = pa.table([pa.array([{"x": 1, "y": 2}], stored)], schema=pa.schema([field("s", stored, 1)]))
    assert read(hand_made, data, pa.schema([field("s", again, 1)])) == [{"s": {"x": None, "y": 2}}]


def test_files_without_field_ids_are_matched_by_the_names_of_the_mapping(hand_made: Make) -> None:
    def named(name: str, dtype: pa.DataType, number: int, *there: str) -> pa.Field:
        return field(name, dtype, number, True, **{"iceblink:names": json.dumps(there)})

    data = pa.table({"b": ["x"], "old a": [1], "s": [{"q": 1, "p": 2}]})
    inner = pa.struct([named("p", pa.int64(), 4, "p"), named("q", pa.int64(), 5, "q")])
    schema = pa.schema(
        [named("a", pa.int64(), 1, "a", "old a"), named("b", pa.string(), 2, "b"), named("s", inner, 3, "s")]
    )
    assert read(hand_made, data, schema) == [{"a": 1, "b": "x", "s": {"p": 2, "q": 1}}]


def test_files_without_field_ids_are_refused_without_a_mapping(hand_made: Make) -> None:
    with pytest.raises(DataCorrupt, match="no field ids"):
        read(hand_made, pa.table({"a": [1]}), pa.schema([field("a", pa.int64(), 1)]))


@pytest.mark.parametrize("store_schema", [True, False])
def test_tensors_are_tensors_again(hand_made: Make, store_schema: bool) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype="f4").reshape(2, 2, 3))
    stored = pa.list_(field("element", pa.float32(), 2))
    data = pa.table([tensors.storage.cast(stored)], schema=pa.schema([field("t", stored, 1)]))
    table = hand_made(pa.schema([field("t", tensors.type, 1)]))
    table.add(data, store_schema=store_schema)
    (batch,) = table.batches()
    assert batch.data["t"].equals(tensors)


def test_a_list_of_the_wrong_length_is_no_tensor(hand_made: Make) -> None:
    data = pa.table([pa.array([[1.0, 2.0]])], schema=pa.schema([field("t", pa.list_(pa.float64()), 1)]))
    table = hand_made(pa.schema([field("t", pa.fixed_shape_tensor(pa.float64(), [3]), 1)]))
    table.add(data)
    with pytest.raises(DataCorrupt, match="column 't'"):
        table.batches()


def test_a_null_in_a_required_column_is_damage(hand_made: Make) -> None:
    data = pa.table([pa.array([1, None])], schema=pa.schema([field("a", pa.int64(), 1)]))
    table = hand_made(pa.schema([field("a", pa.int64(), 1, nullable=False)]))
    path = table.add(data)
    with pytest.raises(DataCorrupt, match="required column 'a' has 1 null") as caught:
        table.batches()
    assert path in caught.value.where
    assert "row group 0" in caught.value.where


def test_a_type_that_cannot_be_the_tables_is_damage(hand_made: Make) -> None:
    data = pa.table([pa.array(["text"])], schema=pa.schema([field("a", pa.string(), 1)]))
    table = hand_made(pa.schema([field("a", pa.int64(), 1)]))
    table.add(data)
    with pytest.raises(DataCorrupt, match="column 'a' is string where the table has long"):
        table.batches()


def test_columns_that_fit_are_not_copied() -> None:
    schema = pa.schema([field("a", pa.int64(), 1), field("s", OLD, 2)])
    arrays = [pa.array([1]), pa.array([old(1)], OLD)]
    batch = Projection.of(schema, schema).apply(arrays, 1)
    assert batch.column(0).buffers()[1].address == arrays[0].buffers()[1].address
    assert batch.column(1).field(0).buffers()[1].address == arrays[1].field(0).buffers()[1].address
