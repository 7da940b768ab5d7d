"""Stages give what the whole statement gives: every operator, nulls everywhere, empty inputs, types to the letter."""

from __future__ import annotations

import pytest

from staged.executor import Cluster, check
from staged.tables import tables


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(tables())


CUT = [
    # rows
    "SELECT * FROM t",
    'SELECT id, "Odd name" AS "Another Name", x + 1 AS "order" FROM t WHERE x > 3 OR x IS NULL',
    "SELECT st.A, st, {'Field': x, 'other': xs} AS made, xs[1] AS first FROM t WHERE st.b = 'p'",
    "SELECT id, list_transform(xs, lambda X: X + k) AS added, [c FOR c IN xs IF c > 0] AS kept FROM t",
    "SELECT id, unnest(xs) AS one FROM t",
    "SELECT t.id, w.one FROM t, unnest(t.xs) AS w(one)",
    "SELECT t.id, w.one FROM t LEFT JOIN unnest(t.xs) AS w(one) ON true",
    "SELECT count(*) AS n, sum(w.one) AS total FROM t, unnest(t.xs) AS w(one)",
    "SELECT k, count(*) AS n FROM (SELECT k, unnest(xs) AS one FROM t) GROUP BY k",
    "FROM t SELECT id, x WHERE k = 1",
    "SELECT 1 AS one, 'a' AS a",
    "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS w(n, s)",
    "SELECT id FROM t WHERE 1 = 0",
    "SELECT x::TINYINT AS tiny, x::HUGEINT AS huge, typeof(x::SMALLINT) AS word FROM t",
    # aggregates in two steps
    "SELECT count(*) AS n, count(x) AS nx, sum(x) AS sx, min(s) AS ms, max(ts) AS mt, avg(x) AS ax FROM t",
    "SELECT count(*) AS n, count(x) AS nx, sum(x) AS sx, min(s) AS ms, max(ts) AS mt, avg(x) AS ax FROM e",
    "SELECT k, count(*) AS n, sum(x) AS sx, sum(d) AS sd, sum(f) AS sf, avg(d) AS ad, avg(f) AS af FROM t GROUP BY k",
    "SELECT k, count(*) AS n, sum(x) AS sx FROM e GROUP BY k",
    "SELECT s, k, bool_and(b) AS ba, bool_or(b) AS bo, count_if(x > 3) AS c, bit_and(x) AS bits FROM t GROUP BY s, k",
    "SELECT k, min(x) FILTER (WHERE f > 0) AS a, sum(x) FILTER (WHERE b) AS c, count(*) FILTER (WHERE b) AS n,"
    " avg(x) FILTER (WHERE s = 'a') AS av FROM t GROUP BY k",
    "SELECT k, arg_min(id, id) AS a, max_by(s, id) AS c, arg_min(id, id) FILTER (WHERE b) AS l FROM t GROUP BY k",
    "SELECT arg_min(x, id) AS a, arg_max(s, id) AS c FROM t",
    "SELECT sum(big)::DOUBLE / 3 AS third FROM t",
    "SELECT k, sum(big)::DOUBLE AS total FROM t GROUP BY k HAVING sum(big) > 9000000000000000000",
    "SELECT x % 3 AS r, sum(x) + count(*) AS both, sum(x) * 2 AS twice FROM t GROUP BY x % 3",
    "SELECT k, sum(x) AS total FROM t GROUP BY ALL HAVING count(*) > 2 ORDER BY ALL",
    "SELECT sum(x) AS total FROM t GROUP BY k",
    "SELECT k FROM t GROUP BY k",
    "SELECT k + 1 AS next, sum(x) FROM t GROUP BY k",
    "SELECT day, min(tz) AS a, max(tz) AS b, count(DISTINCT k) AS n FROM t GROUP BY day",
    "SELECT f, count(*) AS n FROM t GROUP BY f",
    "SELECT xs, st, count(*) AS n FROM t GROUP BY xs, st",
    "SELECT max(n) AS most FROM (SELECT k, count(*) AS n FROM t GROUP BY k)",
    "SELECT s, sum(n) AS total FROM (SELECT s, k, count(*) AS n FROM t GROUP BY s, k) GROUP BY s",
    "SELECT any_value(k) AS same FROM t WHERE k = 3",
    "SELECT sum(x) AS a FROM t HAVING sum(x) > 100000",
    "SELECT avg(ts) AS middle, avg(x + f) AS a FROM t",
    "SELECT k, x, sum(x) AS s FROM t GROUP BY k, x HAVING x > 3 AND sum(x) > 4",
    # aggregates that need whole groups
    "SELECT k, median(x) AS m, quantile_cont(f, 0.25) AS q, mode(b) AS mo FROM t GROUP BY k",
    "SELECT median(x) AS m, count(DISTINCT s) AS n, stddev(x) AS sd FROM t",
    "SELECT count(DISTINCT s) AS n FROM t",
    "SELECT k, count(DISTINCT s) AS n, sum(DISTINCT x) AS sx, count(*) AS c FROM t GROUP BY k",
    "SELECT k, list(x ORDER BY id) AS l, string_agg(s, '-' ORDER BY id DESC) AS s FROM t GROUP BY k",
    "SELECT k, list_sort(list(x)) AS l FROM t GROUP BY k",
    "SELECT k, var_pop(f) AS v, corr(x, f) AS c, product(x % 3) AS p, histogram(x) AS h FROM t GROUP BY k",
    "SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS p, regr_slope(x, f) AS r FROM t GROUP BY k",
    "SELECT k, first(x ORDER BY id) AS f, last(x ORDER BY id) AS l, approx_count_distinct(s) AS a FROM t GROUP BY k",
    "SELECT k, min(x, 2) AS two FROM t GROUP BY k",
    "SELECT k, count(*) AS n FROM (SELECT NULL AS k FROM t) GROUP BY k",
    "SELECT k, count(*) AS n FROM t GROUP BY k HAVING n > 3",
    "SELECT x % 2 AS r, count(*) AS n FROM t GROUP BY r HAVING r = 1",
    "SELECT sum(x) AS s, sum(x) AS again, sum(x) / count(*) AS m FROM t",
    "SELECT min(day) AS d, max(day) - min(day) AS span FROM t",
    "SELECT 1 AS one FROM t WHERE false HAVING count(*) = 0",
    "SELECT st.A AS a, count(*) AS n FROM t GROUP BY st.A",
    # joins
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.k = u.k",
    "SELECT t.id, u.id AS uid FROM t, u WHERE t.k = u.k AND t.x > u.y AND u.y > 2",
    "SELECT t.id, u.id AS uid FROM t LEFT JOIN u ON t.k = u.k AND t.x > u.y AND u.y > 2 AND t.b",
    "SELECT t.id, u.id AS uid FROM t RIGHT JOIN u ON t.k = u.k AND t.x > u.y WHERE t.id IS NULL OR t.x > 1",
    "SELECT t.id, u.id AS uid FROM t FULL JOIN u ON t.k = u.k AND t.x = u.y WHERE coalesce(t.id, 1) + u.id > 4",
    "SELECT t.id, u.id AS uid FROM t FULL JOIN u ON t.k = u.k AND t.x > u.y",
    "SELECT t.id, u.id AS uid FROM t FULL JOIN u ON t.x > u.y + 15",
    "SELECT t.id, v.name FROM t CROSS JOIN v",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.x > u.y + 15",
    "SELECT t.id, u.id AS uid FROM t LEFT JOIN u ON t.x > u.y + 15",
    "SELECT t.id FROM t SEMI JOIN u ON t.k = u.k",
    "SELECT t.id FROM t ANTI JOIN u ON t.k = u.k AND t.x = u.y",
    "SELECT t.id FROM t SEMI JOIN u ON t.x < u.y AND t.k <> u.k",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.k IS NOT DISTINCT FROM u.k",
    "SELECT * FROM t JOIN v USING (k)",
    "SELECT k, t.id, name FROM t FULL JOIN v USING (k)",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.d = u.d",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.x = u.f",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.f = u.f AND t.s = u.s",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.day = u.ts::DATE AND t.ts = u.ts",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.k + 1 = u.k * 2 AND lower(t.s) = u.s",
    "SELECT t.id FROM t JOIN u ON t.k = u.k JOIN v ON v.k = t.k AND v.k = u.k WHERE v.name = 'one'",
    "SELECT count(*) AS n FROM t JOIN u ON t.k = u.k LEFT JOIN v ON v.k = u.k",
    "SELECT t.id, w.n FROM t JOIN (SELECT k, count(*) AS n FROM u GROUP BY k) AS w ON w.k = t.k",
    "SELECT a.id, b.id AS other FROM t AS a JOIN t AS b ON a.x = b.x AND a.id < b.id",
    "SELECT t.id, e.id AS none FROM t LEFT JOIN e ON t.k = e.k",
    "SELECT e.id, u.id AS uid FROM e FULL JOIN u ON e.k = u.k",
    "SELECT t.k, count(*) AS n FROM t JOIN u ON t.k = u.k GROUP BY t.k",
    "SELECT u.k, count(t.id) AS n FROM u LEFT JOIN t ON t.k = u.k GROUP BY u.k",
    "SELECT t.k, count(u.id) AS n FROM u LEFT JOIN t ON t.k = u.k GROUP BY t.k",
    "SELECT t.id, w.n FROM t JOIN (VALUES (1, 'a'), (2, 'b')) AS w(k, n) ON w.k = t.k",
    "SELECT t.id, r.i FROM t, range(3) AS r(i) WHERE r.i = t.k",
    "SELECT w.n, t.id FROM (VALUES (1, 'a'), (9, 'b')) AS w(k, n) LEFT JOIN t ON w.k = t.k",
    "SELECT a.n, b.n AS m FROM (SELECT count(*) AS n FROM t) AS a, (SELECT sum(y) AS n FROM u) AS b",
    "SELECT a.k, a.n, b.n AS m FROM (SELECT k, count(*) AS n FROM t GROUP BY k) AS a"
    " FULL JOIN (SELECT k, count(*) AS n FROM u GROUP BY k) AS b ON a.k = b.k",
    "SELECT a.k, a.n, b.n AS m FROM (SELECT k, count(*) AS n FROM u GROUP BY k) AS a"
    " JOIN (SELECT k, sum(y) AS n FROM u GROUP BY k) AS b ON a.k = b.k",
    "SELECT count(*) AS n FROM t, u",
    "SELECT count(*) AS n FROM t, u, v WHERE t.k = u.k",
    "SELECT t.* EXCLUDE (xs) FROM t JOIN (SELECT k FROM u UNION SELECT k FROM v) AS w ON t.k = w.k",
    "SELECT a.k FROM (SELECT DISTINCT k FROM t) AS a LEFT JOIN (SELECT DISTINCT k FROM u) AS b ON a.k = b.k"
    " WHERE b.k IS NULL",
    # subqueries
    "SELECT id FROM t WHERE x > (SELECT avg(y) FROM u)",
    "SELECT id, x - (SELECT min(y) FROM u) AS above, (SELECT count(*) FROM e) AS none FROM t",
    "SELECT id, (SELECT y FROM u WHERE id = -1) AS nothing FROM t",
    "SELECT id FROM t WHERE k IN (SELECT k FROM u WHERE y > 3)",
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM u WHERE y > 3)",
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM u WHERE k IS NOT NULL AND y > 3)",
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM e)",
    "SELECT id FROM t WHERE (k, s) IN (SELECT k, s FROM u)",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND u.y < t.x)",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND u.y < t.x)",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM e) OR k = 1",
    "SELECT id FROM t WHERE k IN (SELECT k FROM u WHERE y > 3) OR x IN (SELECT y FROM u)",
    "SELECT id, k IN (SELECT k FROM u) AS known FROM t",
    "SELECT id, EXISTS (SELECT 1 FROM u WHERE u.k = t.k) AS known FROM t",
    "SELECT id, (SELECT max(y) FROM u WHERE u.k = t.k) AS most FROM t",
    "SELECT id, (SELECT count(*) FROM u WHERE u.k = t.k AND u.y > 0) AS n FROM t",
    "SELECT id, (SELECT sum(y) + count(*) FROM u WHERE u.k = t.k AND u.s = t.s) AS n FROM t",
    "SELECT id, (SELECT y FROM u WHERE u.id = t.id) AS one FROM t",
    "SELECT id, (SELECT count(*) FROM u WHERE u.y < t.x) AS below FROM t",
    "SELECT id FROM t WHERE x > (SELECT avg(y) FROM u WHERE u.k = t.k)",
    "SELECT id FROM t WHERE x IN (SELECT y FROM u WHERE u.k = t.k)",
    "SELECT id FROM t WHERE x NOT IN (SELECT y FROM u WHERE u.k = t.k)",
    "SELECT k, sum(x) AS s FROM t GROUP BY k HAVING sum(x) > (SELECT avg(y) FROM u)",
    "SELECT k, sum(x) AS s FROM t GROUP BY k HAVING k IN (SELECT k FROM u)",
    "SELECT k, (SELECT max(y) FROM u WHERE u.k = t.k) AS m, sum(x) AS s FROM t GROUP BY k",
    "SELECT id FROM t WHERE k = (SELECT k FROM t AS o WHERE o.id = t.id)",
    "SELECT id FROM t WHERE x > ALL (SELECT y FROM u WHERE y < 3)",
    "SELECT id FROM t WHERE k IN (SELECT k FROM u GROUP BY k HAVING count(*) > 3)",
    "SELECT sum(x) AS s FROM t WHERE k IN (SELECT k FROM u) AND NOT EXISTS (SELECT 1 FROM v WHERE v.k = t.k)",
    "SELECT count(*) AS n, (SELECT count(*) FROM u) AS m FROM t",
    "SELECT k, count(*) AS n, (SELECT count(*) FROM u WHERE u.k = t.k) AS m FROM t GROUP BY k",
    "SELECT k, sum(CASE WHEN x IN (SELECT y FROM u) THEN 1 ELSE 0 END) AS n FROM t GROUP BY k",
    "SELECT t.id FROM t LEFT JOIN u ON t.k = u.k AND EXISTS (SELECT 1 FROM v WHERE v.k = u.k)",
    "SELECT id, (SELECT count(*) FROM u WHERE u.k = t.k) + (SELECT max(k) FROM v) AS z FROM t",
    "SELECT id FROM t WHERE NOT (k IN (SELECT k FROM u) AND x > 3)",
    "SELECT id FROM t WHERE x = ANY (SELECT y FROM u)",
    # WITH
    "WITH a AS (SELECT k FROM t), b AS (SELECT k FROM a WHERE k > 1), c AS (SELECT a.k FROM a JOIN b ON a.k = b.k)"
    " SELECT count(*) AS n FROM c JOIN b ON b.k = c.k",
    "WITH c AS (SELECT id, count(*) OVER () AS n FROM u) SELECT k, count(*) AS n FROM t GROUP BY k",
    "WITH c AS (SELECT k, sum(x) AS s FROM t GROUP BY k) SELECT * FROM c WHERE s > 3",
    "WITH c AS (SELECT k, sum(x) AS s FROM t GROUP BY k) SELECT a.k, a.s FROM c AS a JOIN c AS b ON a.s = b.s",
    "WITH c AS (SELECT k, sum(x) AS s FROM t GROUP BY k), d AS (SELECT max(s) AS m FROM c)"
    " SELECT k FROM c, d WHERE s = m",
    "WITH c AS (SELECT * FROM t WHERE x > 2) SELECT id FROM c WHERE x = (SELECT max(x) FROM c)",
    "WITH c AS (SELECT id, k FROM t) SELECT id FROM c WHERE EXISTS (SELECT 1 FROM c AS o WHERE o.k < c.k)",
    "WITH c AS (SELECT id FROM t) SELECT id FROM c UNION ALL SELECT id + 1 FROM c",
    # windows
    "SELECT id, sum(x) OVER (PARTITION BY k) AS total FROM t",
    "SELECT id, row_number() OVER (PARTITION BY k ORDER BY id) AS n, rank() OVER (PARTITION BY k, s ORDER BY x) AS r"
    " FROM t",
    "SELECT id, lag(x) OVER (PARTITION BY k + 1 ORDER BY id) AS before FROM t",
    "SELECT id, row_number() OVER (ORDER BY id) AS n, sum(x) OVER (PARTITION BY k) AS total FROM t",
    "SELECT id, avg(x) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS m FROM t",
    "SELECT id FROM t QUALIFY row_number() OVER (PARTITION BY k ORDER BY id) = 1",
    "SELECT id, rank() OVER (PARTITION BY k ORDER BY x) AS r FROM t QUALIFY r < 3",
    "SELECT k, sum(x) AS s, rank() OVER (ORDER BY sum(x)) AS r FROM t GROUP BY k",
    "SELECT k, s, sum(sum(x)) OVER (PARTITION BY k) AS total, count(*) AS n FROM t GROUP BY k, s",
    "SELECT id, total FROM (SELECT id, k, sum(x) OVER (PARTITION BY k) AS total FROM t) WHERE total > 5",
    "SELECT k, max(total) AS m FROM (SELECT k, sum(x) OVER (PARTITION BY k) AS total FROM t) GROUP BY k",
    "SELECT id, last_value(x IGNORE NULLS) OVER (PARTITION BY k ORDER BY id) AS l FROM t",
    "SELECT id, sum(x) OVER w AS a, max(x) OVER w AS b FROM t WINDOW w AS (PARTITION BY k)",
    "SELECT id FROM t WINDOW w AS (PARTITION BY k ORDER BY id) QUALIFY row_number() OVER w = 2",
    "SELECT k, x FROM t QUALIFY sum(x) OVER (PARTITION BY k) > 10",
    "SELECT DISTINCT k, count(*) OVER (PARTITION BY k) AS n FROM t",
    'SELECT "Odd name", sum(x) OVER (PARTITION BY "Odd name", k) AS s FROM t',
    'SELECT a."Odd name", b.id FROM t AS a JOIN t AS b ON a."Odd name" = b.x',
    # DISTINCT and sets
    "SELECT DISTINCT NULL AS z, k FROM t",
    "SELECT k FROM t UNION SELECT NULL",
    "SELECT DISTINCT k FROM t",
    "SELECT DISTINCT k, s, f FROM t",
    "SELECT DISTINCT k + 1 AS next FROM t ORDER BY next",
    "SELECT DISTINCT sum(x) AS s FROM t GROUP BY k",
    "SELECT count(*) AS n FROM (SELECT DISTINCT k, s FROM t)",
    "SELECT k, x FROM t UNION ALL SELECT k, y FROM u",
    "SELECT k, d FROM t UNION SELECT k, d FROM u",
    "SELECT k FROM t INTERSECT SELECT k FROM u",
    "SELECT k FROM t INTERSECT ALL SELECT k FROM u",
    "SELECT k, s FROM t EXCEPT SELECT k, s FROM u",
    "SELECT k FROM t EXCEPT ALL SELECT k FROM u",
    "SELECT s, count(*) AS n, sum(v) AS t FROM (SELECT s, x AS v FROM t UNION ALL SELECT s, y FROM u) GROUP BY s",
    "SELECT count(*) AS n FROM (SELECT x AS v FROM t UNION ALL SELECT y FROM u UNION ALL SELECT 5)",
    "SELECT w.id, v.name FROM (SELECT id, k FROM t UNION ALL SELECT id, k FROM u) AS w JOIN v ON v.k = w.k",
    "SELECT k FROM t UNION (SELECT k FROM u EXCEPT SELECT k FROM v)",
    "SELECT 1 AS a UNION ALL SELECT 2 UNION ALL SELECT NULL",
    "SELECT k FROM t EXCEPT SELECT 3",
    "SELECT id FROM t WHERE id IN (SELECT id FROM t WHERE x > 3 UNION SELECT id FROM u WHERE y < 2)",
    "SELECT count(*) AS n FROM (SELECT k FROM t WHERE k > 1 INTERSECT SELECT k FROM u)",
]  # fmt: skip

