"""Every batch format gives back what it was given: no type drifts through a Python function."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from iceblink.errors import BatchContractBroken, TypeMismatch
from iceblink.run.formats import given, returned
from iceblink.types import conform

TENSOR = pa.fixed_shape_tensor(pa.float32(), [2, 3])
SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float32()),
        ("b", pa.bool_()),
        ("s", pa.string()),
        ("d", pa.date32()),
        ("ts", pa.timestamp("us")),
        ("m", pa.decimal128(10, 2)),
        ("l", pa.list_(pa.float64())),
        ("n", pa.list_(pa.list_(pa.int64()))),
        ("st", pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ("t", TENSOR),
    ]
)
ROWS: dict[str, list[Any]] = {
    "i": [1, 2**60, -3],
    "f": [0.5, -1.0, 2.0],
    "b": [True, False, True],
    "s": ["a", "", "ü"],
    "d": [dt.date(2026, 1, 31)] * 3,
    "ts": [dt.datetime(2026, 1, 31, 12, 0, 0, 7)] * 3,
    "m": [Decimal("1.25"), Decimal("-0.01"), Decimal("0.00")],
    "l": [[1.0], [], [1.0, 2.0]],
    "n": [[[1], []], [], [[1, 2]]],
    "st": [{"a": 1, "b": "x"}] * 3,
    "t": [[0.0, 1, 2, 3, 4, 5]] * 3,
}


def batch(nulls: bool) -> pa.RecordBatch:
    arrays = []
    for field in SCHEMA:
        values = list(ROWS[field.name]) + [None] * nulls
        storage = field.type.storage_type if field.type == TENSOR else field.type
        array = pa.array(values, storage)
        arrays.append(pa.ExtensionArray.from_storage(TENSOR, array) if field.type == TENSOR else array)
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("form", ["arrow", "numpy_masked", "pandas", "polars"])
def test_a_round_trip_changes_nothing(form: str, nulls: bool) -> None:
    rows = batch(nulls)
    back = conform(returned(given(rows, form), "test"), SCHEMA, "test")  # type: ignore[arg-type]
    assert back.to_pylist() == rows.to_pylist()


def test_numpy_without_nulls_changes_nothing() -> None:
    rows = batch(False)
    assert conform(returned(given(rows, "numpy"), "test"), SCHEMA, "test").to_pylist() == rows.to_pylist()


@pytest.mark.parametrize("form", ["numpy", "numpy_masked"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Oslo", None])
def test_times_and_days_come_back_in_their_zone_and_their_lists(form: Any, zone: str | None) -> None:
    moment, days = pa.timestamp("us", zone), pa.list_(pa.date32())
    rows: list[tuple[list[Any], pa.DataType, pa.DataType]] = [
        ([7, 8, None], pa.int64(), moment),
        ([[7, 8], [], None], pa.list_(pa.int64()), pa.list_(moment)),
        ([[[7], []], [], None], pa.list_(pa.list_(pa.int64())), pa.list_(pa.list_(moment))),
        ([[7, 8], [], None], pa.list_(pa.int32()), days),
    ]
    for values, plain, kind in rows:
        array = pa.array(values if form == "numpy_masked" else values[:2], plain).cast(kind)
        column = pa.record_batch({"t": array})
        assert returned(given(column, form), "test", column.schema).equals(column)


def test_lists_of_one_length_may_be_masked() -> None:
    rows = pa.record_batch({"v": pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))})
    masked = given(rows, "numpy_masked")["v"]
    assert (masked.shape, masked.mask.any()) == ((2, 2), False)


def test_numpy_refuses_nulls_instead_of_making_floats() -> None:
    with pytest.raises(TypeMismatch, match="column 'i' has 1 nulls"):
        given(batch(True), "numpy")


def test_tensors_are_arrays_of_their_shape_and_come_back_as_tensors() -> None:
    arrays = given(batch(False), "numpy")
    assert (arrays["t"].shape, arrays["t"].dtype) == ((3, 2, 3), np.float32)
    assert returned({"t": arrays["t"]}, "test").schema.field("t").type == TENSOR


def test_equal_length_lists_stay_lists() -> None:
    rows = pa.RecordBatch.from_pydict({"l": [[1, 2], [3, 4]]})
    assert returned(given(rows, "numpy"), "test").schema.field("l").type == pa.list_(pa.int64())


@pytest.mark.parametrize(
    "value",
    [
        3,
        None,
        [1, 2],
        {"a": [1, 2], "b": [1]},
        {"a": [1, "x"]},
        {"a": np.array([1, "x", None], dtype=object)},
        {"a": 3},
        {"a": object()},
    ],
)
def test_what_is_no_batch_is_refused(value: object) -> None:
    with pytest.raises(BatchContractBroken):
        returned(value, "test")
