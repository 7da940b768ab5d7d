"""Tables of format version 3 through our REST server: the same as in an embedded lake, and no row id is given twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from iceblink import _
from iceblink.lake.catalog import Catalog
from iceblink.rest.server import Server
from integration.rest_client import SCHEMA, Answer, Rest
from integration.third_version import ON_READ, ROWS, STEPS, THIRD, Row, Twins, check_ids, loaded, next_row_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lake ü"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(Catalog.embedded(folder), port=0) as running:
        yield running


@pytest.fixture
def served(server: Server) -> Iterator[ib.Lake]:
    with ib.connect(uri=server.url) as lake:
        yield lake


@settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=ROWS, steps=STEPS, shape=st.sampled_from([[], ["g ü"]]), on_read=st.booleans())
def test_a_served_lake_holds_what_the_model_holds(
    tmp_path_factory: pytest.TempPathFactory, first: list[Row], steps: Any, shape: list[str], on_read: bool
) -> None:
    folder = tmp_path_factory.mktemp("lake ü")
    with (
        Server(Catalog.embedded(folder), port=0) as server,
        ib.connect(uri=server.url) as lake,
        ib.connect(folder) as direct,
    ):
        twins, before = Twins(lake, shape, on_read), None
        for name, given in [("append", first), *steps]:
            getattr(twins, name)(given)
            twins.check()
            after = loaded(lake)
            check_ids(before, after)
            before = after
        lineage = [sorted(map(repr, one.table("n.t", row_lineage=True).to_pylist())) for one in (lake, direct)]
        assert lineage[0] == lineage[1]


def test_a_table_is_made_upgraded_and_changed_by_client_and_owner_in_turn(served: ib.Lake, folder: Path) -> None:
    served.sql("CREATE TABLE n.t (id BIGINT, k INT DEFAULT 7) TBLPROPERTIES ('format-version' = '3')")
    served.write("n.t", {"id": [1, 2]})
    served.write("n.old", {"id": [1, 2]}, "create")
    served.alter("n.old", properties=THIRD | ON_READ)
    served.write("n.new", {"id": [5]}, "create", properties=THIRD)
    with ib.connect(folder) as direct:
        direct.update("n.t", {"id": 20}, _.id == 2)
        direct.write("n.old", {"id": [3]})
        for lake in (served, direct):
            rows = lake.table("n.t", row_lineage=True).order_by("_row_id").to_pylist()
            assert [tuple(row.values()) for row in rows] == [(1, 7, 0, 1), (20, 7, 1, 2)]
            assert loaded(lake, "n.old").format_version == "3"
            assert next_row_id(loaded(lake, "n.old")) == 3
            assert lake.table("n.new").to_pylist() == [{"id": 5}]
    served.delete("n.old", _.id == 1)
    check_ids(None, loaded(served, "n.old"))


def test_writers_of_several_branches_share_no_row_id(served: ib.Lake, folder: Path) -> None:
    served.write("n.t", {"id": [0]}, "create", properties=THIRD)
    served.branch("n.t", "other")
    with ib.connect(folder) as direct:

        def write(number: int) -> None:
            lake = served if number % 3 else direct
            lake.write("n.t", {"id": [number] * number}, branch="main" if number % 2 else "other")

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, range(1, 7)))
    snapshots = loaded(served).pyiceberg.metadata.snapshots
    ranges = sorted((one.first_row_id or 0, (one.first_row_id or 0) + (one.added_rows or 0)) for one in snapshots)
    assert all(end == start for (_, end), (start, _) in pairwise(ranges))
    assert next_row_id(loaded(served)) == 1 + sum(range(1, 7))


def test_row_ids_that_are_taken_are_a_conflict_and_others_a_mistake(server: Server, served: ib.Lake) -> None:
    served.write("n.t", {"id": [0, 1]}, "create", properties=THIRD)
    rest = Rest(server.url)
    metadata = rest.ask("GET", "/namespaces/n/tables/t").body["metadata"]
    (last,) = metadata["snapshots"]
    place = "/namespaces/n/tables/t"

    def commit(*said: dict[str, Any]) -> int:
        snapshots = [{**last, "snapshot-id": 7 + at, "sequence-number": 2 + at, **one} for at, one in enumerate(said)]
        updates = [{"action": "add-snapshot", "snapshot": one} for one in snapshots]
        return rest.ask("POST", place, {"requirements": [], "updates": updates}).status

    assert commit({"first-row-id": 0, "added-rows": 2}) == 409
    assert commit({"first-row-id": 3, "added-rows": 2}) == 400
    assert commit({"first-row-id": None, "added-rows": 2}) == 400
    assert commit({"first-row-id": 2, "added-rows": -1}) == 400
    assert commit({"first-row-id": 2, "added-rows": 2}, {"first-row-id": 3, "added-rows": 2}) == 409
    assert rest.ask("GET", place).body["metadata"] == metadata
    assert commit({"first-row-id": 2, "added-rows": 2}, {"first-row-id": 4, "added-rows": 0}) == 200
    assert rest.ask("GET", place).body["metadata"]["next-row-id"] == 4


def test_other_clients_make_and_upgrade_such_tables(server: Server, served: ib.Lake) -> None:
    rest = Rest(server.url)
    rest.table("n", "t")
    place = "/namespaces/n/tables"

    def upgraded(version: int) -> Answer:
        updates = [{"action": "upgrade-format-version", "format-version": version}]
        return rest.ask("POST", f"{place}/t", {"updates": updates})

    first, again = upgraded(3).body["metadata"], upgraded(3).body["metadata"]
    assert first == again
    assert (first["format-version"], first["next-row-id"]) == (3, 0)
    assert (upgraded(2).status, upgraded(4).status) == (400, 406)
    field = {"id": 2, "name": "k", "type": "long", "required": False, "write-default": 5}
    body = {"name": "u", "schema": {**SCHEMA, "fields": [*SCHEMA["fields"], field]}, "properties": THIRD}
    assert rest.ask("POST", place, body).body["metadata"]["format-version"] == 3
    for name, expected in (("n.t", {"id": 1}), ("n.u", {"id": 1, "k": 5})):
        served.write(name, {"id": [1]})
        assert served.table(name).to_pylist() == [expected]
        check_ids(None, loaded(served, name))