ORDERED = [
    "SELECT id, x FROM t ORDER BY x, id",
    "SELECT id FROM t ORDER BY x DESC NULLS FIRST, f NULLS FIRST, id DESC",
    "SELECT id FROM t ORDER BY abs(x - 3), id",
    "SELECT -id AS id FROM t ORDER BY id",
    "SELECT id, x FROM t ORDER BY x DESC, id LIMIT 5",
    "SELECT id, x FROM t ORDER BY 2 NULLS FIRST, 1 LIMIT 5 OFFSET 3",
    "SELECT id FROM t ORDER BY s, xs, st, id OFFSET 30",
    "SELECT id FROM t ORDER BY id LIMIT 0",
    "SELECT s, count(*) AS n FROM t GROUP BY s ORDER BY n DESC, s LIMIT 3",
    "SELECT s FROM t GROUP BY s ORDER BY sum(x) DESC, s",
    "SELECT k AS key, sum(x) AS total FROM t GROUP BY k ORDER BY sum(x) + k, key",
    "SELECT id FROM (SELECT id, x, k FROM t ORDER BY x, id) WHERE k > 1",
    "SELECT id + 1 AS next FROM (SELECT * FROM t ORDER BY x, id) LIMIT 7",
    "SELECT id + 1 AS next FROM (SELECT id FROM t ORDER BY x, id) LIMIT 7",
    "SELECT id, sum(id) OVER (PARTITION BY k) AS s FROM (SELECT id, k FROM t ORDER BY x, id) ORDER BY id",
    "SELECT * FROM (SELECT id, x FROM t ORDER BY x, id LIMIT 9) ORDER BY id DESC",
    "SELECT x FROM (SELECT id, x FROM t ORDER BY id LIMIT 9)",
    "SELECT DISTINCT k, s FROM t ORDER BY s, k LIMIT 4",
    "SELECT k FROM t UNION SELECT k FROM u ORDER BY k",
    "SELECT id, x FROM t UNION ALL SELECT id + 100, y FROM u ORDER BY x NULLS FIRST, id LIMIT 12",
    "SELECT id, rank() OVER (PARTITION BY k ORDER BY x) AS r FROM t ORDER BY r, id",
    "SELECT DISTINCT ON (k) k, id, x FROM t ORDER BY k, x DESC, id",
    "SELECT DISTINCT ON (k, s) id FROM t ORDER BY k, s, id DESC",
    "SELECT sum(x) AS total FROM t ORDER BY total",
    "SELECT count(*) AS n, sum(x) AS s FROM (SELECT x FROM t ORDER BY x, id LIMIT 10)",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.k = u.k ORDER BY t.x * u.y DESC, t.id, uid LIMIT 6",
    "SELECT id FROM e ORDER BY x",
    'SELECT id AS "Id", "Odd name" FROM t ORDER BY "Odd name", "Id"',
]

