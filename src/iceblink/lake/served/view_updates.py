"""Metadata of views as JSON: how one is made, and what each update makes of it.

References
----------
.. [1] Iceberg view spec, https://iceberg.apache.org/view-spec/
.. [2] Iceberg REST catalog, ``ViewUpdate``, ``ViewRequirement``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from pyiceberg.schema import Schema
from pyiceberg.view.metadata import ViewMetadata

from iceblink.lake.served import requests
from iceblink.lake.served.refusal import Refusal

Json = dict[str, Any]

HISTORY, HISTORY_DEFAULT = "version.history.num-entries", 10
LAST_ADDED = -1


def new_view(body: Json, location: str) -> Json:
    """Return the metadata of a view that a ``CreateViewRequest`` describes.

    Raises
    ------
    Refusal
        400
    """
    metadata: Json = {
        "view-uuid": str(uuid4()),
        "format-version": 1,
        "location": location,
        "schemas": [],
        "versions": [],
        "version-log": [],
        "properties": requests.texts(body, "properties"),
    }
    version = requests.mapping(body, "view-version")
    updates = [
        {"action": "add-schema", "schema": requests.mapping(body, "schema")},
        {"action": "add-view-version", "view-version": {**version, "schema-id": LAST_ADDED}},
        {"action": "set-current-view-version", "view-version-id": LAST_ADDED},
    ]
    return updated(metadata, updates)


def check_requirements(metadata: Json, requirements: Sequence[Any]) -> None:
    """Answer 409 if a requirement does not hold, 400 if it is unknown."""
    for one in requirements:
        if not isinstance(one, dict) or one.get("type") != "assert-view-uuid":
            raise Refusal.bad("the one requirement of a view is 'assert-view-uuid'")
        if one.get("uuid") != metadata["view-uuid"]:
            raise Refusal.conflict(f"the uuid of the view is {metadata['view-uuid']}")


def updated(metadata: Json, updates: Sequence[Any]) -> Json:
    """Return what the updates make of the metadata of a view, in a form that a file may have.

    Raises
    ------
    Refusal
        400
    """
    after, last = {**metadata}, dict[str, int]()
    for one in updates:
        action = _ACTIONS.get(one.get("action")) if isinstance(one, dict) else None
        if action is None:
            raise Refusal.bad("an update of a view is unknown")
        requests.parsed(partial(action, after, last), one, f"the update {one['action']!r}")
    _forget_versions(after)
    text = requests.parsed(ViewMetadata.model_validate, after, "the view").model_dump_json()
    made: Json = json.loads(text)
    return made


def _assign_uuid(view: Json, last: dict[str, int], update: Json) -> None:
    if update["uuid"] != view["view-uuid"]:
        raise Refusal.bad("a view keeps its uuid")


def _upgrade(view: Json, last: dict[str, int], update: Json) -> None:
    if update["format-version"] != 1:
        raise Refusal.unsupported("views have format version 1")


def _set_location(view: Json, last: dict[str, int], update: Json) -> None:
    view["location"] = requests.text(update, "location")


def _set_properties(view: Json, last: dict[str, int], update: Json) -> None:
    view["properties"] = {**view.get("properties", {}), **requests.texts(update, "updates")}


def _remove_properties(view: Json, last: dict[str, int], update: Json) -> None:
    gone = requests.items(update, "removals")
    view["properties"] = {name: value for name, value in view.get("properties", {}).items() if name not in gone}


def _add_schema(view: Json, last: dict[str, int], update: Json) -> None:
    schema = json.loads(Schema.model_validate(requests.mapping(update, "schema")).model_dump_json())
    content = {name: value for name, value in schema.items() if name != "schema-id"}
    for known in view["schemas"]:
        if {name: value for name, value in known.items() if name != "schema-id"} == content:
            last["schema"] = known["schema-id"]
            return
    last["schema"] = _free([one["schema-id"] for one in view["schemas"]], schema.get("schema-id", 0))
    view["schemas"] = [*view["schemas"], {**schema, "schema-id": last["schema"]}]


def _add_version(view: Json, last: dict[str, int], update: Json) -> None:
    version = dict(requests.mapping(update, "view-version"))
    if version.get("schema-id") == LAST_ADDED:
        version["schema-id"] = last["schema"]
    if version.get("schema-id") not in [one["schema-id"] for one in view["schemas"]]:
        raise Refusal.bad("the version names a schema that the view does not have")
    dialects = [one["dialect"].lower() for one in version["representations"]]
    if not dialects or len(set(dialects)) < len(dialects):
        raise Refusal.bad("a version of a view has one or more texts, one of each dialect")
    version.setdefault("timestamp-ms", int(time.time() * 1000))
    version["version-id"] = _free(
        [one["version-id"] for one in view["versions"]], version.get("version-id", 1), first=1
    )
    view["versions"] = [*view["versions"], version]
    last["version"] = version["version-id"]


def _set_version(view: Json, last: dict[str, int], update: Json) -> None:
    wanted = update["view-version-id"]
    wanted = last["version"] if wanted == LAST_ADDED else wanted
    if wanted not in [one["version-id"] for one in view["versions"]]:
        raise Refusal.bad(f"the view has no version {wanted}")
    if view.get("current-version-id") == wanted:
        return
    view["current-version-id"] = wanted
    view["version-log"] = [*view["version-log"], {"timestamp-ms": int(time.time() * 1000), "version-id": wanted}]


def _forget_versions(view: Json) -> None:
    """Keep as many versions as the view's own property says, the current one among them."""
    text = view.get("properties", {}).get(HISTORY, "")
    most = max(int(text), 1) if text.isascii() and text.isdigit() else HISTORY_DEFAULT
    current = view.get("current-version-id")
    older = [one for one in view["versions"] if one["version-id"] != current]
    kept = {current, *(one["version-id"] for one in older[len(older) - most + 1 :])} if len(older) >= most else None
    if kept is not None:
        view["versions"] = [one for one in view["versions"] if one["version-id"] in kept]
        view["version-log"] = [one for one in view["version-log"] if one["version-id"] in kept]


def _free(taken: Sequence[int], wanted: int, first: int = 0) -> int:
    return max(taken, default=first - 1) + 1 if wanted in taken or wanted < first else wanted


_ACTIONS: dict[Any, Callable[[Json, dict[str, int], Json], None]] = {
    "assign-uuid": _assign_uuid,
    "upgrade-format-version": _upgrade,
    "set-location": _set_location,
    "set-properties": _set_properties,
    "remove-properties": _remove_properties,
    "add-schema": _add_schema,
    "add-view-version": _add_version,
    "set-current-view-version": _set_version,
}
