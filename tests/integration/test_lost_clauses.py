"""Nothing of a statement is left out: every clause is carried out, or the statement is refused and changes nothing."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import iceblink as ib
from contract.staged import staged_engine
from iceblink import _
from iceblink.errors import ColumnNotFound, PlanError, SchemaMismatch, SqlError

ON_READ = {f"write.{verb}.mode": "merge-on-read" for verb in ("delete", "update", "merge")}
WITH = "WITH c AS (FROM n.s)"


@pytest.fixture
def shop(lake: ib.Lake) -> ib.Lake:
    lake.write("n.t", {"id": [1, 2, 3, 4], "x": [0, 0, 0, 0]}, "create")
    lake.write("n.s", {"id": [1, 2, 3, 4, 9], "k": ["a", "b", "a", "b", "a"], "v": [1, 2, 3, 4, 9]}, "create")
    return lake


def ids(dataset: ib.Dataset) -> list[int]:
    return [row["id"] for row in dataset.to_pylist()]


@pytest.mark.parametrize("engine", ["local", "staged"])
def test_clauses_behind_brackets_are_carried_out(shop: ib.Lake, engine: str) -> None:
    if engine == "staged":
        shop = ib.connect(shop.session.catalog.folder, engine=staged_engine())
    for query, expected in (
        ("(SELECT id FROM n.t) ORDER BY id DESC LIMIT 2", [4, 3]),
        ("((SELECT id FROM n.t ORDER BY id) LIMIT 3) OFFSET 1", [2, 3]),
        ("SELECT id FROM ((SELECT id FROM n.t ORDER BY id) LIMIT 1) AS x WHERE id = 4", []),
        ("WITH c AS (SELECT 2 AS least) (SELECT id FROM n.t, c WHERE id > least) ORDER BY id LIMIT 1", [3]),
        ("((SELECT id FROM n.t ORDER BY id) LIMIT 1) UNION ALL SELECT 9 AS id ORDER BY id", [1, 9]),
        ("SELECT id FROM n.t WHERE id IN ((SELECT id FROM n.s ORDER BY id) LIMIT 2) ORDER BY id", [1, 2]),
        ("SELECT col0 AS id FROM (VALUES (2), (1)) ORDER BY 1 LIMIT 1", [1]),
    ):
        assert ids(shop.sql(query)) == expected, query
    assert shop.sql("VALUES (2), (1) ORDER BY 1 LIMIT 1").to_pylist() == [{"col0": 1}]


REFUSED = [
    "DELETE FROM n.t TABLESAMPLE (10 PERCENT)",
    "DELETE FROM n.t AT (VERSION => 3)",
    "DELETE FROM ONLY n.t",
    "DELETE FROM n.t AS me (x, id) WHERE id = 0",
    "DELETE FROM n.t USING n.s, n.t WHERE t.id = s.id",
    "DELETE FROM n.t USING n.s WITH (NOLOCK) WHERE t.id = s.id",
    "DELETE FROM n.t WHERE id = (SELECT id FROM n.s ORDER BY id FETCH FIRST 1 ROWS WITH TIES)",
    "UPDATE n.t TABLESAMPLE 10% SET x = 1",
    "UPDATE n.t SET x = 1 FROM n.s AT (VERSION => 3) WHERE t.id = s.id",
    "MERGE INTO n.t USING n.t ON true WHEN MATCHED THEN DELETE",
    "MERGE INTO n.t USING n.s WHEN MATCHED THEN DELETE",
    "MERGE INTO n.t USING n.s USING (id) WHEN MATCHED THEN DELETE",
    *(
        f"MERGE INTO n.t USING n.s ON t.id = s.id WHEN {then}"
        for then in (
            "MATCHED THEN UPDATE SET x = 1 WHERE s.v > 3",
            "MATCHED THEN UPDATE SET * EXCLUDE (x)",
            "MATCHED THEN UPDATE SET *, x = 3",
            "MATCHED THEN UPDATE",
            "NOT MATCHED THEN INSERT (id) VALUES (s.id) WHERE s.v > 10",
            "NOT MATCHED THEN INSERT * EXCLUDE (x)",
            "NOT MATCHED THEN INSERT (s.id) VALUES (s.id)",
            "NOT MATCHED THEN INSERT (id AS x) VALUES (s.id)",
        )
    ),
]


@pytest.mark.parametrize("statement", REFUSED)
def test_what_is_not_carried_out_is_refused(shop: ib.Lake, statement: str) -> None:
    with pytest.raises(SqlError):
        shop.sql(statement)
    assert len(shop.history("n.t").to_pylist()) == 1


def test_clauses_of_what_stands_beside_a_table_are_carried_out(shop: ib.Lake) -> None:
    one = "TABLESAMPLE reservoir(1 ROWS)"
    for begin, source in (("", "n.s"), (WITH, "c"), ("", "(FROM n.s)")):
        done = shop.sql(
            f"{begin} UPDATE n.t SET x = x + 1 FROM {source} AS s {one}, n.s AS o "
            "WHERE t.id = s.id % 4 + 1 AND o.id = 9"
        )
        assert done.to_pylist()[0]["rows_updated"] == 1, source
    assert sum(row["x"] for row in shop.table("n.t").to_pylist()) == 3
    done = shop.sql(
        f"MERGE INTO n.t USING n.s AS s {one} ON false WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id + 10)"
    )
    assert done.to_pylist()[0]["rows_inserted"] == 1
    for begin, source in (("", "n.s"), (WITH, "c")):
        pivot = f"{source} PIVOT (sum(v) FOR k IN ('a', 'b')) AS p"
        shop.sql(f"{begin} UPDATE n.t SET x = p.b FROM {pivot} WHERE t.id = p.id")
        rows = shop.table("n.t").filter(_.id < 5).order_by("id").to_pylist()
        assert [row["x"] for row in rows] == [None, 2, None, 4]
        shop.sql("UPDATE n.t SET x = 0")


AT = dt.datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("type_", "old", "new"),
    [
        ("float", 1.5, 16_777_217),
        ("double", 1.5, 2**53 + 1),
        ("string", "a", 7),
        ("timestamptz", AT.replace(tzinfo=dt.UTC), AT),
        ("int", 1, 2**31),
    ],
)
def test_rows_that_come_in_are_held_to_the_types_as_an_append_is(lake: ib.Lake, type_: str, old: Any, new: Any) -> None:
    lake.create("n.t", {"id": "long", "v": type_})
    lake.write("n.t", pa.table({"id": [1, 2], "v": pa.array([old, old], lake.table("n.t").schema.field("v").type)}))
    before = lake.table("n.t").to_pylist()
    rows = pa.table({"id": [1], "v": [new]})
    for how in ({"mode": "append"}, {"mode": "upsert", "on": "id"}, {"mode": "overwrite", "where": _.id == 1}):
        with pytest.raises(SchemaMismatch):
            lake.write("n.t", rows, **how)
    assert lake.table("n.t").to_pylist() == before
    folder = Path(lake.session.catalog.load("n.t").location.removeprefix("file://"))
    assert len(list(folder.rglob("*.parquet"))) == 1


def test_rows_of_other_types_come_in_beside_those_that_stay(lake: ib.Lake) -> None:
    lake.create("n.t", {"id": "long", "at": "timestamp_ns"}, properties={"format-version": "3"})
    old = pa.table({"id": [1, 2], "at": pa.array([1_001, 2_002], pa.timestamp("ns"))})
    lake.write("n.t", old)
    lake.write(
        "n.t",
        pa.table({"id": pa.array([2, 3], pa.int8()), "at": pa.array([5, 6], pa.timestamp("us"))}),
        "upsert",
        on="id",
    )
    found = lake.table("n.t").order_by("id").to_arrow()["at"]
    assert found.cast(pa.int64()).to_pylist() == [1_001, 5_000, 6_000]


def test_a_view_that_reads_from_a_catalog_which_is_not_connected_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with ib.connect(first, catalogs={"far ü": second, "near": first}) as lake:
        for name, rows in (("n.t", [1]), ("far ü.n.t", [2])):
            lake.write(name, {"id": rows}, "create")
        lake.sql('USE "far ü".n')
        lake.sql("CREATE VIEW near.n.v AS FROM t")
        assert ids(lake.table("near.n.v")) == [2]
    with ib.connect(first) as lake, pytest.raises(PlanError, match="far ü"):
        lake.table("n.v")


def test_a_view_keeps_nanoseconds(lake: ib.Lake) -> None:
    lake.create("n.t", {"at": "timestamp_ns"}, properties={"format-version": "3"})
    lake.sql("CREATE VIEW n.v AS FROM n.t")
    lake.sql("CREATE OR REPLACE VIEW n.v AS FROM n.t")
    (row,) = lake.sql("DESCRIBE n.v").to_pylist()
    assert row["type"] == lake.sql("DESCRIBE n.t").to_pylist()[0]["type"]


def test_a_name_with_a_dot_has_a_default(lake: ib.Lake) -> None:
    lake.create("n.t", {"id": "long", "a.b": "int", "s.t": "struct<u: int>"}, properties={"format-version": "3"})
    lake.sql('ALTER TABLE n.t ALTER COLUMN "a.b" SET DEFAULT 5')
    lake.sql("INSERT INTO n.t (id) VALUES (1)")
    assert lake.table("n.t").select("id", "a.b").to_pylist() == [{"id": 1, "a.b": 5}]
    with pytest.raises(ColumnNotFound):
        lake.sql('ALTER TABLE n.t ALTER COLUMN "a.c" SET DEFAULT 5')


@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE TABLE n.t", "INSERT OVERWRITE n.t VALUES (7)", "CREATE OR REPLACE TABLE n.t AS SELECT 7::BIGINT AS id"],
)
@pytest.mark.parametrize("damaged", ["gone", "cut"])
def test_what_replaces_damaged_files_repairs_the_table(lake: ib.Lake, statement: str, damaged: str) -> None:
    lake.write("n.t", {"id": [1, 2, 3]}, "create", properties=ON_READ)
    lake.delete("n.t", _.id == 2)
    (deletes,) = lake.table("n.t.delete_files").to_pylist()
    path = Path(deletes["file_path"].removeprefix("file://"))
    path.unlink() if damaged == "gone" else path.write_bytes(path.read_bytes()[:40])
    (done,) = lake.sql(statement).to_pylist()
    assert (done["rows_deleted"], done["rows_inserted"]) == (None, None)
    assert Counter(ids(lake.table("n.t"))) == Counter([] if "TRUNCATE" in statement else [7])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE n.u (id INT) TBLPROPERTIES ('a' = '1', 'a' = '2')",
        "CREATE TABLE n.u (id INT) PARTITIONED BY (id) PARTITIONED BY (bucket(2, id))",
        "CREATE TABLE n.u PARTITIONED BY (id) WITH (partitioning = ARRAY['bucket(id, 2)']) AS SELECT 1 AS id",
        "CREATE TABLE n.u (id INT) WITH (sorted_by = ARRAY['id'], sorted_by = ARRAY['id DESC'])",
        "ALTER TABLE n.t SET TBLPROPERTIES ('a' = '1', 'a' = '2')",
        "INSERT OVERWRITE n.p PARTITION (k = 'a', k = 'b') SELECT 1 AS id",
        "CALL system.rewrite_manifests(table => 'n.t', table => 'n.p')",
        "SHOW TBLPROPERTIES n.t ('a', 'b')",
    ],
)
def test_what_is_given_twice_is_refused(shop: ib.Lake, statement: str) -> None:
    shop.create("n.p", {"id": "long", "k": "string"}, partition_by=["k"])
    with pytest.raises(SqlError, match=r"twice|one property"):
        shop.sql(statement)
