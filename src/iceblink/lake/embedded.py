"""The embedded catalog: one SQLite file, laid out as PyIceberg's own, that many processes may write at once.

PyIceberg's needs SQLAlchemy, which takes longer to import than all that is done here.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyiceberg.catalog import MetastoreCatalog, PropertiesUpdateSummary
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.io import FileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, StagedTable, Table
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties

from iceblink.errors import CatalogError
from iceblink.lake.database import SqliteDatabase
from iceblink.lake.listing import Changed, Key, Kind, Levels, Listing, Swap, Taken
from iceblink.lake.storage_io import StorageIO
from iceblink.lake.succession import succeeding_table
from iceblink.lake.upgrade import write_metadata


def open_embedded(name: str, folder: str) -> EmbeddedCatalog:
    """Open, and make if absent, the catalog in `folder`; tables go beside its ``catalog.db``.

    Raises
    ------
    CatalogError
        The folder cannot be made, or its ``catalog.db`` cannot be used.
    """
    file = Path(folder, "catalog.db")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return EmbeddedCatalog(name, folder, file)
    except (OSError, sqlite3.Error) as error:
        reason = str(error).splitlines()[0]
        raise CatalogError(
            f"cannot open the lake: {reason}", str(file), "give a folder that can be written, or one that iceblink made"
        ) from None


def _refuse_views(*_: Any) -> Any:
    raise NotImplementedError("views of an embedded lake are kept by lake/views.py")


_no_views: Any = _refuse_views


class CatalogRefusals:
    """What PyIceberg's own catalogs raise."""

    def no_entry(self, kind: Kind, name: str) -> Exception:
        return NoSuchTableError(name)

    def no_namespace(self, levels: Levels) -> Exception:
        return NoSuchNamespaceError(".".join(levels))

    def entry_exists(self, name: str) -> Exception:
        return TableAlreadyExistsError(name)

    def namespace_exists(self, levels: Levels) -> Exception:
        return NamespaceAlreadyExistsError(".".join(levels))

    def not_empty(self, levels: Levels) -> Exception:
        return NamespaceNotEmptyError(".".join(levels))

    def no_views(self) -> Exception:
        return NotImplementedError("an embedded lake has no views")

    def overtaken(self) -> Exception:
        return CommitFailedException("others change the properties of this namespace, too")


