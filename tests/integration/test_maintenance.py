"""Whatever is done to keep a table healthy, its rows are what they were, for us and for PyIceberg."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform

import iceblink as ib
from contract.staged import staged_engine
from iceblink import _
from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch
from iceblink.events import Event, FilesRewritten, observing
from iceblink.lake.leftovers import find_leftovers, remove_leftovers
from iceblink.run.distributed import planning
from row_deletes import delete_by_position, delete_by_value, live

NAMES = ["a", "b c", "ü/%20", None]
SCHEMA = {"id": "long not null", "k": "string", "v": "double"}
Row = tuple[Any, ...]


def rows_of(numbers: range) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "k": pa.array([NAMES[number % 4] for number in numbers], pa.string()),
            "v": pa.array([None if number % 3 else number / 7 for number in numbers], pa.float64()),
        }
    )


def found(rows: Any) -> Counter[Row]:
    return Counter((row["id"], row["k"], row["v"]) for row in rows.to_pylist())


def iceberg(lake: ib.Lake) -> Any:
    return lake.session.catalog.load("n.t ü").pyiceberg


class Model:
    """The table as plain Python has it."""

    def __init__(self, lake: ib.Lake) -> None:
        self.lake, self.rows, self.next = lake, dict[int, Row](), 0

    def append(self, count: int) -> None:
        new = rows_of(range(self.next, self.next + count))
        self.lake.write("n.t ü", new)
        self.rows |= {row["id"]: (row["id"], row["k"], row["v"]) for row in new.to_pylist()}
        self.next += count

    def gone(self, part: int) -> list[int]:
        ids = [number for number in self.rows if number % 5 == part % 5]
        for number in ids:
            del self.rows[number]
        return ids

    def check(self) -> None:
        assert found(self.lake.table("n.t ü")) == Counter(self.rows.values())


def repartition(model: Model) -> None:
    parts = 2 + len(iceberg(model.lake).specs())
    iceberg(model.lake).update_spec().add_field("id", BucketTransform(parts), f"id_{parts}").commit()


Change = Callable[[Model, int], object]
WRITES: dict[str, Change] = {
    "append": lambda model, n: model.append(n + 1),
    "append more": lambda model, n: model.append(3 * n),
    "delete by position": lambda model, n: delete_by_position(model.lake, "n.t ü", model.gone(n)),
    "delete by value": lambda model, n: delete_by_value(model.lake, "n.t ü", model.gone(n) or [-1]),
    "rewrite": lambda model, n: model.lake.write(
        "n.t ü", rows_of(range(0)), "overwrite", where=_.id.isin(model.gone(n) or [-1])
    ),
    "partition anew": lambda model, n: repartition(model),
}
MAINTENANCE: dict[str, Change] = {
    "compact": lambda model, n: model.lake.compact("n.t ü", min_files=1 + n),
    "compact some": lambda model, n: model.lake.compact("n.t ü", where=_.id > n, partial_progress=True),
    "sort": lambda model, n: model.lake.compact("n.t ü", sort_by=["-v", "id"]),
    "z-order": lambda model, n: model.lake.compact("n.t ü", zorder=["k", "v"]),
    "rewrite manifests": lambda model, n: model.lake.rewrite_manifests("n.t ü", target_size=1 + 3000 * n),
    "expire": lambda model, n: model.lake.expire_snapshots("n.t ü", older_than=timedelta(0), keep_last=1 + n),
    "remove orphans": lambda model, n: model.lake.remove_orphan_files("n.t ü", older_than=timedelta(0), force=True),
}
CHANGES = WRITES | MAINTENANCE
STEPS = st.tuples(st.sampled_from([*WRITES, *CHANGES]), st.integers(0, 4))


@settings(max_examples=5)
@given(partitioned=st.booleans(), steps=st.lists(STEPS, min_size=4, max_size=8))
def test_rows_stay_what_they_are_through_any_maintenance(partitioned: bool, steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder, ib.connect(Path(folder, "a läke %41")) as lake:
        lake.create("n.t ü", SCHEMA, partition_by=["k"] if partitioned else [])
        model = Model(lake)
        model.append(7)
        for name, number in steps:
            CHANGES[name](model, number)
            model.check()
        rounds = 0
        while lake.compact("n.t ü").commits:  # rows of an older partitioning may come to small files of the newer
            model.check()
            assert (rounds := rounds + 1) < 4, "what is done is not done again"
        assert found(iceberg(lake).scan().to_arrow()) == Counter(model.rows.values())  # it refuses equality deletes


@pytest.fixture
def small(lake: ib.Lake) -> Model:
    """A table of six small files."""
    lake.create("n.t ü", SCHEMA)
    model = Model(lake)
    for _file in range(6):
        model.append(5)
    return model


def files(lake: ib.Lake) -> set[str]:
    """Return the data files on the disk."""
    return {str(path) for path in Path(iceberg(lake).location()).rglob("*.parquet")}


def test_a_compaction_tells_what_it_did(small: Model) -> None:
    told: list[Event] = []
    with observing(told.append):
        done = small.lake.compact("n.t ü")
    assert (done.files_before, done.files_after, done.commits, done.files_left_out) == (6, 1, 1, 0)
    assert (done.bytes_before, done.bytes_after) != (0, 0)
    assert [event.files for event in told if isinstance(event, FilesRewritten)] == [6]
    snapshot = iceberg(small.lake).current_snapshot()
    assert snapshot.summary.operation.value == "replace"
    assert snapshot.summary["total-records"] == "30"
    assert snapshot.summary["total-data-files"] == "1"


def test_deletes_are_folded_in_and_their_files_leave_the_table(small: Model) -> None:
    delete_by_position(small.lake, "n.t ü", small.gone(1))
    delete_by_value(small.lake, "n.t ü", small.gone(2))
    done = small.lake.compact("n.t ü", min_files=100)
    assert (done.files_before, done.files_after, done.delete_files_removed) == (6, 1, 2)
    small.check()
    assert small.lake.table("n.t ü.delete_files").count() == 0
    assert small.lake.table("n.t ü").count() == len(small.rows)


def test_a_delete_file_leaves_though_it_may_seem_to_apply_to_files_that_stay(small: Model) -> None:
    size = size_of(small)
    del small.rows[3], small.rows[4]  # of the first file
    delete_by_position(small.lake, "n.t ü", [3, 4], bounded=False)
    done = small.lake.compact("n.t ü", target_size=size)
    assert (done.files_before, done.files_after, done.delete_files_removed) == (1, 1, 1)
    small.check()
    assert small.lake.table("n.t ü.delete_files").count() == 0


def test_a_file_of_which_no_row_is_left_leaves_nothing(small: Model) -> None:
    for part in range(5):
        delete_by_position(small.lake, "n.t ü", small.gone(part))
    assert small.lake.compact("n.t ü").files_after == 0
    assert not list(Path(iceberg(small.lake).location()).rglob("iceblink-*"))
    assert small.lake.table("n.t ü").count() == 0
    small.append(2)
    small.check()


def test_files_get_the_target_size_and_groups_commits_of_their_own(lake: ib.Lake) -> None:
    lake.create("n.t ü", SCHEMA, properties={"write.parquet.row-group-limit": "500"})
    model = Model(lake)
    for _file in range(8):
        model.append(1500)
    size = next(iter(live(lake, "n.t ü").values()))[0].file_size_in_bytes
    done = lake.compact("n.t ü", target_size=3 * size, min_files=2, partial_progress=True, max_commits=2)
    assert (done.files_before, done.commits) == (8, 2)
    assert 2 <= done.files_after <= 4
    model.check()
    large = lake.compact("n.t ü", target_size=size)  # one that is too large is cut
    assert large.files_after > large.files_before
    model.check()


def size_of(small: Model) -> int:
    """Return the size of its largest file."""
    return max(file.file_size_in_bytes for found in live(small.lake, "n.t ü").values() for file in found)


def during(lake: ib.Lake, action: Callable[[], object], **options: Any) -> Any:
    """Compact, and do something else when the files are written and not yet committed."""

    def once(event: Event) -> None:
        if isinstance(event, FilesRewritten) and not done:
            done.append(event)
            action()

    done: list[Event] = []
    with observing(once):
        return lake.compact("n.t ü", **options)


def test_of_two_compactions_and_an_appender_nothing_is_lost(small: Model, tmp_path: Path) -> None:
    with ib.connect(tmp_path / "my lake ü") as other:

        def meanwhile() -> None:
            small.append(3)
            assert other.compact("n.t ü").files_before == 7

        assert during(small.lake, meanwhile).files_left_out == 6
    small.check()
    table = small.lake.session.catalog.load("n.t ü")
    assert {file.path for file in table.files()} < files(small.lake)
    assert find_leftovers(table, older_than_s=0) == []
    assert len(list(table.files())) == 1


def test_rows_deleted_by_value_meanwhile_stay_deleted(small: Model) -> None:
    done = during(small.lake, lambda: delete_by_value(small.lake, "n.t ü", small.gone(3)))
    assert done.files_left_out == 0
    small.check()
    small.lake.compact("n.t ü")
    small.check()


def test_files_of_which_rows_are_deleted_meanwhile_are_left_out_and_no_others(lake: ib.Lake) -> None:
    lake.create("n.t ü", SCHEMA, partition_by=["k"])
    model = Model(lake)
    for _file in range(5):
        model.append(4)
    done = during(lake, lambda: delete_by_position(lake, "n.t ü", [0, 4]), min_files=2)  # of partition "a"
    assert (done.files_before, done.files_left_out) == (15, 5)
    del model.rows[0], model.rows[4]
    model.check()


def test_another_partitioning_makes_rows_deleted_by_value_meanwhile_a_conflict(small: Model) -> None:
    iceberg(small.lake).update_spec().add_field("k", BucketTransform(2), "kb").commit()
    done = during(small.lake, lambda: delete_by_value(small.lake, "n.t ü", small.gone(3)))
    assert done.files_left_out == 6
    small.check()


def test_a_rollback_meanwhile_does_not_lose_rows_whose_deletes_it_undid(small: Model) -> None:
    before, kept = iceberg(small.lake).current_snapshot().snapshot_id, dict(small.rows)
    delete_by_position(small.lake, "n.t ü", small.gone(3))
    back = iceberg(small.lake).manage_snapshots
    done = during(small.lake, lambda: back().rollback_to_snapshot(before).commit())
    assert done.files_left_out == 6
    small.rows = kept
    small.check()


def test_who_is_interrupted_leaves_the_table_and_the_disk_as_they_were(small: Model) -> None:
    before = files(small.lake)

    def interrupt() -> None:
        raise KeyboardInterrupt

    for options in ({}, {"sort_by": ["id"]}):
        with pytest.raises(KeyboardInterrupt):
            during(small.lake, interrupt, **options)
        assert files(small.lake) == before
        assert not list(Path(iceberg(small.lake).location()).rglob("iceblink-*"))
        small.check()


KILLED = """
import os, signal, sys
import iceblink as ib
from datetime import timedelta
from iceblink.lake import expiry
from iceblink.lake.storage import Storage

