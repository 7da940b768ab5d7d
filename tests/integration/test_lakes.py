"""One suite for every pair of a catalog and a store: what a lake does, it does wherever its tables and files are."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import CommitConflict, TableExists, TableNotFound
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
    ("glue", "s3"),
    pytest.param(("sqlite", "hdfs"), marks=pytest.mark.hdfs),
    pytest.param(("postgres", "hdfs"), marks=pytest.mark.hdfs),
    pytest.param(("hive", "local"), marks=pytest.mark.hive),
]


@pytest.fixture(scope="module", params=LAKES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    """A lake whose catalog and files are where the pair says."""
    catalog, store = request.param
    folder = tmp_path_factory.mktemp("lake")
    properties = {**stored(store, request, folder), **listed(catalog, request, folder)}
    with ib.connect(name=uuid4().hex, engine=ib.LocalEngine(spill_dir=str(folder / "spill")), **properties) as opened:
        yield opened


def stored(store: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Return the properties of a place for files."""
    if store == "s3":
        return s3(request.getfixturevalue("amazon_endpoint"))
    if store == "hdfs":
        return {"warehouse": f"{request.getfixturevalue('hadoop_url')}/warehouse ü/{folder.name}"}
    return {"warehouse": f"file://{folder}/ware house"}


def listed(catalog: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Return the properties of a catalog."""
    if catalog == "memory":
        return {"type": "in-memory"}
    if catalog == "glue":
        return glue(request.getfixturevalue("amazon_endpoint"))
    if catalog == "hive":
        return {"uri": request.getfixturevalue("hive_uri")}
    return {
        "uri": request.getfixturevalue("postgres_uri") if catalog == "postgres" else f"sqlite:///{folder}/catalog.db"
    }


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
