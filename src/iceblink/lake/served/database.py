"""The database of a catalog, whichever it is: questions and changes in SQL with named parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol

from pyiceberg.catalog import Catalog as IcebergCatalog

from iceblink.errors import CatalogError, ConfigError
from iceblink.lake.embedded import EmbeddedCatalog
from iceblink.lake.late import iceberg_sql, sqlalchemy
from iceblink.lake.served.refusal import Refusal

Values = Mapping[str, str]
Run = Callable[[str, Values], int]
"""Runs one statement of a transaction and returns how many rows it met."""


class Database(Protocol):
    """A database laid out as PyIceberg's and Java's SQL catalogs have it."""

    has_views: bool
    """Whether its list says what is a table and what a view."""

    def ask(self, query: str, values: Values) -> list[Any]:
        """Return all rows of a query."""
        ...

    def change(self) -> AbstractContextManager[Run]:
        """Begin a transaction, committed at the end of the block, undone when it fails."""
        ...


def database_of(catalog: IcebergCatalog) -> Database:
    """Return the database behind a catalog.

    Raises
    ------
    ConfigError
        It has none that we know.
    """
    if isinstance(catalog, EmbeddedCatalog):
        return _Sqlite(catalog)
    if isinstance(catalog, iceberg_sql.SqlCatalog):
        return _Sqlalchemy(catalog)
    raise ConfigError(
        f"a catalog of type {type(catalog).__name__} cannot be served",
        "catalog serve",
        "serve a lake in a folder, or a catalog of type sql",
    )


class _Sqlite:
    def __init__(self, catalog: EmbeddedCatalog) -> None:
        self._catalog = catalog
        self.has_views = bool(catalog._only_tables)

    def ask(self, query: str, values: Values) -> list[Any]:
        with closing(self._catalog._connect()) as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def change(self) -> Iterator[Run]:
        try:
            with self._catalog._change() as connection:
                yield lambda statement, values: connection.execute(statement, values).rowcount
        except CatalogError as error:
            raise Refusal.forbidden(error.what) from None


class _Sqlalchemy:
    def __init__(self, catalog: Any) -> None:
        self._engine = catalog.engine
        self.has_views = catalog._iceberg_type_filter() is not None

    def ask(self, query: str, values: Values) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(query), values))

    @contextmanager
    def change(self) -> Iterator[Run]:
        with self._engine.begin() as connection:
            yield lambda statement, values: connection.execute(sqlalchemy.text(statement), values).rowcount
