"""One suite for every pair of a catalog and a store: what a lake does, it does wherever its tables and files are."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import CatalogError, CommitConflict, NamespaceNotFound, TableExists, TableNotFound
from iceblink.lake.catalog import Catalog
from iceblink.rest.server import Server
from servers.amazon import glue, s3

Row = dict[str, Any]

ROWS: list[Row] = [{"id": n, "name": f"näme {n}", "price": None if n % 7 == 0 else n * 0.5} for n in range(1000)]
SCHEMA = {"id": "long not null", "name": "string", "price": "double"}

LAKES = [
    ("memory", "local"),
    ("sqlite", "local"),
    ("sqlite", "s3"),
    ("postgres", "local"),
    ("postgres", "s3"),
    ("mysql", "local"),
    ("glue", "s3"),
    ("rest", "local"),
    ("rest", "s3"),
    pytest.param(("sqlite", "hdfs"), marks=pytest.mark.hdfs),
    pytest.param(("postgres", "hdfs"), marks=pytest.mark.hdfs),
    pytest.param(("hive", "local"), marks=pytest.mark.hive),
]


@pytest.fixture(scope="module", params=LAKES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    """A lake whose catalog and files are where the pair says."""
    catalog, store = request.param
    folder = tmp_path_factory.mktemp("lake")
    properties = stored(store, request, folder)
    properties |= listed(catalog, request, folder, properties)
    with ib.connect(name=uuid4().hex, engine=ib.LocalEngine(spill_dir=str(folder / "spill")), **properties) as opened:
        yield opened


def stored(store: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Return the properties of a place for files."""
    if store == "s3":
        return s3(request.getfixturevalue("amazon_endpoint"))
    if store == "hdfs":
        return {"warehouse": f"{request.getfixturevalue('hadoop_url')}/warehouse ü/{folder.name}"}
    return {"warehouse": f"file://{folder}/ware house"}


def listed(catalog: str, request: pytest.FixtureRequest, folder: Path, properties: dict[str, str]) -> dict[str, str]:
    """Return the properties of a catalog, whose files are where `properties` say."""
    if catalog == "rest":
        return {"uri": request.getfixturevalue("serve")(folder, properties)}
    if catalog == "memory":
        return {"type": "in-memory"}
    if catalog == "glue":
        return glue(request.getfixturevalue("amazon_endpoint"))
    if catalog == "sqlite":
        return {"uri": f"sqlite:///{folder}/catalog.db"}
    return {"uri": request.getfixturevalue(f"{catalog}_uri")}


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path, dict[str, str]], str]]:
    """What starts a REST catalog: of an embedded lake, or of a SQLite file beside an object store; all end together."""
    with ExitStack() as running:

        def start(folder: Path, properties: dict[str, str]) -> str:
            if properties["warehouse"].startswith("file:"):
                catalog = Catalog.embedded(folder / "ware house")
            else:
                catalog = Catalog.of(type="sql", uri=f"sqlite:///{folder}/served.db", **properties)
            return running.enter_context(Server(catalog, port=0)).url

        yield start


_numbers = count()


@pytest.fixture
def name(lake: ib.Lake) -> str:
    """The name of a table that is not there yet."""
    return f"shop.orders_{next(_numbers)}"


def rows(dataset: ib.Dataset) -> list[Row]:
    return sorted(dataset.to_pylist(), key=lambda row: row["id"])


def test_a_table_is_made_and_appended_to(lake: ib.Lake, name: str) -> None:
    lake.create(name, SCHEMA, partition_by=["bucket(2, id)"])
    assert lake.table(name).count() == 0
    lake.write(name, ROWS[:600])
    lake.write(name, ROWS[600:])
    assert rows(lake.table(name)) == ROWS
    assert name in lake.tables("shop")
    assert "shop" in lake.namespaces()
    with pytest.raises(TableExists):
        lake.create(name, SCHEMA)


