"""A catalog of ours that others may ask: its namespaces, tables and views."""

from __future__ import annotations

from urllib.parse import unquote

from iceblink.lake.catalog import Catalog
from iceblink.lake.served import requests
from iceblink.lake.served.names import LONGEST, checked_namespace
from iceblink.lake.served.planning import Planning
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.store import Store
from iceblink.lake.served.tables import Json, Tables
from iceblink.lake.served.views import Views

WIDEST_VALUE = 1000
"""Characters of a property of a namespace that the database has room for."""

_TOLD = ("s3.endpoint", "s3.region", "s3.path-style-access", "s3.force-virtual-addressing", "gcs.service.host")
"""Properties of the catalog that clients are told: where files are, never with which keys."""


class ServedCatalog:
    """What a server answers from: `tables`, `views`, `planning`, and here the namespaces; threads may share it.

    Parameters
    ----------
    catalog : Catalog
        Of an embedded lake, or of a SQL database.

    Raises
    ------
    ConfigError
        It is of another kind, or has no warehouse.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._store = Store.of(catalog)
        self._listing = self._store.listing
        opened = catalog.pyiceberg
        self._told = {key: str(opened.properties[key]) for key in _TOLD if key in opened.properties}
        self.tables, self.views = Tables(self._store), Views(self._store)
        self.planning = Planning(self._store)

    def told(self) -> dict[str, str]:
        """Return what clients are told of the storage; an endpoint with keys in it is not."""
        return {key: value for key, value in self._told.items() if "@" not in value}

    def namespaces(self, outer: str | None) -> list[tuple[str, ...]]:
        """Return the namespaces inside of `outer`, its levels separated by 0x1F, or those at the top, sorted."""
        if not outer:
            return self._listing.namespaces()
        levels = checked_namespace(outer.split("\x1f"))
        decoded = checked_namespace(unquote(outer).split("\x1f"))
        if levels != decoded and not self._listing.has_namespace(levels):
            levels = decoded  # PyIceberg encodes what it sends here twice
        return self._listing.namespaces(levels)

    def create_namespace(self, body: Json) -> Json:
        """Make a namespace, as a ``CreateNamespaceRequest`` says; 409 if it is there."""
        levels, properties = checked_namespace(body.get("namespace")), requests.texts(body, "properties")
        self._check_location(properties)
        _check_room(properties)
        self._listing.create_namespace(levels, properties)
        return {"namespace": list(levels), "properties": properties}

    def namespace(self, levels: tuple[str, ...]) -> Json:
        """Return a namespace with its properties; 404 if there is no such."""
        return {"namespace": list(levels), "properties": self._listing.properties(levels)}

    def require_namespace(self, levels: tuple[str, ...]) -> None:
        """Answer 404 if there is no such namespace."""
        self._listing.require(levels)

    def change_namespace(self, levels: tuple[str, ...], body: Json) -> Json:
        """Change properties, as an ``UpdateNamespacePropertiesRequest`` says; 422 for one set and removed at once."""
        removals, updates = requests.items(body, "removals"), requests.texts(body, "updates")
        if not all(isinstance(one, str) for one in removals):
            raise Refusal.bad("'removals' must be a list of texts")
        both = sorted(set(removals) & set(updates))
        if both:
            raise Refusal.contradiction(f"these properties are to be both set and removed: {', '.join(both)}")
        self._check_location(updates)
        _check_room(updates)
        removed, missing = self._listing.change_properties(levels, removals, updates)
        return {"updated": sorted(updates), "removed": removed, "missing": missing}

    def drop_namespace(self, levels: tuple[str, ...]) -> None:
        """Remove an empty namespace; 404 if there is no such, 409 if it holds something."""
        self._listing.drop_namespace(levels)

    def _check_location(self, properties: dict[str, str]) -> None:
        if "location" in properties:
            self._store.warehouse.checked(properties["location"])


def _check_room(properties: Json) -> None:
    for key, value in properties.items():
        if len(key) > LONGEST or len(value) > WIDEST_VALUE or "\0" in key + value:
            raise Refusal.bad(f"a property has {LONGEST} characters at most, its value {WIDEST_VALUE}, and no NUL")
