"""Manifest lists and manifests, read whole or reported damaged; never half.

PyIceberg's Avro reader takes the end of a file cut short for the end of its records. Here every byte is accounted for,
and every manifest must hold as many entries as its list says.

References
----------
.. [1] Iceberg table spec, "Manifests" and "Manifest Lists". Avro 1.11 spec, "Object Container Files".
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import AvroFile
from pyiceberg.io import InputFile, InputStream
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
)
from pyiceberg.schema import Schema

from iceblink.errors import DataCorrupt
from iceblink.lake.storage import Storage

SYNC_BYTES = 16


@dataclass(frozen=True)
class Origin:
    """Whose metadata is read, for the errors.

    Parameters
    ----------
    table : str
    snapshot_id : int
    parent_id : int or None
        The snapshot to fall back to.
    storage : Storage
    """

    table: str
    snapshot_id: int
    parent_id: int | None
    storage: Storage

    def damaged(self, path: str, what: str) -> DataCorrupt:
        """Return the error that `path` deserves."""
        way_out = f"; or read the version before it: snapshot {self.parent_id}" if self.parent_id is not None else ""
        where = f"table {self.table}, snapshot {self.snapshot_id}, file {path}"
        return DataCorrupt(what, where, f"restore the file from a backup{way_out}")


def read_manifest_list(path: str, origin: Origin) -> list[ManifestFile]:
    """Read a manifest list.

    Raises
    ------
    DataCorrupt
        It is missing, cut short or unreadable.
    """
    return list(
        _records(
            path,
            "manifest list",
            origin,
            MANIFEST_LIST_FILE_SCHEMAS[2],
            {-1: ManifestFile, 508: PartitionFieldSummary},
            {517: ManifestContent},
        )
    )


def read_manifest(manifest: ManifestFile, origin: Origin, live: bool = True) -> list[ManifestEntry]:
    """Read the entries of a manifest, without those of removed files if `live`.

    Numbers and strings stay plain where PyIceberg would make enums of them. Delete files have the fields of format
    version 3, so that deletion vectors can be found.

    Raises
    ------
    DataCorrupt
        It is missing, cut short or unreadable.
    """
    types = {-1: ManifestEntry, 2: DataFile}
    schema = MANIFEST_ENTRY_SCHEMAS[3 if manifest.content == ManifestContent.DELETES else 2]
    entries = list(_records(manifest.manifest_path, "manifest", origin, schema, types, {}))
    _check_count(manifest, len(entries), origin)
    return [entry for entry in entries if not live or entry.status != ManifestEntryStatus.DELETED.value]


def read_data_files(manifest: ManifestFile, origin: Origin) -> Iterator[DataFile]:
    """Read the live data files of a manifest as PyIceberg itself has them, fit for a commit of format version 2."""
    types = {-1: ManifestEntry, 2: DataFile}
    enums = {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent}
    entries = list(_records(manifest.manifest_path, "manifest", origin, MANIFEST_ENTRY_SCHEMAS[2], types, enums))
    _check_count(manifest, len(entries), origin)
    for entry in entries:
        if entry.status != ManifestEntryStatus.DELETED:
            entry.data_file.spec_id = manifest.partition_spec_id
            yield entry.data_file


def _check_count(manifest: ManifestFile, found: int, origin: Origin) -> None:
    counts = (manifest.added_files_count, manifest.existing_files_count, manifest.deleted_files_count)
    if None not in counts and sum(count or 0 for count in counts) != found:
        what = f"a manifest lists {found:,} files where {sum(count or 0 for count in counts):,} were written"
        raise origin.damaged(manifest.manifest_path, what)


class _InMemory(InputFile):
    """Bytes already read, in the shape that PyIceberg's Avro reader opens."""

    def __init__(self, location: str, content: bytes) -> None:
        super().__init__(location)
        self.content = content

    def __len__(self) -> int:
        return len(self.content)

    def exists(self) -> bool:
        return True

    def open(self, seekable: bool = True) -> InputStream:
        return io.BytesIO(self.content)


def _records(path: str, kind: str, origin: Origin, schema: Schema, types: Any, enums: Any) -> Iterator[Any]:
    try:
        content = origin.storage.read(path)
    except FileNotFoundError:
        raise origin.damaged(path, f"a {kind} is missing") from None
    except OSError as error:
        raise origin.damaged(path, f"a {kind} cannot be read: {error}") from None
    try:
        with AvroFile[Any](_InMemory(path, content), schema, types, enums) as file:
            codec = file.header.compression_codec()
            while file.decoder.tell() < len(content):
                count, block = file.decoder.read_int(), file.decoder.read_bytes()
                if file.decoder.read(SYNC_BYTES) != file.header.sync:
                    raise ValueError("a block does not end where it should")
                decoder = new_decoder(codec.decompress(block) if codec else block)
                for _ in range(count):
                    yield file.reader.read(decoder)
    except Exception as error:  # bytes that are wrong raise whatever they happen to mean
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise origin.damaged(path, f"a {kind} is damaged: {reason}") from error
