"""Format version 3 where PyIceberg stops: a table becomes one of it, and its metadata is written.

References
----------
.. [1] Iceberg table spec, "Table Metadata Fields", "Row Lineage for Upgraded Tables".
"""

from __future__ import annotations

from typing import Any

from pyiceberg.io import FileIO
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CreateTableTransaction, StagedTable, Transaction
from pyiceberg.table.metadata import TableMetadata, TableMetadataV3
from pyiceberg.table.update import (
    UpgradeFormatVersionUpdate,
    _apply_table_update,  # private, and where updates say what they do
    _TableMetadataUpdateContext,
)
from pyiceberg.typedef import IcebergBaseModel


class UpgradeToThird(UpgradeFormatVersionUpdate):
    """PyIceberg's update, for the version that PyIceberg refuses; to a catalog it looks the same."""


@_apply_table_update.register(UpgradeToThird)
def _(update: UpgradeToThird, base_metadata: TableMetadata, context: _TableMetadataUpdateContext) -> TableMetadata:
    if base_metadata.format_version == 3:
        return base_metadata
    context.add_update(update)
    return TableMetadataV3.model_construct(**{"next_row_id": 0, **_said(base_metadata), "format_version": 3})


def stage_upgrade(transaction: Transaction, version: int) -> None:
    """Stage a table's upgrade to a later version of the format."""
    kind = UpgradeToThird if version == 3 else UpgradeFormatVersionUpdate
    transaction._apply((kind.model_validate({"format-version": version}),))


def created(table: StagedTable) -> CreateTableTransaction:
    """Return a transaction that makes a table of any version."""
    transaction = CreateTableTransaction(table)
    if table.metadata.format_version >= 3:
        transaction._updates = tuple(
            UpgradeToThird.model_validate({"format-version": 3}) if isinstance(one, UpgradeFormatVersionUpdate) else one
            for one in transaction._updates
        )
    return transaction


class _Writable(TableMetadataV3):
    """Metadata of version 3 that can be written; PyIceberg's own refuses."""

    def model_dump_json(  # type: ignore[override]  # as all of PyIceberg's
        self, exclude_none: bool = True, exclude: Any | None = None, by_alias: bool = True, **kwargs: Any
    ) -> str:
        """Return it as JSON."""
        return IcebergBaseModel.model_dump_json(self, exclude_none, exclude, by_alias, **kwargs)


def writable(metadata: TableMetadata) -> TableMetadata:
    """Return metadata in a form that can be written; a new table of version 3 counts its row ids from 0."""
    if metadata.format_version < 3:
        return metadata
    return _Writable.model_construct(**{"next_row_id": 0, **_said(metadata)})


def as_json(metadata: TableMetadata) -> str:
    """Return metadata of any version as a file has it."""
    return writable(metadata).model_dump_json()


def _said(metadata: TableMetadata) -> dict[str, Any]:
    """Return the fields of metadata that say something."""
    return {name: value for name, value in metadata if value is not None}


def write_metadata(metadata: TableMetadata, io: FileIO, metadata_path: str) -> None:
    """Write a metadata file as PyIceberg's catalogs do, of any version."""
    ToOutputFile.table_metadata(writable(metadata), io.new_output(metadata_path))
