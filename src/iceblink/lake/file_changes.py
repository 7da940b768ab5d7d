"""A snapshot of format version 3: data files out and in, deletion vectors in, row ids kept.

PyIceberg's own producers write no manifests of this version, and drop the row ids of those they read.

References
----------
.. [1] Iceberg table spec, "Snapshots", "Row Lineage", "Deletion Vectors".
"""

from __future__ import annotations

from collections import defaultdict

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Transaction
from pyiceberg.table.snapshots import Operation

from iceblink.lake.deletes import REFERENCED, target_of
from iceblink.lake.manifest_files import Origin
from iceblink.lake.rewrite_snapshot import FilesReplaced, added


class FilesChanged(FilesReplaced):
    """Makes an append, an overwrite or a delete.

    A deletion vector takes the place of all deletes that name its data file; with a data file go the deletes that name
    it. Delete files that do not say which one data file they are for stay, and readers pass them over.

    Parameters
    ----------
    transaction : pyiceberg Transaction
    properties : dict of str to str
        For the snapshot's summary.
    branch : str
    origin : Origin or None
        Of the snapshot before, if there is one.
    replaces : bool
        Whether the snapshot is an overwrite whatever it does.
    """

    def __init__(
        self,
        transaction: Transaction,
        properties: dict[str, str],
        branch: str,
        origin: Origin | None,
        replaces: bool = False,
    ) -> None:
        super().__init__(transaction, transaction._table.io, properties, branch, origin)
        self._anew, self._replaces = False, replaces

    def append_delete_file(self, file: DataFile) -> None:
        """Add a deletion vector, of any partition spec of the table."""
        self._added_delete_files.append(file)

    def start_anew(self) -> None:
        """Take nothing over from the snapshot before."""
        self._parent_snapshot_id, self._anew = None, True

    def _rewritten(self, listed: list[ManifestFile]) -> list[ManifestFile]:
        leaving = {file.file_path for file in self._deleted_data_files}
        over = leaving | {file[REFERENCED] for file in self._added_delete_files}

        def unneeded(entry: ManifestEntry) -> bool:
            return target_of(entry.data_file) in over

        self.replace(leaving, self._added_data_files, None, unneeded if over else None)
        made = super()._rewritten(listed)
        by_spec: dict[int, list[DataFile]] = defaultdict(list)
        for file in self._added_delete_files:
            by_spec[file.spec_id].append(file)
        for spec_id, files in by_spec.items():
            made += self._write((spec_id, ManifestContent.DELETES), map(self._coming, files), added)
        self._named = self._operation_of()
        return made

    def _operation_of(self) -> Operation:
        """Return what the spec calls a snapshot that does this."""
        if self._replaces:
            return Operation.OVERWRITE
        changed = bool(self._removed or self._added_delete_files or self._anew)
        if changed and not self._added_data_files:
            return Operation.DELETE
        return Operation.OVERWRITE if changed else Operation.APPEND
