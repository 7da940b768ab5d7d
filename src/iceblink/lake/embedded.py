"""The embedded catalog: one SQLite file, laid out as PyIceberg's own, that many processes may write at once.

PyIceberg's needs SQLAlchemy, which takes longer to import than all that is done here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
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
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties

from iceblink.errors import CatalogError
from iceblink.lake.storage_io import StorageIO
from iceblink.lake.succession import succeeding_table

BUSY_TIMEOUT_S = 60
"""How long a writer waits for the others; a commit holds the file for milliseconds."""

_LAYOUT = """
CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
    metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name));
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL,
    property_value VARCHAR(1000) NOT NULL,
    PRIMARY KEY (catalog_name, namespace, property_key));
"""

_COLUMNS = {"catalog_name", "table_namespace", "table_name", "metadata_location", "previous_metadata_location"}
_THE_TABLE = "catalog_name = ? AND table_namespace = ? AND table_name = ?"


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


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _refuse_views(*_: Any) -> Any:
    raise NotImplementedError("an embedded lake has no views")


_no_views: Any = _refuse_views


class EmbeddedCatalog(MetastoreCatalog):
    """PyIceberg's catalog protocol over one SQLite file: readers never wait for a writer (WAL).

    Where the file or its folder cannot be written, tables are read all the same, and every change is refused.
    """

    def __init__(self, name: str, folder: str, file: Path) -> None:
        super().__init__(name, uri=f"sqlite:///{file}", warehouse=folder)
        self._file = file
        self._read_only = file.exists() and not (_writable(file) and _writable(file.parent))
        with closing(self._connect()) as connection:
            if not self._read_only:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_LAYOUT)
            columns = {row[1] for row in connection.execute("PRAGMA table_info(iceberg_tables)")}
        if _COLUMNS - columns:
            raise sqlite3.DatabaseError("its table iceberg_tables is not that of a catalog")
        # other engines keep views there; what PyIceberg made before it had the column has only tables
        self._only_tables = " AND (iceberg_type IS NULL OR iceberg_type = 'TABLE')" * ("iceberg_type" in columns)

    def _connect(self) -> sqlite3.Connection:
        # a connection per use: none is left open when a process forks or ends
        if not self._read_only:
            return sqlite3.connect(self._file, timeout=BUSY_TIMEOUT_S)
        # somebody who may write may be writing: then SQLite reads the log beside the file, and cannot do without it
        how = "mode=ro" if self._file.with_name(f"{self._file.name}-wal").exists() else "immutable=1"
        return sqlite3.connect(f"{self._file.as_uri()}?{how}", uri=True, timeout=BUSY_TIMEOUT_S)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that is committed at the end of the block, or undone when it fails.

        Raises
        ------
        CatalogError
            The lake can only be read.
        """
        if self._read_only:
            what, hint = "the lake can only be read", "let this user write its folder and catalog.db, or copy the lake"
            raise CatalogError(what, str(self._file.parent), hint)
        with closing(self._connect()) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _ask(self, query: str, *values: str) -> list[Any]:
        with closing(self._connect()) as connection:
            return connection.execute(query, values).fetchall()

    def _key(self, identifier: str | Identifier) -> tuple[str, str, str]:
        namespace = self.namespace_to_string(self.namespace_from(identifier))
        return self.name, namespace, self.table_name_from(identifier)

    def _load_file_io(self, properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:
        return StorageIO({**self.properties, **properties})

    # tables

    def metadata_locations(self, identifier: str | Identifier) -> tuple[str, str | None]:
        """Return where the current and the previous metadata file of a table are, without reading them."""
        key = self._key(identifier)
        query = f"SELECT metadata_location, previous_metadata_location FROM iceberg_tables WHERE {_THE_TABLE}"
        rows = self._ask(query + self._only_tables, *key)
        if not rows:
            raise NoSuchTableError(".".join(key[1:]))
        ((current, previous),) = rows
        return str(current), previous

    def load_table(self, identifier: str | Identifier) -> Table:
        """Return a table as its current metadata file has it."""
        location, _ = self.metadata_locations(identifier)
        metadata = FromInputFile.table_metadata(self._load_file_io(location=location).new_input(location))
        io = self._load_file_io(metadata.properties, location)
        return Table(self.identifier_to_tuple(identifier), metadata, location, io, self)

    def table_exists(self, identifier: str | Identifier) -> bool:
        """Tell whether there is a table of that name."""
        try:
            self.metadata_locations(identifier)
        except NoSuchTableError:
            return False
        return True

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
        self._require_namespace(self.namespace_from(identifier))
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
        _, namespace, name = self._key(identifier)
        place = self._resolve_table_location(location, namespace, name)
        metadata = new_table_metadata(schema, partition_spec, sort_order, place, dict(properties))
        file = load_location_provider(place, properties).new_table_metadata_file_location()
        return StagedTable(
            self.identifier_to_tuple(identifier), metadata, file, self._load_file_io(location=file), self
        )

    def register_table(self, identifier: str | Identifier, metadata_location: str, overwrite: bool = False) -> Table:
        """List a table whose metadata is written, with `overwrite` in place of the one of that name."""
        self._require_namespace(self.namespace_from(identifier))
        if overwrite and self.table_exists(identifier):
            before = self.load_table(identifier).metadata_location
            self._replace(self.identifier_to_tuple(identifier), before, metadata_location)
        else:
            self._insert(identifier, metadata_location)
        return self.load_table(identifier)

    def _insert(self, identifier: str | Identifier, metadata_location: str) -> None:
        columns = "catalog_name, table_namespace, table_name, metadata_location"
        values = [*self._key(identifier), metadata_location]
        if self._only_tables:
            columns, values = f"{columns}, iceberg_type", [*values, "TABLE"]
        try:
            with self._change() as connection:
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT INTO iceberg_tables ({columns}) VALUES ({marks})", values)
        except sqlite3.IntegrityError:
            raise TableAlreadyExistsError(".".join(values[1:3])) from None

    def drop_table(self, identifier: str | Identifier) -> None:
        """Take a table off the list; its files stay."""
        key = self._key(identifier)
        with self._change() as connection:
            gone = connection.execute(f"DELETE FROM iceberg_tables WHERE {_THE_TABLE}{self._only_tables}", key)
        if not gone.rowcount:
            raise NoSuchTableError(".".join(key[1:]))

    def rename_table(self, from_identifier: str | Identifier, to_identifier: str | Identifier) -> Table:
        """Give a table another name; its files stay where they are."""
        before, after = self._key(from_identifier), self._key(to_identifier)
        self._require_namespace(self.namespace_from(to_identifier))
        change = f"UPDATE iceberg_tables SET table_namespace = ?, table_name = ? WHERE {_THE_TABLE}{self._only_tables}"
        try:
            with self._change() as connection:
                changed = connection.execute(change, (*after[1:], *before))
        except sqlite3.IntegrityError:
            raise TableAlreadyExistsError(".".join(after[1:])) from None
        if not changed.rowcount:
            raise NoSuchTableError(".".join(before[1:]))
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
            if current is None:
                self._insert(table.name(), staged.metadata_location)
            else:
                self._replace(table.name(), current.metadata_location, staged.metadata_location)
        except (CommitFailedException, TableAlreadyExistsError):  # a certain no: nobody will ever list that file
            with suppress(OSError):
                staged.io.delete(staged.metadata_location)
            raise
        return _response(staged)

    def _replace(self, identifier: Identifier, before: str, after: str) -> None:
        key = self._key(identifier)
        change = "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ?"
        unchanged = f"WHERE {_THE_TABLE} AND metadata_location = ?"
        with self._change() as connection:
            changed = connection.execute(f"{change} {unchanged}", (after, before, *key, before))
        if not changed.rowcount:
            raise CommitFailedException(f"{'.'.join(key[1:])} has been updated by another process")

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """Return the tables of one namespace."""
        self._require_namespace(namespace)
        inside = self.namespace_to_string(namespace)
        query = "SELECT table_name FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ?"
        rows = self._ask(query + self._only_tables, self.name, inside)
        return [(*self.identifier_to_tuple(inside), table) for (table,) in rows]

    # namespaces

    def _namespaces(self) -> set[Identifier]:
        """Return every namespace that is listed or has tables, with those around it."""
        query = (
            "SELECT table_namespace FROM iceberg_tables WHERE catalog_name = ? "
            "UNION SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ?"
        )
        listed = [self.identifier_to_tuple(namespace) for (namespace,) in self._ask(query, self.name, self.name)]
        return {namespace[:depth] for namespace in listed for depth in range(1, len(namespace) + 1)}

    def namespace_exists(self, identifier: str | Identifier) -> bool:
        """Tell whether there is a namespace of that name."""
        return self.identifier_to_tuple(identifier) in self._namespaces()

    def _require_namespace(self, identifier: str | Identifier) -> None:
        if not self.namespace_exists(identifier):
            raise NoSuchNamespaceError(".".join(self.identifier_to_tuple(identifier)))

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        """Return the namespaces directly inside `namespace`, or those at the top."""
        outer = self.identifier_to_tuple(namespace)
        if outer:
            self._require_namespace(outer)
        return [one for one in self._namespaces() if one[:-1] == outer]

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """List a namespace, with properties."""
        name = self.namespace_to_string(namespace, NoSuchNamespaceError)
        if self.namespace_exists(namespace):
            raise NamespaceAlreadyExistsError(name)
        try:
            with self._change() as connection:
                self._add_properties(connection, name, properties or {"exists": "true"})
        except sqlite3.IntegrityError:
            raise NamespaceAlreadyExistsError(name) from None

    def drop_namespace(self, namespace: str | Identifier) -> None:
        """Take an empty namespace off the list."""
        if self.list_tables(namespace):
            raise NamespaceNotEmptyError(self.namespace_to_string(namespace))
        with self._change() as connection:
            self._remove_properties(connection, self.namespace_to_string(namespace))

    def load_namespace_properties(self, namespace: str | Identifier) -> Properties:
        """Return the properties of a namespace."""
        self._require_namespace(namespace)
        query = "SELECT property_key, property_value FROM iceberg_namespace_properties "
        where = "WHERE catalog_name = ? AND namespace = ?"
        return dict(self._ask(query + where, self.name, self.namespace_to_string(namespace)))

    def update_namespace_properties(
        self, namespace: str | Identifier, removals: set[str] | None = None, updates: Properties = EMPTY_DICT
    ) -> PropertiesUpdateSummary:
        """Remove and set properties of a namespace."""
        before = self.load_namespace_properties(namespace)
        summary, after = self._get_updated_props_and_update_summary(before, removals, updates)
        with self._change() as connection:
            self._remove_properties(connection, self.namespace_to_string(namespace))
            self._add_properties(connection, self.namespace_to_string(namespace), after)
        return summary

    def _add_properties(self, connection: sqlite3.Connection, namespace: str, properties: Properties) -> None:
        rows = [(self.name, namespace, key, value) for key, value in properties.items()]
        connection.executemany("INSERT INTO iceberg_namespace_properties VALUES (?, ?, ?, ?)", rows)

    def _remove_properties(self, connection: sqlite3.Connection, namespace: str) -> None:
        where = "catalog_name = ? AND namespace = ?"
        connection.execute(f"DELETE FROM iceberg_namespace_properties WHERE {where}", (self.name, namespace))

    list_views = load_view = register_view = drop_view = view_exists = _no_views


def _response(table: Table) -> CommitTableResponse:
    return CommitTableResponse.model_validate(
        {"metadata": table.metadata, "metadata-location": table.metadata_location}
    )
