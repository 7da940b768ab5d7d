"""The versions of the Iceberg format: three are read, the first two are written.

References
----------
.. [1] Iceberg table spec, "Format Versioning".
"""

from __future__ import annotations

from collections.abc import Mapping

from iceblink.errors import ConfigError, WriteError
from iceblink.lake.table import Table

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
