"""What each scan of a statement learns; outer joins and null semantics are where it is easy to claim too much."""

from __future__ import annotations

import pyarrow as pa
import pytest

from iceblink.plan.nodes import Memory, Plan, Query
from iceblink.plan.optimize import Reference, statement
from iceblink.plan.sql import QueryText, Version, parse

SCHEMA = pa.schema([("k", pa.int64()), ("x", pa.int64()), ("s", pa.string()), ("f", pa.float64())])


def refuse(node: object) -> object:
    raise ValueError("no constant folding here")


def references(text: str) -> dict[str, Reference]:
    def resolve(name: str, version: Version | None) -> Plan:
        return Memory(SCHEMA, SCHEMA.empty_table(), label=name)

    tree, sources = parse(QueryText(text), resolve)
    result = statement(Query(SCHEMA, tree, sources), refuse)
    assert result.notes == ()
    return {reference.name: reference for reference in result.references}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT s FROM a WHERE x > 3", {"a": "x > 3"}),
        ("WITH c AS (SELECT * FROM a) SELECT s FROM c WHERE x > 3", {"a": "x > 3"}),
        ("SELECT s FROM (SELECT *, x + 1 AS y FROM a) WHERE x > 3 AND y > 1", {"a": "x > 3"}),
        ("SELECT a.s FROM a JOIN b USING (k) WHERE a.x > 3 AND b.x < 2", {"a": "x > 3", "b": "x < 2"}),
        ("SELECT a.s FROM a JOIN b ON a.k = b.k AND b.x < 2", {"a": "true", "b": "x < 2"}),
        ("SELECT a.s FROM a, b WHERE a.k = b.k AND b.x < 2", {"a": "true", "b": "x < 2"}),
        ("SELECT a.s FROM a LEFT JOIN b ON a.k = b.k AND b.x < 2 AND a.x > 3", {"a": "true", "b": "x < 2"}),
        ("SELECT a.s FROM a LEFT JOIN b ON a.k = b.k WHERE b.x IS NULL", {"a": "true", "b": "true"}),
        ("SELECT a.s FROM a LEFT JOIN b ON a.k = b.k WHERE a.x > 3", {"a": "x > 3", "b": "true"}),
        ("SELECT a.s FROM a RIGHT JOIN b ON a.k = b.k WHERE a.x IS NULL", {"a": "true", "b": "true"}),
        ("SELECT a.s FROM a FULL JOIN b ON a.k = b.k AND a.x > 3", {"a": "true", "b": "true"}),
        ("SELECT s FROM a SEMI JOIN b ON a.k = b.k AND b.x < 2", {"a": "true", "b": "x < 2"}),
        ("SELECT s FROM a ANTI JOIN b ON a.k = b.k AND a.x > 3 AND b.x < 2", {"a": "true", "b": "x < 2"}),
        ("SELECT s FROM a WHERE k IN (SELECT k FROM b WHERE x < 2)", {"a": "true", "b": "x < 2"}),
        ("SELECT s FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.x < 2)", {"a": "true", "b": "x < 2"}),
        ("SELECT x, count(*) AS n FROM a GROUP BY x HAVING x > 3 AND count(*) > 1", {"a": "true"}),
        ("SELECT s FROM a UNION ALL SELECT s FROM b WHERE x < 2", {"a": "true", "b": "x < 2"}),
        ("SELECT * FROM (SELECT s, row_number() OVER (ORDER BY x) AS r, x FROM a) WHERE x > 3", {"a": "true"}),
        ("SELECT s FROM (SELECT * FROM a LIMIT 5) WHERE x > 3", {"a": "true"}),
    ],
)
def test_a_scan_learns_what_it_may_leave_out(text: str, expected: dict[str, str]) -> None:
    assert {name: str(found.predicate) for name, found in references(text).items()} == expected


def test_a_sum_of_floats_is_not_moved_across_a_comparison() -> None:
    text = "SELECT s FROM (SELECT * FROM a) WHERE {} + 1 <= 5"
    assert str(references(text.format("x"))["a"].predicate) == "x <= 4"
    assert str(references(text.format("f"))["a"].predicate) == "true"  # 4.000000000000001 + 1 is 5


def test_a_scan_reads_only_the_columns_that_are_needed() -> None:
    found = references("SELECT a.s FROM a JOIN b ON a.k = b.k")
    assert (found["a"].columns, found["b"].columns) == (("k", "s"), ("k",))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("SELECT * EXCLUDE (k, f) FROM a", ("x", "s")),
        ("SELECT * RENAME (k AS key) FROM a", ("k", "x", "s", "f")),
        ("SELECT s FROM (SELECT * REPLACE (x + 1 AS x) FROM a)", ("s",)),
        ("SELECT count(*) AS n, max(s) AS last FROM a", ("s",)),
        ("SELECT s, one FROM a, unnest([x]) AS one", ("x", "s")),
        ("SELECT * LIKE 'x' FROM a", ("k", "x", "s", "f")),  # only the kernel knows which
        ("SELECT s, a.* NOT LIKE 'x' FROM a", ("k", "x", "s", "f")),
        ("SELECT s FROM a WHERE COLUMNS('k|x') > 1", ("k", "x", "s", "f")),
        ("SELECT max(COLUMNS(* EXCLUDE (k))) FROM (SELECT k, x, s, f FROM a)", ("k", "x", "s", "f")),
        ("SELECT a FROM a", ("k", "x", "s", "f")),
    ],
)
def test_columns_that_a_star_a_pattern_or_a_whole_row_may_give_are_read(text: str, columns: tuple[str, ...]) -> None:
    assert references(text)["a"].columns == columns


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT s FROM a LIMIT 5", 5),
        ("SELECT s, x + 1 AS y FROM a LIMIT 5 OFFSET 3", 8),
        ("SELECT s FROM (SELECT * FROM a LIMIT 9) LIMIT 5", 5),
        ("SELECT s FROM (SELECT * FROM a LIMIT 9 OFFSET 2) LIMIT 20", 11),
        ("WITH c AS (SELECT x FROM a) SELECT x FROM c LIMIT 5", 5),
        ("SELECT s FROM a", None),
        ("SELECT s FROM a WHERE x > 3 LIMIT 5", None),
        ("SELECT s FROM a ORDER BY x LIMIT 5", None),
        ("SELECT DISTINCT s FROM a LIMIT 5", None),
        ("SELECT count(*) AS n FROM a LIMIT 5", None),
        ("SELECT row_number() OVER (ORDER BY x) AS r FROM a LIMIT 5", None),
        ("SELECT unnest([x, k]) AS u FROM a LIMIT 5", None),
        ("SELECT s FROM a LIMIT 5 + 1", None),
        ("SELECT s FROM a LIMIT 50%", None),
        ("SELECT s FROM a UNION ALL SELECT s FROM a LIMIT 5", None),
        ("SELECT s FROM a USING SAMPLE 10 ROWS LIMIT 5", None),
    ],
)
def test_a_limit_that_nothing_stands_in_the_way_of_reaches_the_scan(text: str, rows: int | None) -> None:
    assert references(text)["a"].rows == rows


def test_counting_rows_reads_one_narrow_column() -> None:
    assert references("SELECT count(*) AS n FROM a")["a"].columns == ("k",)


def test_two_readings_of_one_table_have_names_and_filters_of_their_own() -> None:
    found = references("SELECT l.s FROM a AS l JOIN a AS r ON l.k = r.x WHERE l.x > 3")
    assert {name: str(item.predicate) for name, item in found.items()} == {"a": "x > 3", "a_2": "true"}
