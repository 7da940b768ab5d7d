"""What metadata may become, whichever of two writers at once lands first."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import SnapshotLogEntry

import iceblink as ib
from iceblink.lake.succession import succeeding


def metadata(lake: ib.Lake) -> TableMetadata:
    return lake.session.catalog.load("n.t").pyiceberg.metadata


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_snapshot_whose_number_is_taken_is_to_be_made_anew(tmp_path: Path, version: str) -> None:
    with ib.connect(tmp_path) as lake:
        lake.create("n.t", {"id": "long"}, properties={"format-version": version})
        lake.write("n.t", {"id": [1]})
        before = metadata(lake)
        lake.write("n.t", {"id": [2]})
        after = metadata(lake)
    assert succeeding(before, after).snapshots == after.snapshots
    landed = before.model_copy(update={"last_sequence_number": 2})  # by a writer to another branch
    with pytest.raises(CommitFailedException):
        succeeding(landed, after)
    orphaned = after.model_copy(
        update={"snapshots": [one.model_copy(update={"parent_snapshot_id": None}) for one in after.snapshots]}
    )
    with pytest.raises(CommitFailedException):
        succeeding(landed, orphaned)


def test_a_log_that_has_snapshots_which_are_gone_gets_no_entry_twice(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        lake.write("n.t", {"id": [1]}, "create")
        before = metadata(lake)
        lake.write("n.t", {"id": [2]})
        after = metadata(lake)
    gone = [SnapshotLogEntry.model_validate({"snapshot-id": number, "timestamp-ms": number}) for number in (1, 2)]
    stale = before.model_copy(update={"snapshot_log": [*gone, *before.snapshot_log]})
    made = succeeding(stale, after.model_copy(update={"snapshot_log": [*gone, *after.snapshot_log]}))
    assert [one.snapshot_id for one in made.snapshot_log] == [one.snapshot_id for one in after.snapshots]
