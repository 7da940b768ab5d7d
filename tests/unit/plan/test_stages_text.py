"""What a plan looks like to the person who reads `explain`, and what is said of what is not cut."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest
import sqlglot

from iceblink.config import Settings
from iceblink.plan.cut import functions
from iceblink.plan.stage import Leaf, Observed, Result, Stage, described
from iceblink.plan.stages import stages
from iceblink.run.kernel import Kernel

SALES = pa.schema([("id", pa.int64()), ("shop", pa.int64()), ("amount", pa.decimal128(10, 2)), ("day", pa.date32())])
SHOPS = pa.schema([("shop", pa.int64()), ("town", pa.string())])
LEAVES = [Leaf("sales", SALES, 1e9, 40e9), Leaf("shops", SHOPS, 1e3, 40e3)]


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel(Settings(threads=1))


def plan(kernel: Kernel, sql: str, **settings: float) -> list[Stage]:
    return list(stages(sqlglot.parse_one(sql, dialect="duckdb"), LEAVES, kernel.describe, **settings))


def test_a_star_join_is_one_stage_over_the_big_table(kernel: Kernel) -> None:
    sql = """
        SELECT town, sum(amount) AS total, avg(amount) AS mean FROM sales JOIN shops USING (shop)
        WHERE day >= DATE '2026-01-01' GROUP BY town ORDER BY total DESC LIMIT 3
    """
    assert described(plan(kernel, sql)) == STAR


STAR = """\
stage_1: shops, to INNER JOIN
  reads shops; to keep
    SELECT
      shops.shop,
      shops.town
    FROM shops

stage_2: aggregates by town, of each task's rows
  reads sales, stage_1 (whole); to hash of town
    SELECT
      shops.town,
      SUM(sales.amount) AS total,
      COUNT(sales.amount) AS mean_count
    FROM sales
    JOIN stage_1 AS shops
      ON sales.shop = shops.shop
    WHERE
      sales.day >= CAST('2026-01-01' AS DATE)
    GROUP BY ALL

stage_3: first rows of each task
  reads stage_2; to gather
    SELECT
      town,
      SUM(total) AS total,
      CAST(SUM(total) AS DOUBLE) / SUM(mean_count) AS mean
    FROM stage_2
    GROUP BY ALL
    ORDER BY
      total DESC
    LIMIT 3

result: the result
  reads stage_3 (whole); to result, in order
    SELECT
      town,
      total,
      mean
    FROM stage_3
    ORDER BY
      total DESC
    LIMIT 3"""


def test_large_sides_meet_by_hash_and_a_sort_goes_by_ranges(kernel: Kernel) -> None:
    sql = """
        SELECT s.id, o.id AS other FROM sales AS s JOIN sales AS o ON s.shop = o.shop AND s.day < o.day
        ORDER BY s.id
    """
    assert described(plan(kernel, sql)) == HASH


HASH = """\
stage_1: s, by the key of the join
  reads sales; to hash of shop
    SELECT
      s.id,
      s.shop,
      s.day
    FROM sales AS s

stage_2: o, by the key of the join
  reads sales; to hash of shop
    SELECT
      o.id,
      o.shop,
      o.day
    FROM sales_2 AS o

stage_3: rows by ranges of the order
  reads stage_1, stage_2; to ranges of id
    SELECT
      s.id,
      o.id AS other
    FROM stage_1 AS s
    JOIN stage_2 AS o
      ON s.shop = o.shop AND s.day < o.day

