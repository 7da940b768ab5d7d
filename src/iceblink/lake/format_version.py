"""The versions of the Iceberg format: three are read, the first two are written.

References
----------
.. [1] Iceberg table spec, "Format Versioning".
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from iceblink.errors import ConfigError, TypeMismatch, WriteError
from iceblink.lake.table import Table
from iceblink.types import show_type

PROPERTY = "format-version"
WRITTEN = ("1", "2")
"""What PyIceberg, our door to metadata, writes."""


def check_version(properties: Mapping[str, object], where: str) -> None:
    """Refuse properties that ask for a table that could not be written.

    Raises
    ------
    ConfigError
    """
    asked = str(properties.get(PROPERTY, WRITTEN[-1]))
    if asked not in WRITTEN:
        raise ConfigError(
            f"tables of format version {asked!r} cannot be written", where, f"leave {PROPERTY} out: it is {WRITTEN[-1]}"
        )


def check_unchanged(table: Table, properties: Mapping[str, object]) -> None:
    """Refuse properties that ask an existing table for another version than it has.

    Raises
    ------
    ConfigError
    """
    version = str(table.pyiceberg.metadata.format_version)
    asked = str(properties.get(PROPERTY, version))
    if asked != version:
        raise ConfigError(
            f"the table has format version {version}, and cannot become one of version {asked!r}",
            table.name,
            f"leave {PROPERTY} out, or write to a new table",
        )


def check_types(schema: pa.Schema) -> None:
    """Refuse columns asked for by a type that only tables of format version 3 have.

    Raises
    ------
    TypeMismatch
    """
    for column in schema:
        if _has_nanoseconds(column.type):
            raise TypeMismatch(
                f"column {column.name!r} is {show_type(column.type)}, which needs format version 3",
                "schema",
                f"tables are written in version {WRITTEN[-1]}: use timestamp or timestamptz, which have microseconds",
            )


def _has_nanoseconds(dtype: pa.DataType) -> bool:
    if pa.types.is_timestamp(dtype):
        return bool(dtype.unit == "ns")
    return any(_has_nanoseconds(dtype.field(place).type) for place in range(dtype.num_fields))


def check_writable(table: Table) -> None:
    """Refuse to change a table of a version that is only read.

    Raises
    ------
    WriteError
    """
    version = str(table.pyiceberg.metadata.format_version)
    if version not in WRITTEN:
        raise WriteError(
            f"the table has format version {version}, which is read but not written",
            table.name,
            "write to a new table, or change this one with the engine that made it",
        )
