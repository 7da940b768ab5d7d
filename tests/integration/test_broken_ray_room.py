"""Object stores that are full, and the disks that they spill to too: a run ends with an error of ours, or goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_tool import Cluster, why_not
from iceblink.config import MIB


@pytest.mark.alone
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
@pytest.mark.parametrize(
    "names",
    [("a_write_ends", "a_write_goes_on"), ("rows_that_were_spilled",)],  # Ray frees disk some time after rows are gone
    ids=["writes", "reads"],
)
def test_a_full_spill_disk_ends_a_run_unless_it_is_freed_in_time(names: tuple[str, ...], tmp_path: Path) -> None:
    with (
        Cluster(spill_bytes=400 * MIB) as cluster,
        cluster.driver("integration.ray_room", str(tmp_path), *names) as driver,
    ):
        for name in names:
            driver.hear(name)
