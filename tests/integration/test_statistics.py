"""Distinct values are as many as Python counts, whoever computes them, and their files come and go rightly."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasketches
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table.puffin import PuffinFile

import iceblink as ib
from contract.staged import divide_everything, staged_engine
from iceblink import _
from iceblink.errors import (
    ColumnNotFound,
    ConfigError,
    DataCorrupt,
    SnapshotNotFound,
    SqlError,
    StorageError,
    TypeMismatch,
)
from iceblink.lake import statistics_files
from iceblink.lake.change import change
from iceblink.lake.statistics import statistics_of
from iceblink.lake.storage import Storage
from iceblink.plan.selectivity import rows_kept
from iceblink.predicate import Compare
from iceblink.run import health
from iceblink.run.distributed import engine, planning
from row_deletes import delete_by_position

NAME = "n.t ü"
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "a b": pa.string(),
        "ü": pa.decimal128(12, 2),
        "flag": pa.bool_(),
        "nothing": pa.float32(),
        "tags": pa.list_(pa.string()),
    }
)


def rows_of(numbers: range) -> pa.Table:
    rows = [
        {
            "id": number,
            "a b": None if number % 5 == 0 else f"k{number % 7}",
            "ü": Decimal(number % 300) / 100 - 1,
            "flag": number % 2 == 0,
            "nothing": None,
            "tags": ["x"],
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def distinct(rows: pa.Table) -> dict[str, int]:
    """Count as Python does: what has a hash, nulls and empty texts aside."""
    names = [name for name in SCHEMA.names if name != "tags"]
    return {name: len(set(rows[name].to_pylist()) - {None, ""}) for name in names}


@pytest.fixture(params=["local", "staged"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ib.Lake]:
    if request.param == "staged":
        divide_everything(monkeypatch)
        monkeypatch.setattr(planning, "WORTH_S", 0.0)
    chosen = staged_engine() if request.param == "staged" else ib.LocalEngine(split_bytes=1 << 14)
    with ib.connect(tmp_path / "my lake", engine=chosen) as opened:
        opened.write(NAME, rows_of(range(3000)), "create", properties={"write.parquet.row-group-limit": "700"})
        yield opened


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path / "my lake") as opened:
        opened.write(NAME, rows_of(range(30)), "create")
        yield opened


def iceberg(lake: ib.Lake) -> Any:
    return lake.session.catalog.load(NAME).pyiceberg


def files(lake: ib.Lake) -> set[str]:
    """Return the statistics files on the disk."""
    return {path.name for path in Path(iceberg(lake).location()).rglob("*.stats")}


def listed(lake: ib.Lake) -> set[str]:
    return {Path(one.statistics_path).name for one in iceberg(lake).metadata.statistics}


def test_what_is_computed_is_what_python_counts_on_every_engine(lake: ib.Lake) -> None:
    lake.write(NAME, rows_of(range(2000, 4500)))
    delete_by_position(lake, NAME, list(range(4000, 4500)))
    found = lake.compute_statistics(NAME)
    exact = distinct(rows_of(range(4000)))
    assert found.distinct == exact
    assert found.snapshot_id == lake.table(NAME).plan.table.snapshot_id  # type: ignore[attr-defined]  # a scan
    assert lake.history(NAME).count() == 3
    rows = lake.table(f"{NAME}.statistics").to_pylist()
    assert {row["column"]: row["distinct_values"] for row in rows} == exact


def test_other_engines_find_sketches_of_the_columns_in_the_file(lake: ib.Lake) -> None:
    lake.compute_statistics(NAME, ["id", "a b"])
    (file,) = iceberg(lake).metadata.statistics
    content = Path(file.statistics_path).read_bytes()
    assert (len(content), file.snapshot_id) == (file.file_size_in_bytes, iceberg(lake).current_snapshot().snapshot_id)
    puffin = PuffinFile(content)
    sketches = {
        blob.fields[0]: datasketches.compact_theta_sketch.deserialize(puffin.get_blob_payload(blob))
        for blob in puffin.footer.blobs
    }
    fields = {one.name: one.field_id for one in iceberg(lake).schema().fields}
    theirs = datasketches.update_theta_sketch()
    for number in range(7):
        theirs.update(f"k{number}")
    assert sorted(sketches[fields["a b"]]) == sorted(theirs.compact())
    assert sketches[fields["id"]].get_estimate() == 3000
    assert [blob.properties["ndv"] for blob in puffin.footer.blobs] == ["3000", "7"]


words = st.none() | st.sampled_from(["", "a", "ü", "a b"])


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.none() | st.integers(-2, 2), words), max_size=5), min_size=1, max_size=3))
def test_any_rows_in_any_files(plain: ib.Lake, found: list[list[tuple[int | None, str | None]]]) -> None:
    schema = pa.schema({"i": pa.int32(), "s": pa.string()})
    plain.create("n.any", schema)
    for part in found:
        plain.write("n.any", pa.Table.from_pylist([{"i": i, "s": s} for i, s in part], schema))
    rows = [row for part in found for row in part]
    if plain.session.catalog.load("n.any").snapshot_id is not None:
        told = plain.compute_statistics("n.any").distinct
        assert told == {"i": len({i for i, _ in rows} - {None}), "s": len({s for _, s in rows} - {None, ""})}
    plain.drop("n.any")


def test_statements_and_procedures_do_the_same(plain: ib.Lake) -> None:
    (row,) = plain.sql('ANALYZE TABLE n."t ü" COMPUTE STATISTICS FOR COLUMNS id, `a b`').to_pylist()
    assert (row["statement"], row["name"], row["snapshot_id"]) == ("ANALYZE TABLE", NAME, None)
    known = statistics_of(plain.session.catalog.load(NAME))
    assert known is not None
    assert known.distinct == {"id": 30, "a b": 7}
    first = iceberg(plain).current_snapshot().snapshot_id
    plain.write(NAME, rows_of(range(30, 50)))
    call = f"CALL system.compute_table_stats(table => '{NAME}', snapshot_id => {first}, columns => array('flag', 'id'))"
    (row,) = plain.sql(call).to_pylist()
    assert Path(row["statistics_file"]).exists()
    at_first = statistics_of(plain.session.catalog.load(NAME).at(snapshot=first))
    assert at_first is not None
    assert at_first.distinct == {"id": 30, "a b": 7, "flag": 2}  # what was known of other columns stays
    for text in ("ANALYZE TABLE n.t COMPUTE", "ANALYZE TABLE n.t COMPUTE STATISTICS NOSCAN", "ANALYZE n.t"):
        with pytest.raises(SqlError):
            plain.sql(text)
    with pytest.raises(SqlError):
        plain.sql(f"CALL system.compute_table_stats('{NAME}', columns => 'id')")
    plain.sql('ANALYZE TABLE n."t ü" COMPUTE STATISTICS FOR ALL COLUMNS')
    newest = statistics_of(plain.session.catalog.load(NAME))
    assert newest is not None
    assert newest.distinct == distinct(rows_of(range(50)))


def test_statistics_follow_columns_and_later_snapshots(plain: ib.Lake) -> None:
    plain.compute_statistics(NAME)
    plain.alter(NAME, rename={"a b": "new name"}, drop="flag")
    plain.write(NAME, rows_of(range(30, 32)).drop(["flag"]).rename_columns(["id", "new name", "ü", "nothing", "tags"]))
    found = statistics_of(plain.session.catalog.load(NAME))
    assert found is not None
    assert found.distinct == {"id": 30, "new name": 7, "ü": 30, "nothing": 0}
    health = {row["check"]: row for row in plain.health(NAME).to_pylist()}["rows since statistics"]
    assert (health["verdict"], health["value"]) == ("good", pytest.approx(2 / 30))
    plain.write(NAME, {"id": range(100, 200)})
    health = {row["check"]: row for row in plain.health(NAME).to_pylist()}["rows since statistics"]
    assert (health["verdict"], health["mend"]) == ("act", f"lake.compute_statistics({NAME!r})")


def test_what_cannot_be_counted_is_said_before_anything_is_read(plain: ib.Lake) -> None:
    plain.create("n.empty", SCHEMA)
    wrong: list[tuple[str, list[str] | None, type[Exception]]] = [
        (NAME, ["idd"], ColumnNotFound),
        (NAME, ["tags"], TypeMismatch),
        ("n.empty", None, ConfigError),
    ]
    for name, columns, error in wrong:
        with pytest.raises(error):
            plain.compute_statistics(name, columns)
    assert not files(plain)
    assert plain.table("n.empty.statistics").count() == 0


def test_expired_snapshots_take_their_statistics_along_and_no_others(plain: ib.Lake) -> None:
    plain.compute_statistics(NAME)
    (old,) = files(plain)
    plain.write(NAME, rows_of(range(30, 60)))
    plain.compute_statistics(NAME)
    done = plain.expire_snapshots(NAME, older_than=timedelta(0))
    assert done.statistics_files == 1
    assert files(plain) == listed(plain)
    assert old not in files(plain)
    assert not plain.remove_orphan_files(NAME, older_than=timedelta(0), force=True).files
    assert files(plain) == listed(plain)
    assert statistics_of(plain.session.catalog.load(NAME)) is not None


def test_a_file_that_was_replaced_is_an_orphan_once_no_reader_can_have_its_metadata(plain: ib.Lake) -> None:
    plain.compute_statistics(NAME)
    (old,) = files(plain)
    plain.compute_statistics(NAME)
    assert len(files(plain)) == 2
    kept = plain.remove_orphan_files(NAME)
    assert not kept.files
    found = plain.remove_orphan_files(NAME, older_than=timedelta(0), force=True)
    assert old in {Path(path).name for path in found.files}
    assert files(plain) == listed(plain) != {old}


def test_of_two_who_compute_at_once_both_are_heard(
    plain: ib.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others_first(*given: Any, **named: Any) -> Any:
        monkeypatch.undo()
        with ib.connect(tmp_path / "my lake") as other:
            other.compute_statistics(NAME, ["flag"])
            other.write(NAME, rows_of(range(30, 33)))
        return change(*given, **named)

    monkeypatch.setattr(statistics_files, "change", others_first)
    plain.compute_statistics(NAME, ["id"])
    found = statistics_of(plain.session.catalog.load(NAME))
    assert found is not None
    assert found.distinct == {"id": 30, "flag": 2}
    assert plain.table(NAME).count() == 33
    # the other's file is of older metadata; ours that had not its columns never came to be
    assert len(files(plain)) == 2


def test_a_snapshot_that_expires_meanwhile_gets_none_and_leaves_no_file(
    plain: ib.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expired_first(*given: Any, **named: Any) -> Any:
        plain.write(NAME, rows_of(range(30, 33)))
        plain.expire_snapshots(NAME, older_than=timedelta(0))
        return change(*given, **named)

    monkeypatch.setattr(statistics_files, "change", expired_first)
    with pytest.raises(SnapshotNotFound):
        plain.compute_statistics(NAME)
    assert not files(plain)
    assert not iceberg(plain).metadata.statistics


KILLED = """
import os, signal, sys
import iceblink as ib
from iceblink.lake import change

