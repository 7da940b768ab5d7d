"""SQL and verbs over Iceberg tables agree with DuckDB over the same rows in memory, whatever is pruned."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iceblink as ib
from contract.staged import divide_everything, staged_engine
from iceblink import _

SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("d", pa.date32()),
        ("ts", pa.timestamp("us")),
        ("m", pa.decimal128(10, 2)),
        ("b", pa.bool_()),
        ("g", pa.string()),
    ]
)


def value(column: str, n: int) -> Any:
    """A small world, so that conditions hit: every ninth value is null, and floats know NaN."""
    if n % 9 == 8:
        return None
    return {
        "i": n % 20 - 5,
        "f": math.nan if n % 13 == 5 else (n % 17) / 4 - 1,
        "s": ["", "a", "ab", "abc", "b", "é", "zz"][n % 7],
        "d": dt.date(2026, 1, 1) + dt.timedelta(days=n % 60),
        "ts": dt.datetime(2026, 1, 1) + dt.timedelta(hours=7 * (n % 60)),
        "m": Decimal(n % 40 - 20) / 4,
        "b": n % 2 == 0,
        "g": ["x", "y", "ü z"][n % 3],
    }[column]


ROWS = pa.Table.from_pylist(
    [{name: value(name, n * (k + 3)) for k, name in enumerate(SCHEMA.names)} for n in range(400)], SCHEMA
)


@pytest.fixture(scope="module", params=["in one process", "in stages, exchanged", "in stages, broadcast"])
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    """The same tables under engines that must agree."""
    engine: ib.LocalEngine = ib.LocalEngine()
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "in one process":
            exchanged = request.param.endswith("exchanged")
            divide_everything(patch, rounds=1 if exchanged else 2)
            engine = staged_engine(broadcast_bytes=0 if exchanged else 1 << 40)
        yield from tables_under(engine, tmp_path_factory.mktemp("lake"))


def tables_under(engine: ib.LocalEngine, folder: Path) -> Iterator[ib.Lake]:
    with ib.connect(folder, engine=engine) as opened:
        properties = {"write.parquet.row-group-limit": "25", "write.parquet.bloom-filter-enabled.column.s": "true"}
        for name, partition_by in {"a": ["g"], "b": ["day(ts)"], "c": ["bucket(4, i)", "truncate(1, s)"]}.items():
            opened.create(f"n.{name}", SCHEMA, partition_by=partition_by, properties=properties)
            for start in range(0, 400, 100):
                opened.write(f"n.{name}", ROWS.slice(start, 100))
        yield opened


@cache
def rows_in_memory() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name in "abc":
        connection.register(name, ROWS)
    return connection


@cache
def oracle(sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of DuckDB, which are the same for every engine of ours."""
    rows: list[tuple[Any, ...]] = rows_in_memory().execute(sql).fetchall()
    return rows


def normal(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted(repr(tuple(round(v, 9) if isinstance(v, float) else v for v in row)) for row in rows)


def ours(lake: ib.Lake, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in lake.sql(sql).to_pylist()]


OPERATORS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
LITERALS = {
    "i": st.integers(-8, 18).map(str) | st.sampled_from(["2.0", "2.5", "-3 + 1"]),
    "f": st.sampled_from(["0", "0.25", "-1", "2.75", "1e3", "'nan'::DOUBLE"]),
    "s": st.sampled_from(["''", "'a'", "'abc'", "'é'", "'q'"]),
    "d": st.sampled_from(["'2026-01-05'", "DATE '2026-02-10'", "DATE '2026-01-01' + INTERVAL 20 DAY"]),
    "ts": st.sampled_from(["'2026-01-05 07:00:00'", "TIMESTAMP '2026-01-12'", "DATE '2026-01-08'"]),
    "m": st.sampled_from(["0", "1.25", "-2.5", "3", "0.125"]),
    "g": st.sampled_from(["'x'", "'ü z'"]),
}


@st.composite
def atoms(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([*LITERALS, "b"]))
    if name == "b":
        return draw(st.sampled_from(["b", "NOT b", "b IS NULL", "b = true"]))
    literal = LITERALS[name]
    kind = draw(st.sampled_from(["compare", "compare", "flipped", "in", "between", "null", "like"]))
    if kind == "flipped":
        return f"{draw(literal)} {draw(OPERATORS)} {name}"
    if kind == "in":
        return f"{name} IN ({', '.join(draw(st.lists(literal, min_size=1, max_size=3)))})"
    if kind == "between":
        return f"{name} BETWEEN {draw(literal)} AND {draw(literal)}"
    if kind == "null":
        return f"{name} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
    if kind == "like" and name in "sg":
        return f"{name} LIKE '{draw(st.sampled_from(['a%', 'ab%', '%b', 'é%', '_', 'ü%']))}'"
    return f"{name} {draw(OPERATORS)} {draw(literal)}"


CONDITIONS = st.recursive(
    atoms(),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
        | inner.map(lambda c: f"NOT ({c})")
    ),
    max_leaves=4,
)


