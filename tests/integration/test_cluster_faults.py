"""The words of the public API on several nodes, one of which is lost in the middle: right rows, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_tool import Cluster, Node, why_not

LOSSES = {"a_scan": Node.kill, "an_exchange": Node.cut, "a_pool": Node.kill, "a_write": Node.cut}


@pytest.mark.alone
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
def test_a_job_that_loses_a_node_gives_the_right_rows_or_says_that_they_are_lost(tmp_path: Path) -> None:
    with Cluster(head_cpus=0) as cluster:  # it has the driver, and is not lost
        cluster.add_node()
        cluster.add_node()
        with cluster.driver("integration.cluster_faults", str(tmp_path), *LOSSES) as driver:
            for during, lose in LOSSES.items():
                driver.hear("begin")
                driver.answer()
                driver.hear("lose the node")
                node = cluster.node_at((tmp_path / during).read_text())
                lose(node)
                driver.answer()
                cluster.add_node()  # while the job sees what is lost
                driver.hear("right")
                node.kill()
