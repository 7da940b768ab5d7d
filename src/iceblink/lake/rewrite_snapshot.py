"""A snapshot of operation ``replace``: the same rows in other data files, or the same files in other manifests.

PyIceberg makes no such snapshot and writes no manifest of delete files; both are made here out of its parts.

References
----------
.. [1] Iceberg table spec, "Snapshots" (operation ``replace``), "Manifests", "Sequence Number Inheritance".
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _SnapshotProducer  # private, and all that makes snapshots is one
from pyiceberg.typedef import EMPTY_DICT
from pyiceberg.types import NestedField, StructType

from iceblink.lake.manifest_files import Origin, read_entries, read_manifest_list

MANIFEST_BYTES = "commit.manifest.target-size-bytes"
MANIFEST_BYTES_DEFAULT = 8 << 20
_FIRST_ROW_ID = 142  # only data files have one, and only in format version 3

Kind = tuple[int, ManifestContent]
"""Spec id and content: a manifest has files of one kind."""


def writable_specs(metadata: TableMetadata) -> set[int]:
    """Return the ids of the specs whose manifests can be written: the columns that they partition by are there."""
    columns = metadata.schema()._lazy_id_to_field  # private: nested fields, too
    return {
        spec_id for spec_id, spec in metadata.specs().items() if all(one.source_id in columns for one in spec.fields)
    }


class DeleteManifestWriter(ManifestWriterV2):
    """Writes a manifest of delete files, read by `manifest_files.read_entries`."""

    def content(self) -> ManifestContent:
        """Return what the files are."""
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        """Open the file, with the fields that place deletes: in version 2 they are optional, and kept where known."""
        in_memory = self._with_partition(3)
        return AvroOutputFile[ManifestEntry](
            output_file=self._output_file,
            file_schema=_without(in_memory, _FIRST_ROW_ID),
            record_schema=in_memory,
            schema_name="manifest_entry",
            metadata=self._meta,
        )


def _without(schema: Schema, field_id: int) -> Schema:
    """Return the schema of manifest entries without one field of their files."""
    fields = []
    for field in schema.fields:
        kind = field.field_type
        if isinstance(kind, StructType):
            kind = StructType(*(one for one in kind.fields if one.field_id != field_id))
        fields.append(NestedField(field.field_id, field.name, kind, required=field.required))
    return Schema(*fields)


class Manifests(_SnapshotProducer["Manifests"]):
    """A snapshot with the rows of the one before, made of the manifests that `_manifests` gives.

    Parameters
    ----------
    transaction : pyiceberg Transaction
    io : pyiceberg FileIO
    properties : mapping of str to str
        For the summary.
    branch : str
    origin : Origin
        Of the snapshot before.
    """

    def __init__(
        self, transaction: Transaction, io: FileIO, properties: Mapping[str, str], branch: str, origin: Origin
    ) -> None:
        # PyIceberg cannot add up the summary of a ``replace``: the operation is said when that is done
        super().__init__(Operation.OVERWRITE, transaction, io, None, dict(properties), branch)
        self._origin = origin
        metadata = transaction.table_metadata
        self._manifest_bytes = int(metadata.properties.get(MANIFEST_BYTES, MANIFEST_BYTES_DEFAULT))
        self._writable = writable_specs(metadata)

    @abstractmethod
    def _rewritten(self, listed: list[ManifestFile]) -> list[ManifestFile]:
        """Return the manifests of the new snapshot, made of those of the snapshot before."""

    def _manifests(self) -> list[ManifestFile]:
        before = self._transaction.table_metadata.snapshot_by_id(self._parent_snapshot_id or 0)
        assert before is not None, "there is nothing to rewrite in an empty table"
        listed = read_manifest_list(before.manifest_list, self._origin)
        try:
            return self._rewritten([one for one in listed if one.has_added_files() or one.has_existing_files()])
        except BaseException:
            self._clean_all_uncommitted()
            raise

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        summary = super()._summary(snapshot_properties)
        return Summary(Operation.REPLACE, **summary.additional_properties)

    def _read(self, manifest: ManifestFile) -> list[ManifestEntry]:
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
        spec: PartitionSpec = self.spec(kind[0])
        if kind[1] == ManifestContent.DATA:
            return self.new_manifest_writer(spec)
        return DeleteManifestWriter(
            spec, self.schema(), self.new_manifest_output(), self._snapshot_id, self._compression
        )

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
        unneeded: Callable[[ManifestEntry], bool],
    ) -> None:
        """Say what is replaced.

        Parameters
        ----------
        leaving : iterable of str
            Paths of live data files.
        coming : iterable of DataFile
        sequence : int or None
            Data sequence number of what comes; None for that of the snapshot, as format version 1 has it.
        unneeded : callable
            Whether an entry of a delete file leaves as well.
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
        self._deleted_data_files = {entry.data_file for entries in gone.values() for entry in entries}
        data_gone = sum(len(entries) for kind, entries in gone.items() if kind[1] == ManifestContent.DATA)
        assert data_gone == len(self._leaving), "what leaves was looked up in this very snapshot"
        new = self._transaction.table_metadata.default_spec_id, ManifestContent.DATA
        made = self._write(new, map(self._coming, self._added_data_files), _added)
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
        return self._is_leaving

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


def _added(writer: ManifestWriter, entry: ManifestEntry) -> None:
    writer.add(entry)
