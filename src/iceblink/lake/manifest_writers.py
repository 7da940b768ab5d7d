"""Writers of manifests and manifest lists that PyIceberg lacks: of delete files, and of format version 3.

References
----------
.. [1] Iceberg table spec, "Manifests", "Manifest Lists", "First Row ID Assignment".
"""

from __future__ import annotations

from typing import Any, Self

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.io import OutputFile
from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
    ManifestListWriterV2,
    ManifestWriter,
    ManifestWriterV2,
    write_manifest,
)
from pyiceberg.schema import Schema
from pyiceberg.typedef import TableVersion
from pyiceberg.types import NestedField, StructType

from iceblink.lake.manifest_files import FIRST_ROW_ID

_FIRST_ROW_ID_FIELD = 142  # only data files have one, and only in format version 3


def manifest_writer(version: int, content: ManifestContent, *arguments: Any) -> ManifestWriter:
    """Return a writer of a manifest.

    Parameters
    ----------
    version : int
        Of the table's format.
    content : ManifestContent
    *arguments
        As PyIceberg's writers take them: partition spec, schema, output file, snapshot id and compression.
    """
    if version >= 3:
        return (ManifestWriterV3 if content == ManifestContent.DATA else DeleteManifestWriterV3)(*arguments)
    if content == ManifestContent.DELETES:
        return DeleteManifestWriter(*arguments)
    return write_manifest(2 if version == 2 else 1, *arguments)


class _OfDeletes(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class DeleteManifestWriter(_OfDeletes):
    """Writes a manifest of delete files in version 2, read by `manifest_files.read_entries`."""

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        """Open the file, with the fields that place deletes: in version 2 they are optional, and kept where known."""
        in_memory = self._with_partition(3)
        return AvroOutputFile[ManifestEntry](
            output_file=self._output_file,
            file_schema=_without(in_memory, _FIRST_ROW_ID_FIELD),
            record_schema=in_memory,
            schema_name="manifest_entry",
            metadata=self._meta,
        )


class ManifestWriterV3(ManifestWriterV2):
    """Writes a manifest of data files in version 3: files that come have no first row id yet, others keep theirs."""

    @property
    def version(self) -> TableVersion:
        """Return the version of the format."""
        return 3

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        """Open the file."""
        schema = self._with_partition(3)
        return AvroOutputFile[ManifestEntry](self._output_file, schema, "manifest_entry", schema, self._meta)


class DeleteManifestWriterV3(ManifestWriterV3, _OfDeletes):
    """Writes a manifest of delete files in version 3."""


class ManifestListWriterV3(ManifestListWriterV2):
    """Writes a manifest list of version 3, and gives row ids to manifests of data files that have none yet.

    Parameters
    ----------
    output_file : OutputFile
    snapshot_id : int
    parent_snapshot_id : int or None
    sequence_number : int
    first_row_id : int
        The table's ``next-row-id``.
    compression : str
    """

    def __init__(
        self,
        output_file: OutputFile,
        snapshot_id: int,
        parent_snapshot_id: int | None,
        sequence_number: int,
        first_row_id: int,
        compression: AvroCompressionCodec,
    ) -> None:
        super().__init__(output_file, snapshot_id, parent_snapshot_id, sequence_number, compression)
        self._meta |= {"format-version": "3", "first-row-id": str(first_row_id)}
        self.next_row_id = first_row_id
        """What no row has yet."""

    def __enter__(self) -> Self:
        """Open the file."""
        schema = MANIFEST_LIST_FILE_SCHEMAS[3]
        self._writer = AvroOutputFile[ManifestFile](self._output_file, schema, "manifest_file", schema, self._meta)
        self._writer.__enter__()
        return self

    def prepare_manifest(self, manifest_file: ManifestFile) -> ManifestFile:
        """Return a manifest as the list has it.

        Files that were there before may be without ids, too, where the table was upgraded: so they are counted.
        """
        known = manifest_file[FIRST_ROW_ID] if len(manifest_file) > FIRST_ROW_ID else None
        made = ManifestFile(*(manifest_file[place] for place in range(FIRST_ROW_ID)), known)
        if known is None and made.content == ManifestContent.DATA:
            made[FIRST_ROW_ID] = self.next_row_id
            self.next_row_id += (made.added_rows_count or 0) + (made.existing_rows_count or 0)
        return super().prepare_manifest(made)


def _without(schema: Schema, field_id: int) -> Schema:
    """Return the schema of manifest entries without one field of their files."""
    fields = []
    for field in schema.fields:
        kind = field.field_type
        if isinstance(kind, StructType):
            kind = StructType(*(one for one in kind.fields if one.field_id != field_id))
        fields.append(NestedField(field.field_id, field.name, kind, required=field.required))
    return Schema(*fields)
