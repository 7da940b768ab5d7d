"""Types: their words, their storable form, batches brought to a schema."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.errors import DuplicateColumn, NullInRequired, PlanError, SchemaMismatch, TypeMismatch
from iceblink.types import WORDS, conform, parse_field, parse_type, show_field, show_type, storable, to_schema

# words

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


def types() -> st.SearchStrategy[pa.DataType]:
    """Every type that has words, nested."""
    leaves = st.one_of(
        st.sampled_from(list(WORDS.values())),
        st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: pa.decimal128(p, s))),
        st.integers(1, 40).map(pa.binary),
        st.lists(st.integers(1, 5), min_size=1, max_size=3).map(lambda s: pa.fixed_shape_tensor(pa.float32(), s)),
    )

    def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
        element = st.tuples(inner, st.booleans())
        return st.one_of(
            element.map(lambda e: pa.list_(pa.field("element", e[0], e[1]))),
            st.tuples(inner, element).map(
                lambda kv: pa.map_(pa.field("key", kv[0], False), pa.field("value", kv[1][0], kv[1][1]))
            ),
            st.dictionaries(NAMES, element, min_size=1, max_size=3).map(
                lambda fields: pa.struct([pa.field(name, e[0], e[1]) for name, e in fields.items()])
            ),
        )

    return st.recursive(leaves, nested, max_leaves=4)


@given(dtype=types())
def test_words_round_trip(dtype: pa.DataType) -> None:
    assert parse_type(show_type(dtype)) == dtype


@given(dtype=types())
def test_what_has_words_is_stored_as_it_is(dtype: pa.DataType) -> None:
    shown = show_type(dtype)
    if "_ns" not in shown:  # Iceberg v2 has microseconds only
        assert storable(pa.schema([pa.field("x", dtype)])).field("x").type == dtype


@given(text=st.text(st.sampled_from('<>(),:[] intlongdecimastruc_12"a'), max_size=20))
def test_any_text_is_a_type_or_a_type_mismatch(text: str) -> None:
    try:
        dtype = parse_type(text)
    except PlanError as error:
        found: object = error.hint
    else:
        found = show_type(dtype)
    assert found


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("bigint", pa.int64()),
        ("INTEGER", pa.int32()),
        (" decimal ( 9 , 2 ) ", pa.decimal128(9, 2)),
        ("decimal(9)", pa.decimal128(9, 0)),
        ('struct<list: list<int>, "a ""b""": map<string, double not null>>', None),
        ("tensor<double>[3, 224, 224]", pa.fixed_shape_tensor(pa.float64(), [3, 224, 224])),
    ],
)
def test_words_may_be_written_in_several_ways(text: str, dtype: pa.DataType | None) -> None:
    if dtype is None:
        value = pa.field("value", pa.float64(), nullable=False)
        dtype = pa.struct(
            [("list", pa.list_(pa.int32())), ('a "b"', pa.map_(pa.field("key", pa.string(), False), value))]
        )
    assert parse_type(text) == dtype


def test_an_unknown_word_names_the_nearest() -> None:
    with pytest.raises(TypeMismatch, match="did you mean 'string'"):
        parse_type("list<strng>")


@pytest.mark.parametrize(
    "text",
    ["", "list<int", "list<>", "int int", "decimal(39,0)", "decimal(2,3)", "fixed(0)", "map<int>", "tensor<int>[0]"],
)
def test_a_type_cut_short_or_impossible_is_refused(text: str) -> None:
    with pytest.raises(TypeMismatch):
        parse_type(text)


def test_not_null_belongs_to_fields() -> None:
    assert not parse_field("id", "long not null").nullable
    assert show_field(pa.field("id", pa.int64(), nullable=False)) == "long not null"
    with pytest.raises(TypeMismatch):
        parse_type("long not null")


def test_types_without_a_word_are_shown_by_arrows_name() -> None:
    assert show_type(pa.uint8()) == "uint8"
    assert show_type(pa.dictionary(pa.int8(), pa.string())).startswith("dictionary<")


# schemas


def test_a_schema_is_made_from_words_and_types() -> None:
    made = to_schema({"id": "long not null", "at": pa.timestamp("s"), "v": "tensor<float>[2]"})
    assert made == pa.schema(
        [pa.field("id", pa.int64(), False), ("at", pa.timestamp("s")), ("v", pa.fixed_shape_tensor(pa.float32(), [2]))]
    )


