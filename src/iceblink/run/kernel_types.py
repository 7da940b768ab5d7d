"""The kernel's types and Arrow's, each in words of the other."""

from __future__ import annotations

from math import prod
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from iceblink.errors import TypeMismatch
from iceblink.types import show_type

_TO_ARROW: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int32(),
    "smallint": pa.int32(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "hugeint": pa.int64(),  # what sum() of integers gives; a value beyond long is an error, not a rounded float
    "utinyint": pa.int32(),
    "usmallint": pa.int32(),
    "uinteger": pa.int64(),
    "ubigint": pa.uint64(),  # Iceberg has no such type: `types.storable` says what to cast it to
    "uhugeint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "blob": pa.binary(),
    "bit": pa.string(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamp_s": pa.timestamp("us"),
    "timestamp_ms": pa.timestamp("us"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "timestamptz_ns": pa.timestamp("ns", "UTC"),
    "uuid": pa.uuid(),
    "enum": pa.string(),
    "interval": pa.month_day_nano_interval(),
    "null": pa.null(),
}


def arrow_type(kernel_type: Any, column: str) -> pa.DataType:
    """Return the Arrow type in which a result column reaches the user.

    Raises
    ------
    TypeMismatch
        A type that has no Arrow form here, such as a union.
    """
    match kernel_type.id:
        case "decimal":
            (_, precision), (_, scale) = kernel_type.children
            return pa.decimal128(precision, scale)
        case "list":
            return pa.list_(pa.field("element", arrow_type(kernel_type.children[0][1], column)))
        case "array":
            (_, child), (_, size) = kernel_type.children
            return pa.list_(pa.field("element", arrow_type(child, column)), size)
        case "struct":
            return pa.struct([pa.field(name, arrow_type(child, column)) for name, child in kernel_type.children])
        case "map":
            (_, key), (_, value) = kernel_type.children
            return pa.map_(
                pa.field("key", arrow_type(key, column), nullable=False), pa.field("value", arrow_type(value, column))
            )
        case simple if simple in _TO_ARROW:
            return _TO_ARROW[simple]
    raise TypeMismatch(f"column {column!r} has type {kernel_type}, which has no Arrow form", "query", "cast it in SQL")


_TO_KERNEL: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.timestamp("ns", "UTC"): "TIMESTAMPTZ_NS",
    pa.uuid(): "UUID",
    pa.null(): '"NULL"',
}


def kernel_type(dtype: pa.DataType) -> str:
    """Return the kernel's word for a type that an Iceberg table can have.

    Raises
    ------
    TypeMismatch
        The kernel has no such type.
    """
    if dtype in _TO_KERNEL:
        return _TO_KERNEL[dtype]
    if pt.is_decimal(dtype):
        return f"DECIMAL({dtype.precision},{dtype.scale})"
    if pt.is_fixed_size_binary(dtype):
        return "BLOB"
    if isinstance(dtype, pa.FixedShapeTensorType):
        return f"{kernel_type(dtype.value_type)}[{prod(dtype.shape)}]"
    if pt.is_list(dtype):
        return f"{kernel_type(dtype.value_type)}[]"
    if pt.is_fixed_size_list(dtype):
        return f"{kernel_type(dtype.value_type)}[{dtype.list_size}]"
    if pt.is_map(dtype):
        return f"MAP({kernel_type(dtype.key_type)}, {kernel_type(dtype.item_type)})"
    if pt.is_struct(dtype):
        return f"STRUCT({', '.join(f'{quoted(child.name)} {kernel_type(child.type)}' for child in dtype)})"
    raise TypeMismatch(f"the query kernel has no type {show_type(dtype)}", "scan")


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return `text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
