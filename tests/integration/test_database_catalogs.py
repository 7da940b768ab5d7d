"""Catalogs in PostgreSQL and MariaDB: several that open and write at once, and databases that begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
import sqlalchemy
from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable

import iceblink as ib
from iceblink.errors import CatalogError, TableExists, TableNotFound
from iceblink.lake.catalog import Catalog
from iceblink.rest.server import Server
from integration.rest_client import SCHEMA, Rest

WRITERS, COMMITS = 3, 3


@pytest.fixture(params=["postgres", "mysql"])
def uri(request: pytest.FixtureRequest) -> str:
    """An empty database of a server."""
    server, name = sqlalchemy.make_url(request.getfixturevalue(f"{request.param}_uri")), f"d{uuid4().hex}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def engine(uri: str) -> Iterator[sqlalchemy.Engine]:
    """A way into the same database beside the lake."""
    made = sqlalchemy.create_engine(uri, isolation_level="AUTOCOMMIT")
    yield made
    made.dispose()


def opened(uri: str, folder: Path) -> ib.Lake:
    return ib.connect(uri=uri, warehouse=f"file://{folder}/ware house")


def test_writers_that_open_an_empty_database_at_once_lose_nothing(uri: str, tmp_path: Path) -> None:
    def write(first: int) -> None:
        with opened(uri, tmp_path) as lake:
            lake.create_namespace("n")
            for number in range(first, first + COMMITS):
                try:
                    lake.write("n.t", [{"id": number}], "create")
                except TableExists:
                    lake.write("n.t", [{"id": number}])

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(0, WRITERS * COMMITS, COMMITS)))
    with opened(uri, tmp_path) as lake:
        assert sorted(row["id"] for row in lake.table("n.t").to_pylist()) == list(range(WRITERS * COMMITS))


def test_tables_that_another_process_made_at_the_same_moment_are_taken(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, calls = SqlCatalog.create_tables, list[None]()

    def overtaken(self: SqlCatalog) -> None:
        calls.append(None)
        really(self)
        SqlCatalogBaseTable.metadata.create_all(self.engine, checkfirst=False)  # says what the loser of a race is told

    monkeypatch.setattr(SqlCatalog, "create_tables", overtaken)
    with opened(uri, tmp_path) as lake:
        assert lake.write("n.t", [{"id": 1}], "create").count() == 1
    assert len(calls) == 1


def test_a_database_that_ended_its_connections_is_connected_to_again(
    uri: str, engine: sqlalchemy.Engine, tmp_path: Path
) -> None:
    with opened(uri, tmp_path) as lake:
        lake.write("n.t", [{"id": 1}], "create")
        with engine.connect() as connection:
            if engine.dialect.name == "mysql":
                others = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
                for (number,) in list(connection.execute(sqlalchemy.text(others))):
                    connection.execute(sqlalchemy.text(f"KILL {number}"))
            else:
                end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                where = "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                connection.execute(sqlalchemy.text(end + where))
        lake.write("n.t", [{"id": 2}])
        assert lake.table("n.t").count() == 2


def test_a_rest_catalog_over_a_database_changes_tables_together(uri: str, tmp_path: Path) -> None:
    catalog = Catalog.of(uri=uri, warehouse=f"file://{tmp_path}/ware house")
    with Server(catalog, port=0) as one, Server(catalog, port=0) as two:
        rest, path = Rest(one.url), f"/namespaces/{quote('Ünï 🧊')}"
        for name in ("Ünï 🧊", "ünï 🧊"):
            assert rest.ask("POST", "/namespaces", {"namespace": [name]}).status == 200
        made = {name: rest.ask("POST", f"{path}/tables", {"name": name, "schema": SCHEMA}).body for name in ("T", "t")}

        def change(number: int) -> int:
            changes = [
                {
                    "identifier": {"namespace": ["Ünï 🧊"], "name": name},
                    "requirements": [{"type": "assert-table-uuid", "uuid": made[name]["metadata"]["table-uuid"]}],
                    "updates": [{"action": "set-properties", "updates": {f"k{number}": "1"}}],
                }
                for name in (("T", "t") if number % 2 else ("t", "T"))
            ]
            server = (one, two)[number % 2]
            return Rest(server.url).ask("POST", "/transactions/commit", {"table-changes": changes}).status

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(change, range(8))) == {204}
        with ib.connect(uri=two.url) as lake:
            tables = [lake.session.catalog.load(f"Ünï 🧊.{name}") for name in ("T", "t")]
        assert [dict(table.properties) for table in tables] == [{f"k{number}": "1" for number in range(8)}] * 2
        properties = {"updates": {"A": "1", "a": "2", "ä": "🧊"}}
        assert rest.ask("POST", f"{path}/properties", properties).status == 200
        assert rest.ask("GET", path).body["properties"] == properties["updates"]


@pytest.mark.parametrize("uri", ["mysql"], indirect=True)
def test_a_database_that_knows_no_case_stays_what_it_is(uri: str, engine: sqlalchemy.Engine, tmp_path: Path) -> None:
    opened(uri, tmp_path).close()
    with engine.connect() as connection:
        for table in ("iceberg_tables", "iceberg_namespace_properties"):
            change = f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
            connection.execute(sqlalchemy.text(change))
    with opened(uri, tmp_path) as lake:
        lake.write("n.t", [{"id": 1}], "create")
        for again in ("n.T", "N.t"):
            with pytest.raises((TableExists, TableNotFound, CatalogError)):
                lake.write(again, [{"id": 2}], "create")
        assert lake.table("n.t").count() == 1
