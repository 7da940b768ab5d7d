"""Views: queries that a catalog keeps by name, in Iceberg's format, so that other engines have them too.

The embedded catalog and SQL databases keep them as the REST server does (`served.views`); a REST catalog is asked.

References
----------
.. [1] Iceberg view spec, https://iceberg.apache.org/view-spec/
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
from pyiceberg import exceptions as refused
from pyiceberg.schema import Schema
from pyiceberg.view.metadata import ViewMetadata, ViewVersion

from iceblink.errors import CatalogError, ConfigError, DataCorrupt, NamespaceNotFound, TableExists, TableNotFound
from iceblink.lake.catalog import Catalog
from iceblink.lake.late import iceberg_rest
from iceblink.lake.refused import client_errors
from iceblink.lake.schemas import arrow_schema, iceberg_schema
from iceblink.lake.served.names import checked_key, checked_namespace
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.store import Store
from iceblink.lake.served.view_updates import LAST_ADDED, Json
from iceblink.lake.served.views import Views
from iceblink.types import storable

DIALECT = "duckdb"


@dataclass(frozen=True)
class View:
    """A query with a name.

    Parameters
    ----------
    name : str
        In full, with the catalog that it is in.
    sql : str
    dialect : str
        Whose SQL it is: ``duckdb``, or ``spark`` of a view that another engine made.
    schema : pa.Schema
        What its columns were when it was made.
    catalog, namespace : str
        Where its tables are looked up that are named by less; empty for the catalog of the view, and for none.
    properties : mapping of str to str
    """

    name: str
    sql: str
    dialect: str
    schema: pa.Schema
    catalog: str = ""
    namespace: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, metadata: ViewMetadata) -> View:
        """Return the current version of a view; its text is ours if it has one in our dialect."""
        version = next(one for one in metadata.versions if one.version_id == metadata.current_version_id)
        schema = next(one for one in metadata.schemas if one.schema_id == version.schema_id)
        texts = [one.root for one in version.representations]
        text = next((one for one in texts if one.dialect.lower() == DIALECT), texts[0])
        catalog, namespace = version.default_catalog or "", ".".join(version.default_namespace)
        columns = arrow_schema(schema, {})
        return cls(name, text.sql, text.dialect.lower(), columns, catalog, namespace, metadata.properties)

    def version(self) -> Json:
        """Return what a request says of it: a ``ViewVersion`` [1]_."""
        return {
            "version-id": 1,
            "schema-id": 0,
            "timestamp-ms": int(time.time() * 1000),
            "summary": {"engine-name": "iceblink"},
            "representations": [{"type": "sql", "sql": self.sql, "dialect": self.dialect}],
            "default-namespace": self.namespace.split(".") if self.namespace else [],
            **({"default-catalog": self.catalog} if self.catalog else {}),
        }

    def columns(self) -> Json:
        """Return what a request says of its columns; raises TypeMismatch for types that Iceberg does not have."""
        found: Json = self.iceberg_schema.model_dump(mode="json", by_alias=True)
        return found

    @property
    def iceberg_schema(self) -> Schema:
        """Its columns as Iceberg has them. Raises TypeMismatch."""
        return iceberg_schema(storable(self.schema, nanoseconds=True))


class _NoViews(CatalogError):
    """A catalog that keeps no views."""


class _Unfit(CatalogError):
    """A request that the catalog takes for a wrong one: it has no such names."""


class _Keeper(Protocol):
    """What keeps the views of one catalog; names are without the catalog."""

    def files(self) -> Iterator[str]: ...

    def names(self, namespace: tuple[str, ...]) -> list[str]: ...

    def load(self, key: tuple[str, ...]) -> ViewMetadata: ...

    def create(self, key: tuple[str, ...], view: View) -> None: ...

    def replace(self, key: tuple[str, ...], uuid: str, view: View) -> None: ...

    def drop(self, key: tuple[str, ...]) -> None: ...


def find_view(catalog: Catalog, name: str) -> View | None:
    """Return a view, or None if there is none of that name, or the catalog has no views.

    Raises
    ------
    DataCorrupt
        Its metadata file is missing or damaged.
    CatalogError
        The catalog refuses, or does not answer.
    """
    here = catalog.holding(name)
    try:
        key = here._identifier(name)
    except CatalogError:  # whoever asks knows that no table has that name: that is what is to be said
        return None
    try:
        with _speaking(name, here):
            keeper = _keeper(here)
            return None if keeper is None else View.of(name, keeper.load(key))
    except (TableNotFound, NamespaceNotFound, _NoViews, _Unfit):
        return None


def view_names(catalog: Catalog, namespace: str) -> list[str]:
    """Return the full names of the views of a namespace, sorted; none where the catalog has no views.

    Raises
    ------
    NamespaceNotFound, CatalogError
    """
    here = catalog.holding(f"{namespace}.any")
    with _speaking(namespace, here):
        keeper, levels = _keeper(here), here._identifier(namespace, least=1)
        return [] if keeper is None else sorted(here._full((*levels, name)) for name in keeper.names(levels))


def view_files(catalog: Catalog) -> list[str]:
    """Return where the metadata of each view of one catalog is: its file, or where that is not told its folder.

    Raises
    ------
    CatalogError
        The catalog refuses, or does not answer.
    """
    try:
        with _speaking("views", catalog):
            keeper = _keeper(catalog)
            return [] if keeper is None else list(keeper.files())
    except _NoViews:
        return []


def create_view(catalog: Catalog, view: View, replace: bool = False) -> None:
    """Make a view, its namespace too if absent; or with `replace` put it in the place of the one of that name.

    A view that is replaced keeps its history, as Iceberg has it.

    Raises
    ------
    TableExists
        A table has that name; or a view, and it is not to be replaced.
    TypeMismatch
        A column is of a type that Iceberg does not have.
    CatalogError
        The catalog has no views, or refused.
    """
    here = catalog.holding(view.name)
    key = here._identifier(view.name)
    with _speaking(view.name, here):
        keeper = _keeper(here)
        if keeper is None:
            hint = "embedded lakes, SQL and REST catalogs have, but for databases made before there were any"
            raise CatalogError("this catalog has no views", repr(here), hint)
        here.create_namespace(here._full(key[:-1]))
        try:
            before = keeper.load(key) if replace else None
        except (refused.NoSuchViewError, Refusal) as error:
            if isinstance(error, Refusal) and error.status != 404:
                raise
            before = None
        if before is None:
            keeper.create(key, view)
        else:
            keeper.replace(key, before.view_uuid, view)


def drop_view(catalog: Catalog, name: str) -> None:
    """Remove a view. Raises TableNotFound, CatalogError."""
    here = catalog.holding(name)
    with _speaking(name, here):
        keeper = _keeper(here)
        if keeper is None:
            raise refused.NoSuchViewError(name)
        keeper.drop(here._identifier(name))


def _keeper(catalog: Catalog) -> _Keeper | None:
    """Return what keeps the views of a catalog; None where there are none."""
    if catalog.folder is not None or catalog._is_database:
        try:
            store = Store.of(catalog)
        except ConfigError:  # a database without a warehouse has no place for them
            return None
        return _Listed(Views(store)) if store.listing.has_views else None
    return _Asked(catalog) if isinstance(catalog.pyiceberg, iceberg_rest.RestCatalog) else None


class _Listed:
    """Views in a list in SQL, beside tables."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def files(self) -> Iterator[str]:
        return iter(self._views.files())

    def names(self, namespace: tuple[str, ...]) -> list[str]:
        return self._views.names(checked_namespace(namespace))

    def load(self, key: tuple[str, ...]) -> ViewMetadata:
        return ViewMetadata.model_validate(self._views.load(checked_key(key[:-1], key[-1]))["metadata"])

    def create(self, key: tuple[str, ...], view: View) -> None:
        body = {"name": key[-1], "schema": view.columns(), "view-version": view.version()}
        self._views.create(checked_namespace(key[:-1]), {**body, "properties": dict(view.properties)})

    def replace(self, key: tuple[str, ...], uuid: str, view: View) -> None:
        self._views.replace(checked_key(key[:-1], key[-1]), _replacement(uuid, view))

    def drop(self, key: tuple[str, ...]) -> None:
        self._views.drop(checked_key(key[:-1], key[-1]))


