"""Row lineage: a row keeps its id and the number of its last change wherever it is written, and queries see both."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import iceblink as ib
from contract.row_lineage import check_lineage_of_changes
from contract.staged import divide_everything, staged_engine
from iceblink import _
from iceblink.errors import ColumnNotFound, DuplicateColumn, PlanError
from iceblink.lake.row_lineage import NAMES, ROW_ID, UPDATED, Traced
from iceblink.lake.table import Table

THIRD = {"format-version": "3"}


def loaded(lake: ib.Lake, name: str = "n.t") -> Table:
    return lake.session.catalog.load(name)


def traced(lake: ib.Lake, name: str = "n.t") -> list[tuple[Any, ...]]:
    """Return the ids of rows, what else they have, and the number of the commit that changed each of them last."""
    rows = lake.table(name, row_lineage=True).to_pylist()
    return sorted(((row.pop(ROW_ID), *row.values()) for row in rows), key=repr)


def stored(lake: ib.Lake, name: str = "n.t") -> list[pa.Table]:
    """Return the data files of a table as they are."""
    return [pq.ParquetFile(entry.path).read() for entry in loaded(lake, name).files()]


def test_files_store_what_rows_had_and_nulls_for_what_the_commit_gives(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1, 2, 3]}, "create", properties=THIRD)
    assert traced(lake) == [(0, 1, 1), (1, 2, 1), (2, 3, 1)]
    lake.sql("""
        MERGE INTO n.t AS t USING (SELECT unnest([2, 3, 4]) AS id) AS s ON t.id = s.id
        WHEN MATCHED AND t.id = 3 THEN DELETE
        WHEN MATCHED THEN UPDATE SET id = 20
        WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)
    """)
    (file,) = stored(lake)
    assert sorted(zip(*(file[name].to_pylist() for name in ("id", *NAMES)), strict=True)) == [
        (1, 0, 1), (4, None, None), (20, 1, None)
    ]  # fmt: skip
    ids = {field.name: field.metadata[b"PARQUET:field_id"] for field in file.schema}
    assert ids == {"id": b"1", ROW_ID: b"2147483540", UPDATED: b"2147483539"}
    (place,) = [place for place, row in enumerate(file["id"].to_pylist()) if row == 4]
    assert traced(lake) == [(0, 1, 1), (1, 20, 2), (3 + place, 4, 2)]
    (entry,) = loaded(lake).files()
    assert entry.lineage == (3, 2)
    scanned = loaded(lake).pyiceberg.scan().to_arrow()  # others see no columns that are not the table's
    assert scanned.column_names == ["id"]


@pytest.mark.parametrize("options", [{"sort_by": ["-id"]}, {"zorder": ["id", "x"]}], ids=["sorted", "zorder"])
def test_compactions_change_no_lineage(lake: ib.Lake, options: dict[str, Any]) -> None:
    lake.create("n.t", {"id": "long", "x": "double"}, properties=THIRD | {"write.delete.mode": "merge-on-read"})
    for start in range(0, 30, 10):
        lake.write("n.t", {"id": list(range(start, start + 10)), "x": [0.5] * 10})
    lake.delete("n.t", _.id % 4 == 0)
    before = traced(lake)
    assert [(row[0], row[3]) for row in before] == sorted(
        ((number, number // 10 + 1) for number in range(30) if number % 4), key=repr
    )
    lake.compact("n.t", rewrite_all=True, **options)
    assert len(stored(lake)) == 1
    assert traced(lake) == before
    lake.delete("n.t", _.id < 5)
    lake.compact("n.t", rewrite_all=True)
    assert traced(lake) == [row for row in before if row[1] >= 5]


@pytest.mark.parametrize("version", ["1", "2"])
def test_rows_of_before_an_upgrade_get_lineage_by_the_first_commit(lake: ib.Lake, version: str) -> None:
    lake.write("n.t", {"id": [1, 2]}, "create", properties={"format-version": version})
    with pytest.raises(PlanError, match="have no ids"):
        lake.table("n.t", row_lineage=True)
    assert lake.table("n.t").to_pylist() == [{"id": 1}, {"id": 2}]  # what is read is remembered
    lake.alter("n.t", properties=THIRD)
    assert lake.table("n.t", row_lineage=True).to_pylist() == [{"id": id, ROW_ID: None, UPDATED: None} for id in (1, 2)]
    lake.branch("n.t", "other")
    lake.write("n.t", {"id": [3]})
    found = lake.table("n.t", row_lineage=True).order_by("id").to_pylist()
    assert sorted(row[ROW_ID] for row in found) == [0, 1, 2]
    assert all(row[UPDATED] is not None for row in found)
    lake.update("n.t", {"id": 10}, _.id == 1, branch="other")  # where they have none yet, all are new
    moved = lake.table("n.t", branch="other", row_lineage=True).to_pylist()
    assert len({row[ROW_ID] for row in moved} | {row[ROW_ID] for row in found}) == 5


def test_sql_has_the_columns_where_it_names_them(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [7, 8]}, "create", properties=THIRD)
    lake.write("n.t", {"id": [9]})
    lake.write("n.u", {"id": [7, 8, 9], ROW_ID: [70, 80, 90]}, "create", properties=THIRD)  # a column of its own

    def ask(text: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in lake.sql(text).to_pylist()]

    assert ask("SELECT * FROM n.t ORDER BY id") == [(7,), (8,), (9,)]
    assert ask("SELECT _row_id, * FROM n.t ORDER BY id") == [(0, 7), (1, 8), (2, 9)]
    assert ask("SELECT t.*, t._Row_ID AS r FROM n.t AS t WHERE _row_id = 1") == [(8, 1)]
    assert ask("SELECT n.t._last_updated_sequence_number AS s FROM n.t WHERE n.t._row_id > 1") == [(2,)]
    assert ask("SELECT id FROM n.t WHERE _row_id IN (SELECT _row_id - 70 FROM n.u)") == [(7,)]
    assert ask("SELECT * FROM n.u WHERE id = 8") == [(8, 80)]
    assert ask("SELECT a.id, b._row_id FROM n.t a JOIN n.t b ON a.id = b.id + 1 ORDER BY 1") == [(8, 0), (9, 1)]
    assert ask("SELECT * FROM (SELECT id, _row_id FROM n.t) WHERE _row_id = 2") == [(9, 2)]
    assert ask("WITH w AS (SELECT *, _row_id AS r FROM n.t) SELECT max(r), count(*) FROM w") == [(2, 3)]
    assert ask("SELECT count(*) FROM n.t WHERE _last_updated_sequence_number = 1") == [(2,)]
    found = lake.table("n.t").sql("SELECT * FROM this WHERE _row_id = 2").to_pylist()
    assert found == [{"id": 9}]
    lake.sql("CREATE VIEW n.v AS SELECT id, _row_id AS r FROM n.t")
    assert ask("SELECT r FROM n.v WHERE id = 9") == [(2,)]
    lake.write("n.second", {"id": [1]}, "create")
    with pytest.raises(ColumnNotFound):
        lake.sql("SELECT _row_id FROM n.second")
    with pytest.raises(DuplicateColumn, match="of its own"):
        lake.table("n.u", row_lineage=True)
    for name in ("n.t.files", "n.v"):
        with pytest.raises(PlanError, match="have no ids"):
            lake.table(name, row_lineage=True)
    other = pickle.loads(pickle.dumps(Traced.of(loaded(lake))))
    assert (other.schema, other.version) == (Traced.of(loaded(lake)).schema, Traced.of(loaded(lake)).version)


def test_a_filter_on_lineage_prunes_no_file_by_what_it_stores(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": list(range(10))}, "create", properties=THIRD)
    lake.sql("MERGE INTO n.t USING (SELECT unnest([3, 60]) AS id) s ON n.t.id = s.id WHEN MATCHED THEN UPDATE SET id = "
             "30 WHEN NOT MATCHED THEN INSERT *")  # fmt: skip
    rows = {row[0]: row[1] for row in traced(lake)}
    assert len(rows) == 11
    for row_id in (3, max(rows)):  # of a row whose id is stored, and of one that has it by its place
        (found,) = lake.sql(f"SELECT id, _row_id FROM n.t WHERE _row_id = {row_id}").to_pylist()
        assert found == {"id": rows[row_id], ROW_ID: row_id}


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_updates_are_told_by_the_ids_of_rows(lake: ib.Lake, mode: str) -> None:
    properties = THIRD | {f"write.{verb}.mode": mode for verb in ("update", "delete", "merge")}
    lake.write("n.t", {"id": [1, 1, 2, 3]}, "create", properties=properties)
    start = loaded(lake).snapshot_id
    lake.update("n.t", {"id": 20}, _.id == 2)
    lake.compact("n.t", rewrite_all=True)
    lake.delete("n.t", _.id == 3)
    changes = lake.changes("n.t", after=start, keys="_row_id")
    told = Counter((row["id"], row["_change_type"], row[ROW_ID], row[UPDATED]) for row in changes.to_pylist())
    assert told == Counter([(2, "update_before", 2, 1), (20, "update_after", 2, 2), (3, "delete", 3, 1)])
    with pytest.raises(ColumnNotFound):
        lake.changes("n.t", after=start).sql("SELECT _row_id FROM this")
    steps = lake.follow("n.t", after=start, changes=True, keys="_row_id", poll=None)
    assert sorted(row["_change_type"] for row in next(steps).rows.to_pylist()) == ["update_after", "update_before"]
    lake.write("n.second", {"id": [1]}, "create")
    with pytest.raises(PlanError, match="have no ids"):
        lake.changes("n.second", keys="_row_id")


def test_a_table_that_has_such_columns_itself_keeps_lineage(lake: ib.Lake) -> None:
    lake.write("n.t", {ROW_ID: [1, 2, 3], UPDATED: ["a", None, "ü"]}, "create", properties=THIRD)
    lake.update("n.t", {UPDATED: "'b'"}, f"{ROW_ID} = 2")
    lake.compact("n.t", rewrite_all=True)
    assert lake.table("n.t").order_by(ROW_ID).to_pylist() == [
        {ROW_ID: 1, UPDATED: "a"}, {ROW_ID: 2, UPDATED: "b"}, {ROW_ID: 3, UPDATED: "ü"}
    ]  # fmt: skip
    lake.alter("n.t", rename={ROW_ID: "own", UPDATED: "text"})
    assert traced(lake) == [(0, 1, "a", 1), (1, 2, "b", 2), (2, 3, "ü", 1)]


def test_rows_of_all_kinds_and_none_keep_lineage(lake: ib.Lake) -> None:
    lake.create("n.t", {"a ü": "string", "v": "tensor<float>[2]"}, partition_by=["a ü"], properties=THIRD)
    lake.update("n.t", {"a ü": "'x'"})  # of no rows
    assert traced(lake) == []
    rows = pa.table(
        {
            "a ü": pa.array([None] * 3, pa.string()),
            "v": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32())),
        }
    )
    lake.write("n.t", rows)
    before = traced(lake)
    lake.compact("n.t", rewrite_all=True)
    lake.update("n.t", {"a ü": "'x'"})  # to another partition
    assert [row[0] for row in traced(lake)] == [row[0] for row in before] == [0, 1, 2]
    assert {(row[1], row[3]) for row in traced(lake)} == {("x", 3)}


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ib.Lake]:
    divide_everything(monkeypatch, 1)
    with ib.connect(tmp_path / "lake", engine=staged_engine()) as opened:
        yield opened


def test_the_engine_of_stages_keeps_lineage(staged: ib.Lake) -> None:
    check_lineage_of_changes(staged, on_read=False)