@pytest.mark.parametrize(
    "given",
    [
        pa.schema([("a", pa.int8()), ("a", pa.int8())]),
        pa.schema([("s", pa.struct([("a", pa.int8()), ("a", pa.int8())]))]),
    ],
)
def test_two_columns_of_one_name_are_refused(given: pa.Schema) -> None:
    with pytest.raises(DuplicateColumn):
        to_schema(given)


def test_a_column_needs_a_name() -> None:
    with pytest.raises(PlanError):
        to_schema({"": "int"})


# what Iceberg stores


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (pa.int8(), pa.int32()),
        (pa.uint16(), pa.int32()),
        (pa.uint32(), pa.int64()),
        (pa.float16(), pa.float32()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.large_binary(), pa.binary()),
        (pa.date64(), pa.date32()),
        (pa.time32("s"), pa.time64("us")),
        (pa.timestamp("ns"), pa.timestamp("us")),
        (pa.timestamp("s", "Europe/Vienna"), pa.timestamp("us", "UTC")),
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.list_(pa.int8(), 3), pa.list_(pa.int32())),
        (pa.large_list(pa.field("x", pa.int8(), False)), pa.list_(pa.field("element", pa.int32(), False))),
        (pa.fixed_shape_tensor(pa.float16(), [2]), pa.fixed_shape_tensor(pa.float32(), [2])),
        (pa.map_(pa.string_view(), pa.int8()), pa.map_(pa.string(), pa.int32())),
        (pa.struct([pa.field("a", pa.int8(), False)]), pa.struct([pa.field("a", pa.int32(), False)])),
        (pa.uuid(), pa.uuid()),
    ],
)
def test_every_type_has_a_storable_form(given: pa.DataType, stored: pa.DataType) -> None:
    field = storable(pa.schema([pa.field("x", given, False)])).field("x")
    assert (field.type, field.nullable) == (stored, False)


@pytest.mark.parametrize(
    "dtype",
    [
        pa.uint64(),
        pa.duration("s"),
        pa.null(),
        pa.month_day_nano_interval(),
        pa.decimal256(40, 0),
        pa.struct([]),
        pa.dense_union([pa.field("a", pa.int8())]),
    ],
)
def test_a_type_that_cannot_be_stored_names_its_column_and_a_way_out(dtype: pa.DataType) -> None:
    with pytest.raises(TypeMismatch, match=r"'s\.x'") as caught:
        storable(pa.schema([("s", pa.struct([("x", dtype)]))]))
    assert caught.value.hint


# conform


def batch(values: pa.Array, name: str = "x") -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([values], names=[name])


def conformed(values: pa.Array, dtype: pa.DataType) -> pa.Array:
    made = conform(batch(values), pa.schema([pa.field("x", dtype)]), "test")
    made.validate(full=True)
    return made.column(0)


U = uuid.UUID(int=7)
LOSSLESS: list[tuple[pa.Array, pa.DataType]] = [
    (pa.array([1, None], pa.int8()), pa.int64()),
    (pa.array([1, None], pa.int64()), pa.int8()),
    (pa.array([2**31, None], pa.uint64()), pa.int64()),
    (pa.array([1.5, None], pa.float32()), pa.float64()),
    (pa.array([2**53, None], pa.int64()), pa.float64()),
    (pa.array([12, None], pa.int64()), pa.decimal128(4, 2)),
    (pa.array([Decimal("1.20"), None], pa.decimal128(9, 2)), pa.decimal128(5, 1)),
    (pa.array([Decimal(7), None], pa.decimal128(38, 0)), pa.int64()),
    (pa.array([datetime(2026, 1, 1), None], pa.timestamp("ns")), pa.timestamp("us")),
    (pa.array([datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("s", "UTC")), pa.timestamp("us", "+00:00")),
    (pa.array([date(2026, 1, 1), None], pa.date64()), pa.date32()),
    (pa.array([time(1, 2), None], pa.time32("s")), pa.time64("us")),
    (pa.array(["ä", None], pa.large_string()), pa.string()),
    (pa.array(["ä", None], pa.string_view()), pa.string()),
    (pa.array(["ä", None]).dictionary_encode(), pa.string()),
    (pa.array(["ä", None]), pa.dictionary(pa.int8(), pa.large_string())),
    (pa.array([b"ab", None], pa.binary()), pa.binary(2)),
    (pa.array([b"ab", None], pa.binary(2)), pa.large_binary()),
    (pa.array([[1], None, []], pa.large_list(pa.int8())), pa.list_(pa.int64())),
    (pa.array([[1], None, []], pa.list_view(pa.int8())), pa.list_(pa.int64())),
    (pa.array([[1, 2], None], pa.list_(pa.int8())), pa.list_(pa.int64(), 2)),
    (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), pa.list_(pa.int64())),
    (pa.array([{"a": 1, "b": "x"}, None]), pa.struct([("b", pa.large_string()), ("a", pa.int32())])),
    (pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())), pa.map_(pa.large_string(), pa.int64())),
    (pa.nulls(2), pa.list_(pa.int8())),
    (pa.nulls(2), pa.uuid()),
]


