"""Clocks that are an hour off: of the store, of who cleans up, of who writes. Nothing that is needed goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import iceblink as ib
from iceblink.errors import SnapshotNotFound
from servers.amazon import s3, set_clock

HOUR = 3600.0
ORPHAN_AGE = timedelta(minutes=30)


@pytest.fixture
def clocks(amazon_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set clocks: of the store, of who cleans up, of who writes; ahead of the true time [s]."""

    def ahead(store: float = 0, cleaner: float = 0, writer: float = 0) -> None:
        set_clock(amazon_folder, store)
        for module, ahead_s in (("orphans", cleaner), ("leftovers", writer)):
            shifted = SimpleNamespace(time=lambda ahead_s=ahead_s: time.time() + ahead_s)
            monkeypatch.setattr(f"iceblink.lake.{module}.time", shifted)
        commits_at(monkeypatch, writer)

    yield ahead
    set_clock(amazon_folder, 0)


def commits_at(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """Let commits be made by a clock that is so far ahead [s]."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=ahead_s)

    monkeypatch.setattr("pyiceberg.table.snapshots.time", SimpleNamespace(time=lambda: time.time() + ahead_s))
    monkeypatch.setattr("pyiceberg.table.update.datetime", Shifted)


@pytest.mark.parametrize(
    ("store", "cleaner", "writer"),
    [(-HOUR, HOUR, 0), (HOUR, 0, -HOUR), (0, -HOUR, HOUR)],
)
def test_orphans_go_and_files_of_running_writes_stay(
    amazon_endpoint: str, clocks: Callable[..., None], tmp_path: Path, store: float, cleaner: float, writer: float
) -> None:
    stored: dict[str, Any] = {"uri": f"sqlite:///{tmp_path}/c.db", **s3(amazon_endpoint)}
    stored["warehouse"] += f"/{tmp_path.name}"
    failures: list[BaseException] = []

    def write(first: int) -> None:
        try:
            with ib.connect(**stored) as lake:
                for number in range(first, first + 3):
                    lake.write("n.t", {"id": [number]})
                lake.compact("n.t", min_files=2, rewrite_all=True)
        except BaseException as error:
            failures.append(error)

    with ib.connect(**stored) as lake:
        clocks(store, cleaner, writer)
        lake.write("n.t", {"id": [0]}, "create")
        table = lake.session.catalog.load("n.t")
        stray = f"{table.location}/data/stray ü.parquet"
        clocks(store - 3 * HOUR, cleaner, writer)
        table.storage.write(stray, b"x")
        clocks(store, cleaner, writer)
        writers = [threading.Thread(target=write, args=(first,)) for first in (10, 20)]
        for one in writers:
            one.start()
        removed: list[str] = []
        while any(one.is_alive() for one in writers) or not removed:
            removed += lake.remove_orphan_files("n.t", older_than=ORPHAN_AGE, force=True).files
        for one in writers:
            one.join()
        assert failures == []
        assert removed == [stray]
        assert sorted(row["id"] for row in lake.table("n.t").to_pylist()) == [0, 10, 11, 12, 20, 21, 22]
        for snapshot in table.refresh().pyiceberg.snapshots():
            assert lake.table("n.t", snapshot=snapshot.snapshot_id).count() > 0
        assert lake.remove_orphan_files("n.t").files == ()


def connected(kind: str, folder: Path) -> ib.Lake:
    if kind == "embedded":
        return ib.connect(folder)
    return ib.connect(uri=f"sqlite:///{folder}/c.db", warehouse=f"file://{folder}/files")


KINDS = ["embedded", "of PyIceberg"]


@pytest.mark.parametrize("kind", KINDS)
def test_time_never_goes_back_in_a_table_that_clocks_apart_are_written_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    moments: list[tuple[int, int]] = []
    with connected(kind, tmp_path) as lake:
        lake.write("n.t", {"id": [0]}, "create")
        for number, ahead_s in enumerate((HOUR, 0, -HOUR, HOUR, -HOUR), 1):
            commits_at(monkeypatch, ahead_s)
            lake.write("n.t", {"id": [number]})
            check_sorted(lake)
            lake.alter("n.t", properties={"written by": str(number)})
            check_sorted(lake)
            lake.tag("n.t", f"tag {number}")
            metadata = lake.session.catalog.load("n.t").pyiceberg.metadata
            moments.append((metadata.snapshots[-1].timestamp_ms, number))
        latest = dict(moments)  # of commits at one moment the last one counts
        for moment, number in latest.items():
            assert lake.table("n.t", as_of=moment).count() == number + 1
        lake.rollback("n.t", snapshot=metadata.snapshots[2].snapshot_id)
        check_sorted(lake)
        assert lake.table("n.t").count() == 3
        assert [row["rows_added"] for row in lake.history("n.t").to_pylist()] == [1] * 6


def check_sorted(lake: ib.Lake) -> None:
    """Hold the metadata to what Iceberg's own library wants of a table that it reads, less its minute."""
    metadata = lake.session.catalog.load("n.t").pyiceberg.metadata
    for times in (
        [one.timestamp_ms for one in metadata.snapshot_log] + [metadata.last_updated_ms],
        [one.timestamp_ms for one in metadata.metadata_log] + [metadata.last_updated_ms],
        [one.timestamp_ms for one in metadata.snapshots] + [metadata.last_updated_ms],
    ):
        assert times == sorted(times)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_current_at_a_time_is_not_taken_for_what_was_current_before(tmp_path: Path, kind: str) -> None:
    with connected(kind, tmp_path) as lake:
        for number in range(3):
            lake.write("n.t", {"id": [number]}, "overwrite" if number else "create")
            if not number:
                lake.tag("n.t", "first")
            time.sleep(0.002)  # two snapshots never share a millisecond here
        first, second, third = (one.timestamp_ms for one in lake.session.catalog.load("n.t").pyiceberg.snapshots())
        assert lake.table("n.t", as_of=second).to_pylist() == [{"id": 1}]
        lake.expire_snapshots("n.t", older_than=timedelta(0))
        for moment in (first, second):
            with pytest.raises(SnapshotNotFound):
                lake.table("n.t", as_of=moment)
        assert lake.table("n.t", as_of=third).to_pylist() == [{"id": 2}]
        assert lake.table("n.t", as_of=datetime.now(UTC)).to_pylist() == [{"id": 2}]
        assert lake.table("n.t", tag="first").to_pylist() == [{"id": 0}]
