"""SQL text: which names are tables, which versions they ask for, and where errors point."""

from __future__ import annotations

import pyarrow as pa
import pytest

from iceblink.errors import SqlError
from iceblink.plan.nodes import Memory, Plan
from iceblink.plan.sql import QueryText, Version, parse, point_at_word

SCHEMA = pa.schema([("a", pa.int64())])


def tables_of(text: str) -> list[tuple[str, Version | None]]:
    asked: list[tuple[str, Version | None]] = []

    def resolve(name: str, version: Version | None) -> Plan:
        asked.append((name, version))
        return Memory(SCHEMA, SCHEMA.empty_table())

    parse(QueryText(text), resolve)
    return sorted(asked, key=lambda item: item[0])


def test_tables_are_found_wherever_they_stand() -> None:
    text = """
        WITH x AS (SELECT a FROM ns.one) SELECT a, (SELECT max(a) FROM ns.two) FROM x
        JOIN ns.three USING (a) WHERE a IN (SELECT a FROM "my ns"."four's") UNION SELECT a FROM a.b.five
    """
    assert [name for name, _ in tables_of(text)] == ["a.b.five", "my ns.four's", "ns.one", "ns.three", "ns.two"]


def test_a_table_that_is_named_twice_is_asked_for_once() -> None:
    text = "SELECT a.a FROM ns.t a JOIN ns.t b USING (a) WHERE a IN (SELECT a FROM ns.t FOR VERSION AS OF 7)"
    assert tables_of(text) == [("ns.t", None), ("ns.t", Version("version", "7"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WITH t AS (SELECT 1 AS a) SELECT * FROM T", []),
        ("WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t WHERE a < 3) SELECT * FROM t", []),
        ("WITH t AS (SELECT a FROM t) SELECT * FROM t", ["t"]),  # inside its own body it is the table
        ("WITH u AS (SELECT a FROM t), t AS (SELECT 1 AS a) SELECT * FROM u", ["t"]),  # defined later
        ("SELECT * FROM (WITH t AS (SELECT 1 AS a) SELECT * FROM t), t", ["t"]),  # out of scope
        ("SELECT * FROM range(3)", []),
        ("WITH t AS (SELECT 1 AS a) SELECT * FROM ns.t", ["ns.t"]),
    ],
)
def test_a_cte_is_not_a_table(text: str, expected: list[str]) -> None:
    assert [name for name, _ in tables_of(text)] == expected


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("FOR VERSION AS OF 123", Version("version", "123")),
        ("FOR VERSION AS OF 'v1'", Version("version", "v1")),
        ("FOR TIMESTAMP AS OF '2026-01-31 12:00:00'", Version("timestamp", "2026-01-31 12:00:00")),
        ("FOR TIMESTAMP AS OF TIMESTAMP '2026-01-31'", Version("timestamp", "2026-01-31")),
    ],
)
def test_time_travel_is_read(clause: str, expected: Version) -> None:
    assert tables_of(f"SELECT x.a FROM ns.t {clause} AS x JOIN ns.u ON true") == [("ns.t", expected), ("ns.u", None)]


def test_a_syntax_error_shows_the_place_and_the_spelling() -> None:
    with pytest.raises(SqlError) as caught:
        tables_of("SELECT a\nFORM ns.t")
    assert caught.value.code == "sql-error"
    assert "did you mean FROM for 'form'?" in caught.value.hint
    assert "line 2" in caught.value.where


@pytest.mark.parametrize("text", ["", "SELECT 1; SELECT 2", "DROP TABLE x", "INSERT INTO t SELECT 1"])
def test_what_is_not_one_query_is_refused(text: str) -> None:
    with pytest.raises(SqlError):
        tables_of(text)


def test_a_pivot_without_named_values_is_refused_with_the_form_that_has_them() -> None:
    with pytest.raises(SqlError) as caught:
        tables_of("PIVOT ns.t ON k USING sum(a)")
    assert "PIVOT (sum(x) FOR k IN" in caught.value.hint
    assert tables_of("SELECT * FROM ns.t PIVOT (sum(a) FOR k IN ('x', 'y'))") == [("ns.t", None)]


def test_the_caret_stands_under_the_word() -> None:
    shown = point_at_word("SELECT x.price,\n  prise FROM t", "prise")
    line, caret = shown.split("\n")
    at = len("  at    ")  # what an error prints before the first line
    assert line == "line 2:   prise FROM t"
    assert line[caret.index("^") - at :].startswith("prise")
