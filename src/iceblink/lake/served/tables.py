"""Tables, asked for as the REST specification says: every method takes JSON values and returns some.

References
----------
.. [1] Iceberg REST catalog, the operations tagged "Catalog API"; https://iceberg.apache.org/rest-catalog-spec/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import (
    AssertCreate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
    update_table_metadata,
)

from iceblink.lake.defaults import with_defaults
from iceblink.lake.listing import Key
from iceblink.lake.served import requests
from iceblink.lake.served.names import checked_key
from iceblink.lake.served.purge import remove_files
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.store import Prepared, Store
from iceblink.lake.served.updates import WRITTEN_VERSIONS, exact, number_fields, parse_commit
from iceblink.lake.succession import succeeding
from iceblink.lake.upgrade import as_json

Snapshots = Literal["all", "refs"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What one client asks of one table: what must hold, and what is to become of it."""

    key: Key
    requirements: tuple[TableRequirement, ...]
    updates: tuple[TableUpdate, ...]

    @classmethod
    def of(cls, key: Key, body: Mapping[str, Any]) -> Change:
        """Read a ``CommitTableRequest``."""
        return cls(key, *parse_commit(key.namespace.split("."), key.name, body))


class Tables:
    """The tables of a store; all methods raise `Refusal`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self, levels: tuple[str, ...]) -> list[str]:
        """Return the names of the tables of a namespace, sorted."""
        return self._store.listing.names(levels, "TABLE")

    def require(self, key: Key) -> None:
        """Answer 404 if there is no such table."""
        self._store.listing.location(key, "TABLE")

    def create(self, levels: tuple[str, ...], body: Json) -> Json:
        """Make an empty table, or with ``stage-create`` only say what it would be: a ``LoadTableResult``."""
        key = checked_key(levels, body.get("name"))
        namespace = self._store.listing.properties(levels)
        if self._store.listing.find(key, "TABLE") is not None:
            raise Refusal.entry_exists(str(key))
        wanted, inside = requests.optional_text(body, "location"), namespace.get("location")
        place: str | None = None
        with self._store.new_place(key, wanted, inside) as location:
            text = as_json(self._new(body, location))
            if body.get("stage-create") is True:
                self._store.prepare_folder(location)
            else:
                place = self._store.create(Prepared(key, None, text, f"{location}/metadata"), "TABLE")
        return _result(place, json.loads(text))

    def _new(self, body: Json, location: str) -> TableMetadata:
        properties = requests.texts(body, "properties")
        version = properties.get("format-version", "2")
        if version not in map(str, WRITTEN_VERSIONS):
            raise Refusal.unsupported(f"tables of format version {version!r} cannot be written")
        self._store.warehouse.check_properties(properties, location)
        schema = requests.parsed(Schema.model_validate, requests.mapping(body, "schema"), "the schema")
        spec, order = UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER
        if body.get("partition-spec") is not None:
            number_fields(body["partition-spec"])
            spec = requests.parsed(PartitionSpec.model_validate, body["partition-spec"], "the partition spec")
        if body.get("write-order") is not None:
            order = requests.parsed(SortOrder.model_validate, body["write-order"], "the sort order")

        def new(place: str) -> TableMetadata:
            made = new_table_metadata(schema, spec, order, place, properties)
            defaults = {one.name: one.write_default for one in schema.fields if one.write_default is not None}
            if made.format_version < 3 or not defaults:
                return made
            return made.model_copy(update={"schemas": [with_defaults(made.schema(), defaults)]})  # it forgets them

        return requests.parsed(new, location, "the table")

    def load(self, key: Key, snapshots: Snapshots = "all") -> Json:
        """Return the metadata of a table as its file has it, with ``"refs"`` without snapshots that no ref names."""
        location = self._store.listing.location(key, "TABLE")
        metadata = self._store.files.json(location)
        return _result(location, _only_refs(metadata) if snapshots == "refs" else metadata)

    def commit(self, key: Key, body: Json) -> Json:
        """Change one table, or make one that was staged: a ``CommitTableResponse``."""
        (location,) = self._commit([Change.of(key, body)])
        return {"metadata-location": location, "metadata": self._store.files.json(location)}

    def commit_all(self, body: Json) -> None:
        """Change several tables in one transaction, a ``CommitTransactionRequest``: all of them, or none."""
        changes = []
        for one in requests.items(body, "table-changes"):
            identifier = requests.mapping(one if isinstance(one, dict) else {}, "identifier")
            changes.append(Change.of(checked_key(identifier.get("namespace"), identifier.get("name")), one))
        if not changes or len({change.key for change in changes}) < len(changes):
            raise Refusal.bad("'table-changes' must name one or more tables, each of them once")
        self._commit(changes)

    def _commit(self, changes: Sequence[Change]) -> list[str]:
        return self._store.change(lambda: [self._prepared(change) for change in changes], "TABLE")

    def _prepared(self, change: Change) -> Prepared:
        before = self._store.listing.find(change.key, "TABLE")
        base = None if before is None else self._store.files.table(before)
        creates = any(isinstance(one, AssertCreate) for one in change.requirements)
        if base is None:
            self._store.listing.require(tuple(change.key.namespace.split(".")))
            if not creates:
                raise Refusal.no_entry("TABLE", str(change.key))
        elif base.format_version not in WRITTEN_VERSIONS:
            raise Refusal.unsupported(f"the table has format version {base.format_version}, which cannot be written")
        for requirement in change.requirements:
            try:
                requirement.validate(base)
            except CommitFailedException as error:
                raise Refusal.conflict(f"{change.key}: {error}") from None
        after = self._updated(change, base, before)
        text = None if base is not None and after == base else as_json(after)
        folder = after.properties.get("write.metadata.path", f"{after.location}/metadata")
        return Prepared(change.key, before, text, self._store.warehouse.checked(folder))

    def _updated(self, change: Change, base: TableMetadata | None, before: str | None) -> TableMetadata:
        updates = tuple(self._inside(change.key, update, base) for update in exact(base, change.updates))
        start = MetastoreCatalog._empty_table_metadata() if base is None else base

        def apply(updates: tuple[TableUpdate, ...]) -> TableMetadata:
            after = update_table_metadata(start, updates, metadata_location=before)
            try:
                after = after if base is None else succeeding(base, after)
            except CommitFailedException as error:
                raise Refusal.conflict(f"{change.key}: {error}") from None
            if after.format_version == 1:  # its older fields repeat what is current; PyIceberg leaves them as they were
                fields = [field.model_dump() for field in after.spec().fields]
                after = after.model_copy(update={"schema_": after.schema(), "partition_spec": fields})
            return TableMetadataUtil.parse_raw(as_json(after))  # a file that cannot be read is not written

        after = requests.parsed(apply, updates, "the updates")
        location = self._store.warehouse.table_location(after.location)
        set_here = [one.updates for one in updates if isinstance(one, SetPropertiesUpdate)]
        for properties in set_here:
            self._store.warehouse.check_properties(properties, location)
        return after

    def _inside(self, key: Key, update: TableUpdate, base: TableMetadata | None) -> TableUpdate:
        """Refuse a location that cannot be, and say others as the warehouse does."""
        if not isinstance(update, SetLocationUpdate):
            return update
        place = self._store.warehouse.table_location(update.location)
        if base is None:
            self._store.check_unshared(key, place)
        elif self._store.warehouse.embedded and place != self._store.warehouse.checked(base.location):
            raise Refusal.unsupported("a table of an embedded lake stays in its folder")
        return SetLocationUpdate(location=place)

    def register(self, levels: tuple[str, ...], body: Json) -> Json:
        """List a table whose metadata is there, with ``overwrite`` in the place of the one of that name."""
        key = checked_key(levels, body.get("name"))
        self._store.listing.require(levels)
        location = self._store.warehouse.checked(requests.text(body, "metadata-location"))
        try:
            metadata = self._store.files.table(location)
        except Refusal:
            raise Refusal.bad("there is no metadata of a table at 'metadata-location'") from None
        folder = self._store.warehouse.table_location(metadata.location)
        self._store.warehouse.check_properties(metadata.properties, folder)
        self._store.register(key, location, folder, "TABLE", body.get("overwrite") is True)
        return self.load(key)

    def rename(self, before: Key, after: Key) -> None:
        """Give a table another name; its files stay where they are."""
        self._store.listing.rename(before, after, "TABLE")

    def drop(self, key: Key, purge: bool) -> None:
        """Take a table off the list, with `purge` its files as well."""
        location = self._store.listing.remove(key, "TABLE")
        if purge and self._store.warehouse.embedded:
            self._store.remove_folder(location)
        elif purge:
            remove_files(self._store.files, self._store.warehouse, location)


def _result(location: str | None, metadata: Json) -> Json:
    """Return a ``LoadTableResult``: without keys, which whoever reads the files has of his own."""
    return {"metadata-location": location, "metadata": metadata, "config": {}}


def etag(location: str, snapshots: Snapshots) -> str:
    """Return a tag of what `Tables.load` returns: metadata files never change, so that their place says all."""
    return f'"{hashlib.sha256(f"{snapshots} {location}".encode()).hexdigest()[:32]}"'


def _only_refs(metadata: Json) -> Json:
    named = {ref.get("snapshot-id") for ref in (metadata.get("refs") or {}).values()}
    named.add(metadata.get("current-snapshot-id"))
    kept = [one for one in metadata.get("snapshots") or [] if one.get("snapshot-id") in named]
    return {**metadata, "snapshots": kept}