class EmbeddedCatalog(MetastoreCatalog):
    """PyIceberg's catalog protocol over one SQLite file.

    Where the file or its folder cannot be written, tables are read all the same, and every change is refused.
    """

    def __init__(self, name: str, folder: str, file: Path) -> None:
        super().__init__(name, uri=f"sqlite:///{file}", warehouse=folder)
        self.database = SqliteDatabase(file)
        self._listing = Listing(name, self.database, CatalogRefusals())

    def _key(self, identifier: str | Identifier) -> Key:
        return Key(self.namespace_to_string(self.namespace_from(identifier)), self.table_name_from(identifier))

    @staticmethod
    def _write_metadata(metadata: TableMetadata, io: FileIO, metadata_path: str) -> None:
        write_metadata(metadata, io, metadata_path)

    def _load_file_io(self, properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:
        return StorageIO(self.properties)  # a table's own do not count: see `with_own_files`

    # tables

    def metadata_locations(self, identifier: str | Identifier) -> tuple[str, str | None]:
        """Return where the current and the previous metadata file of a table are, without reading them."""
        return self._listing.locations_of(self._key(identifier), "TABLE")

    def load_table(self, identifier: str | Identifier) -> Table:
        """Return a table as its current metadata file has it."""
        location, _ = self.metadata_locations(identifier)
        io = self._load_file_io(location=location)
        metadata = FromInputFile.table_metadata(io.new_input(location))
        return Table(self.identifier_to_tuple(identifier), metadata, location, io, self)

    def table_exists(self, identifier: str | Identifier) -> bool:
        """Tell whether there is a table of that name."""
        return self._listing.find(self._key(identifier), "TABLE") is not None

    def create_table(
        self,
        identifier: str | Identifier,
        schema: Schema | Any,  # a Schema: who calls has made it one
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> Table:
        """Write the first metadata file of a table and list it."""
        self._listing.require(self.namespace_from(identifier))
        staged = self._create_staged_table(identifier, schema, location, partition_spec, sort_order, properties)
        self._write_metadata(metadata=staged.metadata, io=staged.io, metadata_path=staged.metadata_location)
        return self.register_table(identifier, staged.metadata_location)

    def _create_staged_table(
        self,
        identifier: str | Identifier,
        schema: Schema | Any,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> StagedTable:
        """Do what PyIceberg's own does, in namespaces of any depth."""
        namespace, name = self._key(identifier)
        place = self._resolve_table_location(location, namespace, name)
        metadata = new_table_metadata(schema, partition_spec, sort_order, place, dict(properties))
        file = load_location_provider(place, properties).new_table_metadata_file_location()
        return StagedTable(
            self.identifier_to_tuple(identifier), metadata, file, self._load_file_io(location=file), self
        )

    def register_table(self, identifier: str | Identifier, metadata_location: str, overwrite: bool = False) -> Table:
        """List a table whose metadata is written, with `overwrite` in place of the one of that name."""
        self._listing.require(self.namespace_from(identifier))
        before = self._listing.find(self._key(identifier), "TABLE") if overwrite else None
        self._swap(identifier, before, metadata_location)
        return self.load_table(identifier)

    def _swap(self, identifier: str | Identifier, before: str | None, after: str) -> None:
        key = self._key(identifier)
        try:
            self._listing.swap([Swap(key, before, after)], "TABLE")
        except Taken:
            raise TableAlreadyExistsError(str(key)) from None
        except Changed:
            raise CommitFailedException(f"{key} has been updated by another process") from None

    def drop_table(self, identifier: str | Identifier) -> None:
        """Take a table off the list; its files stay."""
        self._listing.remove(self._key(identifier), "TABLE")

    def rename_table(self, from_identifier: str | Identifier, to_identifier: str | Identifier) -> Table:
        """Give a table another name; its files stay where they are."""
        self._listing.rename(self._key(from_identifier), self._key(to_identifier), "TABLE")
        return self.load_table(to_identifier)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Write the next metadata file and list it in place of the one it was made from; or fail, if that is gone."""
        current = self.load_table(table.name()) if self.table_exists(table.name()) else None
        staged = self._update_and_stage_table(current, table.name(), requirements, updates)
        if current is not None:
            staged = succeeding_table(current.metadata, staged)
            if staged.metadata == current.metadata:
                return _response(current)
        self._write_metadata(metadata=staged.metadata, io=staged.io, metadata_path=staged.metadata_location)
        try:
            self._swap(table.name(), None if current is None else current.metadata_location, staged.metadata_location)
        except (CommitFailedException, TableAlreadyExistsError):  # a certain no: nobody will ever list that file
            with suppress(OSError):
                staged.io.delete(staged.metadata_location)
            raise
        return _response(staged)

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """Return the tables of one namespace."""
        levels = self.identifier_to_tuple(namespace)
        return [(*levels, name) for name in self._listing.names(levels, "TABLE")]

    # namespaces

    def namespace_exists(self, identifier: str | Identifier) -> bool:
        """Tell whether there is a namespace of that name."""
        return self._listing.has_namespace(self.identifier_to_tuple(identifier))

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        """Return the namespaces directly inside `namespace`, or those at the top."""
        return list(self._listing.namespaces(self.identifier_to_tuple(namespace)))

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """List a namespace, with properties."""
        self._listing.create_namespace(self.identifier_to_tuple(namespace), properties)

    def drop_namespace(self, namespace: str | Identifier) -> None:
        """Take an empty namespace off the list."""
        self._listing.drop_namespace(self.identifier_to_tuple(namespace))

    def load_namespace_properties(self, namespace: str | Identifier) -> Properties:
        """Return the properties of a namespace."""
        return self._listing.properties(self.identifier_to_tuple(namespace))

    def update_namespace_properties(
        self, namespace: str | Identifier, removals: set[str] | None = None, updates: Properties = EMPTY_DICT
    ) -> PropertiesUpdateSummary:
        """Remove and set properties of a namespace."""
        self._check_for_overlap(updates=updates, removals=removals)
        levels = self.identifier_to_tuple(namespace)
        removed, missing = self._listing.change_properties(levels, removals or (), updates)
        return PropertiesUpdateSummary(removed=removed, updated=list(updates), missing=missing)

    list_views = load_view = register_view = drop_view = view_exists = _no_views


def _response(table: Table) -> CommitTableResponse:
    return CommitTableResponse.model_validate(
        {"metadata": table.metadata, "metadata-location": table.metadata_location}
    )
