"""Columns that functions return: what they become, and which two values an error names."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from iceblink.errors import BatchContractBroken
from iceblink.run.columns import from_values, of_type
from iceblink.run.formats import returned

MATRIX = np.array([[1, 2], [3, 4]], np.int32)
TENSOR = pa.fixed_shape_tensor(pa.int32(), [2, 2])
NESTED = pa.list_(pa.list_(pa.int64()))


class Foreign:
    """An array of another library."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, None, 3], pa.int64(), [1, None, 3]),
        (np.array([1, None], object), pa.int64(), [1, None]),
        (np.ma.MaskedArray([1, 2], [False, True]), pa.int64(), [1, None]),
        (np.ma.MaskedArray([[1], [2]], [[False], [True]]), pa.fixed_shape_tensor(pa.int64(), [1]), [[1], None]),
        ([np.array([1.0]), np.array([1.0, 2.0])], pa.list_(pa.float64()), [[1.0], [1.0, 2.0]]),
        ([[1], [], None, [1, 2]], pa.list_(pa.int64()), [[1], [], None, [1, 2]]),
        ([[[1], []], []], NESTED, [[[1], []], []]),
        ([MATRIX, None, MATRIX], TENSOR, [[1, 2, 3, 4], None, [1, 2, 3, 4]]),
        (np.stack([MATRIX, MATRIX]), TENSOR, [[1, 2, 3, 4]] * 2),
        ([MATRIX, MATRIX[:1]], NESTED, [[[1, 2], [3, 4]], [[1, 2]]]),
        (Foreign([[1, 2]]), pa.fixed_shape_tensor(pa.int64(), [2]), [[1, 2]]),
        (Foreign([1, 2]), pa.int64(), [1, 2]),
        (pl.Series([1, None]), pa.int64(), [1, None]),
        (pd.Series([1, None], dtype="Int64").array, pa.int64(), [1, None]),
        (pa.chunked_array([[1], [2]]), pa.int64(), [1, 2]),
    ],
)
def test_values_become_arrow_of_their_own_type(values: Any, dtype: pa.DataType, expected: list[Any]) -> None:
    array = from_values("a", values, "test")
    assert array.type == dtype
    assert (array.storage if isinstance(dtype, pa.BaseExtensionType) else array).to_pylist() == expected


def test_arrays_of_one_shape_stay_nested_lists_where_they_were_such() -> None:
    assert from_values("a", [MATRIX, MATRIX], "test", NESTED).type == NESTED


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1, 2, "x"], "mixes types: int 1 in row 0 and str 'x' in row 2"),
        ([None, "x", None, 3], "mixes types: str 'x' in row 1 and int 3 in row 3"),
        (["x", b"y"], "mixes types: str 'x' in row 0 and bytes b'y' in row 1"),
        ([b"y", None, "x"], "mixes types: bytes b'y' in row 0 and str 'x' in row 2"),
        (["x", float("nan")], "mixes types: str 'x' in row 0 and float nan in row 1"),
        ([{"a": 1}, {"a": "x"}], "mixes types: dict {'a': 1} in row 0 and dict {'a': 'x'} in row 1"),
        ([1, True], "mixes types: int 1 in row 0 and bool True in row 1"),
        ([2**60 + 1, 0.5], "mixes types: int"),
        ([1, object()], "holds a object in row 1"),
        ([2**70], "holds a int in row 0"),
        (np.array([1 + 2j]), "'a' is no column"),
        (np.array(3), "'a' is no column"),
        ("text", "is a str, not an array"),
    ],
)
def test_an_error_names_the_values_that_differ(values: Any, told: str) -> None:
    with pytest.raises(BatchContractBroken) as caught:
        from_values("a", values, "here")
    assert told in caught.value.what
    assert caught.value.where == "here"


def test_polars_objects_are_refused() -> None:
    with pytest.raises(BatchContractBroken, match="'a' holds Python objects"):
        returned(pl.DataFrame({"a": [object()]}), "test")


def test_missing_values_of_pandas_objects_are_nulls() -> None:
    frame = pd.DataFrame({"s": pd.Series(["a", np.nan, pd.NA, None], dtype=object), "f": [1.5, np.nan, 2.0, 3.0]})
    batch = returned(frame, "test")
    assert batch["s"].to_pylist() == ["a", None, None, None]
    assert batch["f"].null_count == 0  # a float that is no number is a value
    with pytest.raises(BatchContractBroken, match="int 1 in row 0 and str 'x' in row 1"):
        returned(pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}), "test")


def test_declared_types_take_python_values() -> None:
    key = uuid.UUID(int=7)
    assert of_type(pa.field("a", pa.uuid()), [key, None], "test").to_pylist() == [key, None]
    assert of_type(pa.field("a", TENSOR), [MATRIX, None], "test").storage.to_pylist() == [[1, 2, 3, 4], None]
    assert of_type(pa.field("a", NESTED), [MATRIX], "test").to_pylist() == [[[1, 2], [3, 4]]]
    for dtype, value in ((TENSOR, MATRIX[:1]), (pa.int32(), 2**40), (pa.int64(), "x"), (pa.int64(), 1.5)):
        with pytest.raises(BatchContractBroken, match="column 'a' was declared"):
            of_type(pa.field("a", dtype), [value], "test")
