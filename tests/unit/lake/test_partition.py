"""Splitting batches by partition: every transform, against PyIceberg's own row-at-a-time form."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg import types as iceberg
from pyiceberg.partitioning import PartitionField, PartitionSpec, partition_record_value
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)

from iceblink.lake.partition import Partitioner

BEFORE_1970 = dt.datetime(1965, 2, 28, 23, 59, 59, 999_999)
AFTER = dt.datetime(2024, 2, 29, 1, 0, 0, 1)

VALUES: dict[str, tuple[iceberg.PrimitiveType, pa.DataType, list[Any]]] = {
    "boolean": (iceberg.BooleanType(), pa.bool_(), [True, False]),
    "int": (iceberg.IntegerType(), pa.int32(), [-7, 0, 1, 34]),
    "long": (iceberg.LongType(), pa.int64(), [-(2**60), -1, 12]),
    "float": (iceberg.FloatType(), pa.float32(), [math.nan, 0.5, -math.inf]),
    "double": (iceberg.DoubleType(), pa.float64(), [math.nan, 0.1]),
    "string": (iceberg.StringType(), pa.string(), ["", "iceberg", "é€xyz", "a/b=c d"]),
    "binary": (iceberg.BinaryType(), pa.binary(), [b"", b"\xff\x00abc"]),
    "fixed": (iceberg.FixedType(3), pa.binary(3), [b"abc", b"\x00\xff\x00"]),
    "uuid": (iceberg.UUIDType(), pa.uuid(), [uuid.UUID(int=5), uuid.UUID(int=2**127)]),
    "date": (iceberg.DateType(), pa.date32(), [BEFORE_1970.date(), AFTER.date()]),
    "time": (iceberg.TimeType(), pa.time64("us"), [dt.time(0), dt.time(23, 59, 59, 1)]),
    "timestamp": (iceberg.TimestampType(), pa.timestamp("us"), [BEFORE_1970, AFTER]),
    "timestamptz": (
        iceberg.TimestamptzType(),
        pa.timestamp("us", "UTC"),
        [BEFORE_1970.replace(tzinfo=dt.UTC), AFTER.replace(tzinfo=dt.UTC)],
    ),
    "decimal": (iceberg.DecimalType(9, 2), pa.decimal128(9, 2), [Decimal("-12.34"), Decimal("0.05")]),
}
TRANSFORMS: list[Transform[Any, Any]] = [
    IdentityTransform(),
    BucketTransform(3),
    TruncateTransform(4),
    YearTransform(),
    MonthTransform(),
    DayTransform(),
    HourTransform(),
    VoidTransform(),
]
CASES = [(kind, transform) for kind in VALUES for transform in TRANSFORMS if transform.can_transform(VALUES[kind][0])]


def partitioner(kind: iceberg.IcebergType, transform: Transform[Any, Any]) -> Partitioner:
    schema = Schema(
        iceberg.NestedField(1, "row", iceberg.LongType(), required=True),
        iceberg.NestedField(2, "x", kind, required=False),
    )
    return Partitioner(schema, PartitionSpec(PartitionField(2, 1000, transform, "p")))


def rows(values: list[Any], dtype: pa.DataType) -> pa.RecordBatch:
    if dtype == pa.uuid():
        stored = pa.array([value and value.bytes for value in values], pa.binary(16))
        column = pa.ExtensionArray.from_storage(dtype, stored)
    else:
        column = pa.array(values, dtype)
    return pa.record_batch({"row": pa.array(range(len(values)), pa.int64()), "x": column})


@pytest.mark.parametrize(("kind", "transform"), CASES, ids=lambda case: str(case))
def test_every_transform_puts_rows_where_pyiceberg_would(kind: str, transform: Transform[Any, Any]) -> None:
    stored_type, dtype, values = VALUES[kind]
    values = [*values, None, *values[::-1], None]
    parts = partitioner(stored_type, transform).split(rows(values, dtype))
    identity = PartitionField(2, 1000, IdentityTransform(), "p")
    schema = Schema(iceberg.NestedField(2, "x", stored_type, required=False))
    apply = transform.transform(stored_type)
    got = {}
    for (value,), part in parts:
        got.update(dict.fromkeys(part.column("row").to_pylist(), value))
    for row, value in enumerate(values):
        expected = None if value is None else apply(partition_record_value(identity, value, schema))
        assert got[row] == expected or (expected != expected and got[row] is math.nan)
    assert len(parts) == len({str(value) for value in got.values()})


@pytest.mark.parametrize(("kind", "transform"), CASES, ids=lambda case: str(case))
def test_every_partition_names_a_folder(kind: str, transform: Transform[Any, Any]) -> None:
    stored_type, dtype, values = VALUES[kind]
    split = partitioner(stored_type, transform)
    for partition, _ in split.split(rows([*values, None], dtype)):
        folder = split.folder(partition)
        assert folder is not None
        assert folder.to_path().startswith("p=")
        assert "/" not in folder.to_path()


@given(st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from("abc"))))
def test_rows_keep_their_order_inside_a_partition(pairs: list[tuple[int | None, str | None]]) -> None:
    schema = Schema(
        iceberg.NestedField(1, "row", iceberg.LongType(), required=False),
        iceberg.NestedField(2, "a", iceberg.LongType(), required=False),
        iceberg.NestedField(3, "b", iceberg.StringType(), required=False),
    )
    identity = IdentityTransform[Any]()
    spec = PartitionSpec(PartitionField(2, 1000, identity, "a"), PartitionField(3, 1001, identity, "b"))
    batch = pa.record_batch(
        {
            "row": pa.array(range(len(pairs)), pa.int64()),
            "a": pa.array([a for a, _ in pairs], pa.int64()),
            "b": pa.array([b for _, b in pairs], pa.string()),
        }
    )
    expected: dict[Any, list[int]] = {}
    for row, pair in enumerate(pairs):
        expected.setdefault(pair, []).append(row)
    got = {partition: part.column("row").to_pylist() for partition, part in Partitioner(schema, spec).split(batch)}
    assert got == expected
    assert list(got) == list(expected)


def test_a_batch_of_one_partition_is_not_copied() -> None:
    stored_type, dtype, _ = VALUES["long"]
    batch = rows([5, 5, 5], dtype)
    [(partition, part)] = partitioner(stored_type, IdentityTransform()).split(batch)
    assert partition == (5,)
    assert part is batch


def test_a_part_does_not_hold_the_memory_of_the_whole() -> None:
    stored_type, dtype, _ = VALUES["long"]
    batch = rows([1] * 10_000 + [2], dtype)
    small = partitioner(stored_type, IdentityTransform()).split(batch)[1][1]
    assert small.num_rows == 1
    assert small.get_total_buffer_size() < 1000


def test_a_field_inside_a_struct_partitions_and_its_names_may_have_dots() -> None:
    inner = iceberg.StructType(iceberg.NestedField(3, "y.z", iceberg.LongType(), required=False))
    schema = Schema(iceberg.NestedField(1, "a.b", inner, required=False))
    split = Partitioner(schema, PartitionSpec(PartitionField(3, 1000, IdentityTransform(), "p")))
    column = pa.array([{"y.z": 1}, None, {"y.z": None}, {"y.z": 1}], pa.struct([("y.z", pa.int64())]))
    parts = split.split(pa.record_batch({"a.b": column}))
    assert [(partition, part.num_rows) for partition, part in parts] == [((1,), 2), ((None,), 2)]


def test_one_column_may_partition_twice() -> None:
    stored_type, dtype, values = VALUES["date"]
    schema = partitioner(stored_type, YearTransform()).schema
    spec = PartitionSpec(
        PartitionField(2, 1000, YearTransform(), "year"), PartitionField(2, 1001, BucketTransform(2), "bucket")
    )
    split = Partitioner(schema, spec)
    for partition, _ in split.split(rows(values, dtype)):
        folder = split.folder(partition)
        assert folder is not None
        assert folder.to_path() == f"year={1970 + partition[0]}/bucket={partition[1]}"
