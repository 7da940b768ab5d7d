"""Clauses that sqlglot reads and DuckDB's SQL would not have are refused, wherever they stand."""

from __future__ import annotations

import pytest
import sqlglot

from iceblink.errors import SqlError
from iceblink.plan.nodes import Plan
from iceblink.plan.sql import QueryText, Version, one_statement, parse
from iceblink.plan.understood import check_only

LOST = {
    "SELECT a INTO x FROM t": "INTO",
    "SELECT a FROM t WITH (NOLOCK)": "WITH",
    "SELECT a FROM t FOR UPDATE": "FOR UPDATE",
    "SELECT a FROM t CLUSTER BY a": "CLUSTER BY",
    "SELECT a FROM t DISTRIBUTE BY a": "DISTRIBUTE BY",
    "SELECT AS VALUE a FROM t": "AS VALUE",
    "SELECT a FROM t AT (VERSION => 3)": "AT",
    "SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES": "WITH TIES",
    "SELECT a FROM t FETCH FIRST 3 PERCENT ROWS ONLY": "PERCENT",
    "SELECT sum(a) IGNORE NULLS FROM t": "IGNORE NULLS",
    "SELECT * FROM (SELECT a FROM t FOR UPDATE) AS x": "FOR UPDATE",
    "WITH c AS (SELECT a FROM t CLUSTER BY a) SELECT 1 AS one": "CLUSTER BY",
    "SELECT 1 AS one WHERE 1 IN (SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES)": "WITH TIES",
}


def unasked(name: str, version: Version | None) -> Plan:
    raise AssertionError(f"{name} is looked up")


@pytest.mark.parametrize("query", LOST)
def test_a_clause_that_would_be_lost_is_refused(query: str) -> None:
    with pytest.raises(SqlError, match=LOST[query]) as caught:
        parse(QueryText(query), unasked)
    assert caught.value.where == query


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM range(3) AS t(a) FETCH FIRST 3 ROWS ONLY",
        "SELECT a FROM range(3) AS t(a) LIMIT 10 PERCENT",
        "SELECT lag(a IGNORE NULLS) OVER (ORDER BY a) AS a FROM range(3) AS t(a)",
        "SELECT DISTINCT ON (a) a FROM range(3) AS t(a) TABLESAMPLE 10% QUALIFY row_number() OVER w = 1 WINDOW w AS ()",
        "SELECT * EXCLUDE (a) REPLACE (b + 1 AS b) FROM (VALUES (1, 2)) AS t(a, b)",
        "SELECT 1 AS a UNION ALL BY NAME (SELECT 2 AS a) ORDER BY a LIMIT 1",
    ],
)
def test_what_duckdb_has_is_left_alone(query: str) -> None:
    tree, _ = parse(QueryText(query), unasked)
    assert tree == sqlglot.parse_one(query, read="duckdb")


def test_clauses_behind_brackets_come_into_a_select() -> None:
    assert one_statement(QueryText("(SELECT a FROM t) ORDER BY a LIMIT 1")).unnest().sql("duckdb") == (
        "SELECT * FROM (SELECT a FROM t) ORDER BY a LIMIT 1"
    )
    assert one_statement(QueryText("SELECT * FROM ((SELECT a FROM t) LIMIT 1) AS x")).sql("duckdb") == (
        "SELECT * FROM ((SELECT * FROM (SELECT a FROM t) LIMIT 1)) AS x"
    )


def test_any_part_that_is_not_named_is_refused() -> None:
    tree = sqlglot.parse_one("DELETE FROM t WHERE a = 1 LIMIT 3", read="duckdb")
    with pytest.raises(SqlError, match="DELETE takes no LIMIT"):
        check_only(tree, {"this", "where"}, "")
    check_only(tree, {"this", "where", "limit"}, "")