folder, step, size = sys.argv[1:]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
lake = ib.connect(folder)
if step == "before files are removed":
    expiry.delete_all = die
    lake.expire_snapshots("n.t ü", older_than=timedelta(0))
numbers = iter(range(1, 1000))  # of the files that are opened to be written
really_open = Storage.open_output
def opened(*given, **named):
    return die() if step.startswith(f"file {next(numbers)}") else really_open(*given, **named)
Storage.open_output = opened
lake.compact("n.t ü", target_size=int(size), min_files=2, partial_progress="commit by commit" in step)
print("survived")
"""


@pytest.mark.parametrize(
    "step",
    ["file 3", "file 9, commit by commit", "before files are removed"],
)
def test_who_is_killed_leaves_every_row_and_what_is_left_can_be_removed(
    small: Model, tmp_path: Path, step: str
) -> None:
    program = [sys.executable, "-c", KILLED, str(tmp_path / "my lake ü"), step, str(2 * size_of(small))]
    killed = subprocess.run(program, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    small.check()
    table = small.lake.session.catalog.load("n.t ü")
    if step != "before files are removed":
        assert find_leftovers(table, older_than_s=0)
        remove_leftovers(table, older_than_s=0)
    removed = small.lake.remove_orphan_files("n.t ü", older_than=timedelta(0), force=True)
    assert removed.kept_files == 0
    assert bool(removed.files) is (step == "before files are removed")
    small.check()
    small.lake.compact("n.t ü", min_files=2)
    small.lake.expire_snapshots("n.t ü", older_than=timedelta(0))
    assert {file.path for file in small.lake.session.catalog.load("n.t ü").files()} == files(small.lake)
    small.check()


def test_workers_of_a_backend_compact_too(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WORTH_S", 0.0)
    size = size_of(small)
    delete_by_position(small.lake, "n.t ü", small.gone(1))
    with ib.connect(tmp_path / "my lake ü", engine=staged_engine()) as spread:
        assert spread.compact("n.t ü", target_size=2 * size, min_files=2).files_after == 3
        small.check()
        spread.compact("n.t ü", zorder=["k", "id"])
        small.check()
        spread.compact("n.t ü", sort_by=["-id"])
        assert [row["id"] for row in small.lake.table("n.t ü").to_pylist()] == sorted(small.rows, reverse=True)


def test_a_table_with_a_sort_order_keeps_it(lake: ib.Lake) -> None:
    lake.create("n.t ü", SCHEMA, sort_by=["-id"])
    model = Model(lake)
    for _file in range(6):
        model.append(5)
    assert lake.compact("n.t ü").files_after == 1
    assert [row["id"] for row in lake.table("n.t ü").to_pylist()] == list(range(29, -1, -1))
    (file,) = next(iter(live(lake, "n.t ü").values()))
    assert file.sort_order_id == iceberg(lake).sort_order().order_id
    lake.compact("n.t ü", sort_by=["id"])
    (file,) = next(iter(live(lake, "n.t ü").values()))
    assert file.sort_order_id is None
    assert lake.table("n.t ü").to_pylist()[0]["id"] == 0


def test_z_order_lets_each_of_its_columns_skip_files(lake: ib.Lake) -> None:
    side = 64
    places = [(x, y) for x in range(side) for y in range(side)]
    rows = {"x": [x * x for x, _y in places], "y": [f"y{y:03}" for _x, y in places]}  # one column skewed, one of text
    lake.create("n.z", {"x": "long", "y": "string"}, properties={"write.parquet.row-group-limit": "256"})
    lake.write("n.z", rows)
    done = lake.compact("n.z", zorder=["x", "y"], target_size=1)  # a file for each row group
    assert done.files_after == 16
    table = lake.session.catalog.load("n.z").pyiceberg
    for condition in ("x == 100", "y == 'y010'"):
        assert len(list(table.scan(row_filter=condition).plan_files())) == 4
    assert Counter(map(str, lake.table("n.z").to_pylist())) == Counter(map(str, lake.from_arrow(rows).to_pylist()))


def test_what_cannot_be_asked_for_is_told(small: Model) -> None:
    lake = small.lake
    with pytest.raises(ColumnNotFound):
        lake.compact("n.t ü", zorder=["idd"])
    with pytest.raises(ColumnNotFound):
        lake.compact("n.t ü", where=_.idd > 3)
    with pytest.raises(ConfigError):
        lake.compact("n.t ü", sort_by=["id"], zorder=["k"])
    with pytest.raises(ConfigError):
        lake.compact("n.t ü", min_files=0)
    lake.create("n.list", {"l": "list<long>"})
    with pytest.raises(TypeMismatch):
        lake.compact("n.list", zorder=["l"])
    assert lake.compact("n.list").commits == 0  # empty
    assert lake.compact("n.t ü", where="id > 1000").files_before == 0
    assert lake.compact("n.t ü", where="id > 7").files_before == 5
    assert lake.compact("n.t ü", rewrite_all=True).files_before == 2
    small.check()
