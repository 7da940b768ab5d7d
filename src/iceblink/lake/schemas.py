"""Arrow schemas and Iceberg schemas, each from the other.

What Iceberg has no type for is kept beside it: what a tensor is, stored as a list or as bytes, lies in the table
property ``iceblink.tensor.<field-id>`` (see `tensors`).

References
----------
.. [1] Iceberg table spec, "Schemas and Data Types", "Name Mapping Serialization", "JSON single-value serialization".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import singledispatch
from itertools import count
from typing import Self

import pyarrow as pa
import pyarrow.types as pt
from pyiceberg import types as iceberg
from pyiceberg.conversions import from_json, to_json
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table.name_mapping import MappedField, parse_mapping_from_json
from pyiceberg.utils.datetime import timestamp_to_nanos, timestamptz_to_nanos

from iceblink.errors import DataCorrupt, TypeMismatch
from iceblink.lake.tensors import PROPERTY, byte_width, described, tensor_of
from iceblink.types import has_bytes, show_type

FIELD_ID = b"PARQUET:field_id"
DEFAULT = b"iceblink:default"
WRITE_DEFAULT = b"iceblink:write-default"
NAMES = b"iceblink:names"
DOC = b"doc"
NAME_MAPPING = "schema.name-mapping.default"

_PRIMITIVES: dict[iceberg.PrimitiveType, pa.DataType] = {
    iceberg.BooleanType(): pa.bool_(),
    iceberg.IntegerType(): pa.int32(),
    iceberg.LongType(): pa.int64(),
    iceberg.FloatType(): pa.float32(),
    iceberg.DoubleType(): pa.float64(),
    iceberg.DateType(): pa.date32(),
    iceberg.TimeType(): pa.time64("us"),
    iceberg.TimestampType(): pa.timestamp("us"),
    iceberg.TimestamptzType(): pa.timestamp("us", "UTC"),
    iceberg.TimestampNanoType(): pa.timestamp("ns"),
    iceberg.TimestamptzNanoType(): pa.timestamp("ns", "UTC"),
    iceberg.StringType(): pa.string(),
    iceberg.BinaryType(): pa.binary(),
    iceberg.UUIDType(): pa.uuid(),
    iceberg.UnknownType(): pa.null(),
}
_FROM_ARROW = {dtype: kind for kind, dtype in _PRIMITIVES.items()}


def iceberg_schema(schema: pa.Schema, fixed: Collection[str] = ()) -> Schema:
    """Return the Iceberg form of a storable Arrow schema, with the field ids that a new table will give it.

    Parameters
    ----------
    schema : pa.Schema
    fixed : collection of str
        Columns that are stored as bytes if they are tensors of numbers; other tensors are stored as lists.

    Raises
    ------
    TypeMismatch
        A type that `types.storable` would have replaced or refused.
    """
    ids = count(1)
    fields = [_iceberg_field(field, ids, field.name in fixed) for field in schema]
    return assign_fresh_schema_ids(Schema(*fields))


def iceberg_type(dtype: pa.DataType) -> iceberg.IcebergType:
    """Return the Iceberg form of one storable Arrow type; field ids inside count from 1."""
    return _iceberg_type(dtype, count(1))


def _iceberg_field(field: pa.Field, ids: Iterator[int], fixed: bool = False) -> iceberg.NestedField:
    whole = fixed and has_bytes(field.type)
    doc = (field.metadata or {}).get(DOC)
    return iceberg.NestedField(
        next(ids),
        field.name,
        iceberg.FixedType(byte_width(field.type)) if whole else _iceberg_type(field.type, ids),
        required=not field.nullable,
        doc=doc.decode() if doc else None,
    )


def _iceberg_type(dtype: pa.DataType, ids: Iterator[int]) -> iceberg.IcebergType:
    if dtype in _FROM_ARROW:
        return _FROM_ARROW[dtype]
    if pt.is_decimal128(dtype):
        return iceberg.DecimalType(dtype.precision, dtype.scale)
    if pt.is_fixed_size_binary(dtype):
        return iceberg.FixedType(dtype.byte_width)
    if isinstance(dtype, pa.FixedShapeTensorType):
        return iceberg.ListType(next(ids), _iceberg_type(dtype.value_type, ids), element_required=False)
    if pt.is_list(dtype):
        element = dtype.value_field
        return iceberg.ListType(next(ids), _iceberg_type(element.type, ids), element_required=not element.nullable)
    if pt.is_map(dtype):
        value = dtype.item_field
        return iceberg.MapType(
            next(ids),
            _iceberg_type(dtype.key_type, ids),
            next(ids),
            _iceberg_type(value.type, ids),
            value_required=not value.nullable,
        )
    if pt.is_struct(dtype):
        return iceberg.StructType(*(_iceberg_field(field, ids) for field in dtype))
    raise TypeMismatch(
        f"Iceberg has no type for {show_type(dtype)}", "schema", "pass the schema through types.storable"
    )


def tensor_properties(schema: pa.Schema, stored: Schema) -> dict[str, str]:
    """Return the table properties that say what the tensors in `schema` are, stored as `stored`."""
    return dict(_tensors(pa.struct(list(schema)), stored.as_struct(), 0))


def _tensors(dtype: pa.DataType, stored: iceberg.IcebergType, field_id: int) -> Iterator[tuple[str, str]]:
    if isinstance(dtype, pa.FixedShapeTensorType):
        yield f"{PROPERTY}{field_id}", described(dtype, isinstance(stored, iceberg.FixedType))
    elif isinstance(stored, iceberg.StructType):
        for field in dtype:
            inner = stored.field_by_name(field.name)
            if inner is not None:
                yield from _tensors(field.type, inner.field_type, inner.field_id)
    elif isinstance(stored, iceberg.ListType):
        yield from _tensors(dtype.value_type, stored.element_type, stored.element_id)
    elif isinstance(stored, iceberg.MapType):
        yield from _tensors(dtype.key_type, stored.key_type, stored.key_id)
        yield from _tensors(dtype.item_type, stored.value_type, stored.value_id)


def byte_tensors(stored: Schema, properties: Mapping[str, str]) -> dict[str, iceberg.FixedType]:
    """Return the columns that are tensors stored as bytes, and their types."""
    return {
        one.name: one.field_type
        for one in stored.fields
        if isinstance(one.field_type, iceberg.FixedType) and f"{PROPERTY}{one.field_id}" in properties
    }


def arrow_schema(stored: Schema, properties: Mapping[str, str]) -> pa.Schema:
    """Return an Iceberg schema as a user sees it.

    Parameters
    ----------
    stored : Schema
    properties : mapping of str to str
        Table properties, for tensors and the name mapping. Empty for the schema as data files have it, lists or bytes
        for tensors.

    Returns
    -------
    pa.Schema
        Every field at every depth carries its field id under ``PARQUET:field_id``, its comment under ``doc``, the
        value of a column that a file lacks under ``iceblink:default``, that of one that a write lacks under
        ``iceblink:write-default``, both in Iceberg's JSON single-value form, and if the table has a name mapping, its
        names in files without field ids under ``iceblink:names``, a JSON list.

    Raises
    ------
    DataCorrupt
        The name mapping, or what is said of a tensor, does not parse.
    """
    beside = Beside.of(properties)
    return pa.schema([_arrow_field(one, beside) for one in stored.fields])


@dataclass(frozen=True)
class Beside:
    """What table properties say of fields, by field id.

    Parameters
    ----------
    tensors : mapping of int to str
        What fields are that are stored as lists or bytes and seen as tensors.
    names : mapping of int to list of str, or None
        In files without field ids; None when the table has no name mapping.
    """

    tensors: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, list[str]] | None = None

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Self:
        tensors = {
            int(name.removeprefix(PROPERTY)): said for name, said in properties.items() if name.startswith(PROPERTY)
        }
        mapping = properties.get(NAME_MAPPING)
        if mapping is None:
            return cls(tensors)
        try:
            return cls(tensors, dict(_mapped(parse_mapping_from_json(mapping))))
        except ValueError as error:
            raise DataCorrupt(
                f"table property {NAME_MAPPING} is no name mapping",
                mapping,
                "set it to the JSON that Iceberg describes",
            ) from error


def _mapped(fields: Iterable[MappedField]) -> Iterator[tuple[int, list[str]]]:
    for one in fields:
        if one.field_id is not None:
            yield one.field_id, one.names
        yield from _mapped(one.fields)


def _arrow_field(stored: iceberg.NestedField, beside: Beside) -> pa.Field:
    metadata = {FIELD_ID: str(stored.field_id).encode()}
    if stored.doc:
        metadata[DOC] = stored.doc.encode()
    if stored.initial_default is not None and isinstance(stored.field_type, iceberg.PrimitiveType):
        metadata[DEFAULT] = json.dumps(to_json(stored.field_type, stored.initial_default)).encode()
    if stored.write_default is not None:
        kind = stored.field_type
        value = to_json(kind, stored.write_default) if isinstance(kind, iceberg.PrimitiveType) else {}
        metadata[WRITE_DEFAULT] = json.dumps(value).encode()
    if beside.names is not None:
        metadata[NAMES] = json.dumps(beside.names.get(stored.field_id, [])).encode()
    dtype = arrow_type(stored.field_type, beside)
    said = beside.tensors.get(stored.field_id)
    if said is not None and isinstance(stored.field_type, iceberg.ListType | iceberg.FixedType):
        dtype = tensor_of(said, dtype, stored.name)
    return pa.field(stored.name, dtype, nullable=not stored.required, metadata=metadata)


@singledispatch
def arrow_type(stored: iceberg.IcebergType, beside: Beside) -> pa.DataType:
    """Return the Arrow form of an Iceberg type; `beside` tells which fields inside are tensors."""
    if isinstance(stored, iceberg.PrimitiveType) and stored in _PRIMITIVES:
        return _PRIMITIVES[stored]
    raise TypeMismatch(f"{stored} cannot be read", "schema", "select other columns")


@arrow_type.register
def _(stored: iceberg.DecimalType, beside: Beside) -> pa.DataType:
    return pa.decimal128(stored.precision, stored.scale)


@arrow_type.register
def _(stored: iceberg.FixedType, beside: Beside) -> pa.DataType:
    return pa.binary(len(stored))


@arrow_type.register(iceberg.GeometryType)
@arrow_type.register(iceberg.GeographyType)
def _(stored: iceberg.PrimitiveType, beside: Beside) -> pa.DataType:
    return pa.binary()  # well-known binary, as the data files hold it


@arrow_type.register
def _(stored: iceberg.StructType, beside: Beside) -> pa.DataType:
    return pa.struct([_arrow_field(one, beside) for one in stored.fields])


@arrow_type.register
def _(stored: iceberg.ListType, beside: Beside) -> pa.DataType:
    return pa.list_(_arrow_field(stored.element_field, beside))


@arrow_type.register
def _(stored: iceberg.MapType, beside: Beside) -> pa.DataType:
    return pa.map_(_arrow_field(stored.key_field, beside), _arrow_field(stored.value_field, beside))


# default values of nanosecond timestamps, which PyIceberg neither reads nor writes


@from_json.register  # type: ignore[arg-type]  # its return type is a type variable bound to nothing
def _(kind: iceberg.TimestampNanoType, value: str | int) -> int:
    return value if isinstance(value, int) else timestamp_to_nanos(value)


@from_json.register  # type: ignore[arg-type]
def _(kind: iceberg.TimestamptzNanoType, value: str | int) -> int:
    return value if isinstance(value, int) else timestamptz_to_nanos(value)


@to_json.register  # type: ignore[arg-type]
def _(kind: iceberg.TimestampNanoType, value: int) -> str:
    seconds, nanoseconds = divmod(value, 1_000_000_000)
    return f"{(datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()}.{nanoseconds:09}"


@to_json.register  # type: ignore[arg-type]
def _(kind: iceberg.TimestamptzNanoType, value: int) -> str:
    return f"{to_json(iceberg.TimestampNanoType(), value)}+00:00"