@pytest.mark.parametrize(("values", "dtype"), LOSSLESS, ids=str)
@pytest.mark.parametrize("offset", [0, 1])
def test_lossless_conversions_keep_every_value(values: pa.Array, dtype: pa.DataType, offset: int) -> None:
    made = conformed(values.slice(offset), dtype)
    assert made.type == dtype
    expected: list[Any] = values.slice(offset).to_pylist()
    assert made.to_pylist() == expected


@pytest.mark.parametrize("text", [str(U), U.hex, None])
def test_uuids_come_from_text_and_bytes_and_go_back(text: str | None) -> None:
    value = None if text is None else U
    assert conformed(pa.array([text], pa.string()), pa.uuid()).to_pylist() == [value]
    stored = pa.array([None if text is None else U.bytes], pa.binary())
    made = conformed(stored, pa.uuid())
    assert made.to_pylist() == [value]
    assert conformed(made, pa.string()).to_pylist() == [None if text is None else str(U)]
    assert conformed(made, pa.binary(16)).to_pylist() == stored.to_pylist()


def test_lists_become_tensors_and_tensors_lists() -> None:
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    lists = pa.array([[1, 2, 3, 4], None], pa.list_(pa.int16()))
    made = conformed(lists, tensor)
    assert made.type == tensor
    assert conformed(made, pa.list_(pa.float64())).to_pylist() == lists.to_pylist()


MISFITS: list[tuple[pa.Array, pa.DataType, str]] = [
    (pa.array([1, 300], pa.int64()), pa.int8(), "300"),
    (pa.array([0, 2**53 + 1], pa.int64()), pa.float64(), str(2**53 + 1)),
    (pa.array([Decimal("1.25")]), pa.decimal128(5, 1), "1.25"),
    (pa.array([1, 1234], pa.int64()), pa.decimal128(4, 2), "1234"),
    (pa.array([0, 1001], pa.timestamp("ns")), pa.timestamp("us"), "1970"),
    (pa.array([b"ab", b"abc"]), pa.binary(2), "abc"),
    (pa.array([str(U), "no uuid"]), pa.uuid(), "no uuid"),
    (pa.array([[1, 2], [1]]), pa.list_(pa.int64(), 2), r"\[1\]"),
    (pa.array([[1, 2], [1, 2, 3]]), pa.fixed_shape_tensor(pa.int64(), [2]), r"\[1, 2, 3\]"),
    (pa.array([{"a": [1, 300]}]), pa.struct([("a", pa.list_(pa.int8()))]), r"'x\.a\.element'.*300"),
]


@pytest.mark.parametrize(("values", "dtype", "example"), MISFITS, ids=str)
def test_a_value_that_would_be_lost_is_shown(values: pa.Array, dtype: pa.DataType, example: str) -> None:
    with pytest.raises(SchemaMismatch, match=f"{example}.* does not fit"):
        conformed(values, dtype)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (pa.string(), pa.int64()),
        (pa.float64(), pa.float32()),
        (pa.float64(), pa.int64()),
        (pa.int64(), pa.string()),
        (pa.int64(), pa.bool_()),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.timestamp("us"), pa.date32()),
        (pa.string(), pa.binary()),
        (pa.int64(), pa.list_(pa.int64())),
        (pa.int64(), pa.uuid()),
        (pa.fixed_shape_tensor(pa.int8(), [2, 3]), pa.fixed_shape_tensor(pa.int8(), [3, 2])),
    ],
    ids=str,
)
def test_types_that_do_not_fit_are_named_both(got: pa.DataType, expected: pa.DataType) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        conformed(pa.nulls(1, got), expected)
    assert f"expected {show_type(expected)}, got {show_type(got)}" in caught.value.what


@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=8))
def test_narrowing_keeps_all_or_refuses(values: list[int | None]) -> None:
    fits = all(value is None or -(2**31) <= value < 2**31 for value in values)
    array = pa.array(values, pa.int64())
    if fits:
        assert conformed(array, pa.int32()).to_pylist() == values
    else:
        with pytest.raises(SchemaMismatch):
            conformed(array, pa.int32())


