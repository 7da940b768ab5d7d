"""Statements as data: what is said, and where it is not understood."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.errors import IceblinkError, SqlError, TypeMismatch
from iceblink.lake.alteration import Alteration
from iceblink.lake.references import Retention
from iceblink.plan.sql import QueryText
from iceblink.plan.statements.column_types import column, show_column
from iceblink.plan.statements.kinds import (
    AlterTable,
    Call,
    CreateTable,
    DropTable,
    Insert,
    RenameTable,
    SetReference,
    ShowTables,
    Statement,
)
from iceblink.plan.statements.reading import read
from iceblink.plan.statements.words import Words
from iceblink.types import to_schema

SCHEMA = to_schema({"id": "long not null", "tags": "list<string>", "at": "timestamptz"})


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE n.t (id BIGINT NOT NULL, tags ARRAY<STRING>, at TIMESTAMP_LTZ) USING iceberg",
        "create table n.t(id long not null,tags list<varchar(20)>,at timestamptz);",
        'CREATE TABLE "n".`t` (id INT8 NOT NULL, tags VARCHAR[], at TIMESTAMP WITH TIME ZONE) -- the end\n',
        "CREATE /* a\ntable */ TABLE n.t (id BIGINT NOT NULL, tags ARRAY(VARCHAR), at TIMESTAMP WITH TIME ZONE)",
    ],
)
def test_one_table_is_said_in_the_words_of_several_dialects(text: str) -> None:
    assert read(text) == CreateTable("n.t", SCHEMA)


@pytest.mark.parametrize(
    "clauses",
    [
        "PARTITIONED BY (days(at), bucket(16, id), `a b`) WRITE ORDERED BY id DESC NULLS FIRST, at",
        "WITH (partitioning = ARRAY['days(at)', 'bucket(16, id)', '\"a b\"'], "
        "sorted_by = ARRAY['id desc nulls first', 'at'])",
    ],
)
def test_partitioning_and_order_are_said_as_in_spark_or_trino(clauses: str) -> None:
    statement = read(f"CREATE TABLE n.t (id INT) {clauses}")
    assert isinstance(statement, CreateTable)
    assert statement.partition_by == ("days(at)", "bucket(16, id)", '"a b"')
    assert statement.sort_by == ("id desc nulls first", "at")


STATEMENTS: dict[str, Statement] = {
    "DROP TABLE IF EXISTS n.t PURGE": DropTable("n.t", if_exists=True, purge=True),
    "ALTER TABLE n.t ADD COLUMNS a int FIRST, b.c string AFTER d": AlterTable(
        "n.t",
        Alteration(
            add={"a": pa.field("a", pa.int32()), "b.c": pa.field("c", pa.string())},
            move={"a": "first", "b.c": "after d"},
        ),
    ),
    "ALTER TABLE n.t DROP COLUMN IF EXISTS a, b": AlterTable("n.t", Alteration(drop=("a", "b")), if_exists=True),
    "ALTER TABLE n.t RENAME a.b TO a.c": AlterTable("n.t", Alteration(rename={"a.b": "c"})),
    "ALTER TABLE n.t RENAME TO u": RenameTable("n.t", "u"),
    "ALTER TABLE n.t ALTER COLUMN a SET DATA TYPE decimal(12, 2)": AlterTable(
        "n.t", Alteration(types={"a": pa.decimal128(12, 2)})
    ),
    "ALTER TABLE n.t ALTER a DROP NOT NULL": AlterTable("n.t", Alteration(optional=("a",))),
    "ALTER TABLE n.t REPLACE PARTITION FIELD ts_day WITH hours(ts)": AlterTable(
        "n.t", Alteration(drop_partitions=("ts_day",), add_partitions=("hours(ts)",))
    ),
    "ALTER TABLE n.t WRITE UNORDERED": AlterTable("n.t", Alteration(sort_by=())),
    "ALTER TABLE n.t SET TBLPROPERTIES ('a' = 'it''s', write.x-y = 3, \"c\" = true)": AlterTable(
        "n.t", Alteration(properties={"a": "it's", "write.x-y": "3", "c": "true"})
    ),
    "ALTER TABLE n.t UNSET TBLPROPERTIES ('a')": AlterTable("n.t", Alteration(properties={"a": None})),
    "ALTER TABLE n.t CREATE OR REPLACE BRANCH b AS OF VERSION 12 RETAIN 7 DAYS "
    "WITH SNAPSHOT RETENTION 3 SNAPSHOTS 2 HOURS": SetReference(
        "n.t", "branch", "b", 12, "create or replace", Retention(timedelta(days=7), timedelta(hours=2), 3)
    ),
    "ALTER TABLE n.t CREATE TAG IF NOT EXISTS v1": SetReference("n.t", "tag", "v1", if_not_exists=True),
    "SHOW TABLES IN n LIKE 'a%'": ShowTables("n", "a%"),
}


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_statement_is_what_it_says(text: str) -> None:
    assert read(text) == STATEMENTS[text]
    assert read(f"\n{text.lower() if 'it' not in text else text} ; ") == STATEMENTS[text] or "TBL" in text


def test_a_row_of_default_values_has_no_query() -> None:
    assert read('INSERT INTO n.t (a, "b ü") DEFAULT VALUES;') == Insert("n.t", None, ("a", "b ü"))


def test_a_query_keeps_its_place() -> None:
    text = "INSERT OVERWRITE TABLE n.t\nPARTITION (day = '2026-01-31', k) (a, b)\nSELECT ';' -- x"
    assert read(text) == Insert(
        "n.t", QueryText(text, text.index("SELECT")), ("a", "b"), False, True, {"day": "2026-01-31"}, ("k",)
    )
    parenthesised = "INSERT INTO n.t (SELECT 1)"
    assert read(parenthesised) == Insert("n.t", QueryText(parenthesised, parenthesised.index("(")))


def test_a_call_has_values_by_place_and_by_name() -> None:
    statement = read("CALL SYSTEM.Some_Procedure('n.t', -3, older_than => TIMESTAMP '2026-01-31', dry_run => FALSE)")
    assert isinstance(statement, Call)
    assert (statement.procedure, statement.values) == ("some_procedure", ("n.t", -3))
    assert statement.named == {"older_than": "2026-01-31", "dry_run": False}
    assert read("CALL prod.system.p()") == Call("p", (), {}, "line 1: CALL prod.system.p()\n" + " " * 21 + "^", "prod")


MISTAKES = {
    "CREATE TABEL n.t (id int)": (SqlError, "did you mean 'TABLE'", "TABEL"),
    "CREATE TABLE n.t": (SqlError, "a table has columns", ""),
    "CREATE TABLE n.t (id bigin)": (TypeMismatch, "did you mean 'bigint'", "bigin)"),
    "CREATE TABLE n.t (id int) PARTITION BY (id)": (SqlError, "PARTITIONED BY", "PARTITION"),
    "CREATE TABLE n.t (id int PRIMARY KEY)": (SqlError, "not enforced", "PRIMARY"),
    "CREATE TABLE n.t (s STRUCT<a: int DEFAULT 3>)": (SqlError, "inside a column", "DEFAULT"),
    "CREATE TABLE n.t (id int) AS SELECT 1": (SqlError, "without columns", ""),
    "DROP TABLE n.t CASCADE": (SqlError, "did not expect CASCADE", "CASCADE"),
    "DROP TABLE n.t; DROP TABLE n.u": (SqlError, "once for each", "DROP TABLE n.u"),
    "DROP FUNCTION n.v": (SqlError, "expected TABLE, VIEW or SCHEMA", "FUNCTION"),
    "ALTER TABLE n.t ADD COLUMN a": (SqlError, "expected a type, found the end", ""),
    "ALTER TABLE n.t ADD COLUMN a int, DROP COLUMN b": (TypeMismatch, "no type .COLUMN.", "COLUMN b"),
    "ALTER TABLE n.t RENAME COLUMN a b": (SqlError, "expected TO", "b"),
    "ALTER TABLE n.t ALTER COLUMN a SET NOT NULL": (SqlError, "cannot become required", "SET NOT NULL"),
    "ALTER TABLE n.t MODIFY a int": (SqlError, "words here are: ADD", "MODIFY"),
    "ALTER TABLE n.t CREATE TAG x AS OF 12": (SqlError, "expected VERSION|did not expect AS", ""),
    "ALTER TABLE n.t CREATE TAG x RETAIN 7 WEEKS": (SqlError, "DAYS, HOURS, MINUTES", "WEEKS"),
    "INSERT n.t VALUES (1)": (SqlError, "INTO, OVERWRITE", "n.t"),
    "INSERT INTO n.t": (SqlError, "found the end", ""),
    "INSERT INTO n.t BY NAME DEFAULT VALUES": (SqlError, "no names", "DEFAULT"),
    "ALTER TABLE n.t ALTER COLUMN a SET DEFAULT X'0g'": (SqlError, "no bytes", "'0g'"),
    "SHOW TABELS": (SqlError, "did you mean 'TABLES'", "TABELS"),
    "DESCRIBE TABLE": (SqlError, "found the end", ""),
    "DESCRIBE n.t.": (SqlError, "found the end", ""),
    "CALL rollback_to_snapshot('n.t', 1)": (SqlError, "system", "rollback"),
    "CALL system.x(a => 1, 2)": (SqlError, "without a name", "2"),
    "CALL system.x(n.t)": (SqlError, "expected a value", "n.t"),
    "TRUNCATE TABLE n.t WHERE x > 1": (SqlError, "DELETE FROM", "WHERE"),
    "DROP TABLE 'n.t": (SqlError, "quote is left open", "'n.t"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_is_not_understood_is_shown_in_its_place(text: str) -> None:
    kind, said, place = MISTAKES[text]
    with pytest.raises(kind, match=said) as caught:
        read(text)
    line, caret = caught.value.where.split("\n")
    assert line == f"line 1: {text}"
    if place:
        assert caret.index("^") - len("  at    line 1: ") == text.index(place)


@settings(max_examples=30)
@given(st.text(max_size=40) | st.text("CREATE TABLE ADROP();.,'\"`<>=-/*\n 1at", max_size=40))
def test_no_text_is_anything_but_a_statement_or_an_error_of_ours(text: str) -> None:
    for begin in ("CREATE TABLE ", "ALTER TABLE t.u ADD COLUMN ", "CALL system.", "INSERT INTO t.u ", "SHOW "):
        with suppress(IceblinkError):
            assert isinstance(read(begin + text), Statement)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
PLAIN = st.sampled_from(
    [
        "boolean",
        "int",
        "long",
        "float",
        "double",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "string",
        "binary",
        "uuid",
    ]
)
TYPES = st.recursive(
    PLAIN.map(lambda word: to_schema({"x": word}).field("x").type)
    | st.sampled_from([pa.decimal128(38, 38), pa.decimal128(9, 2), pa.binary(3)]),
    lambda inner: st.one_of(
        inner.map(lambda kind: pa.list_(pa.field("element", kind))),
        st.tuples(inner, inner).map(
            lambda two: pa.map_(pa.field("key", two[0], nullable=False), pa.field("value", two[1]))
        ),
        st.lists(st.tuples(NAMES, inner, st.booleans()), min_size=1, max_size=3, unique_by=lambda one: one[0]).map(
            lambda fields: pa.struct([pa.field(*field) for field in fields])
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=50)
@given(name=NAMES, dtype=TYPES, nullable=st.booleans(), doc=st.none() | NAMES)
def test_what_is_shown_of_a_column_is_read_as_that_column(
    name: str, dtype: pa.DataType, nullable: bool, doc: str | None
) -> None:
    wanted = pa.field(name, dtype, nullable, {"doc": doc} if doc else None)
    words = Words(show_column(wanted))
    assert column(words).equals(wanted, check_metadata=True)
    words.end()