def test_a_filter_reads_the_rows_that_plain_python_keeps(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS, "create", properties={"write.parquet.row-group-limit": "100"})
    got = lake.table(name).filter(_.id >= 250, _.price < 300).select("id", "price")
    assert rows(got) == [
        {"id": row["id"], "price": row["price"]}
        for row in ROWS
        if row["id"] >= 250 and row["price"] is not None and row["price"] < 300
    ]
    assert lake.sql(f"SELECT count(*) AS n, sum(price) AS s FROM {name} WHERE id < 100").to_pylist() == [
        {"n": 100, "s": sum(row["price"] or 0 for row in ROWS[:100])}
    ]


def test_an_overwrite_and_an_upsert_change_what_they_say(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:10], "create")
    lake.write(
        name, [{"id": 3, "name": "new", "price": 1.0}, {"id": 99, "name": None, "price": None}], "upsert", on="id"
    )
    wanted = {row["id"]: row for row in ROWS[:10]}
    wanted |= {3: {"id": 3, "name": "new", "price": 1.0}, 99: {"id": 99, "name": None, "price": None}}
    assert rows(lake.table(name)) == [wanted[number] for number in sorted(wanted)]
    lake.write(name, ROWS[5:7], "overwrite")
    assert rows(lake.table(name)) == ROWS[5:7]


def test_earlier_versions_stay_readable(lake: ib.Lake, name: str) -> None:
    first = lake.write(name, ROWS[:5], "create")
    lake.write(name, ROWS[5:9])
    lake.write(name, ROWS[9:10], "overwrite")
    versions = lake.history(name).to_pylist()
    ids = [version["snapshot_id"] for version in versions]
    assert [len(rows(lake.table(name, snapshot=number))) for number in ids[:2]] == [5, 9]
    assert rows(first) == ROWS[:5]
    assert rows(lake.sql(f"SELECT * FROM {name} FOR VERSION AS OF {ids[1]}")) == ROWS[:9]
    assert lake.sql(f"SELECT count(*) AS n FROM {name}.snapshots").to_pylist() == [{"n": len(ids)}]


def test_writers_from_an_older_version_go_on_top_or_conflict(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:2], "create")
    stale = lake.session.catalog.load(name)
    lake.write(name, ROWS[2:4])
    appended = lake.table(name)
    assert rows(appended) == ROWS[:4]
    session = pickle.loads(pickle.dumps(stale)) if "memory" not in str(lake.session.catalog.properties) else stale
    from iceblink.lake.commit import Commit
    from iceblink.lake.write import TableWriter

    with TableWriter(session, lake.session.engine.settings) as writer:
        for batch in lake.from_arrow(ROWS[4:5]).to_arrow().cast(session.schema).to_batches():
            writer.write(batch)
        Commit(session).append(writer.finish()).run()
    assert rows(lake.table(name)) == ROWS[:5]
    with pytest.raises(CommitConflict):
        Commit(stale).overwrite([file.path for file in stale.files()], []).run()
    assert rows(lake.table(name)) == ROWS[:5]


def test_a_table_is_renamed_and_dropped(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:3], "create")
    other = f"{name}_renamed"
    lake.rename(name, other)
    assert rows(lake.table(other)) == ROWS[:3]
    with pytest.raises(TableNotFound):
        lake.table(name)
    lake.drop(other)
    with pytest.raises(TableNotFound):
        lake.table(other)


def test_a_job_goes_on_and_its_journal_goes_where_the_files_are(lake: ib.Lake, name: str, tmp_path: Path) -> None:
    lake.create(name, SCHEMA)
    died = tmp_path / "died"

    def once(batch: Any) -> Any:
        if batch["id"][0].as_py() == 400 and not died.exists():
            died.touch()
            raise ZeroDivisionError
        return batch

    source = lake.from_arrow(ROWS)
    with pytest.raises(ib.IceblinkError):
        source.map_batches(once, batch_size=400).write(name, checkpoint="job")
    assert lake.table(name).count() == 0
    source.map_batches(once, batch_size=400).write(name, checkpoint="job")
    assert rows(lake.table(name)) == ROWS


