"""A snapshot of operation ``replace``: the same rows in other data files, or the same files in other manifests.

PyIceberg makes no such snapshot, and none at all in format version 3; they are made here out of its parts.

References
----------
.. [1] Iceberg table spec, "Snapshots" (operation ``replace``), "Manifests", "Sequence Number Inheritance",
   "Snapshot Row IDs".
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyiceberg.exceptions import ValidationException
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata, TableMetadataV3
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate, UpdatesAndRequirements
from pyiceberg.table.update.snapshot import _SnapshotProducer  # private, and all that makes snapshots is one
from pyiceberg.typedef import EMPTY_DICT

from iceblink.errors import WriteError
from iceblink.lake.manifest_files import Origin, read_entries, read_manifest_list
from iceblink.lake.manifest_writers import ManifestListWriterV3, manifest_writer
from iceblink.lake.summaries import counted

MANIFEST_BYTES = "commit.manifest.target-size-bytes"
MANIFEST_BYTES_DEFAULT = 8 << 20

Kind = tuple[int, ManifestContent]
"""Spec id and content: a manifest has files of one kind."""


def writable_specs(metadata: TableMetadata) -> dict[int, Schema]:
    """Return the schema to write manifests with of each spec: the newest that has the columns it partitions by.

    A spec of which the metadata has no such schema any more is left out: its manifests cannot be written.
    """
    found: dict[int, Schema] = {}
    newest = (metadata.schema(), *sorted(metadata.schemas, key=lambda one: one.schema_id, reverse=True))
    for spec_id, spec in metadata.specs().items():
        sources = {one.source_id for one in spec.fields}
        # private: nested fields, too
        fit = next((one for one in newest if sources <= one._lazy_id_to_field.keys()), None)
        if fit is not None:
            found[spec_id] = fit
    return found


class Manifests(_SnapshotProducer["Manifests"]):
    """A snapshot made of the manifests that `_rewritten` gives.

    Parameters
    ----------
    transaction : pyiceberg Transaction
    io : pyiceberg FileIO
    properties : mapping of str to str
        For the summary.
    branch : str
    origin : Origin or None
        Of the snapshot before, if there is one.
    """

    _named = Operation.REPLACE
    """What the spec calls it."""

    def __init__(
        self, transaction: Transaction, io: FileIO, properties: Mapping[str, str], branch: str, origin: Origin | None
    ) -> None:
        super().__init__(Operation.OVERWRITE, transaction, io, None, dict(properties), branch)
        self._origin = origin
        self._added_delete_files: list[DataFile] = []
        self._removed: list[DataFile] = []
        metadata = transaction.table_metadata
        self._version = metadata.format_version
        self._manifest_bytes = int(metadata.properties.get(MANIFEST_BYTES, MANIFEST_BYTES_DEFAULT))
        self._writable = writable_specs(metadata)

    @abstractmethod
    def _rewritten(self, listed: list[ManifestFile]) -> list[ManifestFile]:
        """Return the manifests of the new snapshot, made of those of the snapshot before."""

    def _manifests(self) -> list[ManifestFile]:
        before = self._transaction.table_metadata.snapshot_by_id(self._parent_snapshot_id or 0)
        listed: list[ManifestFile] = []
        if before is not None and self._origin is not None:
            listed = read_manifest_list(before.manifest_list, self._origin)
        try:
            return self._rewritten([one for one in listed if one.has_added_files() or one.has_existing_files()])
        except BaseException:
            self._clean_all_uncommitted()
            raise

    def _commit(self) -> UpdatesAndRequirements:
        """Write the manifest list; in version 3 it gives ids to the rows that have none."""
        metadata, branch = self._transaction.table_metadata, self._target_branch
        if not isinstance(metadata, TableMetadataV3):
            return super()._commit()
        assert branch is not None, "a snapshot is made for a branch"
        manifests, sequence, first = self._manifests(), metadata.next_sequence_number(), metadata.next_row_id or 0
        name = f"snap-{self._snapshot_id}-0-{self.commit_uuid}.avro"
        path = self._transaction._table.location_provider().new_metadata_location(name)
        self._written_manifest_lists.append(path)
        output, parent = self._io.new_output(path), self._parent_snapshot_id
        with ManifestListWriterV3(output, self._snapshot_id, parent, sequence, first, self._compression) as writer:
            writer.add_manifests(manifests)
        snapshot = Snapshot.model_validate(
            {
                "snapshot-id": self._snapshot_id,
                "parent-snapshot-id": parent,
                "manifest-list": path,
                "sequence-number": sequence,
                "summary": self._summary(self.snapshot_properties),
                "schema-id": metadata.current_schema_id,
                "first-row-id": first,
                "added-rows": writer.next_row_id - first,
            }
        )
        moved = {"ref-name": branch, "type": SnapshotRefType.BRANCH, "snapshot-id": self._snapshot_id}
        before = metadata.refs.get(branch)
        unmoved = {"ref": branch, "snapshot-id": None if before is None else before.snapshot_id}
        return (
            (AddSnapshotUpdate(snapshot=snapshot), SetSnapshotRefUpdate.model_validate(moved)),
            (AssertRefSnapshotId.model_validate(unmoved),),
        )

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        summary = counted(
            self._transaction.table_metadata,
            Operation.OVERWRITE,  # PyIceberg cannot add up a ``replace``: what it is, is said when that is done
            [*self._added_data_files, *self._added_delete_files],
            self._removed,
            self._parent_snapshot_id,
            snapshot_properties,
            self._writable,
        )
        return Summary(self._named, **summary.additional_properties)

    def _read(self, manifest: ManifestFile) -> list[ManifestEntry]:
        assert self._origin is not None, "manifests are listed in a snapshot"
        return read_entries(manifest, self._origin)

    def _write(
        self, kind: Kind, entries: Iterable[ManifestEntry], put: Callable[[ManifestWriter, ManifestEntry], Any]
    ) -> list[ManifestFile]:
        """Write entries to manifests of the table's target size; `put` says as what."""
        made: list[ManifestFile] = []
        writer: ManifestWriter | None = None
        for entry in entries:
            if writer is None:
                writer = self._writer(kind).__enter__()
            put(writer, entry)
            if writer.tell() >= self._manifest_bytes:
                made.append(_closed(writer))
                writer = None
        if writer is not None:
            made.append(_closed(writer))
        return made

    def _writer(self, kind: Kind) -> ManifestWriter:
        spec, output = self.spec(kind[0]), self.new_manifest_output()
        schema = self._writable.get(kind[0], self.schema())
        return manifest_writer(self._version, kind[1], spec, schema, output, self._snapshot_id, self._compression)

    def _existing_manifests(self) -> list[ManifestFile]:
        raise AssertionError("asked only by PyIceberg's own `_manifests`")

    def _deleted_entries(self) -> list[ManifestEntry]:
        raise AssertionError("asked only by PyIceberg's own `_manifests`")


