"""Statements in the lake: what they leave is what the same words of Python leave, and mistakes are told."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    CatalogError,
    ColumnNotFound,
    CommitConflict,
    ConfigError,
    DuplicateColumn,
    NamespaceNotFound,
    NullInRequired,
    PlanError,
    QueryError,
    SchemaMismatch,
    SnapshotNotFound,
    SqlError,
    TableExists,
    TableNotFound,
    TypeMismatch,
)

COUNTS = ("rows_inserted", "rows_updated", "rows_deleted", "files_added", "files_removed", "delete_files_added")


@pytest.fixture
def sales(lake: ib.Lake) -> ib.Lake:
    lake.sql("""
        CREATE TABLE shop.sales (id BIGINT NOT NULL, region STRING, day DATE, amount DOUBLE, "a note" STRING)
        PARTITIONED BY (region, days(day))
    """)
    lake.sql("""
        INSERT INTO shop.sales VALUES
        (1, 'north', '2026-01-30', 1.5, NULL), (2, 'south', '2026-01-30', 2, 'x'),
        (3, 'south', '2026-01-31', 3, '')
    """)
    return lake


def ids(lake: ib.Lake, name: str = "shop.sales", **version: Any) -> list[int]:
    return sorted(lake.table(name, **version).to_arrow().column("id").to_pylist())


def rows(lake: ib.Lake, text: str) -> list[dict[str, Any]]:
    return lake.sql(text).to_pylist()


# make and drop


def test_a_created_table_is_the_one_that_lake_create_makes(lake: ib.Lake) -> None:
    told = rows(
        lake,
        """CREATE TABLE n.a (id BIGINT NOT NULL COMMENT 'the key', at TIMESTAMP, tags ARRAY<STRING>)
        PARTITIONED BY (bucket(16, id), days(at)) WRITE ORDERED BY id DESC
        COMMENT 'of all' TBLPROPERTIES ('x' = '1')""",
    )
    assert told == [{"statement": "CREATE TABLE", "name": "n.a", "snapshot_id": None, **dict.fromkeys(COUNTS)}]
    lake.create(
        "n.b",
        pa.schema(
            [
                pa.field("id", pa.int64(), nullable=False, metadata={"doc": "the key"}),
                pa.field("at", pa.timestamp("us")),
                pa.field("tags", pa.list_(pa.string())),
            ]
        ),
        partition_by=["bucket(16, id)", "day(at)"],
        sort_by=["-id"],
        properties={"comment": "of all", "x": "1"},
    )
    a, b = (lake.session.catalog.load(name) for name in ("n.a", "n.b"))
    assert a.schema.equals(b.schema, check_metadata=True)
    assert (a.partition_by, a.sort_by, a.properties) == (b.partition_by, b.sort_by, b.properties)


def test_tables_of_queries_are_made_replaced_and_dropped(sales: ib.Lake) -> None:
    (made,) = rows(sales, "CREATE TABLE n.t PARTITIONED BY (region) AS SELECT id, region FROM shop.sales WHERE id < 3")
    assert (made["rows_inserted"], made["rows_deleted"]) == (2, 0)
    assert made["snapshot_id"] == sales.history("n.t").to_pylist()[0]["snapshot_id"]
    (again,) = rows(sales, "CREATE TABLE IF NOT EXISTS n.t AS SELECT 1 AS x")
    assert again["snapshot_id"] is None
    sales.sql("CREATE OR REPLACE TABLE n.t AS FROM shop.sales")
    assert ids(sales, "n.t") == [1, 2, 3]
    assert sales.session.catalog.load("n.t").partition_by == ()
    sales.sql("CREATE OR REPLACE TABLE n.t (x INT NOT NULL)")
    assert sales.table("n.t").to_arrow().num_rows == 0
    assert not sales.table("n.t").schema.field("x").nullable
    assert sales.history("n.t").count() == 3
    sales.sql("DROP TABLE n.t PURGE")
    sales.sql("DROP TABLE IF EXISTS n.t")
    assert sales.tables("n") == []


def test_namespaces_are_made_and_dropped(lake: ib.Lake) -> None:
    lake.sql("CREATE SCHEMA a.b")
    lake.sql("CREATE NAMESPACE IF NOT EXISTS a.b")
    lake.create_namespace("other")
    assert [row["namespace"] for row in rows(lake, "SHOW SCHEMAS")] == ["a", "a.b", "other"]
    assert rows(lake, "SHOW NAMESPACES IN a") == [{"namespace": "a.b"}]
    lake.sql("DROP DATABASE a.b")
    lake.sql("DROP DATABASE IF EXISTS a.b")
    lake.drop_namespace("other")
    assert "a.b" not in lake.namespaces()


# insert


def test_values_go_to_columns_by_their_places(sales: ib.Lake) -> None:
    (told,) = rows(
        sales, "INSERT INTO shop.sales (\"a note\", ID, amount) SELECT 'ü', 4, 4 UNION ALL SELECT NULL, 5, 0.5"
    )
    assert (told["statement"], told["rows_inserted"], told["rows_deleted"]) == ("INSERT INTO", 2, 0)
    assert rows(sales, "SELECT * FROM shop.sales WHERE id > 3 ORDER BY id") == [
        {"id": 4, "region": None, "day": None, "amount": 4.0, "a note": "ü"},
        {"id": 5, "region": None, "day": None, "amount": 0.5, "a note": None},
    ]
    sales.sql("INSERT INTO shop.sales BY NAME SELECT 6.5 AS amount, 6 AS id")
    sales.sql("INSERT INTO shop.sales (id, amount) WITH n AS (SELECT 7 AS x) SELECT x, x FROM n")  # two of one name
    assert ids(sales) == [1, 2, 3, 4, 5, 6, 7]
    sales.sql("INSERT INTO shop.sales SELECT * FROM shop.sales WHERE false")
    assert sales.history("shop.sales").to_pylist()[-1]["rows_added"] in (None, 0)


def test_literals_become_what_the_columns_are(lake: ib.Lake) -> None:
    lake.sql("""CREATE TABLE n.t (f FLOAT, l ARRAY<DOUBLE>, s STRUCT<a: BIGINT, b: DOUBLE>, e TENSOR<FLOAT>[2],
        at TIMESTAMPTZ, u UUID, d DECIMAL(10, 2), t TIME, n SMALLINT, m MAP<STRING, INT>)""")
    lake.sql("""INSERT INTO n.t VALUES (0.1, [1.5, 2], {'a': 1, 'b': 2.5}, [0.5, 1], '2026-01-31 12:00:00+01:00',
        '12345678-1234-5678-1234-567812345678', 1.5, '12:30:00', 7, MAP {'k': 1})""")
    (row,) = lake.table("n.t").to_pylist()
    assert row == {
        "f": pa.scalar(0.1, pa.float32()).as_py(),
        "l": [1.5, 2.0],
        "s": {"a": 1, "b": 2.5},
        "e": [0.5, 1.0],
        "at": dt.datetime(2026, 1, 31, 11, tzinfo=dt.UTC),
        "u": UUID("12345678-1234-5678-1234-567812345678"),
        "d": dt_decimal("1.50"),
        "t": dt.time(12, 30),
        "n": 7,
        "m": [("k", 1)],
    }
    lake.sql("INSERT INTO n.t VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)")
    assert lake.table("n.t").count() == 2


def dt_decimal(text: str) -> Any:
    return pa.scalar(text).cast(pa.decimal128(10, 2)).as_py()


def test_an_overwrite_takes_all_or_what_partition_says(sales: ib.Lake) -> None:
    sales.sql("INSERT OVERWRITE shop.sales PARTITION (region = 'south') (id, day) VALUES (20, '2026-02-01')")
    assert ids(sales) == [1, 20]
    sales.sql("INSERT INTO shop.sales PARTITION (region = NULL) (id) VALUES (30)")
    sales.sql("INSERT OVERWRITE shop.sales PARTITION (region = NULL) (id) VALUES (31)")
    assert ids(sales) == [1, 20, 31]
    sales.sql(
        "INSERT OVERWRITE shop.sales PARTITION (region, day) (id, region, day) VALUES (21, 'south', '2026-02-01')"
    )
    assert ids(sales) == [1, 21, 31]
    (told,) = rows(sales, "INSERT OVERWRITE shop.sales (id) VALUES (9)")
    assert (told["rows_inserted"], told["rows_deleted"]) == (1, 3)
    (told,) = rows(sales, "TRUNCATE TABLE shop.sales")
    assert (told["rows_inserted"], told["rows_deleted"], ids(sales)) == (0, 1, [])
    sales.truncate("shop.sales")
    assert sales.history("shop.sales").count() == 8


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_inserts_leave_the_rows_of_a_plain_model(lake: ib.Lake, data: st.DataObject) -> None:
    lake.sql("CREATE OR REPLACE TABLE n.m (a INT, b INT, k INT) PARTITIONED BY (k)")
    model: list[tuple[int | None, ...]] = []
    value = st.none() | st.integers(0, 2)
    for _step in range(data.draw(st.integers(1, 3))):
        names = data.draw(st.permutations("abk"))[: data.draw(st.integers(1, 3))]
        new = data.draw(st.lists(st.tuples(*[value] * len(names)), min_size=1, max_size=3))
        how = data.draw(st.sampled_from(["INTO", "OVERWRITE", "k"]))
        clause = "OVERWRITE n.m PARTITION (k)" if how == "k" else f"{how} n.m"
        values = ", ".join(f"({', '.join('NULL' if one is None else str(one) for one in row)})" for row in new)
        lake.sql(f"INSERT {clause} ({', '.join(names)}) VALUES {values}")
        added = [tuple(dict(zip(names, row, strict=True)).get(name) for name in "abk") for row in new]
        if how == "OVERWRITE":
            model = []
        elif how == "k":
            model = [row for row in model if row[2] not in {one[2] for one in added}]
        model += added
    found = [tuple(row.values()) for row in lake.table("n.m").to_pylist()]
    assert sorted(found, key=repr) == sorted(model, key=repr)


# alter


def test_a_table_is_altered_step_by_step(sales: ib.Lake) -> None:
    for action in (
        "ADD COLUMNS (currency STRING COMMENT 'ISO 4217' AFTER id, at STRUCT<city: STRING>)",
        "ADD COLUMN at.zip INT FIRST",
        "ADD COLUMN IF NOT EXISTS currency STRING",
        'DROP COLUMN "a note"',
        "DROP COLUMN IF EXISTS nothing",
        "RENAME COLUMN at.city TO town",
        "ALTER COLUMN at.zip TYPE BIGINT",
        "ALTER COLUMN id DROP NOT NULL",
        "ALTER COLUMN id COMMENT 'the key'",
        "ALTER COLUMN day FIRST",
        "REPLACE PARTITION FIELD days(day) WITH months(day)",
        "ADD PARTITION FIELD bucket(4, id)",
        "DROP PARTITION FIELD region",
        "WRITE ORDERED BY id DESC NULLS LAST, day",
        "SET TBLPROPERTIES ('a' = '1', 'b' = '2')",
        "UNSET TBLPROPERTIES ('b')",
        "UNSET TBLPROPERTIES IF EXISTS ('b')",
        "RENAME TO deals",
    ):
        sales.sql(f"ALTER TABLE shop.sales {action}")
    assert rows(sales, "DESCRIBE TABLE shop.deals") == [
        {"column": "day", "type": "date", "nullable": True, "comment": None},
        {"column": "id", "type": "long", "nullable": True, "comment": "the key"},
        {"column": "currency", "type": "string", "nullable": True, "comment": "ISO 4217"},
        {"column": "region", "type": "string", "nullable": True, "comment": None},
        {"column": "amount", "type": "double", "nullable": True, "comment": None},
        {"column": "at", "type": "struct<zip: long, town: string>", "nullable": True, "comment": None},
    ]
    table = sales.session.catalog.load("shop.deals")
    assert (table.partition_by, table.sort_by) == (("month(day)", "bucket(4, id)"), ("id desc", "day"))
    assert rows(sales, "SHOW TBLPROPERTIES shop.deals ('a')") == [{"key": "a", "value": "1"}]
    sales.sql("INSERT INTO shop.deals (id, at) VALUES (4, {'zip': 123, 'town': 'Oslo'})")
    assert rows(sales, "SELECT id, amount, at.town AS town FROM shop.deals ORDER BY id") == [
        {"id": 1, "amount": 1.5, "town": None},
        {"id": 2, "amount": 2.0, "town": None},
        {"id": 3, "amount": 3.0, "town": None},
        {"id": 4, "amount": None, "town": "Oslo"},
    ]


def test_one_call_of_alter_is_one_commit_and_rows_are_read_through_it(sales: ib.Lake) -> None:
    table = sales.alter(
        "shop.sales",
        add={"emb": "tensor<float>[2]"},
        drop="a note",
        rename={"amount": "total"},
        optional="id",
        move={"emb": "first"},
        partition_by=["region"],
        properties={"x": "1"},
    )
    assert table.columns == ["emb", "id", "region", "day", "total"]
    assert table.filter(_.id == 1).to_pylist() == [
        {"emb": None, "id": 1, "region": "north", "day": dt.date(2026, 1, 30), "total": 1.5}
    ]
    sales.sql("INSERT INTO shop.sales (id, emb) VALUES (4, [1, 2.5])")
    assert sales.table("shop.sales").filter(_.id == 4).to_pylist()[0]["emb"] == [1.0, 2.5]


def test_a_write_that_began_before_an_alter_is_refused_or_lands_whole(sales: ib.Lake) -> None:
    def altering(action: str) -> ib.Dataset:
        def alter(batch: pa.RecordBatch) -> pa.RecordBatch:
            sales.sql(f"ALTER TABLE shop.sales {action}")
            return batch

        return sales.from_arrow([{"id": 10}]).map_batches(alter, schema={"id": "long"})

    sales.write("shop.sales", altering("ADD COLUMN later INT"))
    assert ids(sales) == [1, 2, 3, 10]
    for action in ("DROP COLUMN later", "DROP PARTITION FIELD region"):
        with pytest.raises(CommitConflict):
            sales.write("shop.sales", altering(action))
    assert ids(sales) == [1, 2, 3, 10]


# maintenance


def test_maintenance_is_called_by_the_names_that_spark_has(sales: ib.Lake) -> None:
    for number in range(10, 16):
        sales.sql(f"INSERT INTO shop.sales (id, region) VALUES ({number}, 'west')")
    (merged,) = rows(sales, "CALL system.rewrite_manifests('shop.sales')")
    assert (merged["manifests_before_count"], merged["manifests_after_count"]) == (7, 1)
    (done,) = rows(sales, "CALL system.rewrite_data_files('shop.sales', where => 'region = ''west''')")
    assert (done["rewritten_data_files_count"], done["added_data_files_count"]) == (6, 1)
    (done,) = rows(sales, "CALL system.rewrite_data_files(table => 'shop.sales', sort_order => 'amount DESC, id')")
    assert done["rewritten_data_files_count"] == done["added_data_files_count"]
    sales.sql("CALL system.rewrite_data_files(table => 'shop.sales', sort_order => 'zorder(id, amount)')")
    (gone,) = rows(sales, "CALL system.expire_snapshots('shop.sales', older_than => '2100-01-01', retain_last => 1)")
    assert (gone["deleted_snapshots_count"], sales.history("shop.sales").count()) == (10, 1)
    assert rows(sales, "CALL system.remove_orphan_files('shop.sales', dry_run => TRUE)") == []
    assert ids(sales) == [1, 2, 3, *range(10, 16)]


# branches, tags, rollback


def test_branches_tags_and_rollbacks_are_said_in_sql_and_in_python(sales: ib.Lake) -> None:
    first = sales.history("shop.sales").to_pylist()[0]["snapshot_id"]
    sales.sql("ALTER TABLE shop.sales CREATE TAG v1 RETAIN 30 DAYS")
    sales.sql("ALTER TABLE shop.sales CREATE TAG IF NOT EXISTS v1")
    sales.branch("shop.sales", "dev")
    sales.write("shop.sales", [{"id": 4}], branch="dev")
    sales.sql("TRUNCATE TABLE shop.sales.branch_dev")
    (told,) = rows(sales, "INSERT INTO shop.sales.branch_dev SELECT * FROM shop.sales")
    assert told["rows_inserted"] == 3
    sales.sql("INSERT INTO shop.sales.branch_dev (id) VALUES (4)")
    assert (ids(sales), ids(sales, branch="dev")) == ([1, 2, 3], [1, 2, 3, 4])
    sales.sql("INSERT INTO shop.sales (id) VALUES (5)")
    (told,) = rows(sales, f"CALL system.rollback_to_snapshot('shop.sales', {first})")
    assert (told["current_snapshot_id"], ids(sales)) == (first, [1, 2, 3])
    assert sales.set_current("shop.sales", "dev").count() == 4
    sales.sql("CALL system.set_current_snapshot(table => 'shop.sales', ref => 'v1')")
    assert ids(sales) == [1, 2, 3]
    newest = sales.history("shop.sales").to_pylist()[-1]
    sales.sql(f"CALL system.set_current_snapshot('shop.sales', {newest['snapshot_id']})")
    sales.sql(f"CALL system.rollback_to_timestamp('shop.sales', TIMESTAMP '{newest['committed_at'].isoformat()}')")
    assert ids(sales) == [1, 2, 3, 5]
    sales.rollback("shop.sales", snapshot=first)
    sales.sql(f"ALTER TABLE shop.sales CREATE OR REPLACE TAG v1 AS OF VERSION {newest['snapshot_id']}")
    assert ids(sales, tag="v1") == [1, 2, 3, 5]
    assert sales.tag("shop.sales", "v1", first, replace=True).count() == 3
    sales.sql("ALTER TABLE shop.sales DROP TAG v1")
    sales.sql("ALTER TABLE shop.sales DROP TAG IF EXISTS v1")
    sales.drop_branch("shop.sales", "dev")
    assert rows(sales, "SELECT name FROM shop.sales.refs") == [{"name": "main"}]


# show


def test_what_there_is_is_shown(sales: ib.Lake) -> None:
    sales.sql("CREATE TABLE shop.items (id INT)")
    assert rows(sales, "SHOW TABLES IN shop LIKE 'S%'") == [{"table": "shop.sales"}]
    assert rows(sales, "SHOW TABLES") == [{"table": "shop.items"}, {"table": "shop.sales"}]
    assert rows(sales, "DESCRIBE SELECT id + 1 AS n FROM shop.sales") == [
        {"column": "n", "type": "long", "nullable": True, "comment": None}
    ]


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=5).filter(str.strip)
KINDS = st.sampled_from(
    ["long", "int not null", "decimal(9,2)", "timestamp", "timestamptz", "list<struct<a: int not null, b: string>>",
     "map<string, list<double>>", "tensor<float>[2,3]", "fixed(4)", "uuid", "string"]
)  # fmt: skip
TRANSFORMS = ["{}", "bucket(4, {})", "truncate(3, {})"]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    columns=st.dictionaries(NAMES, KINDS, min_size=1, max_size=4),
    options=st.dictionaries(st.sampled_from(["a.b-c", "comment", "x'y", "ü z"]), NAMES, max_size=3),
    fixed=st.booleans(),
    data=st.data(),
)
def test_what_show_create_table_prints_makes_an_equal_table(
    lake: ib.Lake, columns: dict[str, str], options: dict[str, str], fixed: bool, data: st.DataObject
) -> None:
    plain = [name for name, kind in columns.items() if kind in ("long", "decimal(9,2)", "string")]
    transform = data.draw(st.sampled_from(TRANSFORMS))
    chosen = data.draw(st.sampled_from([None, *plain]))
    words = ['"' + chosen.replace('"', '""') + '"'] if chosen and "," not in chosen and "." not in chosen else []
    if fixed:
        options = {**options, "iceblink.tensor-storage": "fixed"}
    for name in lake.tables():
        lake.drop(name)
    lake.create(
        'my ns."t"',
        columns,
        partition_by=[transform.format(word) for word in words],
        sort_by=[f"{word} desc nulls first" for word in words],
        properties=options,
    )
    before = lake.session.catalog.load('my ns."t"')
    ((text,),) = (row.values() for row in rows(lake, 'SHOW CREATE TABLE "my ns".`"t"`'))
    lake.drop('my ns."t"')
    lake.sql(text)
    after = lake.session.catalog.load('my ns."t"')
    assert after.schema.equals(before.schema, check_metadata=True)
    assert (after.partition_by, after.sort_by) == (before.partition_by, before.sort_by)
    assert after.properties == before.properties
    assert rows(lake, 'SHOW CREATE TABLE "my ns".`"t"`') == [{"create_table": text}]


# mistakes


MISTAKES: dict[str, tuple[type[ib.IceblinkError], str]] = {
    "CRAETE TABLE n.t (id INT)": (SqlError, "did you mean 'CREATE'"),
    "GRANT SELECT ON shop.sales TO me": (SqlError, "begins no query and no statement"),
    "CREATE TABLE shop.sales (id INT)": (TableExists, "shop.sales"),
    "CREATE TABLE shop.x (id INT, id INT)": (DuplicateColumn, "two columns"),
    "CREATE TABLE shop.x (id INT) PARTITIONED BY (days(id))": (TypeMismatch, "cannot apply"),
    "CREATE TABLE shop.x (id INT) PARTITIONED BY (ids)": (ColumnNotFound, "did you mean 'id'"),
    "CREATE TABLE shop.x (at TIMESTAMP_NS)": (TypeMismatch, "format version 3"),
    "CREATE TABLE x (id INT)": (CatalogError, "namespace.table"),
    "CREATE TABLE shop.x AS\nSELECT prise\nFROM shop.sales": (ColumnNotFound, "line 2: SELECT prise"),
    "CREATE TABLE shop.x AS SELECT id FORM shop.sales": (SqlError, "FORM"),
    "CREATE SCHEMA shop": (CatalogError, "already"),
    "DROP TABLE shop.sale": (TableNotFound, "did you mean 'shop.sales'"),
    "DROP SCHEMA shop": (CatalogError, "drop its tables first: shop.sales"),
    "DROP SCHEMA shops": (NamespaceNotFound, "did you mean 'shop'"),
    "ALTER TABLE shop.sale ADD COLUMN x INT": (TableNotFound, "shop.sales"),
    "ALTER TABLE shop.sales ADD COLUMN amount INT": (DuplicateColumn, "already"),
    "ALTER TABLE shop.sales DROP COLUMN amuont": (ColumnNotFound, "did you mean 'amount'"),
    "ALTER TABLE shop.sales DROP COLUMN day": (PlanError, "partitions the table"),
    "ALTER TABLE shop.sales ALTER COLUMN amount TYPE FLOAT": (TypeMismatch, "cannot become float"),
    "ALTER TABLE shop.sales ADD COLUMN x INT NOT NULL": (PlanError, "leave NOT NULL out"),
    "ALTER TABLE shop.sales DROP PARTITION FIELD id": (ConfigError, "partition fields are: day\\(day\\)"),
    "ALTER TABLE shop.sales UNSET TBLPROPERTIES ('x')": (ConfigError, "no property 'x'"),
    "ALTER TABLE shop.sales CREATE TAG t AS OF VERSION 5": (SnapshotNotFound, "no snapshot 5"),
    "ALTER TABLE shop.sales DROP BRANCH dev": (SnapshotNotFound, "no branch 'dev'"),
    "INSERT INTO shop.sales VALUES (1, 'x')": (SchemaMismatch, "expected 5 columns, got 2"),
    "INSERT INTO shop.sales SELECT 1, 1": (SchemaMismatch, "expected 5 columns, got 2"),
    "INSERT INTO shop.sales (id, prise) VALUES (1, 2)": (ColumnNotFound, "the columns are"),
    "INSERT INTO shop.sales (id, ID) VALUES (1, 2)": (DuplicateColumn, "given twice"),
    "INSERT INTO shop.sales (amount) VALUES (1)": (SchemaMismatch, "'id' is missing"),
    "INSERT INTO shop.sales (id) VALUES (NULL)": (NullInRequired, "'id' is required"),
    "INSERT INTO shop.sales (id) VALUES ('one')": (SchemaMismatch, "expected long, got string"),
    "INSERT INTO shop.sales (id, day) VALUES (1, 'today')": (QueryError, "today"),
    "INSERT INTO shop.sales (id) SELECT idd FROM shop.sales": (ColumnNotFound, "(?s)INSERT INTO.*did you mean 'id'"),
    "INSERT INTO shop.sales PARTITION (amount = 1) (id) VALUES (1)": (ConfigError, "not partitioned by 'amount'"),
    "INSERT INTO shop.sales PARTITION (day = 'x') (id) VALUES (1)": (TypeMismatch, "is no date"),
    "INSERT OVERWRITE shop.sales PARTITION (region = 'x') (id, region) VALUES (1, 'y')": (DuplicateColumn, "twice"),
    "TRUNCATE TABLE shop.sale": (TableNotFound, "shop.sales"),
    "DESCRIBE shop.sale": (TableNotFound, "shop.sales"),
    "SHOW TABLES IN shops": (NamespaceNotFound, "did you mean 'shop'"),
    "SHOW CREATE TABLE shop.sale": (TableNotFound, "shop.sales"),
    "CALL system.rolback_to_snapshot('shop.sales', 1)": (SqlError, "did you mean 'rollback_to_snapshot'"),
    "CALL system.rollback_to_snapshot('shop.sales')": (SqlError, "(?s)missing.*snapshot_id: .*int"),
    "CALL system.rollback_to_snapshot('shop.sales', 'x')": (SqlError, "no int"),
    "CALL system.rollback_to_snapshot('shop.sales', 1, snapshot => 1)": (SqlError, "unexpected keyword"),
    "CALL system.rollback_to_timestamp('shop.sales', 'yesterday')": (SqlError, "is no time"),
    "CALL system.remove_orphan_files('shop.sales', older_than => '2100-01-01')": (ConfigError, "day"),
    "CALL system.rewrite_data_files('shop.sales', sort_order => 'id price')": (SqlError, "price"),
    "CALL system.set_current_snapshot('shop.sales')": (SqlError, "snapshot_id or a ref"),
}


def test_every_mistake_is_told_and_changes_nothing(sales: ib.Lake) -> None:
    before = sales.session.catalog.load("shop.sales").pyiceberg.metadata_location
    for text, (kind, said) in MISTAKES.items():
        with pytest.raises(kind, match=said):
            sales.sql(text)
    assert sales.session.catalog.load("shop.sales").pyiceberg.metadata_location == before
    assert (sales.tables(), sales.namespaces()) == (["shop.sales"], ["shop"])
    with pytest.raises(SqlError, match="query"):
        sales.table("shop.sales").sql("DROP TABLE shop.sales")


# others, at the same time and in the middle


def test_a_catalog_of_pyiceberg_takes_the_same_statements(tmp_path: Path) -> None:
    with ib.connect(type="sql", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/w") as lake:
        lake.sql("CREATE TABLE n.t (id INT, old STRING) PARTITIONED BY (old)")
        lake.sql("INSERT INTO n.t VALUES (1, 'a'), (2, 'b')")
        lake.sql("ALTER TABLE n.t CREATE TAG v1")
        lake.sql("INSERT OVERWRITE n.t PARTITION (old = 'b') VALUES (3)")
        lake.alter("n.t", add={"new": "double"}, drop="old", types={"id": "long"}, partition_by=[], sort_by=["id"])
        lake.sql("INSERT INTO n.t VALUES (4, 0.5)")
        assert ids(lake, "n.t") == [1, 3, 4]
        assert ids(lake, "n.t", tag="v1") == [1, 2]
        lake.sql("CALL system.set_current_snapshot('n.t', ref => 'v1')")
        assert lake.table("n.t").schema.names == ["id", "new"]
        lake.sql("CREATE OR REPLACE TABLE n.t AS SELECT 1 AS x")
        lake.sql("DROP TABLE n.t PURGE")
        lake.sql("DROP SCHEMA n")
        assert (lake.tables(), lake.namespaces()) == ([], [])
        with pytest.raises(TableNotFound):
            lake.sql("TRUNCATE TABLE n.t")


def test_of_those_who_create_one_table_at_once_one_does(lake: ib.Lake, tmp_path: Path) -> None:
    def create(number: int) -> str:
        with ib.connect(tmp_path / "my lake ü") as mine:
            try:
                mine.sql(f"CREATE TABLE n.t AS SELECT {number} AS id")
            except TableExists:
                return "exists"
            mine.sql("CREATE TABLE IF NOT EXISTS n.t AS SELECT -1 AS id")
            return "made"

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(create, range(3))) == ["exists", "exists", "made"]
    assert lake.table("n.t").count() == 1


KILLED = """
import sys
import iceblink as ib

with ib.connect(sys.argv[1]) as lake:
    for n in range(10_000):
        lake.alter("n.t", add={f"a{n}": "int", f"b{n}": "int"}, properties={"n": str(n)})
        lake.alter("n.t", drop=[f"a{n}", f"b{n}"])
        print(n, flush=True)
"""


def test_an_alter_that_is_killed_is_whole_or_not_there(lake: ib.Lake, tmp_path: Path) -> None:
    lake.sql("CREATE TABLE n.t (id INT)")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "my lake ü")], stdout=subprocess.PIPE, text=True
    ) as altering:
        assert altering.stdout is not None
        for _line in range(3):
            assert altering.stdout.readline()
        altering.send_signal(signal.SIGKILL)
    columns = lake.table("n.t").columns
    number = lake.session.catalog.load("n.t").properties["n"]
    assert columns in (["id"], ["id", f"a{number}", f"b{number}"])
    lake.sql("ALTER TABLE n.t ADD COLUMN after INT")
    lake.sql("INSERT INTO n.t (id, after) VALUES (1, 2)")
    assert lake.sql("SELECT after FROM n.t").to_pylist() == [{"after": 2}]