def newest(lake: ib.Lake, name: str) -> int:
    snapshot = lake.session.catalog.load(name).snapshot_id
    assert snapshot is not None
    return snapshot


def files(lake: ib.Lake, name: str) -> set[str]:
    """The files in a table's folder."""
    table = lake.session.catalog.load(name)
    return set(table.storage.files(table.location, recursive=True))


def test_columns_and_partitions_change_under_rows_that_stay(lake: ib.Lake, name: str) -> None:
    lake.create(name, {**SCHEMA, "small": "int"}, partition_by=["bucket(2, id)"])
    lake.write(name, [{**row, "small": 1} for row in ROWS[:4]])
    lake.alter(
        name,
        add={"a nöte": "string"},
        drop="name",
        rename={"price": "cost"},
        types={"small": "long"},
        partition_by=["truncate(2, id)"],
        properties={"ownér": "ü"},
    )
    lake.write(name, [{"id": 4, "cost": 2.0, "small": 2**40, "a nöte": "ü"}])
    before = [{"id": row["id"], "cost": row["price"], "small": 1, "a nöte": None} for row in ROWS[:4]]
    assert rows(lake.table(name)) == [*before, {"id": 4, "cost": 2.0, "small": 2**40, "a nöte": "ü"}]
    assert rows(lake.table(name).filter(_.id >= 3, _.id < 5).select("id")) == [{"id": 3}, {"id": 4}]
    changed = lake.session.catalog.load(name)
    assert (changed.partition_by, changed.properties["ownér"]) == (("truncate(2, id)",), "ü")


def test_branches_and_tags_are_versions_with_names(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:2], "create")
    lake.tag(name, "first ü")
    lake.branch(name, "audit")
    lake.write(name, ROWS[2:3], branch="audit")
    assert rows(lake.table(name)) == rows(lake.table(name, tag="first ü")) == ROWS[:2]
    assert rows(lake.table(name, branch="audit")) == ROWS[:3]
    first = newest(lake, name)
    lake.set_current(name, "audit")
    lake.drop_branch(name, "audit")
    assert rows(lake.table(name)) == ROWS[:3]
    assert rows(lake.rollback(name, snapshot=first)) == ROWS[:2]
    lake.truncate(name)
    assert rows(lake.table(name)) == []
    assert rows(lake.table(name, tag="first ü")) == ROWS[:2]
    lake.drop_tag(name, "first ü")
    with pytest.raises(ib.IceblinkError, match="first ü"):
        lake.table(name, tag="first ü")


def test_rows_are_deleted_updated_and_merged(lake: ib.Lake, name: str) -> None:
    modes = {"delete": "copy-on-write", "update": "merge-on-read", "merge": "merge-on-read"}
    properties = {f"write.{kind}.mode": mode for kind, mode in modes.items()}
    lake.write(name, ROWS[:8], "create", properties=properties)
    lake.delete(name, _.id < 2)
    lake.update(name, {"price": 0.25}, _.id == 3)
    source = [{"id": 4, "name": "gone", "price": 1.0}, {"id": 5, "name": "new", "price": 2.0}, ROWS[9]]
    lake.merge(
        name,
        lake.from_arrow(source),
        "id",
        ib.when_matched(lambda target, source: source.price < 2).delete(),
        ib.when_matched().update_all(),
        ib.when_not_matched().insert_all(),
    )
    assert rows(lake.table(name)) == [ROWS[2], {**ROWS[3], "price": 0.25}, source[1], ROWS[6], ROWS[7], ROWS[9]]


