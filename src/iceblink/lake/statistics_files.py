"""Statistics files are written and set: one commit of metadata, no new snapshot.

References
----------
.. [1] Iceberg table spec, "Table Statistics"; Iceberg REST catalog spec, "SetStatisticsUpdate".
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from uuid import uuid4

from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.statistics import StatisticsFile

from iceblink.errors import CommitUnknown, ConfigError, DataCorrupt, SnapshotNotFound, WriteError
from iceblink.lake.blobs import Blob, Puffin
from iceblink.lake.change import change
from iceblink.lake.format_version import check_writable
from iceblink.lake.leftovers import deleted
from iceblink.lake.statistics import NDV, THETA, Statistics, blobs_of, distinct_values, rows_of
from iceblink.lake.table import Table
from iceblink.lake.theta import Theta


def set_statistics(table: Table, sketches: Mapping[str, Theta]) -> Statistics:
    """Write sketches of columns to a statistics file and set it for the snapshot of this version, in one commit.

    Eager. What a statistics file of the same snapshot says of other columns is kept; that file then belongs to older
    metadata only. Killed or interrupted before the commit, this leaves a file that `remove_orphan_files` finds.

    Parameters
    ----------
    table : Table
        With a snapshot.
    sketches : mapping of str to Theta
        By column.

    Raises
    ------
    SnapshotNotFound
        The snapshot has expired meanwhile.
    CommitConflict, CommitUnknown, WriteError
        As of any change of metadata; nothing was committed, and the file is gone, but where that is unknown.
    StorageError
        What the file before says of other columns cannot be read now. Nothing was committed.
    """
    check_writable(table)
    snapshot = table.snapshot
    if snapshot is None:
        raise ConfigError("the table is empty: there is nothing to tell", table.name, "write rows first")
    ids = {one.name: one.field_id for one in table.iceberg_schema.fields}
    made = [_blob(ids[name], snapshot, sketch) for name, sketch in sketches.items()]
    tries: list[tuple[StatisticsFile | None, StatisticsFile]] = []  # the file before, and ours that has its others

    def stage(transaction: Transaction) -> None:
        if transaction.table_metadata.snapshot_by_id(snapshot.snapshot_id) is None:
            raise SnapshotNotFound(
                f"snapshot {snapshot.snapshot_id} has expired meanwhile", table.name, "compute the statistics again"
            )
        before = about(transaction.table_metadata)
        if not tries or tries[-1][0] != before:  # others may have told of other columns meanwhile
            tries.append((before, _written(table, snapshot, made, before)))
        transaction.update_statistics().set_statistics(tries[-1][1]).commit()

    def about(metadata: TableMetadata) -> StatisticsFile | None:
        return next((one for one in metadata.statistics if one.snapshot_id == snapshot.snapshot_id), None)

    try:
        after = change(table, stage, about)
    except CommitUnknown:
        raise  # the table may name one
    except Exception:  # Ctrl-C may come when it does
        for _, file in tries:
            deleted(table.pyiceberg.io, file.statistics_path)
        raise
    for _, file in tries[:-1]:  # certainly refused
        deleted(table.pyiceberg.io, file.statistics_path)
    _, file = tries[-1]
    distinct = distinct_values(after.at(snapshot=snapshot.snapshot_id), file)
    return Statistics(table.name, snapshot.snapshot_id, rows_of(snapshot), distinct, file.statistics_path)


def _blob(field_id: int, snapshot: Snapshot, sketch: Theta) -> Blob:
    told = {NDV: str(round(sketch.estimate))}
    return Blob(THETA, (field_id,), snapshot.snapshot_id, snapshot.sequence_number or 0, sketch.to_bytes(), told)


def _written(table: Table, snapshot: Snapshot, made: list[Blob], before: StatisticsFile | None) -> StatisticsFile:
    """Write a file of what was made, and of what the file `before` says of other columns."""
    blobs = [*made, *_others(table, before, {blob.fields for blob in made})]
    puffin = Puffin.of(blobs, f"iceblink {version('iceblink')}")
    name = f"{snapshot.snapshot_id}-{uuid4()}.stats"
    path = table.pyiceberg.location_provider().new_metadata_location(name)
    try:
        _write(table, path, puffin.content)
    except BaseException:
        deleted(table.pyiceberg.io, path)
        raise
    return _listed(path, snapshot, puffin, blobs)


def _others(table: Table, before: StatisticsFile | None, without: set[tuple[int, ...]]) -> list[Blob]:
    """Return the blobs of a statistics file that are of other columns; none where it is damaged."""
    if before is None:
        return []
    try:
        blobs = blobs_of(table, before)
    except DataCorrupt:
        return []  # what is made now comes in its place
    return [blob for blob in blobs if not (blob.kind == THETA and blob.fields in without)]


def _listed(path: str, snapshot: Snapshot, puffin: Puffin, blobs: list[Blob]) -> StatisticsFile:
    return StatisticsFile.model_validate(
        {
            "snapshot-id": snapshot.snapshot_id,
            "statistics-path": path,
            "file-size-in-bytes": len(puffin.content),
            "file-footer-size-in-bytes": puffin.footer_bytes,
            "blob-metadata": [
                {
                    "type": blob.kind,
                    "snapshot-id": blob.snapshot_id,
                    "sequence-number": blob.sequence_number,
                    "fields": list(blob.fields),
                    "properties": dict(blob.properties),
                }
                for blob in blobs
            ],
        }
    )


def _write(table: Table, path: str, content: bytes) -> None:
    try:
        table.storage.write(path, content)
    except OSError as error:
        hint = "check that its folder may be written, and has space"
        raise WriteError(f"the statistics file cannot be written: {error}", path, hint) from error
