"""Tables of format version 3 as they are written here: rows have ids, deletes are vectors, nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table.metadata import TableMetadataV3
from pyiceberg.table.puffin import PuffinFile

import iceblink as ib
from iceblink import _
from iceblink.errors import CommitConflict, ConfigError, NullInRequired, SchemaMismatch, SqlError, TypeMismatch
from iceblink.lake.leftovers import remove_leftovers
from integration.third_version import (
    ON_READ,
    ROWS,
    SCHEMA,
    STEPS,
    THIRD,
    Row,
    Twins,
    arrow,
    check_ids,
    files_of,
    loaded,
    next_row_id,
)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=ROWS, steps=STEPS, shape=st.sampled_from([[], ["g ü"]]), on_read=st.booleans())
def test_both_versions_hold_what_the_model_holds(
    tmp_path_factory: pytest.TempPathFactory, first: list[Row], steps: Any, shape: list[str], on_read: bool
) -> None:
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        twins, before = Twins(lake, shape, on_read), None
        for name, given in [("append", first), *steps]:
            getattr(twins, name)(given)
            twins.check()
            after = loaded(lake)
            check_ids(before, after)
            before = after
        scanned = loaded(lake).pyiceberg.scan().to_arrow().to_pylist()
        assert Counter(tuple(row.values()) for row in scanned) == Counter(twins.rows)


def test_ids_are_given_as_the_specification_counts(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": list(range(100))}, "create", properties=THIRD)
    lake.write("n.t", {"id": list(range(100, 150))})
    table = loaded(lake)
    assert sorted(files_of(table)[0].values()) == [(0, 100), (100, 50)]
    assert [(one.first_row_id, one.added_rows) for one in table.pyiceberg.metadata.snapshots] == [(0, 100), (100, 50)]
    lake.rewrite_manifests("n.t")  # one manifest for both: it is new, and its files keep what they had
    check_ids(table, loaded(lake))
    assert sorted(files_of(loaded(lake))[0].values()) == [(0, 100), (100, 50)]


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_upgraded_table_gives_ids_to_rows_that_were_there(lake: ib.Lake, version: str) -> None:
    lake.write("n.t", {"id": [1, 2, 3]}, "create", properties={"format-version": version, **ON_READ})
    lake.write("n.t", {"id": [4, 5]})
    if version == "2":
        lake.delete("n.t", _.id == 2)  # by a position delete file
    before = loaded(lake)
    lake.sql("ALTER TABLE n.t SET TBLPROPERTIES ('format-version' = '3')")
    upgraded = loaded(lake)
    assert (upgraded.format_version, next_row_id(upgraded)) == ("3", 0)
    assert upgraded.snapshot == before.snapshot
    assert {first for first, _ in files_of(upgraded)[0].values()} == {None}
    assert "format-version" not in upgraded.properties
    lake.delete("n.t", _.id == 3)
    check_ids(None, loaded(lake))
    data, vectors = files_of(loaded(lake))
    assert sorted(data.values()) == [(0, 2), (2, 3)] or sorted(data.values()) == [(0, 3), (3, 2)]
    gone = 2 if version == "2" else 1
    assert [rows for _, _, rows in vectors.values()] == [gone]  # with what the older file deletes, which is gone
    assert sum(len(entry.deletes) for entry in loaded(lake).files()) == 1
    assert int(loaded(lake).snapshot.summary["total-delete-files"]) == 1  # type: ignore[index, union-attr, arg-type]
    assert sorted(lake.table("n.t").to_arrow()["id"].to_pylist()) == [1, 4, 5] if gone == 2 else [1, 2, 4, 5]
    assert lake.table("n.t", snapshot=before.snapshot_id).count() == 6 - gone
    with pytest.raises(ConfigError, match="cannot go back"):
        lake.sql("ALTER TABLE n.t SET TBLPROPERTIES ('format-version' = '2')")


def test_a_puffin_file_says_what_is_in_it(lake: ib.Lake) -> None:
    rows = {"id": list(range(200_000)), "k": [number % 2 for number in range(200_000)]}
    lake.write("n.t", rows, "create", partition_by=["k"], properties={**THIRD, **ON_READ})
    lake.delete("n.t", _.id < 100_000)
    vectors = files_of(loaded(lake))[1]
    assert len(vectors) == 2
    (path,) = {place for place, _, _ in vectors.values()}
    blobs = PuffinFile(Path(path).read_bytes()).footer.blobs
    assert {blob.properties["referenced-data-file"]: (path, blob.offset, 50_000) for blob in blobs} == vectors
    assert {blob.type for blob in blobs} == {"deletion-vector-v1"}
    assert Path(path).stat().st_size < 2_000  # neighbours are runs
    summary = loaded(lake).snapshot.summary.additional_properties  # type: ignore[union-attr]
    said = {name: summary.get(name) for name in ("added-dvs", "added-delete-files", "added-position-delete-files")}
    assert said == {"added-dvs": "2", "added-delete-files": "2", "added-position-delete-files": None}
    assert lake.table("n.t").count() == 100_000


def test_what_vectors_changed_is_told_and_what_is_over_is_removed(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": list(range(6)), "k": [0, 1] * 3}, "create", partition_by=["k"], properties=THIRD | ON_READ)
    start = loaded(lake).snapshot_id
    lake.delete("n.t", _.id.isin([0, 1]))
    middle = loaded(lake).snapshot_id
    (first,) = {path for path, _, _ in files_of(loaded(lake))[1].values()}
    lake.delete("n.t", _.id == 2)  # of the partition 0: the vector of the other one is in the first file still
    told = lake.changes("n.t", after=middle).to_pylist()
    assert [(row["id"], row["_change_type"]) for row in told] == [(2, "delete")]
    told = lake.changes("n.t", after=start, net=True).to_pylist()
    assert sorted(row["id"] for row in told) == [0, 1, 2]
    assert lake.table("n.t.delete_files").count() == 2
    lake.expire_snapshots("n.t", older_than=timedelta(0), keep_last=1)
    assert Path(first).exists()
    lake.delete("n.t", _.id == 3)
    lake.expire_snapshots("n.t", older_than=timedelta(0), keep_last=1)
    assert not Path(first).exists()
    lake.remove_orphan_files("n.t", older_than=0, force=True)
    assert sorted(lake.table("n.t").to_arrow()["id"].to_pylist()) == [4, 5]
    assert lake.compact("n.t").delete_files_removed == 2
    assert files_of(loaded(lake))[1] == {}


def test_two_who_delete_rows_of_one_file_do_not_both_win(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": list(range(8)), "k": [0, 1] * 4}, "create", partition_by=["k"], properties=THIRD | ON_READ)

    def delete(number: int) -> bool:
        try:
            lake.delete("n.t", f"id = {number}")
        except CommitConflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(delete, range(8)))
    left = {number for number, gone in enumerate(won) if not gone}
    assert left < set(range(8))
    assert set(lake.table("n.t").to_arrow()["id"].to_pylist()) == left
    check_ids(None, loaded(lake))


def test_writers_at_once_share_no_row_id_on_any_branch(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [0]}, "create", properties=THIRD)
    lake.branch("n.t", "other ü")

    def write(number: int) -> None:
        lake.write("n.t", {"id": [number] * number}, branch="main" if number % 2 else "other ü")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 8)))
    metadata = loaded(lake).pyiceberg.metadata
    ranges = sorted(
        (one.first_row_id or 0, (one.first_row_id or 0) + (one.added_rows or 0)) for one in metadata.snapshots
    )
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
    assert next_row_id(loaded(lake)) == 1 + sum(range(1, 8))
    assert lake.table("n.t").count() == 1 + 1 + 3 + 5 + 7
    assert lake.table("n.t", branch="other ü").count() == 1 + 2 + 4 + 6


KILLED = """
import os, signal, sys
import iceblink as ib
from iceblink.lake import deletion_vectors
lake = ib.connect(sys.argv[1])
deletion_vectors.DeletionVectorWriter._end = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # before the footer
lake.delete("n.t", "id > 2")
"""


def test_a_killed_delete_leaves_the_table_and_a_file_that_is_found(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        lake.write("n.t", {"id": list(range(6))}, "create", properties=THIRD | ON_READ)
        killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert lake.table("n.t").count() == 6
        assert [path.suffix for path in map(Path, remove_leftovers(loaded(lake), 0.0))] == [".puffin", ".json"]
        assert not list(tmp_path.rglob("*.puffin"))
        lake.delete("n.t", _.id > 2)
        assert lake.table("n.t").to_arrow()["id"].to_pylist() == [0, 1, 2]


@pytest.fixture
def in_sqlalchemy(tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(uri=f"sqlite:///{tmp_path}/of-pyiceberg.db", warehouse=str(tmp_path)) as lake:
        yield lake


def test_other_catalogs_keep_such_tables_too(in_sqlalchemy: ib.Lake) -> None:
    lake = in_sqlalchemy
    lake.create("n.t", {"id": "long"}, properties=THIRD | ON_READ)
    lake.write("n.t", {"id": [1, 2, 3]})
    lake.delete("n.t", _.id == 2)
    check_ids(None, loaded(lake))
    lake.write("n.other", pa.table({"id": pa.array([None, 1], pa.int64())}), "create", properties=THIRD)
    lake.write("n.other", {"id": [7]}, "replace")
    check_ids(None, loaded(lake, "n.other"))
    assert lake.table("n.t").to_pylist() == [{"id": 1}, {"id": 3}]
    assert lake.table("n.other").to_pylist() == [{"id": 7}]


CREATED = """CREATE TABLE n.t (
  id BIGINT NOT NULL,
  "a b" STRING DEFAULT 'it''s' COMMENT 'text',
  p DECIMAL(9, 2) DEFAULT 1.5,
  d DATE DEFAULT DATE '2026-01-31',
  ok BOOLEAN NOT NULL DEFAULT TRUE
) TBLPROPERTIES ('format-version' = '3')"""


def test_columns_without_a_value_have_their_default(lake: ib.Lake) -> None:
    lake.sql(CREATED)
    lake.sql("INSERT INTO n.t (id) VALUES (1)")
    lake.write("n.t", pa.table({"id": [2], "a b": pa.array([None], pa.string()), "ok": [False]}))
    lake.sql(
        "MERGE INTO n.t AS t USING (SELECT 3 AS k) AS s ON t.id = s.k WHEN NOT MATCHED THEN INSERT (id) VALUES (k)"
    )
    given = {"a b": "it's", "p": Decimal("1.50"), "d": date(2026, 1, 31), "ok": True}
    rows = [{"id": 1, **given}, {"id": 2, **given, "a b": None, "ok": False}, {"id": 3, **given}]
    assert lake.table("n.t").order_by("id").to_pylist() == rows
    lake.sql("ALTER TABLE n.t ADD COLUMN n INT NOT NULL DEFAULT 7")
    lake.alter("n.t", add={"x": "double"}, defaults={"x": -0.5, "p": None})
    lake.sql("ALTER TABLE n.t ALTER COLUMN n SET DEFAULT 8")
    lake.sql("INSERT INTO n.t (id) VALUES (4)")
    later = [*({**row, "n": 7, "x": -0.5} for row in rows), {"id": 4, **given, "p": None, "n": 8, "x": -0.5}]
    assert lake.table("n.t").order_by("id").to_pylist() == later
    scanned = loaded(lake).pyiceberg.scan().to_arrow().sort_by("id").to_pylist()
    assert scanned == later
    (shown,) = lake.sql("SHOW CREATE TABLE n.t").to_pylist()[0].values()
    lake.drop("n.t")
    lake.sql(shown)
    lake.write("n.t", {"id": [4]})
    assert lake.table("n.t").to_pylist() == later[-1:]
    lake.sql(shown.replace("CREATE TABLE", "CREATE OR REPLACE TABLE").replace("DEFAULT 8", "DEFAULT 9"))
    lake.write("n.t", {"id": [4]})
    assert lake.table("n.t").to_pylist() == [{**later[-1], "n": 9}]
    lake.optimize("n.t")
    lake.write("n.t", {"id": [5]})
    assert lake.table("n.t").to_arrow()["n"].to_pylist() == [9, 9]
    lake.sql('CREATE OR REPLACE TABLE n.t (id BIGINT NOT NULL, "a b" STRING)')
    lake.write("n.t", {"id": [4]})
    assert lake.table("n.t").to_pylist() == [{"id": 4, "a b": None}]


@pytest.mark.parametrize(
    "said",
    [
        "INT DEFAULT 'x'",
        "INT DEFAULT 3000000000",
        "INT DEFAULT 1.5",
        "INT DEFAULT TRUE",
        "DATE DEFAULT 'x'",
        "STRING DEFAULT 5",
        "DECIMAL(3, 1) DEFAULT 1.55",
        "BINARY DEFAULT 'x'",
        "STRING DEFAULT X'00'",
        "UUID DEFAULT 'x'",
        "TIMESTAMP_NS DEFAULT 'noon'",
        "ARRAY<INT> DEFAULT 'x'",
    ],
)
def test_a_default_of_another_type_is_refused(lake: ib.Lake, said: str) -> None:
    lake.create("n.t", {"id": "long"}, properties=THIRD)
    with pytest.raises(TypeMismatch, match="no default of column"):
        lake.sql(f"ALTER TABLE n.t ADD COLUMN z {said}")
    with pytest.raises(TypeMismatch, match="no default of column"):
        lake.sql(f"CREATE TABLE n.z (z {said}) TBLPROPERTIES ('format-version' = '3')")
    assert lake.table("n.t").columns == ["id"]
    assert lake.tables() == ["n.t"]


def test_an_insert_says_default_for_a_value(lake: ib.Lake) -> None:
    lake.sql(CREATED)
    lake.sql("INSERT INTO n.t VALUES (1, DEFAULT, 2, default, DEFAULT), (2, NULL, DEFAULT, '2026-02-01', FALSE)")
    lake.sql('INSERT INTO n.t (id, "a b") VALUES (3, DEFAULT)')
    given = {"a b": "it's", "p": Decimal("1.50"), "d": date(2026, 1, 31), "ok": True}
    assert lake.table("n.t").order_by("id").to_pylist() == [
        {"id": 1, **given, "p": Decimal("2.00")},
        {"id": 2, "a b": None, "p": Decimal("1.50"), "d": date(2026, 2, 1), "ok": False},
        {"id": 3, **given},
    ]
    lake.sql("INSERT INTO n.t BY NAME SELECT 4 AS id, 'DEFAULT' AS \"a b\"")
    assert lake.sql('SELECT "a b" AS s FROM n.t WHERE id = 4').to_pylist() == [{"s": "DEFAULT"}]
    with pytest.raises(NullInRequired):
        lake.sql("INSERT INTO n.t DEFAULT VALUES")  # the id has none
    with pytest.raises(SchemaMismatch, match="expected 5 columns, got 2"):
        lake.sql("INSERT INTO n.t VALUES (5, DEFAULT)")
    with pytest.raises(SqlError):
        lake.sql("INSERT INTO n.t VALUES (5, DEFAULT), (6)")
    lake.sql("ALTER TABLE n.t ALTER COLUMN id SET DEFAULT 9")
    lake.sql("INSERT OVERWRITE n.t DEFAULT VALUES")
    assert lake.table("n.t").to_pylist() == [{"id": 9, **given}]
    lake.sql("CREATE TABLE n.second (a STRING, b INT)")
    lake.sql("INSERT INTO n.second VALUES (DEFAULT, 1)")
    assert lake.table("n.second").to_pylist() == [{"a": None, "b": 1}]


def test_bytes_uuids_and_nanoseconds_have_defaults(lake: ib.Lake) -> None:
    one = "'00000000-0000-0000-0000-00000000000a'"
    lake.sql(f"""CREATE TABLE n.t (id BIGINT, b BINARY DEFAULT X'00fF27', u UUID DEFAULT {one},
        n TIMESTAMP_NS DEFAULT '2026-01-31 12:00:00.123456789') TBLPROPERTIES ('format-version' = '3')""")
    lake.sql("INSERT INTO n.t (id, b) VALUES (1, DEFAULT)")
    lake.alter("n.t", add={"c": "binary"}, defaults={"c": b""})
    lake.sql(f"ALTER TABLE n.t ADD COLUMN v UUID DEFAULT {one}")
    lake.sql("ALTER TABLE n.t ADD COLUMN m TIMESTAMP_NS DEFAULT '2026-01-31T12:00:00'")
    lake.write("n.t", {"id": [2]})
    found = lake.table("n.t").order_by("id").to_arrow()
    noon = 1_769_860_800_000_000_000
    assert found["n"].cast(pa.int64()).to_pylist() == [noon + 123_456_789] * 2
    assert found["m"].cast(pa.int64()).to_pylist() == [noon] * 2
    assert [found[name].to_pylist() for name in "bcuv"] == [
        [b"\x00\xff'"] * 2, [b""] * 2, [UUID(int=10)] * 2, [UUID(int=10)] * 2
    ]  # fmt: skip
    (shown,) = lake.sql("SHOW CREATE TABLE n.t").to_pylist()[0].values()
    lake.drop("n.t")
    lake.sql(shown)
    lake.write("n.t", {"id": [2]})
    assert lake.table("n.t").to_arrow() == found.slice(1)


def test_earlier_versions_have_no_defaults(lake: ib.Lake) -> None:
    lake.create("n.t", {"id": "long"})
    changes: list[Callable[[], object]] = [
        lambda: lake.sql("CREATE TABLE n.z (id BIGINT DEFAULT 1)"),
        lambda: lake.sql("ALTER TABLE n.t ADD COLUMN z INT DEFAULT 1"),
        lambda: lake.alter("n.t", defaults={"id": 1}),
        lambda: lake.sql("CREATE OR REPLACE TABLE n.t (id BIGINT DEFAULT 1)"),
    ]
    for change in changes:
        with pytest.raises(TypeMismatch, match="needs format version 3"):
            change()
    lake.alter("n.t", add={"z": "int"}, defaults={"z": 1}, properties=THIRD)  # the table becomes one that has them
    lake.write("n.t", {"id": [5]})
    assert lake.table("n.t").to_pylist() == [{"id": 5, "z": 1}]


def test_timestamps_keep_their_nanoseconds(lake: ib.Lake) -> None:
    noon = 1_769_860_800_123_456_789
    kinds = pa.schema([("id", pa.int64()), ("at", pa.timestamp("ns")), ("zoned", pa.timestamp("ns", "UTC"))])
    columns = {"id": "long", "at": "timestamp_ns", "zoned": "timestamptz_ns"}
    lake.create("n.t", columns, partition_by=["day(at)"], properties=THIRD | ON_READ)
    lake.write("n.t", pa.table([[1, 2, 3], [noon, None, noon + 1], [noon, noon, None]], schema=kinds))
    lake.delete("n.t", _.id == 2)
    found = lake.sql("SELECT * FROM n.t WHERE at >= '2026-01-31 12:00:00.123456790'").to_arrow()
    assert found.schema.types == kinds.types
    assert found["at"].cast(pa.int64()).to_pylist() == [noon + 1]
    lake.write("n.other", lake.table("n.t"), "create", properties=THIRD)  # as the data is
    lake.compact("n.t", rewrite_all=True)
    for name in ("n.t", "n.other"):
        rows = lake.table(name).order_by("id").to_arrow()
        assert rows["at"].cast(pa.int64()).to_pylist() == [noon, noon + 1]
        assert rows["zoned"].cast(pa.int64()).to_pylist() == [noon, None]
    with pytest.raises(TypeMismatch, match="needs format version 3"):
        lake.create("n.second", columns)


@pytest.mark.parametrize("version", ["2", "3"])
def test_overwrites_are_no_appends_to_who_follows(lake: ib.Lake, version: str) -> None:
    lake.create("n.t", SCHEMA, properties={"format-version": version})
    operations = list[str]()
    changes: list[Callable[[], object]] = [
        lambda: lake.write("n.t", arrow([(1, "a", None)])),
        lambda: lake.write("n.t", arrow([(2, "b", None)]), "upsert", on="id"),
        lambda: lake.write("n.t", arrow([(9, "c", None)]), "overwrite", where=_.id > 5),
        lambda: lake.delete("n.t", _.id > 0),
        lambda: lake.write("n.t", arrow([(3, "d", None)]), "overwrite"),
    ]
    for change in changes:
        change()
        summary = loaded(lake).pyiceberg.metadata.snapshots[-1].summary
        assert summary is not None
        operations.append(summary.operation.value)
    assert operations == ["append", "overwrite", "overwrite", "delete", "overwrite"]


def test_files_of_a_partitioning_whose_column_is_gone_can_leave(lake: ib.Lake) -> None:
    for way in ("overwrite", "delete", "merge-on-read"):
        name = f"n.{way}"
        properties = {**THIRD, **(ON_READ if way == "merge-on-read" else {})}
        lake.create(name, SCHEMA, partition_by=["a b"], properties=properties)
        lake.write(name, arrow([(1, "a", None), (2, "b", None), (3, "b", None)]))
        lake.alter(name, partition_by=[])
        lake.alter(name, drop="a b")
        new = arrow([(4, None, "d")]).drop(["a b"])
        lake.write(name, new)
        if way == "overwrite":
            lake.write(name, new, "overwrite")
        else:
            lake.delete(name, _.id == 3)
        left = [4] if way == "overwrite" else [1, 2, 4]
        assert sorted(row["id"] for row in lake.table(name).to_pylist()) == left


def test_sequence_numbers_never_go_back_whichever_branch_lands_first(lake: ib.Lake, tmp_path: Path) -> None:
    lake.create("n.t", SCHEMA, properties={**THIRD, **ON_READ})
    lake.write("n.t", arrow([(1, "a", None), (2, "b", None)]))
    lake.branch("n.t", "other")
    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(lake.delete, "n.t", _.id == 1, branch=branch) for branch in ("main", "other")]:
            running.result()
    metadata = loaded(lake).pyiceberg.metadata
    assert isinstance(metadata, TableMetadataV3)
    assert [one.sequence_number for one in metadata.snapshots] == [1, 2, 3]
    assert metadata.last_sequence_number == 3
