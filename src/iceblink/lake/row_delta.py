"""A snapshot that changes rows: data files out and in, delete files in, and what of others' work it stands.

References
----------
.. [1] Iceberg table spec, "Snapshots", "Manifests"; Iceberg documentation, "Isolation levels of write operations".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from typing import Literal, TypeAlias

from pyiceberg.exceptions import ValidationException
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.manifest import ManifestWriterV2 as DataManifestWriter
from pyiceberg.table import Transaction
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _OverwriteFiles
from pyiceberg.typedef import EMPTY_DICT

from iceblink.lake.delete_files import PATH_ID
from iceblink.lake.summaries import counted
from iceblink.lake.table import Table
from iceblink.predicate import Predicate

Isolation: TypeAlias = Literal["serializable", "snapshot"]


class RowDelta(_OverwriteFiles):
    """PyIceberg's producer of overwrites, with position delete files beside the data files.

    Delete files that name one data file go with it.

    Parameters
    ----------
    transaction : pyiceberg Transaction
    properties : dict of str to str
        For the snapshot's summary.
    branch : str
    replaces : bool
        Whether the snapshot is an overwrite whatever it does.
    """

    def __init__(
        self, transaction: Transaction, properties: dict[str, str], branch: str, replaces: bool = False
    ) -> None:
        super().__init__(Operation.OVERWRITE, transaction, transaction._table.io, None, properties, branch)
        self._added_delete_files: list[DataFile] = []
        self._dangling: list[DataFile] = []
        self._replaces = replaces

    def append_delete_file(self, file: DataFile) -> None:
        """Add a delete file, of any partition spec of the table."""
        self._added_delete_files.append(file)

    def _manifests(self) -> list[ManifestFile]:
        by_spec: dict[int, list[DataFile]] = defaultdict(list)
        for file in self._added_delete_files:
            by_spec[file.spec_id].append(file)
        kept = [self._without_dangling(manifest) for manifest in super()._manifests()]
        return [*kept, *(self._delete_manifest(*one) for one in by_spec.items())]

    def _delete_manifest(self, spec_id: int, files: list[DataFile]) -> ManifestFile:
        with self._delete_manifest_writer(spec_id) as writer:
            for file in files:
                status, own = ManifestEntryStatus.ADDED, self._snapshot_id
                writer.add(ManifestEntry.from_args(status=status, snapshot_id=own, data_file=file))
        return writer.to_manifest_file()

    def _without_dangling(self, manifest: ManifestFile) -> ManifestFile:
        """Return a manifest without the delete files of data files that are removed."""
        if manifest.content != ManifestContent.DELETES or not self._deleted_data_files:
            return manifest
        removed = {file.file_path.encode() for file in self._deleted_data_files}
        entries = self.fetch_manifest_entry(manifest)
        dangling = {entry.data_file for entry in entries if _target(entry.data_file) in removed}
        if not dangling:
            return manifest
        self._dangling += dangling
        with self._delete_manifest_writer(manifest.partition_spec_id) as writer:
            for entry in entries:
                (writer.delete if entry.data_file in dangling else writer.existing)(entry)
        return writer.to_manifest_file()

    def _delete_manifest_writer(self, spec_id: int) -> _DeleteManifestWriter:
        output = self.new_manifest_output()
        return _DeleteManifestWriter(self.spec(spec_id), self.schema(), output, self._snapshot_id, self._compression)

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        return counted(
            self._transaction.table_metadata,
            self._named(),
            [*self._added_data_files, *self._added_delete_files],
            [*self._deleted_data_files, *self._dangling],
            self._parent_snapshot_id,
            snapshot_properties,
        )

    def _named(self) -> Operation:
        """Return what the spec calls a snapshot that does this."""
        if self._replaces:
            return Operation.OVERWRITE
        if not self._added_data_files:
            return Operation.DELETE
        return Operation.OVERWRITE if self._deleted_data_files or self._added_delete_files else Operation.APPEND


class _DeleteManifestWriter(DataManifestWriter):
    """PyIceberg writes manifests of data files only."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def _target(file: DataFile) -> bytes | None:
    """Return the path of the one data file that a delete file names, if it says so."""
    first, last = ((bounds or {}).get(PATH_ID) for bounds in (file.lower_bounds, file.upper_bounds))
    return first if first == last else None


def check_unmet(base: Table, head: Table, touched: Set[str], looked_at: Predicate, level: Isolation) -> None:
    """Refuse a change if what others committed meanwhile is in its way.

    Parameters
    ----------
    base, head : Table
        The version that the change was made from, and the one that it is to follow.
    touched : set of str
        Data files that it removes, or deletes rows of: they must be there still, and no more rows of them deleted.
    looked_at : Predicate
        The rows that were looked at: if ``serializable``, no file that may have such has come, gone or lost rows.
    level : {"serializable", "snapshot"}

    Raises
    ------
    pyiceberg.exceptions.ValidationException
    """
    if base.snapshot_id != head.snapshot_id:
        paths = touched if level == "snapshot" else None
        if _files(base, looked_at, paths) != _files(head, looked_at, paths):
            raise ValidationException("others changed what this change was made from")


def _files(table: Table, predicate: Predicate, paths: Set[str] | None) -> Mapping[str, frozenset[str]]:
    """Return the data files that may have such rows, all or those of `paths`, each with what deletes apply to it."""
    return {
        entry.path: frozenset(f"{delete.path}@{delete.offset}" for delete in entry.deletes)
        for entry in table.files(predicate)
        if paths is None or entry.path in paths
    }