@given(values=st.lists(st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=3), max_size=6), data=st.data())
def test_any_slice_of_nested_lists_converts(values: list[list[int | None] | None], data: st.DataObject) -> None:
    array = pa.array([None if v is None else {"k": v} for v in values], pa.struct([("k", pa.large_list(pa.int64()))]))
    start = data.draw(st.integers(0, len(values)))
    made = conformed(array.slice(start), pa.struct([("k", pa.list_(pa.int16()))]))
    assert made.to_pylist() == array.to_pylist()[start:]


def test_columns_are_matched_by_name_and_carry_the_schemas_metadata() -> None:
    schema = pa.schema([pa.field("a", pa.int64(), metadata={"PARQUET:field_id": "1"}), ("b", pa.string())], {"k": "v"})
    made = conform(pa.RecordBatch.from_pydict({"b": ["x"], "a": [1]}), schema, "test")
    assert made.schema.equals(schema, check_metadata=True)
    assert made.to_pydict() == {"a": [1], "b": ["x"]}


def test_a_batch_that_fits_is_not_copied() -> None:
    given = batch(pa.array([1, 2, 3]))
    made = conform(given, pa.schema([pa.field("x", pa.int64(), False, {"doc": "y"})]), "test")
    assert made.column(0).buffers()[1].address == given.column(0).buffers()[1].address


def test_missing_and_unknown_columns_are_named_with_the_nearest() -> None:
    with pytest.raises(SchemaMismatch, match=r"'price' is missing.*'prise' is not expected") as caught:
        conform(batch(pa.array([1.0]), "prise"), pa.schema([("price", pa.float64())]), "test")
    assert "did you mean 'price'" in caught.value.hint


def test_a_missing_nullable_column_is_an_error_still() -> None:
    with pytest.raises(SchemaMismatch, match="'y' is missing"):
        conform(batch(pa.array([1])), to_schema({"x": "long", "y": "long"}), "test")


def test_a_struct_with_other_fields_names_its_path() -> None:
    with pytest.raises(SchemaMismatch, match="field 'b' is missing") as caught:
        conformed(pa.array([{"a": 1}]), pa.struct([("a", pa.int64()), ("b", pa.int64())]))
    assert "'x'" in caught.value.where


REQUIRED: list[tuple[pa.Array, str, str]] = [
    (pa.array([1, None, None]), "long not null", "'x' is required and has 2 nulls"),
    (pa.array([{"a": None}, {"a": 1}]), "struct<a: long not null>", r"'x\.a' is required and has 1 null$"),
    (pa.array([[1, None]]), "list<long not null>", r"'x\.element'"),
    (pa.array([[("k", None)]], pa.map_(pa.string(), pa.int64())), "map<string, long not null>", r"'x\.value'"),
    (pa.array([[{"a": None}]]), "list<struct<a: long not null>>", r"'x\.element\.a'"),
]


@pytest.mark.parametrize(("values", "words", "what"), REQUIRED, ids=str)
def test_nulls_in_required_fields_are_counted_by_path(values: pa.Array, words: str, what: str) -> None:
    if values.type == pa.struct([("a", pa.null())]):
        values = values.cast(pa.struct([("a", pa.int64())]))
    with pytest.raises(NullInRequired) as caught:
        conform(batch(values), pa.schema([parse_field("x", words)]), "test")
    assert re.search(what, caught.value.what)


def test_a_required_field_of_a_null_parent_is_no_null() -> None:
    schema = to_schema({"x": "struct<a: long not null, b: list<long not null>>"})
    given = batch(pa.array([None, {"a": 1, "b": None}], pa.struct([("a", pa.int64()), ("b", pa.list_(pa.int64()))])))
    assert conform(given, schema, "test").to_pylist() == given.to_pylist()


def test_nulls_are_found_even_where_the_type_fits_already() -> None:
    schema = to_schema({"x": "list<long not null>"})
    sneaked = pa.RecordBatch.from_arrays([pa.array([[1, None]], schema.field("x").type)], schema=schema)
    with pytest.raises(NullInRequired):
        conform(sneaked, schema, "test")


def test_a_tensor_of_numpy_fits_a_column_of_wider_numbers() -> None:
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype="u1").reshape(2, 2, 3))
    wide = to_schema({"x": "tensor<int>[2,3]"})
    got = conform(pa.RecordBatch.from_arrays([pixels], ["x"]), wide, "t")
    assert got["x"].to_numpy_ndarray().tolist() == pixels.to_numpy_ndarray().tolist()
