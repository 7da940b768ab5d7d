"""Names that SQL, file systems and Python would read otherwise: columns, tables and namespaces keep them."""

from __future__ import annotations

from typing import Any

import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import CatalogError

NAMES = [
    "a b", 'say "so"', "it's", "a.b", "ünï ☃", "%d", "a/b", "a\\b", "select", "this", "ID2", "-x", "x desc", "a\nb",
    " lead", "trail ", "1", "*", "filename", "file_row_number", "rowid", "a=b", "{x}", "$1", "🙂", "a;b", "--", "a,b",
    "__iceblink_file", "__iceblink_count", "__iceblink_part", "__order", "n",
]  # fmt: skip


def ordered(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_column_may_have_any_name(lake: ib.Lake, name: str, tmp_path: Any) -> None:
    rows: list[dict[str, Any]] = [{"id": 2, name: "x"}, {"id": 1, name: "y"}, {"id": 3, name: None}]
    table = lake.write("n.t", rows, "create", partition_by=['"' + name.replace('"', '""') + '"'])
    quoted = '"' + name.replace('"', '""') + '"'
    assert table.filter(_[name] == "x").to_pylist() == rows[:1]
    assert lake.sql(f"SELECT {quoted} AS z FROM n.t WHERE id = 1").to_pylist() == [{"z": "y"}]
    assert table.select(name).filter(_[name] == "y").to_pylist() == [{name: "y"}]
    assert table.rename(z=name).rename(**{name: "z"}).filter(_.id == 1).to_pylist() == rows[1:2]
    assert table.mutate(**{name: _[name].upper()}).filter(_.id == 1).to_pylist() == [{"id": 1, name: "Y"}]
    assert table.drop(name).count() == 3
    assert [row[name] for row in table.order_by(name).to_pylist()] == ["x", "y", None]
    assert ordered(table.shuffle(seed=3).to_pylist()) == ordered(rows)
    assert table.distinct(name).count() == table.sample(1.0, seed=1).count() == 3
    assert table.group_by(name).agg(many=_.count()).filter(_[name] == "x").to_pylist() == [{name: "x", "many": 1}]
    assert table.join(table.select("id", name).rename(z="id"), on=name).count() == 2
    assert len(table.repartition(2, by=name).write_parquet(str(tmp_path / "out"))) in (1, 2)
    for mode, options in (
        ("overwrite", {"where": _[name] == "x"}),
        ("upsert", {"on": name}),
        ("overwrite", {"partitions": "dynamic"}),
    ):
        written = lake.write("n.t", [{"id": 2, name: "x"}], mode, **options)
        assert ordered(written.to_pylist()) == ordered(rows), mode


@pytest.mark.parametrize("name", ["a b", 'say "so"', "it's", "ünï ☃", "%d", "a\\b", "select", "this", "*", "-x", "🙂"])
def test_a_table_and_a_namespace_may_have_any_name(lake: ib.Lake, name: str) -> None:
    for full in (f"n.{name}", f"{name}.t", f"{name}.{name}.t"):
        lake.write(full, {"id": [1]}, "create")
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in full.split("."))
        assert lake.sql(f"SELECT * FROM {quoted}").to_pylist() == [{"id": 1}]
        assert full in lake.tables()
        assert lake.write(full, {"id": [1, 2]}, "upsert", on="id").count() == 2
        assert lake.table(f"{full}.snapshots").count() == 2
        assert lake.rename(full, f"{full}2").count() == 2
        lake.drop(f"{full}2")
    assert lake.tables() == []


@pytest.mark.parametrize("name", ["n. t", " n.t", "n.t ", "n.a/b", "n.", ".t", "n..t", "t", "n.a\0b", "n." + "x" * 300])
def test_a_name_that_no_folder_can_have_is_refused(lake: ib.Lake, name: str) -> None:
    with pytest.raises(CatalogError):
        lake.write(name, {"id": [1]}, "create")
    assert lake.tables() == []
