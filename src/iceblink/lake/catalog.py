"""Catalogs: names of tables and where they are, in a folder of one's own or wherever PyIceberg can reach."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast
from uuid import uuid4

import pyarrow as pa
from pyiceberg import exceptions as refused
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.io import PY_IO_IMPL, FileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import StagedTable
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.metadata import TableMetadata

from iceblink.credentials import hidden, remember
from iceblink.errors import (
    CatalogError,
    ConfigError,
    DataCorrupt,
    NamespaceNotFound,
    TableExists,
    TableNotFound,
    nearest,
)
from iceblink.lake.creation import Description, claimed, remove_folder
from iceblink.lake.database import SqlalchemyDatabase
from iceblink.lake.defaults import with_defaults
from iceblink.lake.embedded import CatalogRefusals, EmbeddedCatalog, open_embedded
from iceblink.lake.late import hive_metastore, iceberg_sql
from iceblink.lake.listing import Key, Listing
from iceblink.lake.refused import client_errors
from iceblink.lake.remembered import Remembered
from iceblink.lake.retries import is_transient
from iceblink.lake.sql_catalog import open_configured
from iceblink.lake.storage_io import IMPLEMENTATION, with_own_files
from iceblink.lake.succession import with_succession
from iceblink.lake.table import Table
from iceblink.lake.upgrade import created, write_metadata

EMBEDDED = "default"
"""PyIceberg's own default name, so that its ``load_catalog()`` sees the same tables in the same file."""

_EXTRAS = "pip install 'iceblink[postgres]', or [mysql], [glue], [hive], [s3]"

_metadata: Remembered[tuple[str, int], TableMetadata] = Remembered(limit=64)
"""Metadata files by location and length: they never change, and parsing one takes longer than all else in `load`."""


