"""Changes whose database fails: a certain no leaves nothing, and what may have been made keeps its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.database import Run, SqliteDatabase
from iceblink.lake.listing import Key, Listing
from iceblink.lake.served.catalog import ServedCatalog
from iceblink.lake.served.refusal import Refusal

SCHEMA = {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": True}]}
CHANGE = {"updates": [{"action": "set-properties", "updates": {"a": "1"}}]}
TABLE = Key("n", "t")


@pytest.fixture
def served(tmp_path: Path) -> ServedCatalog:
    served = ServedCatalog(Catalog.embedded(tmp_path))
    served.create_namespace({"namespace": ["n"]})
    served.tables.create(("n",), {"name": "t", "schema": SCHEMA})
    return served


def failing(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Let the database fail before a transaction, or after it has landed."""
    really = SqliteDatabase.change

    @contextmanager
    def change(self: SqliteDatabase) -> Iterator[Run]:
        if moment == "before":
            raise sqlite3.OperationalError("disk I/O error")
        with really(self) as run:
            yield run
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(SqliteDatabase, "change", change)


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*.metadata.json"))


def test_a_database_that_never_began_changed_nothing(
    served: ServedCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, there = served.tables.load(TABLE), files(tmp_path)
    with monkeypatch.context() as patched:
        failing(patched, "before")
        with pytest.raises(Refusal) as caught:
            served.tables.commit(TABLE, CHANGE)
        with pytest.raises(Refusal):
            served.tables.create(("n",), {"name": "u", "schema": SCHEMA})
    assert (caught.value.status, caught.value.kind) == (503, "ServiceUnavailableException")
    assert served.tables.load(TABLE) == before
    assert files(tmp_path) == there
    assert not (tmp_path / "n" / "u").exists()


def test_a_database_that_does_not_say_whether_it_did_leaves_the_files(
    served: ServedCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "after")
        with pytest.raises(Refusal) as caught:
            served.tables.commit(TABLE, CHANGE)
    assert (caught.value.status, caught.value.kind) == (500, "CommitStateUnknownException")
    assert served.tables.load(TABLE)["metadata"]["properties"] == {"a": "1"}


def test_a_table_whose_making_is_unknown_keeps_its_folder(
    served: ServedCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "after")
        with pytest.raises(Refusal):
            served.tables.create(("n",), {"name": "u", "schema": SCHEMA})
    assert served.tables.load(Key("n", "u"))["metadata"]["properties"] == {}
    assert files(tmp_path / "n" / "u")  # on disk, not only remembered


def test_ctrl_c_when_a_table_is_listed_leaves_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = Listing.swap

    def interrupted(self: Listing, *given: Any) -> None:
        really(self, *given)
        raise KeyboardInterrupt

    catalog = Catalog.embedded(tmp_path)
    served = ServedCatalog(catalog)
    served.create_namespace({"namespace": ["n"]})
    staged = catalog.stage("n.staged", {"id": "long"})
    with monkeypatch.context() as patched:
        patched.setattr(Listing, "swap", interrupted)
        with pytest.raises(KeyboardInterrupt):
            served.tables.create(("n",), {"name": "u", "schema": SCHEMA})
        with pytest.raises(KeyboardInterrupt):
            catalog.create("n.v", {"id": "long"})
        with pytest.raises(KeyboardInterrupt):
            Commit(staged).append([]).run()
        catalog.unstage(staged)
    assert all(catalog.load(f"n.{name}").schema.names == ["id"] for name in ("u", "v", "staged"))
    unlisted = catalog.stage("n.w", {"id": "long"})
    catalog.unstage(unlisted)
    assert not Path(unlisted.location).exists()


def test_a_lake_that_can_only_be_read_is_only_read(served: ServedCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog: Any = served._store.files._catalog
    monkeypatch.setattr(catalog.database, "_read_only", True)
    for change in (lambda: served.tables.commit(TABLE, CHANGE), lambda: served.tables.drop(TABLE, purge=True)):
        with pytest.raises(Refusal) as caught:
            change()
        assert caught.value.status == 403


def test_a_table_of_format_version_one_stays_one(served: ServedCatalog) -> None:
    served.tables.create(("n",), {"name": "old", "schema": SCHEMA, "properties": {"format-version": "1"}})
    wider = {"type": "struct", "fields": [*SCHEMA["fields"], {"id": 2, "name": "b", "type": "int", "required": False}]}
    updates = [{"action": "add-schema", "schema": wider}, {"action": "set-current-schema", "schema-id": -1}]
    after = served.tables.commit(Key("n", "old"), {"updates": updates})["metadata"]
    assert (after["format-version"], after["current-schema-id"]) == (1, 1)
    assert [field["name"] for field in after["schema"]["fields"]] == ["id", "b"]
