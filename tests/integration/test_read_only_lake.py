"""A lake that this user may not write: its tables are read, and every change is refused before anything changes."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import iceblink as ib
from iceblink.errors import CatalogError, WriteError

NOBODY = 65534


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write in `folder` away; the superuser, who may do all, is somebody else inside the block."""
    places = [folder, *folder.rglob("*")]
    superuser = os.geteuid() == 0
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    if superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        for place in places:
            if place.exists():
                place.chmod(0o755 if place.is_dir() else 0o644)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A lake with one table where every user may look, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        with ib.connect(Path(place, "la ke#?ü")) as lake:
            lake.write("d.t", {"x": [1, 2, 3]}, "create")
            lake.sql("SELECT x FROM d.t").to_arrow()  # so that all is imported: others may not read our modules
        yield Path(place, "la ke#?ü")


def test_a_lake_that_cannot_be_written_is_read(folder: Path) -> None:
    with read_only(folder), ib.connect(folder) as lake:
        assert lake.tables() == ["d.t"]
        assert lake.table("d.t").to_pylist() == [{"x": 1}, {"x": 2}, {"x": 3}]
        assert lake.sql("SELECT sum(x) AS s FROM d.t").to_pylist() == [{"s": 6}]
    assert sorted(place.name for place in folder.iterdir()) == ["catalog.db", "d"]


def test_what_somebody_who_may_write_just_wrote_is_seen(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "catalog.db")) as other:
        other.execute("SELECT * FROM iceberg_tables").fetchall()  # as long as it is open, the log stays
        with ib.connect(folder) as lake:
            lake.write("d.new", {"x": [4]}, "create")
        with read_only(folder), ib.connect(folder) as lake:
            assert lake.table("d.new").to_pylist() == [{"x": 4}]


CHANGES: dict[str, Callable[[ib.Lake], object]] = {
    "append": lambda lake: lake.write("d.t", {"x": [4]}),
    "overwrite": lambda lake: lake.write("d.t", {"x": [4]}, "overwrite"),
    "replace": lambda lake: lake.write("d.t", {"x": [4]}, "replace"),
    "create": lambda lake: lake.write("d.new", {"x": [4]}, "create"),
    "create in a new namespace": lambda lake: lake.create("e.new", {"x": "long"}),
    "rename": lambda lake: lake.rename("d.t", "d.u"),
    "drop": lambda lake: lake.drop("d.t"),
    "alter": lambda lake: lake.alter("d.t", add={"y": "int"}),
    "tag": lambda lake: lake.tag("d.t", "v1"),
    "truncate": lambda lake: lake.truncate("d.t"),
    "a statement": lambda lake: lake.sql("ALTER TABLE d.t SET TBLPROPERTIES ('a' = 'b')"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_refused_and_changes_nothing(folder: Path, change: str) -> None:
    before = sorted(folder.rglob("*"))
    with read_only(folder), ib.connect(folder) as lake, pytest.raises((CatalogError, WriteError)):
        CHANGES[change](lake)
    assert sorted(folder.rglob("*")) == before
    with ib.connect(folder) as lake:
        assert lake.table("d.t").count() == 3
