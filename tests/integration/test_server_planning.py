"""Scans that a REST catalog plans: the same files, deletes and rows as those that a client finds by itself."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import load_catalog
from requests import Response

import iceblink as ib
from iceblink import _
from iceblink.errors import CatalogError, ColumnNotFound
from iceblink.lake.catalog import Catalog
from iceblink.lake.entries import FileEntry
from iceblink.lake.manifests import live_files
from iceblink.lake.remote_planning import MODE, served_files
from iceblink.lake.served import planning
from iceblink.lake.table import Table
from iceblink.predicate import And, Compare, Everything, IsIn, IsNull, Or, Predicate, StartsWith
from iceblink.rest.server import Server
from row_deletes import delete_by_position, delete_by_value

NAME, MODERN = "my shop.bünd", "my shop.newest"
COLUMNS = {"id": "long", "city": "string", "price": "double", "day": "date", "raw": "binary"}
CITIES = ["São Paulo", "Oslo / east", None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table of two specs, with position and equality deletes, and one with a deletion vector."""
    place = tmp_path_factory.mktemp("lake ü")
    with ib.connect(place) as lake:
        lake.create(NAME, COLUMNS, partition_by=["city", "price"])
        schema = lake.table(NAME).schema
        for start in (0, 4, 8):
            lake.write(NAME, pa.Table.from_pylist(list(map(made_row, range(start, start + 4))), schema=schema))
        delete_by_position(lake, NAME, [1, 6], bounded=False)
        delete_by_value(lake, NAME, [5])
        lake.alter(NAME, partition_by=["bucket(3, id)", "day(day)", "raw"])
        lake.write(NAME, pa.Table.from_pylist([made_row(12), made_row(13)], schema=schema))
        modern = {"format-version": "3", "write.delete.mode": "merge-on-read"}
        lake.write(MODERN, pa.table({"id": [1, 2, 3]}), "create", properties=modern)
        lake.delete(MODERN, _.id == 2)
    return place


def made_row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "city": CITIES[number % 3],
        "price": [0.5, float("nan"), float("inf"), None][number % 4],
        "day": None if number % 5 == 4 else date(2026, 1, number + 1),
        "raw": bytes([number, 255]),
    }


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Server(Catalog.embedded(folder), port=0) as running:
        yield running


@pytest.fixture(scope="module")
def lake(server: Server) -> Iterator[ib.Lake]:
    properties: dict[str, Any] = {MODE: "server"}
    with ib.connect(uri=server.url, **properties) as lake:
        yield lake


@pytest.fixture(scope="module")
def table(lake: ib.Lake) -> Table:
    return lake.session.catalog.load(NAME)


LEAVES: st.SearchStrategy[Predicate] = st.one_of(
    st.builds(Compare, st.just("id"), st.sampled_from(["=", "!=", "<", ">="]), st.integers(-1, 14)),
    st.builds(IsIn, st.just("id"), st.frozensets(st.integers(0, 13), max_size=3)),
    st.builds(Compare, st.just("price"), st.sampled_from(["=", "<", ">"]), st.sampled_from([0.25, 0.5, float("inf")])),
    st.builds(Compare, st.just("day"), st.sampled_from(["=", "<="]), st.dates(date(2025, 12, 30), date(2026, 1, 15))),
    st.builds(Compare, st.just("raw"), st.sampled_from(["=", ">"]), st.binary(max_size=2)),
    st.builds(Compare, st.just("city"), st.sampled_from(["=", "!="]), st.sampled_from(CITIES[:2])),
    st.builds(StartsWith, st.just("city"), st.sampled_from(["", "São", "x"])),
    st.builds(IsNull, st.sampled_from(["city", "price"])),
)
PREDICATES = st.recursive(
    LEAVES | st.just(Everything()),
    lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner),
    max_leaves=4,
)


def told(entries: Iterable[FileEntry], columns: Collection[int]) -> list[str]:
    """Return all that planning uses of files, in their order; NaN is like NaN."""

    def statistics(entry: FileEntry) -> list[object]:
        return [one.get(column) for one in (entry.lower, entry.upper, entry.null_counts) for column in columns]

    return [
        repr(
            (one.path, one.file_bytes, one.rows, one.spec_id, one.partition, one.identity, one.deletes, statistics(one))
        )
        for one in entries
    ]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(predicate=PREDICATES)
def test_a_server_finds_the_files_that_a_client_finds(
    table: Table, monkeypatch: pytest.MonkeyPatch, predicate: Predicate
) -> None:
    monkeypatch.setattr(planning, "PAGE_FILES", 2)
    served = served_files(table, predicate, ["id", "day"])
    assert served is not None
    ids = [table.iceberg_schema.find_field(name).field_id for name in ("id", "day")]
    assert told(served, ids) == told(live_files(table, predicate, ["id", "day"]), ids)


