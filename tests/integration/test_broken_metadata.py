"""Damaged catalogs and metadata: every action names the file that is wrong, or does not need it."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import iceblink as ib
from iceblink.errors import CatalogError, DataCorrupt
from iceblink.lake import catalog, manifest_files


def statement(text: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        connection = sqlite3.connect(folder / "catalog.db")
        connection.execute(text)
        connection.commit()
        connection.close()

    return run


def content(pattern: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        for path in folder.rglob(pattern):
            path.write_bytes(change(path.read_bytes()))

    return run


def becomes_a_folder(pattern: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        for path in list(folder.rglob(pattern)):
            path.unlink()
            path.mkdir()

    return run


def removed(pattern: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        for path in list(folder.rglob(pattern)):
            path.unlink()

    return run


def current_snapshot(text: bytes) -> bytes:
    return re.sub(rb'"current-snapshot-id":\d+', b'"current-snapshot-id":77', text)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a catalog that is none": content("catalog.db", lambda _: b"garbage" * 999),
    "a catalog cut short": content("catalog.db", lambda whole: whole[:5000]),
    "a catalog that is a folder": becomes_a_folder("catalog.db"),
    "a catalog of other tables": statement("ALTER TABLE iceberg_tables RENAME COLUMN table_name TO title"),
    "a catalog without the location": statement("UPDATE iceberg_tables SET metadata_location = NULL"),
    "a catalog with a wrong location": statement("UPDATE iceberg_tables SET metadata_location = 'nonsense'"),
    "metadata that is empty": content("*.metadata.json", lambda _: b""),
    "metadata cut short": content("*.metadata.json", lambda whole: whole[:500]),
    "metadata that says nothing": content("*.metadata.json", lambda _: b"{}"),
    "metadata that is no text": content("*.metadata.json", lambda _: b"\xff\xfe\x00" * 100),
    "metadata that is a folder": becomes_a_folder("*.metadata.json"),
    "metadata of a type that is none": content("*.metadata.json", lambda whole: whole.replace(b'"long"', b'"lung"')),
    "metadata of a snapshot that is none": content("*.metadata.json", current_snapshot),
    "a manifest list that is empty": content("snap-*.avro", lambda _: b""),
    "a manifest list that is none": content("snap-*.avro", lambda whole: b"x" * len(whole)),
    "a manifest list that is gone": removed("snap-*.avro"),
    "a manifest that is none": content("*-m0.avro", lambda whole: b"x" * len(whole)),
    "a table that is gone": lambda folder: shutil.rmtree(folder / "n"),
}

ACTIONS: dict[str, Callable[[ib.Lake], object]] = {
    "a look": lambda lake: lake.tables(),
    "a read": lambda lake: lake.table("n.t").to_arrow(),
    "a query": lambda lake: lake.sql("SELECT max(id) FROM n.t").to_arrow(),
    "an append": lambda lake: lake.write("n.t", {"id": [1]}),
    "an upsert": lambda lake: lake.write("n.t", {"id": [1]}, "upsert", on="id"),
    "an overwrite": lambda lake: lake.write("n.t", {"id": [1]}, "overwrite"),
    "a replace": lambda lake: lake.write("n.t", {"id": [1]}, "replace"),
    "a history": lambda lake: lake.history("n.t").to_arrow(),
    "files": lambda lake: lake.table("n.t.files").to_arrow(),
    "a rename": lambda lake: lake.rename("n.t", "n.other"),
    "a drop": lambda lake: lake.drop("n.t"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_action_names_the_damage_or_does_not_need_what_is_damaged(tmp_path: Path, damage: str) -> None:
    whole = tmp_path / "whole"
    with ib.connect(whole) as lake:
        lake.write("n.t", {"id": [1, 2]}, "create")
        lake.write("n.t", {"id": [3]})
    kept = tmp_path / "kept"
    shutil.move(whole, kept)
    told: dict[str, str] = {}
    for name, action in ACTIONS.items():
        shutil.rmtree(whole, ignore_errors=True)
        shutil.copytree(kept, whole)  # in the same place: metadata has whole paths
        manifest_files.forget()
        catalog._metadata.clear()
        DAMAGE[damage](whole)
        try:
            with ib.connect(whole) as lake:
                action(lake)
        except (DataCorrupt, CatalogError) as error:
            told[name] = str(error)
    assert "a read" in told or "files" in told
    assert {name: said for name, said in told.items() if not re.search(r"\.db|\.json|\.avro", said)} == {}
