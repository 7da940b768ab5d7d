"""Views, asked for as the REST specification says; their metadata is beside that of tables, in the same list."""

from __future__ import annotations

import json

from pyiceberg.view.metadata import ViewMetadata

from iceblink.lake.listing import Key
from iceblink.lake.served import requests
from iceblink.lake.served.names import checked_key
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.store import Prepared, Store
from iceblink.lake.served.view_updates import Json, check_requirements, new_view, updated


class Views:
    """The views of a store; all methods raise `Refusal`, 406 where the database has no room for views."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self, levels: tuple[str, ...]) -> list[str]:
        """Return the names of the views of a namespace, sorted."""
        return self._store.listing.names(levels, "VIEW")

    def files(self) -> list[str]:
        """Return where the metadata of every view is."""
        return [location for _, location in self._store.listing.locations("VIEW")]

    def require(self, key: Key) -> None:
        """Answer 404 if there is no such view."""
        self._store.listing.location(key, "VIEW")

    def create(self, levels: tuple[str, ...], body: Json) -> Json:
        """Make a view: a ``LoadViewResult``."""
        key = checked_key(levels, body.get("name"))
        namespace = self._store.listing.properties(levels)
        if self._store.listing.find(key, "VIEW") is not None:
            raise Refusal.entry_exists(str(key))
        wanted = requests.optional_text(body, "location")
        with self._store.new_place(key, wanted, namespace.get("location")) as location:
            text = json.dumps(new_view(body, location))
            place = self._store.create(Prepared(key, None, text, f"{location}/metadata"), "VIEW")
        return {"metadata-location": place, "metadata": json.loads(text), "config": {}}

    def register(self, levels: tuple[str, ...], body: Json) -> Json:
        """List a view whose metadata is there."""
        key = checked_key(levels, body.get("name"))
        self._store.listing.require(levels)
        location = self._store.warehouse.checked(requests.text(body, "metadata-location"))
        try:
            text = self._store.files.text(location)
            metadata = ViewMetadata.model_validate_json(text)
        except (Refusal, ValueError):
            raise Refusal.bad("there is no metadata of a view at 'metadata-location'") from None
        self._store.register(key, location, self._store.warehouse.table_location(metadata.location), "VIEW")
        return self.load(key)

    def load(self, key: Key) -> Json:
        """Return a view: a ``LoadViewResult``."""
        location = self._store.listing.location(key, "VIEW")
        return {"metadata-location": location, "metadata": self._store.files.json(location), "config": {}}

    def replace(self, key: Key, body: Json) -> Json:
        """Change a view, as a ``CommitViewRequest`` says."""
        self._store.change(lambda: [self._prepared(key, body)], "VIEW")
        return self.load(key)

    def _prepared(self, key: Key, body: Json) -> Prepared:
        before = self._store.listing.location(key, "VIEW")
        view = self._store.files.json(before)
        check_requirements(view, requests.items(body, "requirements"))
        after = updated(view, requests.items(body, "updates"))
        location = self._store.warehouse.table_location(after["location"])
        if self._store.warehouse.embedded and location != self._store.warehouse.checked(view["location"]):
            raise Refusal.unsupported("a view of an embedded lake stays in its folder")
        return Prepared(key, before, None if after == view else json.dumps(after), f"{location}/metadata")

    def rename(self, before: Key, after: Key) -> None:
        """Give a view another name."""
        self._store.listing.rename(before, after, "VIEW")

    def drop(self, key: Key) -> None:
        """Take a view off the list; in an embedded lake its folder goes, too."""
        self._store.remove_folder(self._store.listing.remove(key, "VIEW"))
