"""The versions of the Iceberg format: three are read and written.

References
----------
.. [1] Iceberg table spec, "Format Versioning".
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.table.metadata import TableMetadataV3
from pyiceberg.types import GeographyType, GeometryType, IcebergType, ListType, MapType, StructType, UnknownType

from iceblink.errors import ConfigError, TypeMismatch, WriteError
from iceblink.lake.defaults import has_default
from iceblink.lake.table import Table
from iceblink.types import show_type

PROPERTY = "format-version"
WRITTEN = ("1", "2", "3")
DEFAULT = "2"
"""Of new tables: what every engine reads."""


def check_version(properties: Mapping[str, object], where: str) -> None:
    """Refuse properties that ask for a table that could not be written.

    Raises
    ------
    ConfigError
    """
    asked = version_asked(properties)
    if asked not in WRITTEN:
        raise ConfigError(
            f"tables of format version {asked!r} cannot be written",
            where,
            f"{PROPERTY} is one of {', '.join(WRITTEN)}; left out, it is {DEFAULT}",
        )


def version_asked(properties: Mapping[str, object]) -> str:
    """Return the version that a new table of these properties has."""
    return str(properties.get(PROPERTY, DEFAULT))


def upgrade_asked(version: int, properties: Mapping[str, object], where: str) -> int | None:
    """Return the later version that properties ask for a table of `version`, if they do.

    Raises
    ------
    ConfigError
        An earlier one, or one that could not be written.
    """
    asked = str(properties.get(PROPERTY, version))
    check_version({PROPERTY: asked}, where)
    if int(asked) < version:
        raise ConfigError(
            f"the table has format version {version}, and cannot go back to {asked}",
            where,
            "write the rows to a new table",
        )
    return int(asked) if int(asked) > version else None


def check_unchanged(table: Table, properties: Mapping[str, object]) -> None:
    """Refuse properties that ask an existing table for another version than it has.

    Raises
    ------
    ConfigError
    """
    asked = str(properties.get(PROPERTY, table.format_version))
    if asked != table.format_version:
        raise ConfigError(
            f"the table has format version {table.format_version}, and a write cannot make it one of version {asked!r}",
            table.name,
            f"leave {PROPERTY} out, or upgrade the table first: ALTER TABLE ... SET TBLPROPERTIES",
        )


def check_types(schema: pa.Schema, version: str = DEFAULT) -> None:
    """Refuse columns asked for by a type that only tables of format version 3 have, for one of an earlier version.

    Raises
    ------
    TypeMismatch
    """
    for column in schema:
        if _has_nanoseconds(column.type) and version in WRITTEN[:2]:
            raise TypeMismatch(
                f"column {column.name!r} is {show_type(column.type)}, which needs format version 3",
                "schema",
                f"set the property {PROPERTY} to 3, or use timestamp or timestamptz, which have microseconds",
            )


def check_defaults(schema: pa.Schema, version: str) -> None:
    """Refuse columns asked for with a default value, for a table of a version that has none.

    Raises
    ------
    TypeMismatch
    """
    named = next((field.name for field in schema if has_default(field)), None)
    if named is not None and version in WRITTEN[:2]:
        raise TypeMismatch(
            f"column {named!r} has a default value, which needs format version 3",
            "schema",
            f"set the property {PROPERTY} to 3, or leave DEFAULT out",
        )


def _has_nanoseconds(dtype: pa.DataType) -> bool:
    if pa.types.is_timestamp(dtype):
        return bool(dtype.unit == "ns")
    return any(_has_nanoseconds(dtype.field(place).type) for place in range(dtype.num_fields))


def check_writable(table: Table) -> None:
    """Refuse to change a table of which something is only read.

    Raises
    ------
    WriteError
    """
    metadata = table.pyiceberg.metadata
    hint = "write to a new table, or change this one with the engine that made it"
    for column in metadata.schema().fields:
        if (kind := _only_read(column.field_type)) is not None:
            raise WriteError(f"column {column.name!r} is {kind}, which is read but not written", table.name, hint)
    if isinstance(metadata, TableMetadataV3) and metadata.next_row_id is None:
        raise WriteError("its metadata lacks next-row-id, which format version 3 requires", table.name, hint)


def _only_read(kind: IcebergType) -> IcebergType | None:
    """Return a type that is, or is inside of, `kind` and cannot be written."""
    match kind:
        case StructType():
            inner = [one.field_type for one in kind.fields]
        case ListType():
            inner = [kind.element_type]
        case MapType():
            inner = [kind.key_type, kind.value_type]
        case GeometryType() | GeographyType() | UnknownType():
            return kind
        case _:
            return None
    return next((found for one in inner if (found := _only_read(one)) is not None), None)
