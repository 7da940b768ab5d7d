"""What a table's metadata may become: time and sequence numbers do not go back, and its log of snapshots has no gaps.

PyIceberg does not see to it. Writers' clocks differ, and other engines refuse to read a table whose log goes back by
more than a minute. Two branches may be written at once: what was numbered for one of them before the other one landed
would be older than it, to deletes and to followers. And whoever asks what was current at a time, between a snapshot
that is kept and a later one that was expired, would be given the kept one.

References
----------
.. [1] Iceberg table spec, "Table Metadata Fields", ``last-updated-ms``, ``last-sequence-number`` and ``snapshot-log``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import StagedTable
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1
from pyiceberg.table.snapshots import SnapshotLogEntry


def succeeding(before: TableMetadata, after: TableMetadata) -> TableMetadata:
    """Return `after`, made of `before` by PyIceberg, as the specification has it.

    Raises
    ------
    CommitFailedException
        A snapshot that comes has a sequence number that is taken: it is to be made anew.
    """
    _check_numbers(before, after)
    least_ms, known = before.last_updated_ms, {one.snapshot_id for one in before.snapshots}
    snapshots = [
        one if one.snapshot_id in known or one.timestamp_ms >= least_ms else one.model_copy(update=_at(least_ms))
        for one in after.snapshots
    ]
    return after.model_copy(
        update={
            "last_updated_ms": max(after.last_updated_ms, least_ms),
            "snapshots": snapshots,
            "snapshot_log": _log(before, after),
        }
    )


def _check_numbers(before: TableMetadata, after: TableMetadata) -> None:
    if isinstance(before, TableMetadataV1):  # snapshots are not numbered
        return
    known, last = {one.snapshot_id for one in before.snapshots}, before.last_sequence_number
    for one in after.snapshots:
        if one.snapshot_id not in known and one.sequence_number is not None and one.sequence_number <= last:
            raise CommitFailedException(f"others have sequence number {one.sequence_number} now: {last} is the last")


def _log(before: TableMetadata, after: TableMetadata) -> list[SnapshotLogEntry]:
    left = {one.snapshot_id for one in after.snapshots}
    gaps = [place for place, one in enumerate(before.snapshot_log) if one.snapshot_id not in left]
    old = before.snapshot_log[gaps[-1] + 1 :] if gaps else before.snapshot_log
    new = after.snapshot_log[_common(before.snapshot_log, after.snapshot_log) :]
    least_ms = before.last_updated_ms
    return [*old, *(one if one.timestamp_ms >= least_ms else one.model_copy(update=_at(least_ms)) for one in new)]


def _common(before: list[SnapshotLogEntry], after: list[SnapshotLogEntry]) -> int:
    """Return how many entries at the beginning of `after` are those of `before` that were left in it."""
    count = 0
    for one in before:
        count += count < len(after) and after[count] == one
    return count


def _at(time_ms: int) -> dict[str, int]:
    return {"timestamp_ms": time_ms}


def with_succession(catalog: Catalog) -> Catalog:
    """Let a catalog of PyIceberg's that makes metadata itself, and does not leave that to a server, hold to this."""
    if isinstance(catalog, MetastoreCatalog):
        vars(catalog)["_update_and_stage_table"] = _staging(
            catalog._update_and_stage_table
        )  # private, and all there is
    return catalog


def _staging(stage: Callable[..., StagedTable]) -> Callable[..., StagedTable]:
    def staged(current: Any, *given: Any, **named: Any) -> StagedTable:
        made = stage(current, *given, **named)
        return made if current is None else succeeding_table(current.metadata, made)

    return staged


def succeeding_table(before: TableMetadata, staged: StagedTable) -> StagedTable:
    """Return a table whose metadata is about to be written, as `succeeding` has it; raises as that does."""
    metadata = succeeding(before, staged.metadata)
    return StagedTable(staged.name(), metadata, staged.metadata_location, staged.io, staged.catalog)
