"""A table for writers in other processes: as it will be once their files are committed, which may be on no disk yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.metadata import TableMetadataUtil

from iceblink.lake.catalog import Catalog
from iceblink.lake.table import Table
from iceblink.lake.upgrade import as_json


@dataclass(frozen=True)
class PortableTable:
    """What it takes to write data files of a table: its metadata without history, and where files go.

    Parameters
    ----------
    catalog : Catalog
        Not asked for anything.
    name, metadata_location : str
    metadata, schema : str
        As JSON.
    io : pyiceberg FileIO
    """

    catalog: Catalog
    name: str
    metadata_location: str
    metadata: str
    schema: str
    io: FileIO

    @classmethod
    def of(cls, table: Table) -> Self:
        """Return what travels of `table`."""
        iceberg = table.pyiceberg
        no_history: dict[str, Any] = {
            "snapshots": [],
            "snapshot_log": [],
            "metadata_log": [],
            "refs": {},
            "current_snapshot_id": None,
            "statistics": [],
            "partition_statistics": [],
        }
        metadata = as_json(iceberg.metadata.model_copy(update=no_history))
        schema = table.iceberg_schema.model_dump_json()
        return cls(table.catalog, table.name, iceberg.metadata_location, metadata, schema, iceberg.io)

    def table(self) -> Table:
        """Return the table, empty; only to be written to."""
        metadata = TableMetadataUtil.parse_raw(self.metadata)
        name = tuple(self.name.split("."))
        iceberg = IcebergTable(name, metadata, self.metadata_location, self.io, None)  # type: ignore[arg-type]
        return Table(self.catalog, self.name, iceberg, Schema.model_validate_json(self.schema), None)