def test_rows_of_a_planned_scan_are_those_of_the_table(
    lake: ib.Lake, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "PAGE_FILES", 1)
    left = [number for number in range(14) if number not in (1, 5, 6)]
    monkeypatch.setattr("iceblink.lake.table.live_files", None)  # no manifest is read by the client
    monkeypatch.setattr("iceblink.lake.table.files_as", None)
    assert lake.table(NAME).order_by("id").to_arrow()["id"].to_pylist() == left
    asked = lake.table(NAME).filter(_.id > 3, _.city == CITIES[0]).order_by("id")
    assert asked.to_arrow()["id"].to_pylist() == [number for number in left if number > 3 and number % 3 == 0]
    assert sorted(lake.table(MODERN).to_arrow()["id"].to_pylist()) == [1, 3]
    with pytest.raises(ColumnNotFound):
        lake.session.catalog.load(NAME).files(Compare("q", "=", 1))


def test_pyiceberg_reads_what_the_server_plans(server: Server, lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "PAGE_FILES", 1)
    lake.create("peers.t", {"id": "long", "city": "string", "day": "date"}, partition_by=["city"])
    days = [date(2026, 1, number + 1) for number in range(6)]
    for city in ("Oslo", "São Paulo"):
        lake.write("peers.t", [{"id": number, "city": city, "day": day} for number, day in enumerate(days)])
    delete_by_position(lake, "peers.t", [2])
    client = load_catalog("rest", uri=server.url, **{MODE: "server"})
    here = load_catalog("rest", uri=server.url)
    assert (client.supports_server_side_planning(), here.supports_server_side_planning()) == (True, False)
    for asked in (
        "id >= 0",
        "city = 'São Paulo'",
        "city = 'Oslo' and id > 3",
        "not (city = 'Oslo' or id in (1, 5))",
        "day > '2026-01-03'",
        "city like 'S%' and day is not null",
        "id > 70",
    ):
        scans = [catalog.load_table("peers.t").scan(row_filter=asked) for catalog in (client, here)]
        rows, expected = (sorted(scan.to_arrow().to_pylist(), key=repr) for scan in scans)
        assert rows == expected
        planned, found = ({task.file.file_path for task in scan.plan_files()} for scan in scans)
        assert planned == found
        assert scans[0].count() == len(expected)


def test_what_a_catalog_does_not_plan_is_planned_here(lake: ib.Lake, server: Server) -> None:
    with ib.connect(uri=server.url) as other:
        assert served_files(other.session.catalog.load(NAME), Everything()) is None
    lake.write("own.t", [{"id": 1, "name": "a"}], "create")
    lake.alter("own.t", rename={"id": "name", "name": "id"})
    swapped = lake.session.catalog.load("own.t")  # the server may have given its names to other columns meanwhile
    assert served_files(swapped, Everything()) is None
    assert lake.table("own.t").filter(_.id == "a").to_arrow()["name"].to_pylist() == [1]


ANSWERS: list[tuple[int, Any]] = [
    (200, {"status": "failed", "error": {"message": "no memory", "type": "X", "code": 500}}),
    (200, {"status": "cancelled"}),
    (200, {}),
    (200, []),
    (200, {"status": "completed", "file-scan-tasks": [{}]}),
    (200, {"status": "completed", "file-scan-tasks": [{"data-file": {}, "delete-file-references": [3]}]}),
    (200, {"status": "completed", "plan-tasks": ["lost"]}),
    (503, {"error": {"message": "not now", "type": "X", "code": 503}}),
]


@pytest.mark.parametrize(("status", "body"), ANSWERS)
def test_an_answer_that_is_no_plan_is_an_error_that_says_what_to_do(
    table: Table, monkeypatch: pytest.MonkeyPatch, status: int, body: Any
) -> None:
    answering(table, monkeypatch, status, body)
    with pytest.raises(CatalogError):
        list(table.files())


@pytest.mark.parametrize(("status", "body"), [(200, {"status": "submitted", "plan-id": "7"}), (406, None), (501, {})])
def test_a_scan_that_is_not_planned_at_once_is_planned_here(
    table: Table, monkeypatch: pytest.MonkeyPatch, status: int, body: Any
) -> None:
    expected = told(table.files(), [])
    answering(table, monkeypatch, status, body)
    assert told(table.files(), []) == expected


def answering(table: Table, monkeypatch: pytest.MonkeyPatch, status: int, body: Any) -> None:
    """Have the catalog answer one plan so, and no plan task at all."""

    def post(url: str, **sent: Any) -> Response:
        answer = Response()
        answer.status_code = status if url.endswith("/plan") else 404
        answer._content = json.dumps(body if url.endswith("/plan") else {}).encode()
        return answer

    catalog: Any = table.catalog.pyiceberg
    monkeypatch.setattr(catalog._session, "post", post)
