"""Tensors as bytes: the same numbers both ways, whatever was cut off or is null, and nothing copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import FixedType, ListType

from iceblink.errors import ConfigError, DataCorrupt, NullInRequired
from iceblink.lake.schemas import arrow_schema, iceberg_schema, tensor_properties
from iceblink.lake.tensors import byte_width, described, from_bytes, stored_fixed, tensor_of, to_bytes
from iceblink.types import storable

WORDS = ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@st.composite
def tensors(draw: st.DrawFn) -> pa.Array:
    """Tensors of any numbers and shape, some of them null, cut from longer arrays of lists and of numbers."""
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    word, rows, skipped = draw(st.sampled_from(WORDS)), draw(st.integers(0, 9)), draw(st.integers(0, 3))
    width = int(np.prod(shape))
    numbers = pa.array(np.arange((rows + skipped) * width).astype(word)).slice(skipped * width)
    nulls = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    lists = pa.FixedSizeListArray.from_arrays(numbers, width, mask=pa.array(nulls, pa.bool_()) if any(nulls) else None)
    whole = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(numbers.type, shape), lists)
    start = draw(st.integers(0, rows))
    return whole.slice(start, draw(st.integers(0, rows - start)))


@given(given=tensors(), start=st.integers(0, 3))
def test_tensors_are_the_bytes_that_numpy_has_and_back(given: pa.Array, start: int) -> None:
    stored = to_bytes(given, "x", "t")
    stored.validate(full=True)
    element = given.type.value_type.to_pandas_dtype()
    plain = [None if row is None else np.array(row, element).tobytes() for row in given.storage.to_pylist()]
    assert stored.to_pylist() == plain
    back = from_bytes(stored.slice(start), given.type)
    back.validate(full=True)
    assert back.equals(given.slice(start))


def test_neither_way_copies_the_numbers() -> None:
    given = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype="f4").reshape(3, 4)).slice(1)
    numbers = given.storage.values.buffers()[1].address
    stored = to_bytes(given, "x", "t")
    assert stored.buffers()[1].address == numbers
    assert from_bytes(stored, given.type).storage.values.buffers()[1].address == numbers


def test_a_null_inside_a_tensor_is_refused_but_not_one_inside_a_null_tensor() -> None:
    tensor = pa.fixed_shape_tensor(pa.float32(), [2])
    holes = pa.ExtensionArray.from_storage(tensor, pa.array([[1, None], None], tensor.storage_type))
    with pytest.raises(NullInRequired, match="'x' has 1 null inside"):
        to_bytes(holes, "x", "t")
    assert to_bytes(holes.slice(1), "x", "t").to_pylist() == [None]


@pytest.mark.parametrize("word", ["float32", "float64", "int8", "uint8", "int16", "uint32", "int64"])
def test_a_column_of_bytes_is_seen_as_its_tensor(word: str) -> None:
    tensor = pa.fixed_shape_tensor(pa.type_for_alias(word), [2, 3])
    schema = storable(pa.schema({"x": tensor, "s": pa.struct({"x": tensor})}), ["x", "s"])
    stored = iceberg_schema(schema, ["x", "s"])
    properties = tensor_properties(schema, stored)
    assert stored.find_type("x") == FixedType(byte_width(tensor))
    assert isinstance(stored.find_type("s.x"), ListType)
    assert properties["iceblink.tensor.1"] == described(tensor, fixed=True) == f"{word}[2,3]"
    assert arrow_schema(stored, properties).equals(schema)
    assert arrow_schema(stored, {}).field("x").type == pa.binary(byte_width(tensor))


def test_numbers_that_the_kernel_lacks_widen_and_other_tensors_stay_lists() -> None:
    given = pa.schema({"h": pa.fixed_shape_tensor(pa.float16(), [2]), "b": pa.fixed_shape_tensor(pa.bool_(), [8])})
    schema = storable(given, given.names)
    assert schema.field("h").type == pa.fixed_shape_tensor(pa.float32(), [2])
    assert isinstance(iceberg_schema(schema, given.names).find_type("b"), ListType)


@pytest.mark.parametrize("said", ["float32[3]", "float33[4]", "4", "float32[x]", ""])
def test_a_property_that_does_not_fit_the_bytes_is_damage(said: str) -> None:
    with pytest.raises(DataCorrupt):
        tensor_of(said, pa.binary(16), "x")


def test_the_form_of_new_tensors_is_one_of_two_words() -> None:
    forms: dict[str, Any] = {"iceblink.tensor-storage": "fixed"}
    assert (stored_fixed(["x"], forms), stored_fixed(["x"], {})) == (["x"], ())
    with pytest.raises(ConfigError, match="'fixed'"):
        stored_fixed(["x"], {"iceblink.tensor-storage": "fixd"})
