"""Statements in all their forms: WITH before them, sources beside them, several catalogs, USE, views; and outcomes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from contract.staged import staged_engine
from iceblink import _
from iceblink.errors import (
    AmbiguousColumn,
    CatalogError,
    ColumnNotFound,
    IceblinkError,
    MergeCardinality,
    NamespaceNotFound,
    PlanError,
    SqlError,
    TableExists,
    TableNotFound,
    TypeMismatch,
)

COUNTS = ("rows_inserted", "rows_updated", "rows_deleted")
KEYS = st.none() | st.integers(0, 4)
PAIRS = st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=6)
MODES = {f"write.{verb}.mode": "merge-on-read" for verb in ("delete", "update", "merge")}


def table(rows: list[tuple[Any, ...]], *names: str) -> pa.Table:
    return pa.table({name: pa.array([row[place] for row in rows], pa.int64()) for place, name in enumerate(names)})


def held(lake: ib.Lake, name: str = "n.t") -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row.values()) for row in lake.table(name).to_pylist())


def counts(done: ib.Dataset) -> tuple[int, ...]:
    (row,) = done.to_pylist()
    return tuple(row[name] for name in COUNTS)


@pytest.fixture(params=["local", "staged"])
def engine(request: pytest.FixtureRequest) -> ib.LocalEngine:
    return ib.LocalEngine(threads=2) if request.param == "local" else staged_engine()


# rows beside the table


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=PAIRS, source=PAIRS, merge_on_read=st.booleans(), with_=st.booleans())
def test_rows_beside_a_table_delete_and_update_those_that_they_match(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int | None, int]],
    source: list[tuple[int | None, int]],
    merge_on_read: bool,
    with_: bool,
) -> None:
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.write("n.s", table(source, "k", "n"), "create")
        for name in ("n.t", "n.u"):
            lake.write(name, table(rows, "id", "x"), "create", properties=MODES if merge_on_read else None)
        begin, s = ("WITH c AS (SELECT * FROM n.s WHERE n > 0) ", "c") if with_ else ("", "(FROM n.s WHERE n > 0)")
        keys: list[int | None] = [key for key, n in source if n > 0 and key is not None]
        gone = [row for row in rows if row[0] in keys]
        done = lake.sql(f"{begin}DELETE FROM n.t USING {s} AS s WHERE t.id = s.k")
        assert counts(done) == (0, 0, len(gone))
        assert held(lake) == Counter(rows) - Counter(gone)

        update = f"{begin}UPDATE n.u AS me SET x = me.x + s.n FROM {s} AS s WHERE id = k"
        if any(keys.count(key) > 1 for key, _x in gone):
            with pytest.raises(MergeCardinality):
                lake.sql(update)
            return
        new = {key: n for key, n in source if n > 0}
        done = lake.sql(update)
        assert counts(done) == (0, len(gone), 0)
        assert held(lake, "n.u") == Counter((i, x + new[i] if i in keys else x) for i, x in rows)


def test_several_tables_may_stand_beside_the_one_that_is_changed(lake: ib.Lake, engine: ib.LocalEngine) -> None:
    lake = ib.connect(lake.session.catalog.folder, engine=engine)
    lake.write("n.t", table([(1, 10), (2, 20), (3, 30)], "id", "x"), "create")
    lake.write("n.a", table([(1, 7), (2, 8), (9, 9)], "id", "k"), "create")
    lake.write("n.b", table([(7, 100), (8, 200), (8, 0)], "k", "n"), "create")
    done = lake.sql("""
        UPDATE n.t SET x = b.n + t.x FROM n.a JOIN n.b AS b ON a.k = b.k
        WHERE t.id = a.id AND n > 0 AND EXISTS (SELECT 1 FROM n.b AS other WHERE other.n = b.n)
    """)
    assert counts(done) == (0, 2, 0)
    assert held(lake) == Counter([(1, 110), (2, 220), (3, 30)])
    assert counts(lake.sql("DELETE FROM n.t USING n.a, n.b AS b WHERE t.id = a.id AND a.k = b.k AND n = 0")) == (
        0,
        0,
        1,
    )
    assert held(lake) == Counter([(1, 110), (3, 30)])
    for statement, error in (
        ("UPDATE n.t SET x = k FROM n.a, n.b WHERE t.id = a.id", AmbiguousColumn),
        ("UPDATE n.t SET x = a.nope FROM n.a, n.b WHERE t.id = a.id", ColumnNotFound),
        ("DELETE FROM n.t USING (SELECT 1 AS id) WHERE t.id = 1", SqlError),
    ):
        with pytest.raises(error):
            lake.sql(statement)
    assert held(lake) == Counter([(1, 110), (3, 30)])


def test_with_gives_its_queries_to_every_statement(lake: ib.Lake) -> None:
    lake.write("n.t", table([(1, 1), (2, 2), (3, 3)], "id", "x"), "create")
    before = lake.session.catalog.load("n.t").snapshot_id
    with_ = "WITH few(id) AS (SELECT id FROM n.t WHERE id < 3 AND ')' <> ''), one AS (SELECT min(id) AS id FROM few)"
    assert counts(lake.sql(f"{with_} INSERT INTO n.t (id) SELECT id + 10 FROM one")) == (1, 0, 0)
    assert counts(lake.sql(f"{with_} UPDATE n.t SET x = (SELECT max(id) FROM few) WHERE id IN (FROM one)")) == (0, 1, 0)
    merge = f"{with_} MERGE INTO n.t USING few ON t.id = few.id WHEN MATCHED AND t.id NOT IN (FROM one) THEN DELETE"
    assert counts(lake.sql(merge)) == (0, 0, 1)
    assert held(lake) == Counter([(1, 2), (3, 3), (11, None)])
    old = f"WITH old AS (FROM n.t FOR VERSION AS OF {before}) DELETE FROM n.t WHERE id NOT IN (SELECT id FROM old)"
    assert counts(lake.sql(old)) == (0, 0, 1)
    assert counts(lake.sql(f"DELETE FROM n.t USING n.t FOR VERSION AS OF {before} AS s WHERE n.t.id = s.id")) == (
        0,
        0,
        2,
    )
    with pytest.raises(SqlError):
        lake.sql("WITH t AS (SELECT 1 AS id) DELETE FROM t")
    assert lake.sql("WITH n AS (SELECT 1 AS insert_) SELECT * FROM n").to_pylist() == [{"insert_": 1}]


def test_a_branch_and_metadata_stand_where_a_table_may(lake: ib.Lake) -> None:
    lake.write("n.t", table([(1, 1), (2, 2)], "id", "x"), "create")
    lake.sql("ALTER TABLE n.t CREATE BRANCH dev")
    lake.sql("ALTER TABLE n.t CREATE TAG one")
    assert counts(lake.sql("DELETE FROM n.t.branch_dev WHERE n.t.branch_dev.id = 1")) == (0, 0, 1)
    assert counts(lake.sql("UPDATE n.t.branch_dev SET x = 9")) == (0, 1, 0)
    assert [held(lake, name) for name in ("n.t", "n.t.tag_one")] == [Counter([(1, 1), (2, 2)])] * 2
    assert lake.sql("SELECT * FROM n.t.branch_dev").to_pylist() == [{"id": 2, "x": 9}]
    newest = "(SELECT count(*) FROM n.t.snapshots)"
    assert counts(lake.sql(f"DELETE FROM n.t WHERE id < {newest}")) == (0, 0, 2)
    described = lake.sql("DESCRIBE n.t FOR VERSION AS OF 'one'").to_pylist()
    assert [row["column"] for row in described] == ["id", "x"]
    with pytest.raises(PlanError):
        lake.sql("INSERT INTO n.t.files SELECT 1")


# outcomes


def test_every_statement_tells_its_rows_in_the_same_words(lake: ib.Lake) -> None:
    steps = {
        "CREATE TABLE n.t AS FROM range(4) AS r(id)": (4, 0, 0),
        "INSERT INTO n.t VALUES (10), (11)": (2, 0, 0),
        "DELETE FROM n.t WHERE id = 10": (0, 0, 1),
        "UPDATE n.t SET id = id + 100 WHERE id > 10": (0, 1, 0),
        "MERGE INTO n.t USING (VALUES (1), (7)) AS s(id) ON t.id = s.id "
        "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT *": (1, 0, 1),
        "INSERT OVERWRITE n.t VALUES (1)": (1, 0, 5),
        "CREATE OR REPLACE TABLE n.t AS SELECT 5 AS id": (1, 0, 1),
        "TRUNCATE TABLE n.t": (0, 0, 1),
        "DELETE FROM n.t": (0, 0, 0),
    }
    columns = lake.sql("CREATE SCHEMA other").columns
    for statement, expected in steps.items():
        done = lake.sql(statement)
        assert (done.columns, counts(done)) == (columns, expected)
        assert done.to_pylist()[0]["snapshot_id"] == lake.session.catalog.load("n.t").snapshot_id
    assert lake.delete("n.t", True).columns == columns


def test_rows_deleted_before_are_not_counted_again(lake: ib.Lake) -> None:
    for statement in (
        "TRUNCATE TABLE n.t",
        "INSERT OVERWRITE n.t VALUES (1, 1)",
        "CREATE OR REPLACE TABLE n.t (x INT)",
    ):
        lake.write("n.t", table([(one, one) for one in range(5)], "id", "x"), "replace", properties=MODES)
        assert lake.delete("n.t", _.id == 3).to_pylist()[0]["delete_files_added"] == 1
        assert counts(lake.sql(statement))[2] == 4


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=PAIRS, new=PAIRS, bound=st.integers(0, 5))
def test_upserts_and_overwrites_are_merge_on_read_where_the_table_says_so(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int | None, int]],
    new: list[tuple[int | None, int]],
    bound: int,
) -> None:
    new = list({key: (key, x) for key, x in new if key is not None}.values())
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.write("n.t", table(rows, "id", "x"), "create", properties=MODES)
        lake.write("n.t", table(new, "id", "x"), "upsert", on="id")
        keys = {key for key, _x in new}
        expected = Counter([row for row in rows if row[0] not in keys] + new)
        assert held(lake) == expected
        lake.write("n.t", table([(7, 7)], "id", "x"), "overwrite", where=f"id < {bound}")
        gone = Counter({row: n for row, n in expected.items() if row[0] is not None and row[0] < bound})
        assert held(lake) == expected - gone + Counter([(7, 7)])


def test_an_upsert_of_a_few_rows_writes_these_and_what_they_replace(lake: ib.Lake) -> None:
    lake.write("n.t", table([(one, one) for one in range(50)], "id", "x"), "create", properties=MODES)
    lake.write("n.t", table([(7, 0), (50, 0)], "id", "x"), "upsert", on="id")
    assert sorted(lake.table("n.t.data_files").to_arrow().column("record_count").to_pylist()) == [2, 50]
    assert lake.table("n.t.delete_files").to_arrow().column("record_count").to_pylist() == [1]
    assert lake.table("n.t").count() == 51


# mistakes


@pytest.mark.parametrize(
    ("statement", "line", "word"),
    [
        ("UPDATE n.t SET x = 1,\n  id = idd + 1", 2, "idd"),
        ("DELETE FROM n.t\nWHERE id > 0\n  AND nope = 'id'", 3, "nope"),
        ("DELETE FROM n.t WHERE 'nope' <> '' AND nope = 1", 1, "nope = 1"),
        ("UPDATE n.t SET x = lower(id), id = id", 1, "id), id"),
        ("MERGE INTO n.t USING n.t AS s ON t.id = s.id\nWHEN MATCHED AND s.y = 1 THEN DELETE", 2, "y = 1"),
        ("MERGE INTO n.t USING n.t AS s ON t.id = s.id\nWHEN MATCHED THEN UPDATE SET x = 'no' || s.id", 2, "s.id"),
        ("DELETE FROM n.t USING n.t AS s\nWHERE id = s.id", 2, "id"),
        ("MERGE INTO n.t USING (SELECT nope\n FROM n.t) AS s ON t.id = s.id WHEN MATCHED THEN DELETE", 1, "nope"),
    ],
)
def test_a_mistake_in_a_change_of_rows_is_shown_in_the_statement(
    lake: ib.Lake, statement: str, line: int, word: str
) -> None:
    lake.write("n.t", table([(1, 1)], "id", "x"), "create")
    with pytest.raises(PlanError) as caught:
        lake.sql(statement)
    shown, caret = caught.value.where.split("\n")
    text = statement.split("\n")[line - 1]
    assert shown == f"line {line}: {text}"
    assert text[caret.index("^") - 8 - len(f"line {line}: ") :].startswith(word)


def test_a_mistake_in_an_expression_of_python_names_it(lake: ib.Lake) -> None:
    lake.write("n.t", table([(1, 1)], "id", "x"), "create")
    with pytest.raises(ColumnNotFound) as caught:
        lake.update("n.t", {"x": "nope + 1", "id": "id"})
    assert caught.value.where == "update n.t: nope + 1"


# several catalogs, and USE


@pytest.fixture
def two(tmp_path: Path) -> ib.Lake:
    return ib.connect(tmp_path / "first", catalogs={"far ü": tmp_path / "second"})


def test_every_statement_reaches_a_second_catalog(two: ib.Lake) -> None:
    t = '"far ü".n.t'
    for statement in (
        'CREATE SCHEMA IF NOT EXISTS "far ü".n',
        f"CREATE TABLE {t} (id BIGINT, x BIGINT) PARTITIONED BY (x)",
        f"INSERT INTO {t} VALUES (1, 1), (2, 2), (3, 3)",
        f'CREATE TABLE n.here AS SELECT "far ü".n.t.id FROM {t}',
        f"WITH c AS (FROM {t}) INSERT INTO n.here SELECT id FROM c",
        f"INSERT OVERWRITE {t} PARTITION (x = 3) (id) VALUES (4)",
        f"ALTER TABLE {t} ADD COLUMN y INT",
        f"ALTER TABLE {t} CREATE TAG one",
        f"UPDATE {t} SET y = 5 FROM n.here AS h WHERE h.id = t.id",
    ):
        if "UPDATE" in statement:
            two.sql("INSERT OVERWRITE n.here VALUES (1)")
        two.sql(statement)
    two.sql(f"MERGE INTO {t} AS me USING n.here AS s ON me.id = s.id WHEN MATCHED THEN UPDATE SET x = 8")
    two.sql(f"DELETE FROM {t} WHERE id = 2")
    assert sorted(two.table("far ü.n.t").to_arrow().column("x").to_pylist()) == [3, 8]
    assert two.sql(f"SELECT count(*) AS n FROM {t} FOR VERSION AS OF 'one'").to_pylist() == [{"n": 3}]
    assert two.sql(f"SELECT count(*) AS n FROM {t}.refs").to_pylist() == [{"n": 2}]
    assert [row["column"] for row in two.sql(f"DESCRIBE {t}").to_pylist()] == ["id", "x", "y"]
    assert two.sql(f"SHOW CREATE TABLE {t}").to_pylist()[0]["create_table"].startswith('CREATE TABLE "far ü".n.t')
    assert two.sql(f"SHOW TBLPROPERTIES {t}").columns == ["key", "value"]
    first = two.history("far ü.n.t").to_pylist()[0]["snapshot_id"]
    two.sql(f"""CALL "far ü".system.set_current_snapshot('n.t', {first})""")
    assert two.table("far ü.n.t").count() == 3
    two.sql("""CALL "far ü".system.rewrite_data_files(table => 'far ü.n.t')""")
    two.sql(f"ALTER TABLE {t} RENAME TO m.u")
    assert two.tables() == ["n.here", "far ü.m.u"]
    two.sql('TRUNCATE TABLE "far ü".m.u')
    two.sql('DROP TABLE "far ü".m.u')
    two.sql('DROP SCHEMA "far ü".n')
    assert two.namespaces() == ["n", "far ü.m"]
    with pytest.raises(SqlError):
        two.sql("CALL nope.system.rewrite_manifests('n.here')")


def test_use_says_where_names_are_looked_up(two: ib.Lake) -> None:
    for place in ("", "far ü."):
        two.write(f"{place}n.t", {"id": [len(place)]}, "create")
    assert two.sql("SHOW CURRENT NAMESPACE").to_pylist() == [{"catalog": None, "namespace": None}]
    two.sql("USE n")
    assert two.sql("SELECT * FROM t").to_pylist() == [{"id": 0}]
    two.sql('USE "far ü".n')
    assert two.sql("SELECT t.id FROM t").to_pylist() == [{"id": 6}]
    assert two.sql("SELECT count(*) AS n FROM t.snapshots").to_pylist() == [{"n": 1}]
    assert two.sql("SHOW TABLES").to_pylist() == [{"table": "far ü.n.t"}]
    two.sql("CREATE TABLE u AS FROM t")
    two.sql("INSERT INTO n.u FROM t")
    two.sql("ALTER TABLE u CREATE BRANCH dev")
    two.sql("INSERT INTO u.branch_dev VALUES (9)")
    assert counts(two.sql("DELETE FROM u USING t WHERE u.id = t.id")) == (0, 0, 2)
    two.sql("CALL system.rewrite_manifests('u')")
    two.sql("CREATE SCHEMA other")
    two.sql("ALTER TABLE u RENAME TO other.w")
    assert "far ü.other" in two.namespaces()
    two.sql("USE other")
    assert two.sql("SELECT count(*) AS n FROM w").to_pylist() == [{"n": 0}]
    assert two.table("n.t").to_pylist() == [{"id": 0}]  # Python's words take full names
    two.sql("USE default")
    assert two.sql("FROM n.t").to_pylist() == [{"id": 0}]
    with pytest.raises(NamespaceNotFound):
        two.sql("USE nowhere")


# views


def test_a_view_is_read_as_it_was_made(two: ib.Lake) -> None:
    two.write("far ü.n.t", {"id": [1, 2, 3], "g": ["a", "b", None]}, "create")
    two.sql('USE "far ü".n')
    two.sql("""CREATE VIEW few ("the id" COMMENT 'a key', g) COMMENT 'of two' AS
        SELECT id, g FROM t WHERE id < 3 -- few
    """)
    two.sql("CREATE VIEW all_of AS SELECT * FROM t")
    two.sql("USE default")
    few = '"far ü".n.few'
    assert two.sql(f'SELECT "the id" FROM {few} ORDER BY 1').to_pylist() == [{"the id": 1}, {"the id": 2}]
    two.sql('ALTER TABLE "far ü".n.t ADD COLUMN new INT')
    two.sql('INSERT INTO "far ü".n.t VALUES (0, NULL, 7)')
    assert two.table("far ü.n.few").count() == 3
    assert two.sql('DESCRIBE "far ü".n.all_of').to_pylist()[0]["column"] == "id"
    assert two.table("far ü.n.all_of").columns == ["id", "g"]  # a view keeps its columns
    assert two.sql("SHOW VIEWS").to_pylist() == [{"view": "far ü.n.all_of"}, {"view": "far ü.n.few"}]
    assert two.sql("SHOW VIEWS IN \"far ü\" LIKE 'f%'").to_pylist() == [{"view": "far ü.n.few"}]
    assert two.tables() == ["far ü.n.t"]
    (made,) = two.sql(f"SHOW CREATE TABLE {few}").to_pylist()
    two.sql(f"DROP VIEW {few}")
    two.sql(f"DROP VIEW IF EXISTS {few}")
    with pytest.raises(TableNotFound):
        two.table("far ü.n.few")
    two.sql('USE "far ü".n')
    two.sql(made["create_table"])
    assert two.sql("SELECT count(*) AS n FROM few").to_pylist() == [{"n": 3}]
    two.sql("CREATE OR REPLACE VIEW few AS SELECT 1 AS x")
    assert two.sql("FROM few").to_pylist() == [{"x": 1}]


def test_what_a_view_cannot_be_is_refused(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    lake.create_view("n.v", "SELECT * FROM n.t")
    lake.create_view("n.w", lake_query := "SELECT * FROM n.v")
    lake.sql("CREATE VIEW IF NOT EXISTS n.v AS SELECT 2 AS other")
    for statement, error in (
        ("CREATE VIEW n.v AS SELECT 1 AS x", TableExists),
        ("CREATE VIEW n.t AS SELECT 1 AS x", TableExists),
        ("CREATE OR REPLACE VIEW n.t AS SELECT 1 AS x", TableExists),
        ("CREATE TABLE n.v (id INT)", TableExists),
        ("CREATE OR REPLACE VIEW n.v AS SELECT * FROM n.w", PlanError),
        ("CREATE VIEW n.x AS SELECT nope FROM n.t", ColumnNotFound),
        ("CREATE VIEW n.x (a, b) AS SELECT id FROM n.t", IceblinkError),
        ("CREATE VIEW n.x AS SELECT INTERVAL 1 DAY AS i", TypeMismatch),
        ("INSERT INTO n.v VALUES (1)", PlanError),
        ("DELETE FROM n.v", PlanError),
        ("SELECT * FROM n.v FOR VERSION AS OF 1", PlanError),
        ("DROP VIEW n.t", TableNotFound),
        ("DROP SCHEMA n", CatalogError),
    ):
        with pytest.raises(error):
            lake.sql(statement)
    assert lake.views() == ["n.v", "n.w"]
    lake.sql("ALTER TABLE n.t RENAME COLUMN id TO key")
    with pytest.raises(ColumnNotFound, match=r"n\.v"):
        lake.sql(lake_query)
    lake.sql("DROP TABLE n.t")
    lake.drop_view("n.w")
    lake.sql("DROP VIEW n.v")
    lake.sql("DROP SCHEMA n")
    assert lake.namespaces() == []


def test_views_are_kept_in_a_sql_database_and_made_once(tmp_path: Path) -> None:
    place = {"uri": f"sqlite:///{tmp_path}/some.db", "warehouse": str(tmp_path / "house")}
    with ib.connect(type="sql", uri=place["uri"], warehouse=place["warehouse"]) as lake, ThreadPoolExecutor(2) as pool:
        lake.write("n.t", {"id": [1, 2]}, "create")
        made = [pool.submit(lake.create_view, "n.v", f"SELECT {one} AS x FROM n.t") for one in (1, 2)]
        errors = [one.exception() for one in made]
        assert [type(one) for one in errors if one is not None] == [TableExists]
        assert lake.table("n.v").to_pylist() == [{"x": 1 + (errors[0] is not None)}] * 2
        lake.sql("CREATE OR REPLACE VIEW n.v AS SELECT max(id) AS m FROM n.t")
        assert lake.sql("FROM n.v").to_pylist() == [{"m": 2}]
        lake.sql("DROP VIEW n.v")
        assert lake.views() == []


def test_a_lake_made_before_there_were_views_says_so(tmp_path: Path) -> None:
    ib.connect(tmp_path).write("n.t", {"id": [1]}, "create")
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
        database.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
    lake = ib.connect(tmp_path)
    with pytest.raises(TableNotFound):
        lake.table("n.v")
    assert lake.sql("SHOW VIEWS").to_pylist() == []
    with pytest.raises(CatalogError, match="no views"):
        lake.sql("CREATE VIEW n.v AS FROM n.t")
    assert lake.tables() == ["n.t"]


# the rest


def test_a_query_is_explained_and_a_table_described_at_length(lake: ib.Lake) -> None:
    lake.create("n.t", {"id": "long", "at": "timestamp"}, partition_by=["day(at)"], properties={"a key": "1"})
    lake.write("n.t", {"id": [1], "at": [None]})
    query = "SELECT count(*) AS n FROM n.t"
    assert "\n".join(row["plan"] for row in lake.sql(f"EXPLAIN {query}").to_pylist()) == lake.sql(query).explain()
    assert lake.sql(f"EXPLAIN ANALYZE {query}").count() > 1
    with pytest.raises(SqlError):
        lake.sql("EXPLAIN DROP TABLE n.t")
    told = {row["column"]: row["type"] for row in lake.sql("DESCRIBE TABLE EXTENDED n.t").to_pylist()}
    assert (told["id"], told["Partitioning"], told["Rows"], told["Property a key"]) == ("long", "day(at)", "1", "1")