def test_a_table_is_kept_healthy_and_what_nobody_needs_is_removed(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:3], "create", properties={"write.delete.mode": "merge-on-read"})
    lake.write(name, ROWS[3:6])
    lake.delete(name, _.id == 4)
    before = lake.session.catalog.load(name)
    small = {file.path for file in before.files()}
    lake.compact(name, min_files=2)
    lake.rewrite_manifests(name)
    assert lake.session.catalog.load(name).file_count == 1
    stray = f"{before.location}/data/strây %41.parquet"
    before.storage.write(stray, b"of a write that was killed")
    assert {stray, *small} <= files(lake, name)
    assert len(lake.expire_snapshots(name, older_than=timedelta(0), keep_last=1).snapshots) >= 3
    lake.remove_orphan_files(name, older_than=timedelta(seconds=-2), force=True)  # stores tell time in whole seconds
    assert not {stray, *small} & files(lake, name)
    assert rows(lake.table(name)) == [row for row in ROWS[:6] if row["id"] != 4]


def test_what_changed_is_read_and_followed_into_another_table(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:2], "create")
    first, copy = newest(lake, name), f"{name}_copy"
    lake.write(name, ROWS[2:4])
    assert rows(lake.appended(name, after=first)) == ROWS[2:4]
    lake.create(copy, SCHEMA)
    for steps_left in (1, 0):
        steps = list(lake.follow(name, after=first, into=copy, poll=None))
        assert len(steps) == steps_left
        for step in steps:
            step.rows.write(copy, token=step.position)
    assert rows(lake.table(copy)) == ROWS[2:4]
    lake.delete(name, _.id == 0)
    changed = lake.changes(name, after=first).select("id", "_change_type")
    assert [tuple(row.values()) for row in rows(changed)] == [(0, "delete"), (2, "insert"), (3, "insert")]


def test_names_that_are_hostile_elsewhere_are_names(lake: ib.Lake) -> None:
    for namespace, table in (("sp ace", "it's 100 %41"), ("日本 🧊", 'ördér+&?# "1"')):
        full = f"{namespace}.{table}"
        some = [{"id": 1, "a b": "x", 'q"ü?': ""}, {"id": 2, "a b": "x/y", 'q"ü?': "z"}]
        written = lake.write(full, some, "create", partition_by=['"a b"'])
        assert full in lake.tables(namespace)
        assert rows(written.filter(_["a b"] == "x/y")) == some[1:]
        lake.drop(full)
        lake.drop_namespace(namespace)
        with pytest.raises(NamespaceNotFound):
            lake.tables(namespace)


def test_names_are_told_apart_by_case_and_accent(lake: ib.Lake, name: str) -> None:
    if lake.session.catalog.properties.get("type") == "glue":
        return  # it has lower case alone
    names = [f"shop.{one}" for one in ("Ärger", "ärger", "arger")]
    for one in (*names, "Shop.arger"):
        lake.create(one, {one: "long"})
        with pytest.raises(TableExists):
            lake.create(one, SCHEMA)
    assert set(names) <= set(lake.tables("shop"))
    assert lake.tables("Shop") == ["Shop.arger"]
    with pytest.raises(TableNotFound):
        lake.table("shop.ARGER")
    with pytest.raises(TableExists):
        lake.rename(names[0], names[1])
    with pytest.raises(CatalogError):
        lake.drop_namespace("Shop")
    for gone in (names[0], names[2], "Shop.arger"):
        lake.drop(gone)
    assert lake.table(names[1]).columns == [names[1]]


def test_a_purge_takes_the_files_too(lake: ib.Lake, name: str) -> None:
    lake.write(name, ROWS[:3], "create")
    table = lake.session.catalog.load(name)
    assert [path for path in files(lake, name) if "/data/" in path]
    lake.session.catalog.drop(name, purge=True)
    assert not [path for path in table.storage.files(table.location, recursive=True) if "/data/" in path]
    with pytest.raises(TableNotFound):
        lake.drop(name)


def test_a_lake_goes_to_another_process_and_works_there(lake: ib.Lake, name: str) -> None:
    catalog = lake.session.catalog
    if "memory" in str(catalog.properties):
        return  # it is gone with its process
    lake.write(name, ROWS[:2], "create")
    again = pickle.loads(pickle.dumps(catalog))
    assert again.load(name).row_count == 2
    assert name in again.tables("shop")