@settings(max_examples=24, deadline=None)
@given(table=st.sampled_from("abc"), condition=CONDITIONS)
def test_a_filter_keeps_the_rows_that_duckdb_keeps(lake: ib.Lake, table: str, condition: str) -> None:
    sql = "SELECT i, f, s, d, ts, m, b, g FROM {} WHERE " + condition
    assert normal(ours(lake, sql.format(f"n.{table}"))) == normal(oracle(sql.format(table)))


@settings(max_examples=16, deadline=None)
@given(
    join=st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"]),
    on=CONDITIONS,
    where=CONDITIONS,
)
def test_a_join_gives_the_rows_that_duckdb_gives(lake: ib.Lake, join: str, on: str, where: str) -> None:
    def alias(condition: str, name: str) -> str:
        return "".join(f"{name}.{word}" if word in SCHEMA.names else word for word in _words(condition))

    columns = "l.i" if join in ("SEMI JOIN", "ANTI JOIN") else "l.i, r.s"
    sql = (
        f"SELECT {columns} FROM (SELECT * FROM {{}}a WHERE i < 3) AS l {join} {{}}b AS r "
        f"ON l.d = r.d AND {alias(on, 'r')} WHERE {alias(where, 'l')}"
    )
    assert normal(ours(lake, sql.format("n.", "n."))) == normal(oracle(sql.format("", "")))


def _words(condition: str) -> list[str]:
    """Split around words, leaving what is quoted whole."""
    parts: list[str] = []
    for index, quoted in enumerate(condition.split("'")):
        if index % 2:
            parts.append(f"'{quoted}'")
        else:
            parts += re.split(r"(\W+)", quoted)
    return parts


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT g, count(*) AS n, sum(i) AS s, avg(f) AS a, max(ts) AS t FROM {}a GROUP BY g",
        "WITH t AS (SELECT g, sum(i) AS n FROM {}a GROUP BY g) SELECT i, n FROM {}a JOIN t USING (g) WHERE i > n / 50",
        "SELECT g, i, row_number() OVER (PARTITION BY g ORDER BY i, d, ts, f, s, m) AS r FROM {}a QUALIFY r <= 3",
        "SELECT i FROM {}a WHERE i > (SELECT avg(i) FROM {}b WHERE b.g = a.g)",
        "SELECT s FROM {}a EXCEPT SELECT s FROM {}b WHERE i > 3",
        "SELECT s FROM {}a INTERSECT SELECT g FROM {}b",
        "SELECT DISTINCT ON (g) g, i FROM {}a ORDER BY g, i DESC, d",
        "SELECT g, list(i ORDER BY i, d) AS l FROM {}a WHERE i IS NOT NULL GROUP BY g",
        "SELECT {{'i': i, 'g': g}} AS st, [i, 1] AS l, struct_extract({{'x': s}}, 'x') AS x FROM {}a",
        "SELECT unnest([i, i + 1]) AS u FROM {}a",
        "SELECT g, median(i) AS m, count(DISTINCT s) AS n FROM {}a GROUP BY ROLLUP (g)",
        "SELECT count(*) AS n FROM {}a WHERE i NOT IN (SELECT i FROM {}b WHERE i IS NOT NULL AND s = 'a')",
        "SELECT count(*) AS n FROM {}a, {}b WHERE a.i = b.i AND a.d < b.d",
        "SELECT l.i, r.i AS j FROM {}a l ASOF JOIN {}b r ON l.g = r.g AND l.ts >= r.ts",
        "SELECT * EXCLUDE (f) REPLACE (i * 2 AS i) FROM {}c WHERE ts >= '2026-01-10' ORDER BY ALL LIMIT 7",
        "SELECT CASE WHEN i > 3 THEN 'big' ELSE s END AS c, coalesce(s, g) AS d FROM {}c",
        "FROM {}a SELECT max(i) AS i",
        "SELECT * LIKE '_' FROM {}a WHERE g = 'x'",
        "SELECT f, a.* NOT LIKE '_' FROM {}a",
        "SELECT l.* GLOB 't*', r.s FROM {}a l JOIN {}b r ON l.ts = r.ts",
        "SELECT max(COLUMNS('^[ims]$')) FROM (SELECT i, m, s, d FROM {}a)",
        "SELECT d FROM {}a WHERE COLUMNS('i|m') > 1",
        "SELECT g, count(a) AS n, max(a).s AS s FROM {}a GROUP BY g",
    ],
)
def test_queries_of_every_kind_agree(lake: ib.Lake, sql: str) -> None:
    dots = sql.count("{}")
    assert normal(ours(lake, sql.format(*["n."] * dots))) == normal(oracle(sql.format(*[""] * dots)))


