"""Scans planned by a catalog, without HTTP: pages, plan tasks, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import iceblink as ib
from iceblink.lake.catalog import Catalog
from iceblink.lake.listing import Key
from iceblink.lake.manifest_files import forget
from iceblink.lake.served import planning
from iceblink.lake.served.catalog import ServedCatalog
from iceblink.lake.served.planning import Planning
from iceblink.lake.served.refusal import Refusal

TABLE = Key("my shop", "täble")
NAME = "my shop.täble"
CITY: dict[str, Any] = {"type": "eq", "term": "city", "value": "São Paulo"}


@pytest.fixture
def lake(tmp_path: Path) -> ib.Lake:
    lake = ib.connect(tmp_path / "lake ü")
    lake.create(NAME, {"id": "long", "city": "string"}, partition_by=["city"])
    for number in range(3):
        cities = ["São Paulo", None] if number else ["São Paulo"]
        lake.write(NAME, [{"id": number, "city": city} for city in cities])
    return lake


@pytest.fixture
def served(lake: ib.Lake) -> Planning:
    assert lake.session.catalog.folder is not None
    return ServedCatalog(Catalog.embedded(lake.session.catalog.folder)).planning


def paths(answer: dict[str, Any]) -> list[str]:
    return [task["data-file"]["file-path"] for task in answer.get("file-scan-tasks", [])]


def all_paths(served: Planning, body: dict[str, Any]) -> list[str]:
    answer = served.plan(TABLE, body)
    return paths(answer) + [
        path for task in answer.get("plan-tasks", []) for path in paths(served.tasks(TABLE, {"plan-task": task}))
    ]


def refused(served: Planning, body: dict[str, Any], task: bool = False) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        (served.tasks if task else served.plan)(TABLE, body)
    return caught.value.status, caught.value.kind


def test_pages_together_are_the_plan_in_its_order(
    lake: ib.Lake, served: Planning, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = all_paths(served, {})
    assert whole == [entry.path for entry in lake.session.catalog.load(NAME).files()]
    assert (len(whole), "plan-tasks" in served.plan(TABLE, {})) == (5, False)
    monkeypatch.setattr(planning, "PAGE_FILES", 2)
    answer = served.plan(TABLE, {"filter": CITY})
    assert (len(answer["plan-tasks"]), len(paths(answer))) == (2, 1)
    assert all_paths(served, {}) == whole
    lake.write(NAME, [{"id": 9, "city": "Oslo"}])  # a plan stays one of its snapshot
    first = served.tasks(TABLE, {"plan-task": answer["plan-tasks"][0]})
    assert paths(first)[0] in whole


def test_a_residual_is_told_where_the_partition_does_not_answer(served: Planning) -> None:
    def residuals(wanted: dict[str, Any] | None) -> list[Any]:
        return [task.get("residual-filter") for task in served.plan(TABLE, {"filter": wanted})["file-scan-tasks"]]

    both = {"type": "and", "left": CITY, "right": {"type": "gt", "term": "id", "value": 0}}
    unsaid = {"type": "eq", "term": {"type": "transform", "transform": "bucket[4]", "term": "id"}, "value": 1}
    assert residuals(None) == [None] * 5
    assert residuals(CITY) == [None] * 3
    assert residuals(both) == [both] * 2
    assert (
        residuals({"type": "and", "left": CITY, "right": unsaid})
        == [{"type": "and", "left": CITY, "right": unsaid}] * 3
    )
    assert served.plan(TABLE, {"filter": {"type": "false"}}) == {"status": "completed"}


def test_statistics_are_told_of_the_fields_that_are_asked_for(served: Planning) -> None:
    bare = served.plan(TABLE, {})["file-scan-tasks"][0]["data-file"]
    assert not {"column-sizes", "lower-bounds"} & set(bare)
    told = served.plan(TABLE, {"stats-fields": ["id"]})["file-scan-tasks"][0]["data-file"]
    assert told["lower-bounds"] == told["upper-bounds"]
    assert told["null-value-counts"] == {"keys": [1], "values": [0]}
    assert refused(served, {"stats-fields": ["price"]}) == (400, "BadRequestException")


def test_a_table_without_rows_has_an_empty_plan(lake: ib.Lake, served: Planning) -> None:
    lake.create("my shop.empty", {"id": "long"})
    assert served.plan(Key("my shop", "empty"), {}) == {"status": "completed"}


def test_what_cannot_be_planned_is_refused_in_the_words_of_the_specification(lake: ib.Lake, served: Planning) -> None:
    now = lake.session.catalog.load(NAME).snapshot_id
    assert refused(served, {"snapshot-id": 7}) == (400, "BadRequestException")
    assert refused(served, {"filter": {"type": "eq", "term": "q", "value": 1}}) == (400, "BadRequestException")
    assert refused(served, {"start-snapshot-id": 1, "end-snapshot-id": now})[0] == 406
    with pytest.raises(Refusal) as caught:
        served.plan(Key("my shop", "none"), {})
    assert caught.value.kind == "NoSuchTableException"


def test_a_plan_task_that_nobody_gave_out_is_not_there(lake: ib.Lake, served: Planning) -> None:
    now = lake.session.catalog.load(NAME).snapshot_id

    def made_up(*said: Any) -> dict[str, Any]:
        return {"plan-task": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}

    for body in (
        {"plan-task": "x"},
        {"plan-task": "ü"},
        made_up(),
        made_up(1, 2, 3),
        made_up({}, 0, 1),
        made_up({"snapshot-id": 7}, 0, 1),
        made_up({"snapshot-id": now}, 0, 99),
        made_up({"snapshot-id": now}, -1, 0),
        made_up({"snapshot-id": now}, True, 1),
        made_up({"snapshot-id": now}, 2, 1),
    ):
        assert refused(served, body, task=True) == (404, "NoSuchPlanTaskException")
    assert refused(served, {}, task=True) == (400, "BadRequestException")


def test_no_file_outside_of_the_warehouse_is_read_for_a_client(
    lake: ib.Lake, served: Planning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = lake.session.catalog.load(NAME).snapshot
    assert snapshot is not None
    place = Path(snapshot.manifest_list)
    outside = tmp_path / "outside.avro"
    outside.write_bytes(place.read_bytes())
    place.unlink()
    place.symlink_to(outside)
    forget()
    assert refused(served, {}) == (406, "UnsupportedOperationException")


def test_damage_is_the_servers_own_fault(lake: ib.Lake, served: Planning) -> None:
    snapshot = lake.session.catalog.load(NAME).snapshot
    assert snapshot is not None
    Path(snapshot.manifest_list).write_bytes(b"no list")
    forget()
    assert refused(served, {}) == (500, "InternalServerError")