class _Asked:
    """Views of a REST catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog: Any = catalog.pyiceberg
        self._namespaces = catalog._walk

    def files(self) -> Iterator[str]:
        for namespace in self._namespaces(()):
            for key in self._catalog.list_views(namespace):
                with suppress(refused.NoSuchViewError):  # dropped meanwhile
                    yield f"{self._catalog.load_view(key).metadata.location.rstrip('/')}/metadata/"

    def names(self, namespace: tuple[str, ...]) -> list[str]:
        return [found[-1] for found in self._catalog.list_views(namespace)]

    def load(self, key: tuple[str, ...]) -> ViewMetadata:
        found: ViewMetadata = self._catalog.load_view(key).metadata
        return found

    def create(self, key: tuple[str, ...], view: View) -> None:
        version = ViewVersion.model_validate(view.version())
        self._catalog.create_view(key, view.iceberg_schema, version, properties=view.properties)

    def replace(self, key: tuple[str, ...], uuid: str, view: View) -> None:
        # PyIceberg has no word for it
        names = self._catalog._split_identifier_for_path(key, iceberg_rest.IdentifierKind.VIEW)
        url = self._catalog.url(iceberg_rest.Endpoints.load_view, prefixed=True, **names)
        answer = self._catalog._session.post(url, json=_replacement(uuid, view))
        if answer.status_code == 404:
            raise refused.NoSuchViewError(".".join(key))
        if not answer.ok:
            raise refused.RESTError(f"{answer.status_code}: {answer.text[:200]}")

    def drop(self, key: tuple[str, ...]) -> None:
        self._catalog.drop_view(key)


def _replacement(uuid: str, view: View) -> Json:
    """Return the ``CommitViewRequest`` that makes a view another."""
    version = {**view.version(), "schema-id": LAST_ADDED}
    return {
        "requirements": [{"type": "assert-view-uuid", "uuid": uuid}],
        "updates": [
            {"action": "add-schema", "schema": view.columns()},
            {"action": "add-view-version", "view-version": version},
            {"action": "set-current-view-version", "view-version-id": LAST_ADDED},
            {"action": "set-properties", "updates": dict(view.properties)},
        ],
    }


@contextmanager
def _speaking(name: str, catalog: Catalog) -> Iterator[None]:
    """Turn refusals and what PyIceberg raises into errors of ours."""
    try:
        yield
    except refused.NoSuchViewError:
        raise TableNotFound(f"no view {name!r}", repr(catalog), "SHOW VIEWS lists them") from None
    except refused.NoSuchNamespaceError:
        raise NamespaceNotFound(f"no namespace of {name!r}", repr(catalog)) from None
    except refused.ViewAlreadyExistsError:
        raise _taken(name, catalog) from None
    except NotImplementedError:
        raise _NoViews("this catalog has no views", repr(catalog)) from None
    except Refusal as error:
        match error.kind:
            case "NoSuchViewException":
                raise TableNotFound(f"no view {name!r}", repr(catalog), "SHOW VIEWS lists them") from None
            case "NoSuchNamespaceException":
                raise NamespaceNotFound(f"no namespace of {name!r}", repr(catalog)) from None
            case "AlreadyExistsException":
                raise _taken(name, catalog) from None
            case "UnsupportedOperationException":
                raise _NoViews("this catalog has no views", repr(catalog)) from None
            case "BadRequestException":
                raise _Unfit(f"the catalog refused: {error.message}", f"{catalog!r}, {name}") from None
            case "InternalServerError":
                raise DataCorrupt(error.message, name, "restore the file from a backup, or drop the view") from None
        raise CatalogError(f"the catalog refused: {error.message}", f"{catalog!r}, {name}") from None
    except client_errors(refused.RESTError, refused.ValidationError) as error:
        kind = _Unfit if isinstance(error, refused.BadRequestError) else CatalogError
        raise kind(f"the catalog refused: {_first_line(error)}", f"{catalog!r}, {name}") from None
    except OSError as error:  # of requests
        hint = "try again later, or check the way to it"
        raise CatalogError(f"no answer: {_first_line(error)}", f"{catalog!r}, {name}", hint) from None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _taken(name: str, catalog: Catalog) -> TableExists:
    hint = "write CREATE OR REPLACE VIEW if it is a view, or drop it first"
    return TableExists(f"the name {name!r} is taken", repr(catalog), hint)
