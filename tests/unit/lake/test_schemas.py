"""Schemas: Arrow to Iceberg and back, tensors, ids, comments and defaults included."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg import types as iceberg
from pyiceberg.schema import Schema, assign_fresh_schema_ids

from iceblink.errors import TypeMismatch
from iceblink.lake.schemas import arrow_schema, iceberg_schema, iceberg_type, tensor_properties
from iceblink.types import to_schema

WORDS = {
    "a": "boolean not null",
    "b": "int",
    "c": "long",
    "d": "float",
    "e": "double",
    "f": "decimal(38,10)",
    "g": "date",
    "h": "time",
    "i": "timestamp",
    "j": "timestamptz not null",
    "k": "string",
    "l": "binary",
    "m": "fixed(3)",
    "n": "uuid",
    "o": "list<string not null>",
    "p": "map<string, list<tensor<float>[2,3]> not null>",
    "q": "struct<x: int not null, y: struct<z: tensor<double>[4]>> not null",
    "r": "tensor<int>[2,2,2] not null",
}


def ids(field: pa.Field) -> list[int]:
    """Return the ids of a field and of all inside it."""
    dtype, inside = field.type, []
    if pa.types.is_struct(dtype):
        inside = list(dtype)
    elif pa.types.is_map(dtype):
        inside = [dtype.key_field, dtype.item_field]
    elif pa.types.is_list(dtype):
        inside = [dtype.value_field]
    return [int(field.metadata[b"PARQUET:field_id"]), *(found for child in inside for found in ids(child))]


def test_every_type_comes_back_with_nullability_and_ids() -> None:
    schema = to_schema(WORDS)
    stored = iceberg_schema(schema)
    back = arrow_schema(stored, tensor_properties(schema, stored))
    assert back.equals(schema)
    found = [one for field in back for one in ids(field)]
    assert len(found) == len(set(found))
    for field in back:
        assert stored.find_field(field.name).field_id == ids(field)[0]


def test_the_ids_are_those_that_a_new_table_gives() -> None:
    stored = iceberg_schema(to_schema(WORDS))
    assert assign_fresh_schema_ids(stored) == stored


def test_without_properties_a_tensor_is_the_list_that_files_hold() -> None:
    schema = to_schema({"v": "tensor<float>[2,3]"})
    assert arrow_schema(iceberg_schema(schema), {}) == to_schema({"v": "list<float>"})


def test_comments_are_kept() -> None:
    schema = pa.schema([pa.field("a", pa.int64(), metadata={"doc": "the price [EUR]"})])
    stored = iceberg_schema(schema)
    assert stored.find_field("a").doc == "the price [EUR]"
    assert arrow_schema(stored, {}).field("a").metadata[b"doc"] == b"the price [EUR]"


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (iceberg.LongType(), 7, 7),
        (iceberg.StringType(), "x", "x"),
        (iceberg.DateType(), date(2026, 1, 2), "2026-01-02"),
        (iceberg.BooleanType(), False, False),
    ],
)
def test_the_default_of_an_added_column_is_json(kind: Any, value: object, shown: object) -> None:
    stored = Schema(iceberg.NestedField(1, "a", kind, initial_default=value))
    assert json.loads(arrow_schema(stored, {}).field("a").metadata[b"iceblink:default"]) == shown


def test_a_type_that_is_not_storable_is_refused() -> None:
    with pytest.raises(TypeMismatch):
        iceberg_type(pa.uint8())