result: the result
  reads stage_3; to result, in order
    SELECT
      id,
      other
    FROM stage_3
    ORDER BY
      id ASC"""


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT id, random() AS r FROM sales", "rand() differs from task to task"),
        ("SELECT id FROM sales ASOF JOIN shops ON sales.shop >= shops.shop", "ASOF joins are not cut"),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n, id FROM r, sales",
         "WITH RECURSIVE reads its own rows"),
        ("SELECT COLUMNS('a.*') FROM sales", "COLUMNS(...) chooses columns by pattern"),
        ("SELECT * LIKE 'a%' FROM sales", "it chooses columns by pattern"),
        ("SELECT shop, max(sales) AS last FROM sales GROUP BY shop", "or takes rows whole"),
    ],
)  # fmt: skip
def test_what_is_not_cut_is_one_task_and_says_why(kernel: Kernel, sql: str, expected: str) -> None:
    (stage,) = plan(kernel, sql)
    assert stage.single
    assert expected in stage.why


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT shop, count(*) AS n FROM sales GROUP BY ROLLUP (shop)", "grouping sets are not cut"),
        ("SELECT id FROM sales LIMIT 10%", "its LIMIT is not a plain number"),
        ("SELECT id FROM sales USING SAMPLE 10 ROWS", "SAMPLE is not cut"),
        ("SELECT shop FROM sales UNION BY NAME SELECT shop FROM shops", "columns are matched by name"),
    ],
)
def test_a_part_that_is_not_cut_is_one_task(kernel: Kernel, sql: str, expected: str) -> None:
    whys = [stage.why for stage in plan(kernel, f"SELECT count(*) AS n FROM ({sql})")]
    assert any(expected in why and "in one task" in why for why in whys), whys


def test_little_data_is_one_task(kernel: Kernel) -> None:
    (stage,) = plan(kernel, "SELECT shop, count(*) AS n FROM sales GROUP BY shop", small_bytes=1e12)
    assert stage.single
    assert stage.send == Result(ordered=True)


def test_little_is_read_by_every_task_and_few_rows_of_a_grouping_by_one(kernel: Kernel) -> None:
    sql = "SELECT town, sum(amount) AS total FROM sales JOIN shops USING (shop) GROUP BY town ORDER BY total"
    tree = sqlglot.parse_one(sql, dialect="duckdb")

    def made(seen: float) -> list[tuple[str, list[tuple[str, bool]]]]:
        planner = stages(tree, LEAVES, kernel.describe, few_bytes=50e3)
        plan = [next(planner)]
        with contextlib.suppress(StopIteration):
            while True:
                plan.append(planner.send(Observed(9, seen)))
        return [(type(stage.send).__name__, [(read.name, read.whole) for read in stage.reads]) for stage in plan]

    joined = ("Hash", [("sales", False), ("shops", True)])
    assert made(50e3) == [joined, ("Result", [("stage_1", True)])]
    assert made(50e3 + 1) == [joined, ("Range", [("stage_1", False)]), ("Result", [("stage_2", False)])]


def test_a_side_that_turns_out_small_is_broadcast_and_else_it_is_not_read_again(kernel: Kernel) -> None:
    sql = "SELECT a.id FROM sales AS a JOIN (SELECT * FROM shops WHERE town = 'x') AS b ON a.shop = b.shop"

    def sends(seen: float) -> list[str]:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
        planner = stages(tree, LEAVES, kernel.describe, broadcast_bytes=10e3)
        plan = [next(planner)]
        try:
            while True:
                plan.append(planner.send(Observed(1, seen)))
        except StopIteration:
            return [type(stage.send).__name__ for stage in plan]

    assert sends(1e3) == ["Keep", "Result"]
    assert sends(20e3) == ["Keep", "Hash", "Hash", "Result"]


def test_a_clock_is_read_once_for_all_tasks(kernel: Kernel) -> None:
    (stage,) = plan(kernel, "SELECT id FROM sales WHERE day < current_date AND day < now()")
    assert "TIMESTAMPTZ" in stage.query.sql("duckdb")


def test_every_aggregate_of_the_kernel_is_known(kernel: Kernel) -> None:
    names = _functions(kernel, "function_type = 'aggregate'")
    unknown = []
    for name in names:
        for arguments in ("x", "x, y", "x, y, z"):
            try:
                (call,) = sqlglot.parse_one(f"SELECT {name}({arguments})", dialect="duckdb").expressions
            except sqlglot.errors.ParseError:
                continue
            if not functions.is_aggregate(functions.unwrapped(call)):
                unknown.append(f"{name}({arguments})")
    assert unknown == []


def test_every_function_that_changes_is_known(kernel: Kernel) -> None:
    names = _functions(kernel, "stability <> 'CONSISTENT'")
    unknown = []
    for name in names:
        tree = sqlglot.parse_one(f"SELECT {name}()", dialect="duckdb")
        if functions.changing(tree) is None:
            unknown.append(name)
    assert unknown == []


def _functions(kernel: Kernel, where: str) -> list[str]:
    sql = (
        f"SELECT DISTINCT function_name FROM duckdb_functions() WHERE {where} AND function_name SIMILAR TO '[a-z_0-9]+'"
    )
    schema = kernel.bind(sql, {})
    return [name for batch in kernel.stream(sql, {}, schema, 1000) for name in batch.column(0).to_pylist()]


def test_a_side_that_statistics_tell_to_be_small_is_tried_before_both_are_exchanged(kernel: Kernel) -> None:
    sql = "SELECT count(*) FROM sales JOIN returns USING (id) WHERE returns.shop = 7"
    sides: dict[float, list[Stage]] = {}
    for kept in (1.0, 1e-4):
        leaves = [LEAVES[0], Leaf("returns", SALES, 5e8, 20e9, kept)]
        tree = sqlglot.parse_one(sql, dialect="duckdb")
        sides[kept] = list(stages(tree, leaves, kernel.describe))
    assert [type(stage.send).__name__ for stage in sides[1.0]] == ["Hash", "Hash", "Gather", "Result"]
    assert [type(stage.send).__name__ for stage in sides[1e-4]] == ["Keep", "Gather", "Result"]


def test_a_filter_makes_no_table_small_that_every_task_would_have_to_read(kernel: Kernel) -> None:
    sql = "SELECT count(*) FROM sales JOIN returns USING (id) WHERE returns.shop = 7"
    leaves = [LEAVES[0], Leaf("returns", SALES, 5e8, 20e9, 1e-9)]
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    found = list(stages(tree, leaves, kernel.describe, few_bytes=1 << 20))
    assert [type(stage.send).__name__ for stage in found] == ["Keep", "Gather", "Result"]
