"""Versions of a view: what is current, what is kept, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.view_updates import new_view, updated

SCHEMA = {"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "type": "long", "required": False}]}


def version(sql: str, number: Any = 1, **more: Any) -> dict[str, Any]:
    texts = [{"type": "sql", "sql": sql, "dialect": "duckdb"}]
    return {
        "version-id": number,
        "schema-id": 0,
        "timestamp-ms": 1,
        "summary": {},
        "representations": texts,
        "default-namespace": ["n"],
        **more,
    }


def a_view(**properties: str) -> dict[str, Any]:
    body = {"name": "v", "schema": SCHEMA, "view-version": version("SELECT 0"), "properties": properties}
    return new_view(body, "/lake/n/v")


def sql_of(view: dict[str, Any]) -> str:
    (current,) = [one for one in view["versions"] if one["version-id"] == view["current-version-id"]]
    return str(current["representations"][0]["sql"])


@given(numbers=st.lists(st.integers(-3, 20), max_size=8), kept=st.integers(1, 5))
def test_the_last_version_is_current_and_as_many_are_kept_as_is_said(numbers: list[int], kept: int) -> None:
    view = a_view(**{"version.history.num-entries": str(kept)})
    for round_, number in enumerate(numbers, start=1):
        add = {"action": "add-view-version", "view-version": version(f"SELECT {round_}", number)}
        view = updated(view, [add, {"action": "set-current-view-version", "view-version-id": -1}])
        assert sql_of(view) == f"SELECT {round_}"
        ids = [one["version-id"] for one in view["versions"]]
        assert len(set(ids)) == len(ids) <= kept
        assert {one["version-id"] for one in view["version-log"]} <= set(ids)
        assert view["version-log"][-1]["version-id"] == view["current-version-id"]
    assert len(view["schemas"]) == 1


@pytest.mark.parametrize(
    "update",
    [
        {"action": "add-view-version", "view-version": version("x", representations=[])},
        {"action": "add-view-version", "view-version": version("x", representations=[{"sql": "x"}])},
        {"action": "add-view-version", "view-version": version("x", **{"schema-id": 7})},
        {"action": "add-view-version", "view-version": version("x", "one")},
        {"action": "add-view-version"},
        {"action": "set-current-view-version", "view-version-id": 9},
        {"action": "set-current-view-version", "view-version-id": -1},
        {"action": "assign-uuid", "uuid": "another"},
        {"action": "add-snapshot"},
        {},
        "replace",
    ],
)
def test_an_update_that_cannot_be_is_refused(update: Any) -> None:
    view = a_view()
    with pytest.raises(Refusal) as caught:
        updated(view, [update])
    assert caught.value.status == 400
    assert view == updated(view, [])
