from __future__ import annotations

import pyarrow as pa
import pytest
import sqlglot

from iceblink.plan.nodes import Memory, Plan, Query
from iceblink.plan.rowwise import leaf_of, over, row_wise

SCHEMA = pa.schema([("a", pa.int64()), ("l", pa.list_(pa.int64()))])


def memory() -> Memory:
    return Memory(SCHEMA, SCHEMA.empty_table())


def query(text: str, **sources: Plan) -> Query:
    tree = sqlglot.parse_one(text, read="duckdb")
    assert isinstance(tree, sqlglot.exp.Query)
    return Query(SCHEMA, tree, sources)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t",
        "SELECT a + 1 AS a, upper(l::text) FROM t WHERE a > 3 AND a IS NOT NULL",
        "SELECT x.a FROM (SELECT a FROM t WHERE a > 1) AS x WHERE x.a < 9",
        "SELECT unnest(l) FROM t",
        "SELECT CASE WHEN a > 1 THEN 2 END FROM t AS u",
    ],
)
def test_columns_and_filters_look_at_one_row(text: str) -> None:
    assert row_wise(query(text, t=memory()))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM t",
        "SELECT sum(a) AS s FROM t WHERE a > 1",
        "SELECT histogram(a) FROM t",
        "SELECT list(a) FROM t",
        "SELECT DISTINCT a FROM t",
        "SELECT a FROM t ORDER BY a",
        "SELECT a FROM t LIMIT 3",
        "SELECT a FROM t OFFSET 3",
        "SELECT a FROM t USING SAMPLE 10%",
        "SELECT a FROM t TABLESAMPLE 10%",
        "SELECT row_number() OVER () FROM t",
        "SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1",
        "SELECT a FROM t GROUP BY a",
        "SELECT a FROM t WHERE a IN (SELECT 1)",
        "SELECT (SELECT max(a) FROM t)",
        "SELECT t.a FROM t JOIN t AS u USING (a)",
        "SELECT t.a FROM t, unnest(t.l) AS u(x)",
        "SELECT a FROM t UNION ALL SELECT a FROM t",
        "WITH x AS (SELECT a FROM t) SELECT a FROM x",
        "SELECT a FROM (SELECT a FROM t LIMIT 3) AS x",
        "SELECT a FROM other",
        "SELECT 1",
    ],
)
def test_what_needs_other_rows_does_not(text: str) -> None:
    assert not row_wise(query(text, t=memory()))


def test_a_stack_of_them_may_stand_on_another_leaf() -> None:
    below, other = memory(), memory()
    inner = query("SELECT * FROM t WHERE a > 1", t=below)
    outer = query("SELECT a FROM u", u=inner)
    assert leaf_of(outer) is below
    assert leaf_of(over(outer, other)) is other
    assert leaf_of(outer) is below
    counted = query("SELECT count(*) FROM u", u=inner)
    assert leaf_of(counted) is counted
