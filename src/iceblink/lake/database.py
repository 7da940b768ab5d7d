"""The database of a SQL catalog, whichever it is: questions and changes in SQL with named parameters.

References
----------
.. [1] SQLite, "Write-Ahead Logging"; https://sqlite.org/wal.html
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from iceblink.errors import CatalogError
from iceblink.lake.late import sqlalchemy

BUSY_TIMEOUT_S = 60
"""How long a writer waits for the others; a commit holds the file for milliseconds."""

_LAYOUT = """
CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
    metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name));
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL,
    property_value VARCHAR(1000) NOT NULL,
    PRIMARY KEY (catalog_name, namespace, property_key));
"""

_COLUMNS = {"catalog_name", "table_namespace", "table_name", "metadata_location", "previous_metadata_location"}

Values = Mapping[str, str]
Run = Callable[[str, Values], int]
"""Runs one statement of a transaction and returns how many rows it met."""


class Database(Protocol):
    """A database laid out as PyIceberg's and Java's SQL catalogs have it; its own errors come through."""

    has_views: bool
    """Whether its list says what is a table and what a view; what PyIceberg made before it did has only tables."""

    def ask(self, query: str, values: Values) -> list[Any]:
        """Return all rows of a query."""
        ...

    def change(self) -> AbstractContextManager[Run]:
        """Begin a transaction, committed at the end of the block, undone when it fails."""
        ...


class SqliteDatabase:
    """One SQLite file, made if absent: readers never wait for a writer (WAL) [1]_.

    Where the file or its folder cannot be written, it is read all the same, and every change is refused.

    Parameters
    ----------
    file : Path

    Raises
    ------
    sqlite3.Error
        It is no database, or not of a catalog.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_only = file.exists() and not (_writable(file) and _writable(file.parent))
        with closing(self._connect()) as connection:
            if not self._read_only:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_LAYOUT)
            columns = {row[1] for row in connection.execute("PRAGMA table_info(iceberg_tables)")}
        if _COLUMNS - columns:
            raise sqlite3.DatabaseError("its table iceberg_tables is not that of a catalog")
        self.has_views = "iceberg_type" in columns

    def _connect(self) -> sqlite3.Connection:
        # a connection per use: none is left open when a process forks or ends
        if not self._read_only:
            return sqlite3.connect(self._file, timeout=BUSY_TIMEOUT_S)
        # somebody who may write may be writing: then SQLite reads the log beside the file, and cannot do without it
        how = "mode=ro" if self._file.with_name(f"{self._file.name}-wal").exists() else "immutable=1"
        return sqlite3.connect(f"{self._file.as_uri()}?{how}", uri=True, timeout=BUSY_TIMEOUT_S)

    def ask(self, query: str, values: Values) -> list[Any]:
        """Return all rows of a query."""
        with closing(self._connect()) as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def change(self) -> Iterator[Run]:
        """Begin a transaction, committed at the end of the block, undone when it fails.

        Raises
        ------
        CatalogError
            The lake can only be read.
        """
        if self._read_only:
            what, hint = "the lake can only be read", "let this user write its folder and catalog.db, or copy the lake"
            raise CatalogError(what, str(self._file.parent), hint)
        with closing(self._connect()) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            yield lambda statement, values: connection.execute(statement, values).rowcount


class SqlalchemyDatabase:
    """What PyIceberg's own SQL catalog is connected to.

    Parameters
    ----------
    catalog : pyiceberg.catalog.sql.SqlCatalog
    """

    def __init__(self, catalog: Any) -> None:
        self._engine = catalog.engine
        self.has_views = catalog._iceberg_type_filter() is not None

    def ask(self, query: str, values: Values) -> list[Any]:
        """Return all rows of a query."""
        with self._engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(query), values))

    @contextmanager
    def change(self) -> Iterator[Run]:
        """Begin a transaction, committed at the end of the block, undone when it fails."""
        with self._engine.begin() as connection:
            yield lambda statement, values: connection.execute(sqlalchemy.text(statement), values).rowcount


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