COUNTED = [  # which rows is free, how many is not
    "SELECT count(*) AS n FROM (SELECT id FROM t LIMIT 7)",
    "SELECT count(*) AS n FROM (SELECT id FROM t LIMIT 7 OFFSET 36)",
    "SELECT count(*) AS n FROM (SELECT id FROM t OFFSET 36)",
    "SELECT count(*) AS n FROM (SELECT id FROM t UNION ALL (SELECT id FROM u LIMIT 3))",
    "SELECT count(*) AS n FROM (SELECT DISTINCT ON (k) k, id FROM t)",
]


@pytest.mark.parametrize("sql", [*CUT, *COUNTED])
def test_stages_give_the_rows_of_the_whole(cluster: Cluster, sql: str) -> None:
    plan = check(cluster, sql)
    assert not plan[-1].why.startswith("one task"), plan[-1].why


@pytest.mark.parametrize("sql", ORDERED)
def test_stages_keep_the_order(cluster: Cluster, sql: str) -> None:
    plan = check(cluster, sql, ordered=True)
    assert not plan[-1].why.startswith("one task"), plan[-1].why


NOT_CUT = [
    'SELECT "Odd name", n FROM (SELECT "Odd name", count(*) AS n FROM t GROUP BY ROLLUP ("Odd name")) WHERE n > 2',
    "SELECT k, s, sum(x) AS x FROM t GROUP BY CUBE (k, s)",
    "SELECT grouping(k) AS g, k, sum(x) AS x FROM t GROUP BY GROUPING SETS ((k), ())",
    "SELECT * FROM t, LATERAL (SELECT max(y) AS m FROM u WHERE u.k = t.k) AS l",
    "SELECT id, unnest(st) FROM t",
    "SELECT * FROM (PIVOT (SELECT k, b, x FROM t) ON b IN (true, false) USING sum(x) GROUP BY k)",
    "SELECT s, sum(x) AS total FROM t GROUP BY s ORDER BY (SELECT count(*) FROM v), s",
    "SELECT k, n FROM (SELECT k, count(*) AS n FROM t GROUP BY ROLLUP (k)) WHERE n > 2",
    "SELECT string_agg(s, ',') AS all_of_them FROM (SELECT s, id FROM t ORDER BY s, id)",
]


def test_a_statement_that_is_not_cut_keeps_its_order(cluster: Cluster) -> None:
    check(cluster, "SELECT k, count(*) AS n FROM t GROUP BY ROLLUP (k) ORDER BY n, k NULLS FIRST LIMIT 5", ordered=True)


@pytest.mark.parametrize("sql", NOT_CUT)
def test_what_is_not_cut_is_right_all_the_same(cluster: Cluster, sql: str) -> None:
    assert any("one task" in stage.why for stage in check(cluster, sql))
