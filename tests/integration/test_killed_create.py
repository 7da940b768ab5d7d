"""A table made with rows, killed on the way: it is whole or it is not there, and the next attempt makes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException

import iceblink as ib
from iceblink.errors import TableExists

KILLED = """
import os, signal, sys
import iceblink as ib
from iceblink.events import observing

folder, step = sys.argv[1:]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
lake = ib.connect(folder)
catalog = lake.session.catalog.pyiceberg
really_commit, really_write = catalog.commit_table, catalog._write_metadata
if step == "before the catalog":
    catalog.commit_table = die
if step == "inside the catalog":
    catalog._write_metadata = lambda *given, **named: (really_write(*given, **named), die())
if step == "after the catalog":
    catalog.commit_table = lambda *given, **named: (really_commit(*given, **named), die())
with observing(die if step == "with files closed" else lambda _: None):
    lake.write("n.t", {"id": [1, 2, 3]}, "create", sort_by=["id"])
print("survived")
"""


@pytest.mark.parametrize(
    ("step", "lands"),
    [
        ("with files closed", False),
        ("before the catalog", False),
        ("inside the catalog", False),
        ("after the catalog", True),
    ],
)
def test_a_killed_create_makes_the_table_whole_or_not_at_all(tmp_path: Path, step: str, lands: bool) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), step], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with ib.connect(tmp_path) as lake:
        assert lake.tables() == (["n.t"] if lands else [])
        if lands:
            with pytest.raises(TableExists):
                lake.write("n.t", {"id": [4]}, "create")
        else:
            lake.write("n.t", {"id": [1, 2, 3]}, "create", sort_by=["id"])
        assert lake.table("n.t").to_pylist() == [{"id": 1}, {"id": 2}, {"id": 3}]
        assert lake.history("n.t").count() == 1


def test_a_create_that_fails_leaves_nothing(lake: ib.Lake, tmp_path: Path) -> None:
    def fail(batch: object) -> object:
        raise ValueError("no")

    with pytest.raises(ib.IceblinkError):
        lake.write("n.t", lake.from_arrow([{"id": 1}]).map_batches(fail, schema={"id": "long"}), "create")
    assert lake.tables() == []
    assert not [path for path in tmp_path.rglob("*") if path.name == "t"]


def test_the_second_of_two_who_create_one_table_is_told_and_the_first_keeps_its_rows(
    lake: ib.Lake, tmp_path: Path
) -> None:
    def overtaken(batch: object) -> object:
        with ib.connect(tmp_path / "my lake ü") as other:
            other.write("n.t", {"id": [7]}, "create")
        return batch

    slow = lake.from_arrow([{"id": 1}]).map_batches(overtaken, schema={"id": "long"})
    with pytest.raises(TableExists, match="meanwhile"):
        lake.write("n.t", slow, "create")
    assert lake.table("n.t").to_pylist() == [{"id": 7}]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


@pytest.mark.parametrize("answer", [None, CommitFailedException("409, as some catalogs say of any name that is taken")])
def test_a_view_that_took_the_name_meanwhile_is_told_at_once(
    lake: ib.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception | None
) -> None:
    catalog = lake.session.catalog.pyiceberg
    really, tries = catalog.commit_table, [0]

    def commit_table(*given: Any) -> Any:
        tries[0] += 1
        if answer is not None:
            raise answer
        return really(*given)

    def overtaken(batch: object) -> object:
        with ib.connect(tmp_path / "my lake ü") as other:
            other.sql("CREATE VIEW n.t AS SELECT 7 AS id")
        return batch

    lake.write("n.other", {"id": [1]}, "create")
    monkeypatch.setattr(catalog, "commit_table", commit_table)
    slow = lake.from_arrow([{"id": 1}]).map_batches(overtaken, schema={"id": "long"})
    with pytest.raises(TableExists, match="is taken"):
        lake.write("n.t", slow, "create")
    assert tries == [1]
    assert lake.sql("SELECT id FROM n.t").to_pylist() == [{"id": 7}]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_tables_of_nested_namespaces_are_not_inside_one_another(lake: ib.Lake) -> None:
    lake.write("a.b", {"id": [1]}, "create")
    lake.write("a.b.c", {"id": [2]}, "create")
    lake.drop("a.b")
    assert lake.table("a.b.c").to_pylist() == [{"id": 2}]
