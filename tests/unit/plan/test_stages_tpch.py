"""All 22 TPC-H queries, cut into stages: the kernel's answers, with everything exchanged and with broadcasts."""

from __future__ import annotations

import pytest

from staged.executor import Cluster, check
from staged.tpch import QUERIES, tpch


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(tpch())


@pytest.mark.parametrize("name", QUERIES)
def test_a_tpch_query_is_cut_and_right(cluster: Cluster, name: str) -> None:
    plan = check(cluster, QUERIES[name], broadcasts=(0, 4000, 1e9))
    assert len(plan) > 1, plan[-1].why
    assert not any("in one task" in stage.why for stage in plan)


def test_most_tpch_queries_find_something(cluster: Cluster) -> None:
    empty = [name for name, sql in QUERIES.items() if not cluster.whole(sql).num_rows]
    assert empty == []
