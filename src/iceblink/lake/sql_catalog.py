"""Catalogs in a SQL database: what PyIceberg leaves to the defaults of databases that are not PostgreSQL or SQLite.

MySQL and MariaDB compare texts by a collation. By that of their defaults ``Orders`` and ``orders`` are one name, in
some versions ``Ärger`` and ``arger`` are, and a name with an emoji is none. The tables of a catalog that is made here
compare texts byte by byte; those of one that is there already stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyiceberg import catalog as theirs
from pyiceberg.catalog import Catalog

from iceblink.lake.late import iceberg_sql
from iceblink.lake.refused import client_errors

_MYSQL = ("mysql", "mariadb")
"""The names of one dialect of SQLAlchemy's."""

_LAYOUT = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}


def open_configured(name: str, properties: Mapping[str, Any]) -> Catalog:
    """Open the catalog that PyIceberg's configuration and `properties` describe; its errors come through.

    A connection to a database over the network is asked for a sign of life before it is used again: the database may
    have been started anew, and MySQL ends those that were idle for some hours.
    """
    given = {**(theirs._ENV_CONFIG.get_catalog_config(name) or {}), **properties}
    uri = str(given.get("uri", ""))
    if uri.startswith(_MYSQL):
        _tell_names_apart()
        given = {"type": "sql", **given}  # PyIceberg does not know by itself what it is
    if uri.startswith((*_MYSQL, "postgresql")):
        given = {"pool_pre_ping": "true", **given}
    try:
        return theirs.load_catalog(name, **given)
    except client_errors() as error:
        if "already exists" not in str(error):
            raise
        return theirs.load_catalog(name, **given)  # another process made the tables after PyIceberg had looked for them


def _tell_names_apart() -> None:
    """Let PyIceberg make tables whose collation is their bytes; does nothing in other databases."""
    for listed in (iceberg_sql.IcebergTables, iceberg_sql.IcebergNamespaceProperties):
        options: Any = listed.__table__.dialect_kwargs  # type: ignore[attr-defined] # it is a Table
        options.update({f"{dialect}_{key}": value for dialect in _MYSQL for key, value in _LAYOUT.items()})
