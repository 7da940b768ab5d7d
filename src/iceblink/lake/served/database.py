"""The database of a catalog that is served: its errors are refusals, by whether something may have been changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyiceberg.catalog import Catalog as IcebergCatalog

from iceblink.errors import CatalogError, ConfigError
from iceblink.lake.database import Database, Run, SqlalchemyDatabase, Values
from iceblink.lake.embedded import EmbeddedCatalog
from iceblink.lake.late import iceberg_sql
from iceblink.lake.refused import client_errors, duplicate_errors
from iceblink.lake.served.refusal import Refusal


def database_of(catalog: IcebergCatalog) -> Database:
    """Return the database behind a catalog.

    Raises
    ------
    ConfigError
        It has none that we know.
    """
    if isinstance(catalog, EmbeddedCatalog):
        return ServedDatabase(catalog.database)
    if isinstance(catalog, iceberg_sql.SqlCatalog):
        return ServedDatabase(SqlalchemyDatabase(catalog))
    raise ConfigError(
        f"a catalog of type {type(catalog).__name__} cannot be served",
        "catalog serve",
        "serve a lake in a folder, or a catalog of type sql",
    )


class ServedDatabase:
    """A database whose failures are a `Refusal`.

    503 where it cannot be reached, and nothing was changed; 500 where it took a change and did not say whether it was
    made; 403 where it can only be read. That a key is there already comes through.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.has_views = database.has_views

    def ask(self, query: str, values: Values) -> list[Any]:
        """Return all rows of a query."""
        try:
            return self._database.ask(query, values)
        except client_errors():
            raise Refusal.unavailable("the database of this catalog cannot be read") from None

    @contextmanager
    def change(self) -> Iterator[Run]:
        """Begin a transaction, committed at the end of the block, undone when it fails."""
        handed_over = False
        try:
            with self._database.change() as run:
                yield run
                handed_over = True
        except CatalogError as error:
            raise Refusal.forbidden(error.what) from None
        except client_errors() as error:
            if handed_over:  # an error of the commit itself
                raise Refusal.unknown() from error
            if isinstance(error, duplicate_errors()):
                raise
            raise Refusal.unavailable("the database of this catalog cannot be changed now") from error
