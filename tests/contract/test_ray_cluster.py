"""Ray on several nodes: what happens when they die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster_tool import Cluster, why_not

pytestmark = [pytest.mark.alone, pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")]


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """The head alone: a test adds nodes, and none of them is left to the next."""
    yield head
    head.leave_alone()


def test_a_node_that_dies_takes_its_workers_and_rows_only(cluster: Cluster) -> None:
    node = cluster.add_node()
    with cluster.driver("contract.cluster_scenarios", "a_node_dies") as driver:
        driver.hear("kill")
        node.kill()
        driver.answer()
        driver.hear("right")


@pytest.mark.parametrize("scenario", ["a_node_dies", "a_stream_never_ends"])
def test_a_node_that_cannot_be_reached_is_a_dead_one(cluster: Cluster, scenario: str) -> None:
    node = cluster.add_node()
    with cluster.driver("contract.cluster_scenarios", scenario) as driver:
        driver.hear("kill")
        node.cut()
        driver.answer()
        driver.hear("right")


def test_a_call_that_hangs_on_another_node_is_ended(cluster: Cluster) -> None:
    cluster.add_node()
    with cluster.driver("contract.cluster_scenarios", "a_call_hangs_elsewhere") as driver:
        driver.hear("right")