def _closed(writer: ManifestWriter) -> ManifestFile:
    writer.__exit__(None, None, None)
    return writer.to_manifest_file()


def existing(writer: ManifestWriter, entry: ManifestEntry) -> None:
    """Write an entry of a file that was in the table already."""
    writer.existing(entry)


def _deleted(writer: ManifestWriter, entry: ManifestEntry) -> None:
    writer.delete(entry)


class FilesReplaced(Manifests):
    """Some data files leave, others come that have their rows; delete files that nothing needs leave too.

    Files that come have the sequence number that the table had when those that leave were read: an equality delete
    committed since then still applies to them.
    """

    def replace(
        self,
        leaving: Iterable[str],
        coming: Iterable[DataFile],
        sequence: int | None,
        unneeded: Callable[[ManifestEntry], bool] | None,
    ) -> None:
        """Say what is replaced.

        Parameters
        ----------
        leaving : iterable of str
            Paths of live data files.
        coming : iterable of DataFile
        sequence : int or None
            Data sequence number of what comes; None for that of the snapshot, as format version 1 has it.
        unneeded : callable, optional
            Whether an entry of a delete file leaves as well. Default: none does.
        """
        self._leaving, self._unneeded = frozenset(leaving), unneeded
        self._added_data_files = list(coming)
        self._sequence = sequence

    def _rewritten(self, listed: list[ManifestFile]) -> list[ManifestFile]:
        kept: list[ManifestFile] = []
        staying: dict[Kind, list[ManifestEntry]] = defaultdict(list)
        gone: dict[Kind, list[ManifestEntry]] = defaultdict(list)
        for manifest in listed:
            leaves = self._leaver(manifest)
            entries = self._read(manifest) if leaves is not None else []
            leaving = [leaves is not None and leaves(entry) for entry in entries]
            if not any(leaving):
                kept.append(manifest)
                continue
            kind = manifest.partition_spec_id, manifest.content
            for entry, is_leaving in zip(entries, leaving, strict=True):
                (gone if is_leaving else staying)[kind].append(entry)
        self._removed = [entry.data_file for entries in gone.values() for entry in entries]
        data_gone = sum(len(entries) for kind, entries in gone.items() if kind[1] == ManifestContent.DATA)
        if data_gone != len(self._leaving):
            self._check_specs(listed)
            raise ValidationException("files that are to leave are not in the table")
        new = self._transaction.table_metadata.default_spec_id, ManifestContent.DATA
        made = self._write(new, map(self._coming, self._added_data_files), added)
        for kind, entries in gone.items():
            made += self._write(kind, entries, _deleted)
        for kind, entries in staying.items():
            made += self._write(kind, entries, existing)
        return made + kept

    def _leaver(self, manifest: ManifestFile) -> Callable[[ManifestEntry], bool] | None:
        """Return what tells which entries of a manifest leave; None where none can."""
        if manifest.partition_spec_id not in self._writable:
            return None
        if manifest.content == ManifestContent.DELETES:
            return self._unneeded
        return self._is_leaving if self._leaving else None

    def _check_specs(self, listed: list[ManifestFile]) -> None:
        """Raise WriteError if files that are to leave are in manifests that cannot be written."""
        for manifest in listed:
            spec_id = manifest.partition_spec_id
            if spec_id not in self._writable and any(map(self._is_leaving, self._read(manifest))):
                name = ".".join(self._transaction._table.name())
                hint = "its files can be read, and left: write the rows to a new table"
                raise WriteError(f"no schema has the columns of partition spec {spec_id} any more", name, hint)

    def _is_leaving(self, entry: ManifestEntry) -> bool:
        return entry.data_file.file_path in self._leaving

    def _coming(self, file: DataFile) -> ManifestEntry:
        return ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED,
            snapshot_id=self._snapshot_id,
            sequence_number=self._sequence,
            file_sequence_number=None,
            data_file=file,
        )


def added(writer: ManifestWriter, entry: ManifestEntry) -> None:
    """Write an entry of a file that comes."""
    writer.add(entry)
