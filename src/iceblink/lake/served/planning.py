"""Scans planned for clients: which files may hold a wanted row, with their deletes, page by page.

A plan is complete when it is answered, and nothing of it is kept: a plan task says by itself what was asked of which
snapshot, and which of its manifests are meant. Any server of the lake can answer it.

References
----------
.. [1] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``planTableScan`` and ``fetchScanTasks``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyiceberg.expressions import AlwaysFalse
from pyiceberg.expressions.visitors import strict_projection
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from iceblink.errors import DataCorrupt, StorageError
from iceblink.lake.deletes import DeleteIndex, PlacedDelete
from iceblink.lake.entries import DeleteFile
from iceblink.lake.listing import Key
from iceblink.lake.manifest_files import FILE_FIRST_ROW_ID, Origin, read_entries, read_manifest, read_manifest_list
from iceblink.lake.manifests import is_partitioned, sequence_of
from iceblink.lake.pruning import Partitions, Pruner, partition_values
from iceblink.lake.served import requests
from iceblink.lake.served.content_files import FileShapes
from iceblink.lake.served.filters import parsed_filter
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.store import Store
from iceblink.lake.storage import Storage

PAGE_FILES = 2000
"""Data files of an answer, about; manifests are not cut."""

Json = dict[str, Any]
Span = tuple[int, int]
"""The first of some manifests, and the one after the last."""


class Planning:
    """Plans scans of the tables of a store; all methods raise `Refusal`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def plan(self, key: Key, body: Json) -> Json:
        """Answer a ``PlanTableScanRequest`` with the first files, and a plan task for each page of others.

        Raises
        ------
        Refusal
            400: the request, its filter, or a snapshot that is not there. 406: an incremental scan; metadata that is
            not in the warehouse. 500: metadata is damaged. 503: the storage does not answer.
        """
        if body.get("start-snapshot-id") is not None or body.get("end-snapshot-id") is not None:
            raise Refusal.unsupported("incremental scans are not planned here")
        metadata = self._metadata(key)
        snapshot_id = body.get("snapshot-id", metadata.current_snapshot_id)
        if snapshot_id is None:
            return {"status": "completed"}
        snapshot = _snapshot(metadata, snapshot_id)
        if snapshot is None:
            raise Refusal.bad(f"no snapshot {snapshot_id}")
        with _speaking():
            scan = _Scan(self._store, key, metadata, snapshot, body)
            first, *others = scan.pages()
            asked = {**body, "snapshot-id": snapshot.snapshot_id}
            tokens = {"plan-tasks": [_token(asked, span) for span in others]} if others else {}
            return {"status": "completed", **tokens, **scan.tasks(first)}

    def tasks(self, key: Key, body: Json) -> Json:
        """Answer a ``FetchScanTasksRequest``.

        Raises
        ------
        Refusal
            404: the plan task is none of ours, or its snapshot is over. Else as `plan`.
        """
        asked, span = _asked(requests.text(body, "plan-task"))
        metadata = self._metadata(key)
        snapshot = _snapshot(metadata, asked.get("snapshot-id"))
        if snapshot is None:
            raise Refusal.no_plan_task()
        with _speaking():
            return _Scan(self._store, key, metadata, snapshot, asked).tasks(span)

    def _metadata(self, key: Key) -> TableMetadata:
        return self._store.files.table(self._store.listing.location(key, "TABLE"))


