"""Default values of columns: what rows have that were there before a column came, and that a write gives no value.

A column that is asked for says its default in its Arrow field, as a literal; one of a table says what a write puts in.

References
----------
.. [1] Iceberg table spec, "Default values", "JSON single-value serialization".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.types as pt
from pyiceberg.expressions.literals import AboveMax, BelowMin, LongLiteral, literal
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampNanoType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from pyiceberg.utils.datetime import timestamp_to_nanos

from iceblink.errors import SchemaMismatch, TypeMismatch
from iceblink.lake.schemas import WRITE_DEFAULT
from iceblink.types import show_type

ASKED_DEFAULT = b"iceblink:asked-default"
"""Where the metadata of a field that is asked for has its default, as JSON."""
Value = str | int | float | bool | bytes
_BYTES = "bytes"
_AS_TEXT = (FloatType, DoubleType, DateType, TimeType, TimestampType, TimestamptzType)


# PyIceberg checks a default anew, and makes nanoseconds of no number
_conversions: Any = LongLiteral.to
_conversions.register(TimestampNanoType, lambda number, _: number)


def with_default(field: pa.Field, value: Value | None) -> pa.Field:
    """Return a field that is asked for with a default value; None for none."""
    if value is None:
        return field
    said = {_BYTES: value.hex()} if isinstance(value, bytes) else value
    return field.with_metadata({**(field.metadata or {}), ASKED_DEFAULT: json.dumps(said).encode()})


def has_default(field: pa.Field) -> bool:
    """Whether a field is asked for with a default value."""
    return ASKED_DEFAULT in (field.metadata or {})


def asked_default(field: pa.Field, stored: IcebergType) -> Any:
    """Return the default that a field is asked for with, as Iceberg stores a value of its type; None if there is none.

    Raises
    ------
    TypeMismatch
        It is no value of the type, or the type can have no default here.
    """
    said = (field.metadata or {}).get(ASKED_DEFAULT)
    if said is None:
        return None
    value = json.loads(said)
    value = bytes.fromhex(value[_BYTES]) if isinstance(value, dict) else value
    try:
        return _stored(value, stored)
    except (ValueError, TypeError, InvalidOperation):
        raise TypeMismatch(
            f"{value!r} is no default of column {field.name!r}, which is {show_type(field.type)}",
            "DEFAULT",
            "give a value of the type; booleans, numbers, texts, dates, times, UUIDs and bytes (X'00ff') can have one",
        ) from None


def _stored(value: Value, stored: IcebergType) -> Any:
    """Return a value as Iceberg stores it; ValueError if it is none of the type."""
    match stored:
        case BinaryType() if isinstance(value, bytes):
            return value
        case UUIDType() if isinstance(value, str):
            return UUID(value)
        case TimestampNanoType() if isinstance(value, str):
            return timestamp_to_nanos(value.replace(" ", "T", 1))
    made = literal(_plain(value, stored))
    made = made if isinstance(stored, DecimalType) else made.to(stored)
    if isinstance(made, AboveMax | BelowMin):
        raise ValueError(value)
    return made.value


def _plain(value: Value, stored: IcebergType) -> Any:
    """Return what PyIceberg makes a literal of, which it turns into a value of the type; ValueError if it is none."""
    match stored:
        case BooleanType() if isinstance(value, bool):
            return value
        case StringType() if isinstance(value, str):
            return value
        case IntegerType() | LongType() if not isinstance(value, bool | float | bytes):
            return int(value)
        case DecimalType() if not isinstance(value, bool):
            given = Decimal(str(value))
            made = given.quantize(Decimal(1).scaleb(-stored.scale))
            if made == given and len(made.as_tuple().digits) <= stored.precision:
                return made
        case _ if isinstance(stored, _AS_TEXT) and not isinstance(value, bool | bytes):
            return str(value).replace(" ", "T", 1)
    raise ValueError(value)


def asked_defaults(schema: pa.Schema, stored: Schema) -> dict[str, Any]:
    """Return the defaults that columns are asked for with, by name, as Iceberg stores them."""
    kinds = {one.name: one.field_type for one in stored.fields}
    found = {field.name: asked_default(field, kinds[field.name]) for field in schema}
    return {name: value for name, value in found.items() if value is not None}


def with_defaults(schema: Schema, defaults: Mapping[str, Any]) -> Schema:
    """Return a schema whose columns of these names have these write defaults; no row was there before them."""
    fields = [
        one.model_copy(update={"write_default": defaults[one.name]}) if one.name in defaults else one
        for one in schema.fields
    ]
    return Schema(*fields, schema_id=schema.schema_id, identifier_field_ids=schema.identifier_field_ids)


def write_default(field: pa.Field) -> Value | None:
    """Return what a column of a table has in rows that a write gives no value, as SQL can cast it; None for null.

    Raises
    ------
    SchemaMismatch
        It has a default that has no such form.
    """
    said = (field.metadata or {}).get(WRITE_DEFAULT)
    if said is None:
        return None
    if pt.is_nested(field.type) or pt.is_fixed_size_binary(field.type):
        raise SchemaMismatch(
            f"column {field.name!r} is missing, and its default value cannot be written",
            f"column {field.name!r}",
            "give it a value",
        )
    value: Value = json.loads(said)
    return bytes.fromhex(str(value)) if pt.is_binary(field.type) else value