class Catalog:
    """A catalog of tables; picklable, opened when first used.

    Make one with `embedded`, `configured` or `of`. Names are dotted: ``"namespace.table"`` or deeper.

    Parameters
    ----------
    name : str
        The catalog's own name.
    properties : mapping of str to str
        PyIceberg catalog properties.
    folder : str, optional
        Of an embedded catalog: where everything is.
    prefix : str, optional
        What names of its tables begin with, for it is one of several (`catalogs`).
    """

    def __init__(self, name: str, properties: Mapping[str, Any], folder: str | None = None, prefix: str = "") -> None:
        self.name, self.properties, self.folder, self.prefix = name, dict(properties), folder, prefix
        remember(self.properties)

    @classmethod
    def embedded(cls, folder: str | Path) -> Self:
        """Return the catalog in `folder`, made if absent: ``catalog.db`` (SQLite), and the tables beside it.

        Raises
        ------
        CatalogError
            The folder cannot be made, or its ``catalog.db`` is not one.
        """
        catalog = cls(EMBEDDED, {}, str(Path(folder).expanduser().absolute()))
        catalog.pyiceberg  # noqa: B018 - open it now, so that an error points at the user's own line
        return catalog

    @classmethod
    def configured(cls, name: str) -> Self:
        """Return the catalog of that name in PyIceberg's own configuration (``.pyiceberg.yaml``, environment)."""
        return cls._opened(name, {})

    @classmethod
    def of(cls, **properties: Any) -> Self:
        """Return the catalog that PyIceberg `properties` describe: ``uri=``, ``warehouse=``, ``type=``, ..."""
        given = {
            key.replace("_", "-") if key == "py_io_impl" else key: _plain(value) for key, value in properties.items()
        }
        return cls._opened(given.pop("name", EMBEDDED), given)

    @classmethod
    def _opened(cls, name: str, properties: Mapping[str, Any]) -> Self:
        if properties.get("type") == "in-memory":  # else each thread would see a memory of its own
            properties = {"uri": f"sqlite:///file:{uuid4().hex}?mode=memory&cache=shared&uri=true", **properties}
        catalog = cls(name, properties)
        # the configuration file may not be where this catalog is unpickled: carry what was found in it
        catalog.properties = {key: _plain(value) for key, value in catalog.pyiceberg.properties.items()}
        remember(catalog.properties)
        return catalog

    def named(self, prefix: str) -> Catalog:
        """Return the catalog with names that begin with `prefix` and a dot."""
        same = Catalog(self.name, self.properties, self.folder, prefix)
        if "pyiceberg" in vars(self):  # what is open stays the same: one in memory is no other
            vars(same)["pyiceberg"] = self.pyiceberg
        return same

    def holding(self, name: str) -> Catalog:
        """Return the catalog that a table's name is looked up in: this one."""
        return self

    @property
    def others(self) -> list[str]:
        """Names of catalogs that tables of these are called by: none, for this is one catalog."""
        return []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.properties, self.folder, self.prefix)

    def __repr__(self) -> str:
        # other properties may be secrets, and so may be a part of this one
        return f"Catalog({hidden(self.folder or str(self.properties.get('uri', self.name)))!r})"

    @cached_property
    def pyiceberg(self) -> IcebergCatalog:
        """The PyIceberg catalog; for use inside `lake` only."""
        if self.folder is not None:
            return open_embedded(self.name, self.folder)
        try:
            opened = open_configured(self.name, self.properties)
        except (refused.NotInstalledError, ImportError) as error:
            raise ConfigError(f"catalog {self.name!r} needs a package: {error}", "connect", _EXTRAS) from None
        except (ValueError, refused.NoSuchPropertyException) as error:
            hint = "name one in ~/.pyiceberg.yaml, or pass uri= and warehouse="
            raise ConfigError(f"catalog {self.name!r} is not configured: {error}", "connect", hint) from None
        except client_errors(refused.RESTError, OSError) as error:
            raise CatalogError(
                f"catalog {self.name!r} does not answer: {_first_line(error)}", "connect", "check uri= and its keys"
            ) from None
        if type(opened).__module__ == "pyiceberg.catalog.hive":
            opened = hive_metastore.HiveMetastore(opened.name, **opened.properties)
        opened.properties.setdefault(PY_IO_IMPL, IMPLEMENTATION)  # metadata is read and written as data is
        vars(opened)["_write_metadata"] = write_metadata  # its own refuses format version 3
        return with_succession(with_own_files(opened))

    # namespaces

    def namespaces(self) -> list[str]:
        """Return every namespace, nested ones dotted, sorted."""
        with self._speaking("namespaces"):
            return sorted(self._full(found) for found in self._walk(()))

    def _walk(self, parent: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for found in self.pyiceberg.list_namespaces(parent):
            yield tuple(found)
            yield from self._walk(tuple(found))

    def create_namespace(self, name: str) -> None:
        """Make a namespace; one that is there already is no error."""
        identifier = self._identifier(name, least=1)
        with self._speaking(name):
            try:
                self.pyiceberg.create_namespace(identifier)
            except refused.NamespaceAlreadyExistsError:
                return
            except client_errors():  # another process may have made it between PyIceberg's look and its insert
                if not self.pyiceberg.namespace_exists(identifier):
                    raise

    def drop_namespace(self, name: str) -> None:
        """Remove a namespace.

        Raises
        ------
        NamespaceNotFound
        CatalogError
            It still has tables or views.
        """
        with self._speaking(name):
            try:
                self.pyiceberg.drop_namespace(self._identifier(name, least=1))
            except refused.NamespaceNotEmptyError:
                inside = self.tables(name)
                hint = f"drop its tables first: {', '.join(inside)}" if inside else "drop what is in it: SHOW VIEWS"
                raise CatalogError(f"namespace {name!r} is not empty", repr(self), hint) from None

    # tables

    def tables(self, namespace: str | None = None) -> list[str]:
        """Return full table names, sorted: of one namespace, or of all.

        Raises
        ------
        NamespaceNotFound
        """
        with self._speaking(namespace or "tables"):
            wanted = [self._identifier(namespace, least=1)] if namespace is not None else list(self._walk(()))
            if namespace is not None and not self.pyiceberg.namespace_exists(wanted[0]):
                raise refused.NoSuchNamespaceError(namespace)
            return sorted(self._full(table) for found in wanted for table in self.pyiceberg.list_tables(found))

    def create(
        self,
        name: str,
        schema: pa.Schema | Mapping[str, str | pa.DataType],
        partition_by: Sequence[str] = (),
        sort_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> Table:
        """Make an empty table; its namespace too if absent.

        Parameters
        ----------
        name : str
            ``"namespace.table"``.
        schema : pa.Schema or mapping of str to (str or pa.DataType)
            Stored as `types.storable` says.
        partition_by, sort_by : sequence of str
            As in `transforms.parse_partition` and `transforms.parse_sort`.
        properties : mapping of str to str, optional
            Iceberg table properties.

        Raises
        ------
        TableExists
        ColumnNotFound, TypeMismatch, DuplicateColumn, ConfigError
            The schema or the words cannot be.
        """
        identifier, new = self._identifier(name), Description.of(name, schema, partition_by, sort_by, properties)
        self.create_namespace(self._full(identifier[:-1]))
        with self._speaking(name), self._place(identifier) as location:
            if new.defaults:
                try:
                    created(self._staged(identifier, location, new)).commit_transaction()
                except refused.CommitFailedException as error:
                    if not self.pyiceberg.table_exists(identifier):
                        raise refused.RESTError(str(error)) from None
                    raise refused.TableAlreadyExistsError(name) from None
                return Table.latest(self, name, self._load(identifier))
            made = self.pyiceberg.create_table(identifier, location=location, **new.arguments())
        return Table.latest(self, name, made)

    def _staged(self, identifier: tuple[str, ...], location: str | None, new: Description) -> StagedTable:
        """Return a table that is not there yet, with the default values that PyIceberg forgets."""
        transaction = self.pyiceberg.create_table_transaction(identifier, location=location, **new.arguments())
        staged = cast(StagedTable, transaction._table)
        schema = with_defaults(staged.schema(), new.defaults)
        staged.metadata = staged.metadata.model_copy(update={"schemas": [schema]})
        return staged

    def stage(
        self,
        name: str,
        schema: pa.Schema | Mapping[str, str | pa.DataType],
        partition_by: Sequence[str] = (),
        sort_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        location: str | None = None,
    ) -> Table:
        """Return a table that the first `Commit` to it makes, together with its rows; its namespace is made now.

        Parameters and errors are those of `create`, and `location` is where it was staged before. Who does not commit
        it calls `unstage`.
        """
        identifier, new = self._identifier(name), Description.of(name, schema, partition_by, sort_by, properties)
        self.create_namespace(self._full(identifier[:-1]))
        with self._speaking(name):
            if self.pyiceberg.table_exists(identifier) or self.has_view(name):
                raise refused.TableAlreadyExistsError(name)
            with nullcontext(location) if location else self._place(identifier) as place:
                return Table.latest(self, name, self._staged(identifier, place, new))

    def unstage(self, table: Table) -> None:
        """Remove what a table left in an embedded lake that was not committed."""
        with suppress(Exception):  # what the catalog does not tell stays, and so does the error of who calls
            if self.folder is not None and not self._listing.lists(table.location):
                remove_folder(table.location)

    def _place(self, identifier: tuple[str, ...]) -> AbstractContextManager[str | None]:
        """Claim a folder in an embedded lake; elsewhere the catalog chooses."""
        return nullcontext() if self.folder is None else claimed(self.folder, identifier, self._listing.lists)

    def load(self, name: str) -> Table:
        """Return a table as it is now.

        The catalog is always asked. Its answer names a metadata file, which is parsed once in a process; it must still
        be there and have its length.

        Raises
        ------
        TableNotFound
            With the nearest name.
        DataCorrupt
            Its metadata file is missing or damaged.
        """
        identifier = self._identifier(name)
        with self._speaking(name):
            try:
                return Table.latest(self, name, self._load(identifier))
            except client_errors(refused.NoSuchTableError, refused.NoSuchNamespaceError, refused.RESTError):
                raise
            except Exception as error:  # bytes that are wrong raise whatever they happen to mean
                if is_transient(error) or isinstance(error, ConfigError):
                    raise
                location, before = self._metadata_locations(identifier)
                raise DataCorrupt(
                    f"the metadata of table {name!r} cannot be read: {_reason(error)}",
                    location,
                    "restore the file from a backup" + (f"; the version before it is {before}" if before else ""),
                ) from None

    def _load(self, identifier: tuple[str, ...]) -> IcebergTable:
        if not self._is_database:
            return self.pyiceberg.load_table(identifier)  # its answer has the metadata in it
        location, _ = self._metadata_locations(identifier)
        return self._load_from(identifier, location)

    @property
    def _is_database(self) -> bool:
        """Whether the catalog says where metadata is, and not what is in it."""
        return self.folder is not None or isinstance(self.pyiceberg, iceberg_sql.SqlCatalog)

    def load_from(self, name: str, metadata_location: str, io: FileIO) -> IcebergTable:
        """Return the table as one metadata file has it, read by `io`; the catalog is opened if that is committed to."""
        metadata = _read_metadata(io, metadata_location)
        return IcebergTable(
            self._identifier(name), metadata, metadata_location, io, cast(IcebergCatalog, _Opening(self))
        )

    def _load_from(self, identifier: tuple[str, ...], location: str) -> IcebergTable:
        io = self.pyiceberg._load_file_io(location=location)
        return IcebergTable(identifier, _read_metadata(io, location), location, io, self.pyiceberg)

    def exists(self, name: str) -> bool:
        """Tell whether there is a table of that name."""
        with self._speaking(name):
            return bool(self.pyiceberg.table_exists(self._identifier(name)))

    def rename(self, old: str, new: str) -> Table:
        """Give a table another name, in another namespace too if wished; its files stay where they are.

        Raises
        ------
        TableNotFound, TableExists
        DataCorrupt
            Its metadata file is missing or damaged.
        """
        before, after = self._identifier(old), self._identifier(new)
        self.load(old)
        self.create_namespace(self._full(after[:-1]))
        with self._speaking(new):
            self.pyiceberg.rename_table(before, after)
        return self.load(new)

    def drop(self, name: str, purge: bool | None = None) -> None:
        """Remove a table.

        Parameters
        ----------
        name : str
        purge : bool, optional
            Remove its files as well. Default: True in an embedded catalog, else what the catalog does by itself.

        Raises
        ------
        TableNotFound
        """
        identifier = self._identifier(name)
        with self._speaking(name):
            if self.folder is None:
                remove = self.pyiceberg.purge_table if purge else self.pyiceberg.drop_table
                remove(identifier)
                return
            metadata, _ = self._metadata_locations(identifier)  # not from the metadata itself: it may be damaged
            self.pyiceberg.drop_table(identifier)
        location = posixpath.dirname(posixpath.dirname(metadata))
        if purge is not False and location.startswith(f"{self.folder}/"):
            remove_folder(location)

    def has_view(self, name: str) -> bool:
        """Tell whether a view has that name; a catalog that will not say has none."""
        identifier = self._identifier(name)
        if self._is_database:
            return self._listing.has_views and self._listing.find(_key(identifier), "VIEW") is not None
        try:
            return bool(self.pyiceberg.view_exists(identifier))
        except (NotImplementedError, refused.RESTError):
            return False

    def _metadata_locations(self, identifier: tuple[str, ...]) -> tuple[str, str | None]:
        """Return where the current and the previous metadata file of a table are, without reading them."""
        if not self._is_database:
            return ".".join(identifier), None
        return self._listing.locations_of(_key(identifier), "TABLE")

    @property
    def _listing(self) -> Listing:
        """What a database lists."""
        opened: Any = self.pyiceberg
        database = opened.database if isinstance(opened, EmbeddedCatalog) else SqlalchemyDatabase(opened)
        return Listing(opened.name, database, CatalogRefusals())

    @contextmanager
    def _speaking(self, name: str) -> Iterator[None]:
        """Turn what PyIceberg raises into errors of ours."""
        try:
            yield
        except refused.NoSuchTableError:
            raise TableNotFound.of(name, self.tables(), repr(self)) from None
        except refused.NoSuchNamespaceError:
            hint = nearest(name, self.namespaces(), "namespaces")
            raise NamespaceNotFound(f"no namespace {name!r}", repr(self), hint) from None
        except refused.TableAlreadyExistsError:
            hint = 'write to it with mode="append" or "overwrite", or drop it first'
            raise TableExists(f"there is a table {name!r} already", repr(self), hint) from None
        except client_errors(refused.RESTError, refused.ValidationError) as error:
            raise CatalogError(f"the catalog refused: {_first_line(error)}", f"{self!r}, {name}") from None
        except OSError as error:
            if not is_transient(error):
                raise
            hint = "nothing was changed; try again later, or check the way to it"
            raise CatalogError(f"no answer: {_first_line(error)}", f"{self!r}, {name}", hint) from None

    def _identifier(self, name: str, least: int = 2) -> tuple[str, ...]:
        return _identifier(name.removeprefix(f"{self.prefix}.") if self.prefix else name, least)

    def _full(self, identifier: tuple[str, ...]) -> str:
        return ".".join((self.prefix, *identifier) if self.prefix else identifier)


class _Opening:
    """Stands for a PyIceberg catalog that is opened when something is asked of it: reading a table asks nothing."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog.pyiceberg, name)


def _read_metadata(io: FileIO, location: str) -> TableMetadata:
    file = io.new_input(location)
    key = (location, len(file))
    metadata = _metadata.get(key)
    if metadata is None:
        metadata = FromInputFile.table_metadata(file)
        if metadata.current_snapshot_id is not None and metadata.current_snapshot() is None:
            raise ValueError(f"its current snapshot, {metadata.current_snapshot_id}, is not in it")
        _metadata.put(key, metadata)
    return metadata


def _key(identifier: tuple[str, ...]) -> Key:
    return Key(".".join(identifier[:-1]), identifier[-1])


def _identifier(name: str, least: int = 2) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    if len(parts) < least or any(not part or part != part.strip() or "/" in part or "\0" in part for part in parts):
        form = "namespace.table" if least == 2 else "namespace"
        raise CatalogError(
            f"{name!r} is no name of a {'table' if least == 2 else 'namespace'}",
            "",
            f"write it like {form}, without / and without spaces around a name",
        )
    return parts


def _plain(value: Any) -> Any:
    """Return a property as text, but one that is a mapping as it is, such as REST's ``auth``."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def _reason(error: BaseException) -> str:
    """Return what is wrong with metadata: where in it, and what was found there."""
    found = re.search(r" validation errors? for \w+\n(.*?) \[type=", str(error), re.DOTALL)
    return " ".join(found[1].split()) if found else _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
