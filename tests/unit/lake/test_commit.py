"""Commits: one snapshot, once, whatever other writers and the catalog do."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ForbiddenError

from iceblink.config import MIB, Settings
from iceblink.errors import (
    CommitConflict,
    CommitUnknown,
    ConfigError,
    SchemaMismatch,
    SnapshotNotFound,
    TableNotFound,
    WriteError,
)
from iceblink.events import Committed, Event, observing
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.evolve import evolved
from iceblink.lake.files import NewFile
from iceblink.lake.partition_overwrite import partition_files
from iceblink.lake.position import TOKEN
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.predicate import Compare
from iceblink.types import to_schema

SMALL = Settings(threads=2, memory_bytes=64 * MIB)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.embedded(tmp_path)


@pytest.fixture
def table(catalog: Catalog) -> Table:
    return catalog.create("demo.t", {"id": "long"})


def write(table: Table, columns: dict[str, Any]) -> list[NewFile]:
    types = {name: table.schema.field(name).type for name in columns}
    batch = pa.record_batch({name: pa.array(values, types[name]) for name, values in columns.items()})
    with TableWriter(table, SMALL) as writer:
        writer.write(batch)
        return writer.finish()


def append(table: Table, ids: list[int], token: str | None = None) -> Table:
    return Commit(table, token, patience_s=2).append(write(table, {"id": ids})).run()


def rows(table: Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.pyiceberg.scan(snapshot_id=table.snapshot_id).to_arrow().to_pylist()
    return found


def ids(table: Table) -> list[int]:
    return sorted(row["id"] for row in rows(table))


def paths(table: Table) -> list[str]:
    return [file.path for file in table.files()]


def on_disk(table: Table, pattern: str) -> set[str]:
    return {str(path) for path in Path(table.location).rglob(pattern)}


def test_an_append_is_one_snapshot_with_the_token(table: Table) -> None:
    seen: list[Event] = []
    with observing(seen.append):
        after = append(table, [1, 2, 3], token="mine")
    assert ids(after) == [1, 2, 3]
    assert table.snapshot_id is None  # the version that was given is not changed
    [snapshot] = after.pyiceberg.metadata.snapshots
    assert snapshot.summary is not None
    assert snapshot.summary[TOKEN] == "mine"
    assert Committed("demo.t", snapshot.snapshot_id, 3, 1, 0) in seen
    assert on_disk(table, "iceblink-write-*") == set()


def test_an_append_goes_on_top_of_what_others_committed(table: Table) -> None:
    append(table, [1])
    append(table, [2])  # from the same, old version
    assert ids(append(table, [3])) == [1, 2, 3]


def test_an_empty_append_is_a_snapshot_too(table: Table) -> None:
    after = Commit(append(table, [1])).append([]).run()
    assert ids(after) == [1]
    assert len(after.pyiceberg.metadata.snapshots) == 2


def test_a_token_commits_once(table: Table) -> None:
    new = write(table, {"id": [1]})
    first = Commit(table, "mine").append(new).run()
    again = Commit(table, "mine").append(new).run()
    assert again.snapshot_id == first.snapshot_id
    assert ids(again) == [1]


def test_a_job_run_again_with_its_token_leaves_one_result_and_no_files(table: Table) -> None:
    first = append(table, [1, 2], "job 7")
    again = append(table.refresh(), [1, 2], "job 7")
    assert again.snapshot_id == first.snapshot_id
    assert ids(again) == [1, 2]
    assert on_disk(table, "*.parquet") == set(paths(first))
    assert on_disk(table, "iceblink-write-*") == set()


def test_an_overwrite_replaces_whole_files(table: Table) -> None:
    append(table, [1, 2])
    before = append(table, [3])
    [old] = [file.path for file in before.files() if file.rows == 2]
    after = Commit(before).overwrite([old], write(before, {"id": [10]})).run()
    assert ids(after) == [3, 10]
    assert ids(before) == [1, 2, 3]
    assert after.file_count == 2


@pytest.mark.parametrize("partition_by", [[], ["bucket(4, id)"], ["id"]])
def test_overwriting_all_with_nothing_empties_the_table(catalog: Catalog, partition_by: list[str]) -> None:
    before = append(catalog.create("demo.p", {"id": "long"}, partition_by=partition_by), [1, 2, 3])
    after = Commit(before).overwrite(paths(before), []).run()
    assert ids(after) == []
    assert after.row_count == 0
    assert ids(before) == [1, 2, 3]
    assert len(after.pyiceberg.metadata.snapshots) == 2


def test_overwriting_an_empty_table_is_an_append(table: Table) -> None:
    assert ids(Commit(table).overwrite([], write(table, {"id": [1]})).run()) == [1]


def test_an_overwrite_of_rows_that_another_changed_is_a_conflict(table: Table) -> None:
    base = append(table, [1, 2])
    Commit(base).overwrite(paths(base), write(base, {"id": [5]})).run()
    ours = write(base, {"id": [6]})
    with pytest.raises(CommitConflict, match=r"snapshot \d+ \(overwrite\)"):
        Commit(base).overwrite(paths(base), ours).run()
    assert ids(table.refresh()) == [5]
    assert not Path(ours[0].path).exists()
    assert on_disk(table, "iceblink-write-*") == set()


def test_an_overwrite_of_everything_conflicts_with_an_append(table: Table) -> None:
    base = append(table, [1])
    append(base, [2])
    with pytest.raises(CommitConflict, match=r"\(append\)"):
        Commit(base).overwrite(paths(base), []).run()
    assert ids(table.refresh()) == [1, 2]


def test_an_overwrite_goes_on_top_of_rows_it_did_not_look_at(table: Table) -> None:
    base = append(table, [1])
    append(base, [200])
    low = Compare("id", "<", 100)
    after = Commit(base).overwrite(paths(base), write(base, {"id": [7]}), conflict=low).run()
    assert ids(after) == [7, 200]
    append(base, [50])
    with pytest.raises(CommitConflict):
        Commit(after).overwrite([], [], conflict=low).run()


def test_an_overwrite_of_an_empty_table_conflicts_with_its_first_rows(table: Table) -> None:
    append(table, [1])
    with pytest.raises(CommitConflict):
        Commit(table).overwrite([], []).run()


def test_replacing_files_that_are_not_there_is_refused(table: Table) -> None:
    with pytest.raises(CommitConflict, match="not in the table"):
        Commit(append(table, [1])).overwrite(["nowhere.parquet"], []).run()


@pytest.mark.parametrize(
    ("word", "kind", "values", "new", "kept"),
    [
        ("bucket(2, x)", "long", [1, 1, 5], [1], 1),
        ("x", "uuid", [b"0123456789abcdef", b"fedcba9876543210"], [b"0123456789abcdef"], 1),
        ("x", "decimal(5,2)", [Decimal("1.25"), Decimal("-1")], [Decimal("1.25")], 1),
        (
            "x",
            "timestamptz",
            [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None],
            [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)],
            1,
        ),
        ("x", "time", [dt.time(5), dt.time(6)], [dt.time(6)], 1),
        ("x", "binary", [b"\xff", b""], [b""], 1),
        ("x", "boolean", [True, False], [True], 1),
        ("day(x)", "timestamp", [dt.datetime(2020, 1, 1, 5), dt.datetime(2020, 1, 2)], [dt.datetime(2020, 1, 1)], 1),
        ("truncate(1, x)", "string", ["ab", "ac", "b"], ["a"], 1),
        ("x", "double", [math.nan, 1.0], [math.nan], 1),
        ("x", "date", [dt.date(2020, 1, 1), dt.date(1960, 1, 1)], [dt.date(1960, 1, 1)], 1),
        ("x", "string", ["a/b", None], [None], 1),
    ],
)
def test_the_files_of_a_partition_are_found_for_every_transform(
    catalog: Catalog, word: str, kind: str, values: list[Any], new: list[Any], kept: int
) -> None:
    table = catalog.create("demo.p", {"x": kind}, partition_by=[word])
    base = Commit(table).append(write(table, {"x": values})).run()
    replacing = write(base, {"x": new})
    removed = partition_files(base, replacing)
    assert removed
    after = Commit(base).overwrite(removed, replacing).run()
    assert len(rows(after)) == kept + len(new)
    assert len(list(after.files())) == len(list(base.files()))


def test_partitions_of_an_older_spec_are_not_guessed(catalog: Catalog) -> None:
    table = append(catalog.create("demo.p", {"id": "long"}, partition_by=["id"]), [1])
    with table.pyiceberg.update_spec() as update:
        update.remove_field("id")
        update.add_field("id", "bucket[2]", "b")
    new = table.refresh()
    with pytest.raises(ConfigError, match="older partitioning"):
        partition_files(new, write(new, {"id": [1]}))


def test_an_unpartitioned_table_has_no_partition_to_overwrite(table: Table) -> None:
    with pytest.raises(ConfigError, match="no partitions"):
        partition_files(table, write(table, {"id": [1]}))


def test_files_and_schema_change_together_in_one_version(catalog: Catalog) -> None:
    table = catalog.create("demo.e", {"id": "int", "need": "string not null"})
    table = Commit(table).append(write(table, {"id": [1], "need": ["a"]})).run()
    versions = on_disk(table, "*.metadata.json")
    wanted = pa.schema({"id": pa.int64(), "need": pa.string(), "more": pa.list_(pa.float32())})
    grown = evolved(table, wanted)
    new = write(grown, {"id": [2**40], "need": [None], "more": [[0.5]]})
    after = Commit(grown).append(new).evolve(wanted).run()
    assert len(on_disk(table, "*.metadata.json")) == len(versions) + 1
    assert len(after.pyiceberg.metadata.snapshots) == 2
    assert after.pyiceberg.metadata.snapshots[-1].schema_id == after.schema_id
    assert sorted(map(str, rows(after))) == sorted(
        map(str, [{"id": 1, "need": "a", "more": None}, {"id": 2**40, "need": None, "more": [0.5]}])
    )
    assert catalog.load("demo.e").schema.field("id").type == pa.int64()


def test_a_new_tensor_keeps_its_shape(catalog: Catalog) -> None:
    table = append(catalog.create("demo.e", {"id": "long"}), [1])
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 1])
    wanted = pa.schema({"id": pa.int64(), "x": tensor})
    grown = evolved(table, wanted)
    column = pa.FixedShapeTensorArray.from_storage(tensor, pa.array([[1, 2]], pa.list_(pa.float32(), 2)))
    with TableWriter(grown, SMALL) as writer:
        writer.write(pa.record_batch({"id": pa.array([2], pa.int64()), "x": column}))
        new = writer.finish()
    after = Commit(grown).append(new).evolve(wanted).run()
    assert after.schema.field("x").type == tensor


@pytest.mark.parametrize(
    "wanted",
    [
        {"id": "string"},
        {"id": "struct<a: int>"},
        {"id": "long", "more": "long not null"},
        {"id": "decimal(5,2)"},
    ],
)
def test_a_schema_change_that_loses_something_is_refused(table: Table, wanted: dict[str, str]) -> None:
    with pytest.raises(SchemaMismatch, match=r"demo\.t"):
        evolved(table, to_schema(wanted))


def test_a_column_that_another_added_first_is_a_conflict(table: Table) -> None:
    wanted = pa.schema({"id": pa.int64(), "mine": pa.int64()})
    grown = evolved(table, wanted)
    new = write(grown, {"id": [1], "mine": [2]})
    with table.pyiceberg.update_schema() as update:
        update.add_column("theirs", table.pyiceberg.schema().find_type("id"))
    with pytest.raises(CommitConflict, match="'mine' was changed"):
        Commit(grown).append(new).evolve(wanted).run()
    assert on_disk(table, "*.parquet") == set()


def test_an_append_survives_a_schema_change_of_others(table: Table) -> None:
    new = write(table, {"id": [1]})
    with table.pyiceberg.update_schema() as update:
        update.add_column("theirs", table.pyiceberg.schema().find_type("id"))
    after = Commit(table).append(new).run()
    assert rows(after) == [{"id": 1, "theirs": None}]


def test_a_change_of_partitioning_meanwhile_is_a_conflict(catalog: Catalog) -> None:
    table = catalog.create("demo.p", {"id": "long"})
    new = write(table, {"id": [1]})
    with catalog.load("demo.p").pyiceberg.update_spec() as update:
        update.add_field("id", "bucket[2]", "b")
    with pytest.raises(CommitConflict, match="partitioning"):
        Commit(table).append(new).run()


def test_properties_come_with_the_same_version(table: Table) -> None:
    after = Commit(table).append(write(table, {"id": [1]})).properties({"owner": "me"}).run()
    assert after.properties["owner"] == "me"
    assert "commit.retry.num-retries" not in table.refresh().properties
    assert len(on_disk(table, "*.metadata.json")) == 2


def test_a_commit_of_nothing_changes_nothing(table: Table) -> None:
    after = Commit(table).evolve(table.schema).run()
    assert after.snapshot_id is None
    assert "commit.retry.num-retries" not in after.properties
    assert len(on_disk(table, "*.metadata.json")) == 1


def test_a_branch_that_is_written_to_is_kept_as_long_as_before(table: Table) -> None:
    base = append(table, [1])
    assert base.snapshot_id is not None
    kept = {"max_ref_age_ms": 9000, "max_snapshot_age_ms": 8000, "min_snapshots_to_keep": 7}
    base.pyiceberg.manage_snapshots().create_branch(base.snapshot_id, "trial", **kept).commit()
    append(table.refresh().at(branch="trial"), [2])
    ref = table.refresh().pyiceberg.metadata.refs["trial"]
    assert {name: getattr(ref, name) for name in kept} == kept
    assert ref.snapshot_id != base.snapshot_id


def test_a_commit_goes_to_the_branch_of_its_table(table: Table) -> None:
    base = append(table, [1])
    assert base.snapshot_id is not None
    base.pyiceberg.manage_snapshots().create_branch(base.snapshot_id, "trial").commit()
    branch = table.refresh().at(branch="trial")
    after = append(branch, [2])
    assert ids(after) == [1, 2]
    assert ids(table.refresh()) == [1]
    table.refresh().pyiceberg.manage_snapshots().remove_branch("trial").commit()
    with pytest.raises(SnapshotNotFound):
        append(branch, [3])


def test_a_table_that_was_dropped_or_replaced_is_told(catalog: Catalog) -> None:
    table = catalog.create("demo.d", {"id": "long"})
    new = write(table, {"id": [1]})
    catalog.pyiceberg.drop_table("demo.d")
    with pytest.raises(TableNotFound):
        Commit(table).append(new).run()
    catalog.create("demo.d", {"id": "long"})
    with pytest.raises(CommitConflict, match="made anew"):
        Commit(table).append(new).run()


Answer = Callable[[Callable[[], Any]], Any]


def answers(monkeypatch: pytest.MonkeyPatch, table: Table, *script: Answer) -> list[int]:
    """Let the catalog answer the next commits as `script` says, and truly after that; count the commits."""
    real = table.pyiceberg.catalog.commit_table
    waiting, calls = list(script), [0]

    def commit_table(*given: Any) -> Any:
        calls[0] += 1
        return waiting.pop(0)(lambda: real(*given)) if waiting else real(*given)

    monkeypatch.setattr(table.pyiceberg.catalog, "commit_table", commit_table)
    return calls


def lost_after(commit: Callable[[], Any]) -> Any:
    commit()
    raise TimeoutError("no response")


def lost_before(commit: Callable[[], Any]) -> Any:
    raise ConnectionError("no request")


def unknown_after(commit: Callable[[], Any]) -> Any:
    commit()
    raise CommitStateUnknownException("503")


def too_late(commit: Callable[[], Any]) -> Any:
    raise CommitFailedException("another was faster")


def forbidden(commit: Callable[[], Any]) -> Any:
    raise ForbiddenError("not yours")


@pytest.mark.parametrize("answer", [lost_after, unknown_after])
def test_a_lost_response_does_not_commit_twice(table: Table, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    calls = answers(monkeypatch, table, answer)
    after = append(table, [1])
    assert calls == [1]
    assert ids(after) == [1]
    assert on_disk(table, "iceblink-write-*") == set()


def failed_after(commit: Callable[[], Any]) -> Any:
    commit()
    raise CommitFailedException("409, to a request that the network sent twice")


def test_a_commit_said_to_have_failed_that_landed_keeps_its_files(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, table, failed_after)
    assert ids(append(table, [1])) == [1]  # PyIceberg believes the answer, and would have removed the manifests


def test_manifests_of_a_refused_try_are_removed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, table, too_late)
    after = append(table, [1])
    assert ids(after) == [1]
    assert len(on_disk(table, "snap-*.avro")) == len(after.pyiceberg.metadata.snapshots)


def test_a_catalog_lost_after_its_no_leaves_the_outcome_open(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, table, too_late)
    new = write(table, {"id": [1]})
    really_load, loads = table.pyiceberg.catalog.load_table, [0]

    def load_table(name: Any) -> Any:
        loads[0] += 1
        if loads[0] > 1:
            raise ConnectionError("gone")
        return really_load(name)

    monkeypatch.setattr(table.pyiceberg.catalog, "load_table", load_table)
    with pytest.raises(CommitUnknown):
        Commit(table, patience_s=0.1).append(new).run()
    assert Path(new[0].path).exists()


def test_a_catalog_that_cannot_be_reached_at_all_leaves_nothing(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    new = write(table, {"id": [1]})

    def load_table(name: Any) -> Any:
        raise ConnectionError("gone")

    monkeypatch.setattr(table.pyiceberg.catalog, "load_table", load_table)
    with pytest.raises(WriteError, match="gone"):
        Commit(table, patience_s=0.1).append(new).run()
    assert on_disk(table, "*.parquet") == set()
    assert on_disk(table, "iceblink-write-*") == set()


@pytest.mark.parametrize("script", [[lost_before], [too_late, lost_before, too_late], [lost_before, lost_after]])
def test_a_lost_request_is_sent_again(table: Table, monkeypatch: pytest.MonkeyPatch, script: list[Answer]) -> None:
    answers(monkeypatch, table, *script)
    assert ids(append(table, [1])) == [1]


def test_a_catalog_that_never_answers_keeps_the_files(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, table, *[lost_before] * 100)
    new = write(table, {"id": [1]})
    with pytest.raises(CommitUnknown, match="mine"):
        Commit(table, "mine", patience_s=0.1).append(new).run()
    assert Path(new[0].path).exists()
    assert on_disk(table, "iceblink-write-*")
    monkeypatch.undo()
    assert ids(Commit(table, "mine").append(new).run()) == [1]  # as its hint says


def test_a_catalog_that_refuses_is_believed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answers(monkeypatch, table, forbidden)
    with pytest.raises(WriteError, match="not yours"):
        append(table, [1])
    assert calls == [1]
    assert on_disk(table, "*.parquet") == set()


def test_writers_that_are_always_faster_end_in_a_conflict(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, table, *[too_late] * 1000)
    with pytest.raises(CommitConflict, match="always faster"):
        Commit(table, patience_s=0.1).append(write(table, {"id": [1]})).run()
    assert on_disk(table, "*.parquet") == set()
    assert on_disk(table, "*.avro") == set()


APPENDER = """
import sys
import pyarrow as pa
from iceblink.config import MIB, Settings
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.write import TableWriter
folder, first = sys.argv[1], int(sys.argv[2])
table = Catalog.embedded(folder).load("demo.t")
for row in range(first, first + 3):
    with TableWriter(table, Settings(threads=1, memory_bytes=64 * MIB)) as writer:
        writer.write(pa.record_batch({"id": pa.array([row], pa.int64())}))
        Commit(table, writer.token).append(writer.finish()).run()
    print(row, flush=True)
"""


@pytest.mark.slow
def test_four_processes_lose_no_row_and_double_none(table: Table, tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDER, str(tmp_path)]
    running = [subprocess.Popen([*command, str(n * 100)], stdout=subprocess.PIPE, text=True) for n in range(4)]
    ledger = [int(line) for process in running for line in process.communicate()[0].split()]
    assert [process.returncode for process in running] == [0] * 4
    after = table.refresh()
    assert Counter(ids(after)) == Counter(ledger)
    assert len(ledger) == 12
    assert on_disk(table, "*.parquet") == set(paths(after))
    assert on_disk(table, "iceblink-write-*") == set()
