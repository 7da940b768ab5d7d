"""Which files a snapshot brought into a table, and which it took out."""

from __future__ import annotations

from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot


def added_files(head: IcebergTable, snapshot: Snapshot) -> set[str]:
    """Return the paths of the files that a snapshot added."""
    return _changed_files(head, snapshot, ManifestEntryStatus.ADDED)


def removed_files(head: IcebergTable, snapshot: Snapshot) -> set[str]:
    """Return the paths of the files that a snapshot took out of the table."""
    return _changed_files(head, snapshot, ManifestEntryStatus.DELETED)


def _changed_files(head: IcebergTable, snapshot: Snapshot, status: ManifestEntryStatus) -> set[str]:
    return {
        entry.data_file.file_path
        for manifest in snapshot.manifests(head.io)
        if manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in manifest.fetch_manifest_entry(head.io, discard_deleted=False)
        if entry.status == status and entry.snapshot_id == snapshot.snapshot_id
    }