class _Scan:
    """One scan of one snapshot, as a client asked for it."""

    def __init__(self, store: Store, key: Key, metadata: TableMetadata, snapshot: Snapshot, body: Json) -> None:
        self._warehouse = store.warehouse
        schema, specs = _schema(metadata, snapshot, body), metadata.specs()
        self._filter = body.get("filter")
        asked, exact = parsed_filter(self._filter, schema, body.get("case-sensitive") is not False)
        self._pruner = Pruner(asked, schema, specs)
        certain = asked if exact else AlwaysFalse()
        self._whole = {
            id_: Partitions(spec, schema, strict_projection(schema, spec)(certain)) for id_, spec in specs.items()
        }
        self._partitioned = {id_: is_partitioned(spec) for id_, spec in specs.items()}
        self._shapes = FileShapes(schema, specs, _statistics(body, schema))
        self._has_row_ids = metadata.format_version >= 3
        storage = Storage.of(store.files.io(metadata.location).properties)
        self._origin = Origin(str(key), snapshot.snapshot_id, snapshot.parent_snapshot_id, storage)
        listed = [] if self._pruner.nothing else self._listed(snapshot.manifest_list)
        self._data = [one for one in listed if one.content == ManifestContent.DATA]
        self._deletes = [one for one in listed if one.content == ManifestContent.DELETES]

    def _listed(self, path: str) -> list[ManifestFile]:
        self._check_inside(path)
        return [one for one in read_manifest_list(path, self._origin) if self._pruner.keeps_manifest(one)]

    def _entries(self, manifest: ManifestFile) -> list[ManifestEntry]:
        self._check_inside(manifest.manifest_path)
        return read_manifest(manifest, self._origin)

    def _check_inside(self, path: str) -> None:
        """Refuse to read what a client may have named anywhere: the server's keys may read more than the client's."""
        try:
            self._warehouse.checked(path)
        except Refusal:
            raise Refusal.unsupported("a manifest is outside of the warehouse: let the client plan the scan") from None

    def pages(self) -> list[Span]:
        """Return the manifests of data files in spans of `PAGE_FILES` files, about; an empty one if there are none."""
        spans: list[Span] = []
        begin, files = 0, 0
        for place, manifest in enumerate(self._data):
            held = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
            if place > begin and files + held > PAGE_FILES:
                spans.append((begin, place))
                begin, files = place, 0
            files += held
        return [*spans, (begin, len(self._data))]

    def tasks(self, span: Span) -> Json:
        """Return the ``ScanTasks`` of some manifests; 404 if there are no such."""
        first, end = span
        if not 0 <= first <= end <= len(self._data):
            raise Refusal.no_plan_task()
        placed = [one for manifest in self._deletes for one in self._placed(manifest)] if first < end else []
        index = DeleteIndex(delete for delete, _, _ in placed)
        shown: dict[DeleteFile, int] = {}
        tasks: list[Json] = []
        for manifest in self._data[first:end]:
            spec_id, row_ids = manifest.partition_spec_id, self._row_ids(manifest)
            for entry in self._entries(manifest):
                file, values = entry.data_file, partition_values(entry.data_file)
                if not self._pruner.keeps_partition(spec_id, values) or not self._pruner.keeps_file(file):
                    continue
                applying = index.applying_to(file.file_path, sequence_of(entry, manifest), (spec_id, values))
                task: Json = {"data-file": self._shapes.data_file(file, spec_id, row_ids.get(file.file_path))}
                if applying:
                    task["delete-file-references"] = [shown.setdefault(one, len(shown)) for one in applying]
                if self._filter is not None and not self._whole[spec_id].matches(values):
                    task["residual-filter"] = self._filter
                tasks.append(task)
        files = {delete.file: (file, spec_id) for delete, file, spec_id in placed}
        deletes = {"delete-files": [self._shapes.delete_file(*files[one]) for one in shown]} if shown else {}
        return {"file-scan-tasks": tasks, **deletes} if tasks else {}

    def _placed(self, manifest: ManifestFile) -> Iterator[tuple[PlacedDelete, DataFile, int]]:
        spec_id = manifest.partition_spec_id
        for entry in self._entries(manifest):
            file = entry.data_file
            key = spec_id, partition_values(file)
            yield PlacedDelete.of(file, sequence_of(entry, manifest), key, self._partitioned[spec_id]), file, spec_id

    def _row_ids(self, manifest: ManifestFile) -> dict[str, int]:
        """Return the first row id of each file, by path; none before format version 3."""
        if not self._has_row_ids:
            return {}
        self._check_inside(manifest.manifest_path)
        files = [entry.data_file for entry in read_entries(manifest, self._origin)]
        return {file.file_path: file[FILE_FIRST_ROW_ID] for file in files if file[FILE_FIRST_ROW_ID] is not None}


def _schema(metadata: TableMetadata, snapshot: Snapshot, body: Json) -> Schema:
    """Return the schema that a filter is of: the table's, or with ``use-snapshot-schema`` that of the snapshot."""
    if body.get("use-snapshot-schema") is True:
        return next((one for one in metadata.schemas if one.schema_id == snapshot.schema_id), metadata.schema())
    return metadata.schema()


def _statistics(body: Json, schema: Schema) -> set[int]:
    """Return the ids of the fields of which a client wants statistics."""
    names = requests.items(body, "stats-fields")
    try:
        return {schema.find_field(str(name), body.get("case-sensitive") is not False).field_id for name in names}
    except ValueError:
        raise Refusal.bad("a field of 'stats-fields' is not there") from None


def _snapshot(metadata: TableMetadata, snapshot_id: Any) -> Snapshot | None:
    return next((one for one in metadata.snapshots if one.snapshot_id == snapshot_id), None)


@contextmanager
def _speaking() -> Iterator[None]:
    """Turn damage, and storage that does not answer, into refusals."""
    try:
        yield
    except DataCorrupt as error:
        raise Refusal.broken(error.what) from None
    except StorageError:
        raise Refusal.unavailable("the metadata cannot be read now") from None


def _token(asked: Json, span: Span) -> str:
    return base64.urlsafe_b64encode(json.dumps([asked, *span]).encode()).decode()


def _asked(token: str) -> tuple[Json, Span]:
    """Return what a plan task says; whatever a client made up itself gives no more than a request of its own would."""
    try:
        asked, first, end = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise Refusal.no_plan_task() from None
    if not isinstance(asked, dict) or type(first) is not int or type(end) is not int:
        raise Refusal.no_plan_task()
    return asked, (first, end)