change._committed = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
ib.connect(sys.argv[1]).compute_statistics("n.t ü")
"""


def test_who_is_killed_before_the_commit_leaves_a_file_that_is_an_orphan(plain: ib.Lake, tmp_path: Path) -> None:
    program = [sys.executable, "-c", KILLED, str(tmp_path / "my lake")]
    killed = subprocess.run(program, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(files(plain)) == 1
    assert not listed(plain)
    plain.remove_orphan_files(NAME, older_than=timedelta(0), force=True)
    assert not files(plain)


def test_a_damaged_statistics_file_stops_nobody_who_need_not_read_it(plain: ib.Lake) -> None:
    plain.compute_statistics(NAME, ["id", "flag"])
    (file,) = iceberg(plain).metadata.statistics
    Path(file.statistics_path).write_bytes(b"PFA1")
    assert plain.table(NAME).filter(_.id == 3).count() == 1
    assert plain.compute_statistics(NAME, ["id"]).distinct == {"id": 30}  # what could not be read is not kept
    silent = [one.model_copy(update={"properties": None}) for one in file.blob_metadata]
    table = plain.session.catalog.load(NAME)
    unsaid = table.pyiceberg.metadata.model_copy(
        update={"statistics": [file.model_copy(update={"blob_metadata": silent})]}
    )
    table.pyiceberg.metadata = unsaid
    with pytest.raises(DataCorrupt):
        statistics_of(table)


def test_a_statistics_file_that_is_not_handed_out_stops_no_query(
    plain: ib.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.compute_statistics(NAME, ["id"])
    table = plain.session.catalog.load(NAME)
    (file,) = table.pyiceberg.metadata.statistics
    silent = [one.model_copy(update={"properties": None}) for one in file.blob_metadata]
    unsaid = [file.model_copy(update={"blob_metadata": silent})]
    table.pyiceberg.metadata = table.pyiceberg.metadata.model_copy(update={"statistics": unsaid})

    def denied(*_: Any) -> bytes:
        raise PermissionError("HTTP status 403")

    monkeypatch.setattr(Storage, "read", denied)
    with pytest.raises(StorageError):
        statistics_of(table)
    assert rows_kept(table, Compare("id", "=", 3), 30) == 30
    assert health.ACT in health._statistics(table)


def test_numbers_that_a_writer_did_not_say_are_read_off_its_sketches(plain: ib.Lake) -> None:
    plain.compute_statistics(NAME, ["id", "a b"])
    table = plain.session.catalog.load(NAME)
    (file,) = table.pyiceberg.metadata.statistics
    silent = [one.model_copy(update={"properties": None}) for one in file.blob_metadata]
    table.pyiceberg.metadata = table.pyiceberg.metadata.model_copy(
        update={"statistics": [file.model_copy(update={"blob_metadata": silent})]}
    )
    found = statistics_of(table)
    assert found is not None
    assert found.distinct == {"id": 30, "a b": 7}


def test_explain_says_how_many_rows_a_filter_is_taken_to_keep(plain: ib.Lake) -> None:
    one, half = plain.table(NAME).filter(_.ü == Decimal("-0.90")), plain.table(NAME).filter(_.flag)
    assert "kept" not in one.explain() + half.explain()
    plain.compute_statistics(NAME)
    one, half = plain.table(NAME).filter(_.ü == Decimal("-0.90")), plain.table(NAME).filter(_.flag)
    assert "kept       about 1 rows" in one.explain()
    assert "kept       about 15 rows" in half.explain()
    assert "kept" not in plain.table(NAME).filter(_.id < 7).explain()


@pytest.mark.parametrize("reason", [7, 0])  # rare, as statistics tell; and frequent, as they do not
def test_a_join_that_statistics_plan_otherwise_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    divide_everything(monkeypatch)
    monkeypatch.setattr(engine, "FEW_BYTES", 0)  # what explain goes by
    sales = [{"id": number, "shop": number % 5} for number in range(2000)]
    returns = [{"id": number * 7 % 2000, "reason": number % 90 if number % 4 else 0} for number in range(1500)]
    shops = Counter(row["shop"] for one in returns if one["reason"] == reason for row in [sales[one["id"]]])
    asked = f"SELECT shop, count(*) AS n FROM n.sales JOIN n.returns USING (id) WHERE reason = {reason} GROUP BY shop"
    groups = {"write.parquet.row-group-limit": "200"}
    with ib.connect(tmp_path / "lake", engine=staged_engine(broadcast_bytes=500)) as lake:
        lake.write("n.sales", sales, "create", properties=groups)
        lake.write("n.returns", returns, "create", properties=groups)
        plans = []
        for _turn in range(2):
            assert {row["shop"]: row["n"] for row in lake.sql(asked).to_pylist()} == shops
            plans.append(lake.sql(asked).explain())
            lake.compute_statistics("n.returns")
    without, told = plans
    assert "returns, by the key of the join" in without
    assert "returns, to INNER JOIN" in told
