"""Every type goes from task to task and comes back as it was."""

from __future__ import annotations

import uuid
from datetime import time
from decimal import Decimal

import pyarrow as pa
import pytest

from staged.executor import Cluster, check

COLUMNS = {
    "small": pa.array([1, None, 1, -3], pa.int32()),
    "unsigned": pa.array([0, None, 2**63, 2**64 - 1], pa.uint64()),
    "single": pa.array([0.5, None, 0.5, float("nan")], pa.float32()),
    "double": pa.array([-0.0, None, 0.0, float("inf")], pa.float64()),
    "wide": pa.array([Decimal("1.5"), None, Decimal("1.5"), Decimal("9" * 26)], pa.decimal128(38, 10)),
    "bytes": pa.array([b"a", None, b"a", b"\x00\xff"], pa.binary()),
    "fixed": pa.array([b"ab", None, b"ab", b"\x00\xff"], pa.binary(2)),
    "clock": pa.array([time(1, 2, 3), None, time(1, 2, 3), time(0)], pa.time64("us")),
    "nanos": pa.array([1, None, 1, 10**18 + 1], pa.timestamp("ns")),
    "zoned": pa.array([1, None, 1, 10**15], pa.timestamp("us", "UTC")),
    "uuid": pa.array([uuid.UUID(int=n).bytes if n else None for n in (1, 0, 1, 2**127)], pa.uuid()),
    "pair": pa.array([[1.0, 2.0], None, [1.0, 2.0], [0.0, None]], pa.list_(pa.float32(), 2)),
    "dict": pa.array([[("a", 1)], None, [("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    "deep": pa.array([[{"A b": [1]}], None, [{"A b": [1]}], []], pa.list_(pa.struct([("A b", pa.list_(pa.int64()))]))),
}  # fmt: skip

CAST = {
    "TINYINT": "small", "UTINYINT": "abs(small)", "UBIGINT": "abs(small)", "HUGEINT": "small",
    "ENUM('x', 'y')": "CASE WHEN small = 1 THEN 'x' END", "TIMESTAMP_S": "'2024-01-02 03:04:05'",
    "TIMESTAMP_MS": "nanos", "INTERVAL": "'3 days'", "SMALLINT[]": "[small]", "JSON": "'{\"a\": 1}'",
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster({"t": pa.table({"id": pa.array(range(4), pa.int64()), **COLUMNS})})


@pytest.mark.parametrize("name", COLUMNS)
def test_a_type_survives_every_exchange(cluster: Cluster, name: str) -> None:
    check(cluster, f"SELECT {name}, count(*) AS n, min(id) AS first FROM t GROUP BY {name}")
    check(cluster, f"SELECT DISTINCT {name}, typeof({name}) AS word FROM t")
    check(cluster, f"SELECT id, {name}, rank() OVER (PARTITION BY {name} ORDER BY id) AS r FROM t")
    check(cluster, f"SELECT a.id, b.id AS other FROM t AS a JOIN t AS b ON a.{name} = b.{name}")
    if name != "dict":  # which cannot be ordered
        check(cluster, f"SELECT {name} FROM t ORDER BY {name}, id", ordered=True)


@pytest.mark.parametrize("kind", CAST)
def test_a_type_that_only_the_kernel_has_is_given_back(cluster: Cluster, kind: str) -> None:
    value = f"CAST({CAST[kind]} AS {kind})"
    sql = f"SELECT typeof(v) AS word, v::VARCHAR AS text, count(*) AS n FROM (SELECT {value} AS v FROM t) GROUP BY v"
    plan = check(cluster, sql)
    assert len(plan) > 1, plan[0].why