def test_verbs_and_sql_compose(lake: ib.Lake) -> None:
    big = lake.table("n.a").filter(_.i > 3).mutate(double=_.i * 2)
    counted = big.sql("SELECT g, count(*) AS n, sum(double) AS s FROM this JOIN n.b USING (g) GROUP BY g")
    result = counted.order_by("g").limit(2).to_pylist()
    assert [tuple(row.values()) for row in result] == oracle(
        "SELECT a.g, count(*), sum(a.i * 2) FROM a JOIN b USING (g) WHERE a.i > 3 GROUP BY a.g ORDER BY a.g LIMIT 2"
    )


def test_only_the_partitions_that_matter_are_read(lake: ib.Lake) -> None:
    text = lake.sql("SELECT i FROM n.a WHERE g = 'x' AND i > 3").explain()
    assert "pushed     g = 'x' and i > 3" in text or "pushed     i > 3 and g = 'x'" in text
    assert "files      4 of 16" in text  # four appends, of x, y, ü z and null


def test_a_limit_reads_only_the_files_it_needs(lake: ib.Lake) -> None:
    first = lake.table("n.a").limit(7)
    assert "files      1 of 16" in first.explain()
    assert first.to_pylist() == lake.table("n.a").to_pylist()[:7]
    later = lake.table("n.a").select("i", "g").limit(7, offset=60)
    assert later.to_pylist() == lake.table("n.a").select("i", "g").to_pylist()[60:67]


def test_a_result_larger_than_a_batch_streams_in_order(lake: ib.Lake) -> None:
    batches = lake.sql("SELECT range AS n FROM range(1000000)").to_batches()
    first = next(batches)
    assert 0 < first.num_rows < 1_000_000
    assert first.column("n")[0].as_py() == 0
    batches.close()


def test_rows_keep_the_order_they_were_written_in(lake: ib.Lake) -> None:
    lake.write("n.ordered", {"a": list(range(50_000))}, "create", properties={"write.parquet.row-group-limit": "999"})
    assert [row["a"] for row in lake.table("n.ordered").to_pylist()] == list(range(50_000))
    odd = lake.table("n.ordered").filter(_.a % 2 == 1)
    assert [row["a"] for row in odd.to_pylist()] == list(range(1, 50_000, 2))


@pytest.mark.parametrize("last", [5.0, float("nan")])
def test_a_bare_maximum_is_of_the_rows_and_not_of_what_statistics_may_lack(tmp_path: Path, last: float) -> None:
    with ib.connect(tmp_path) as alone:
        alone.write("n.t", {"x": [1.0, last], "n": [1, 2]}, "create")
        (row,) = alone.sql("SELECT max(x) AS most, min(x) AS least FROM n.t").to_pylist()
        assert repr(row) == repr({"most": last, "least": 1.0})
        assert alone.sql("SELECT max(n) AS n FROM n.t").to_pylist() == [{"n": 2}]
