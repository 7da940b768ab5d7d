"""The embedded catalog: one SQLite file that many processes may write at once."""

from __future__ import annotations

from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from iceblink.errors import CatalogError

BUSY_TIMEOUT_S = 60
"""How long a writer waits for the others; a commit holds the file for milliseconds."""


def open_embedded(name: str, folder: str) -> SqlCatalog:
    """Open, and make if absent, the catalog in `folder`; tables go beside its ``catalog.db``.

    Raises
    ------
    CatalogError
        The folder cannot be made, or its ``catalog.db`` cannot be used.
    """
    file = Path(folder, "catalog.db")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        url = URL.create("sqlite", database=str(file))
        # a connection per use: none is left open when a process forks or ends
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})
        _prepare(engine)
        # PyIceberg makes an engine of its own from a URL and takes no other: give it a harmless one, then ours
        catalog = SqlCatalog(name, uri="sqlite://", warehouse=folder)
        catalog.engine.dispose()
        catalog.engine = engine
        catalog._init_catalog()  # what it found out about the harmless one is not true of the file
        catalog.properties["uri"] = f"sqlite:///{file}"
    except (OSError, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise CatalogError(
            f"cannot open the lake: {reason}", str(file), "give a folder that can be written, or one that iceblink made"
        ) from None
    return catalog


def _prepare(engine: Engine) -> None:
    """Make the tables, so that several processes may do so at once; readers never wait for a writer (WAL)."""
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        for table in SqlCatalogBaseTable.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
