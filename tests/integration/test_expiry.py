"""Snapshots that are over, files that nobody needs, manifests that are many: gone, and nothing else is."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import ManifestContent

import iceblink as ib
from iceblink.errors import ConfigError, DataCorrupt, SnapshotNotFound
from iceblink.lake.commit import Commit
from iceblink.lake.manifest_files import forget
from iceblink.lake.write import TableWriter
from row_deletes import delete_by_position, delete_by_value
from table_files import on_disk, reachable

NOW = timedelta(0)


def iceberg(lake: ib.Lake, name: str = "n.t") -> Any:
    return lake.session.catalog.load(name).pyiceberg


def ids(lake: ib.Lake, **version: Any) -> list[int]:
    return sorted(row["id"] for row in lake.table("n.t", **version).to_pylist())


STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "overwrite", "tag", "branch", "to branch", "compact"]), st.integers(0, 3)),
    min_size=3,
    max_size=9,
)


@settings(max_examples=5)
@given(steps=STEPS, keep_last=st.integers(1, 4))
def test_what_stays_is_read_whole_and_what_goes_leaves_no_file(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], keep_last: int
) -> None:
    with ib.connect(tmp_path_factory.mktemp("lake") / "ü %20") as lake:
        lake.write("n.t", {"id": [0]}, "create")
        for number, (step, value) in enumerate(steps, 1):
            main = iceberg(lake).current_snapshot().snapshot_id
            if step == "tag":
                iceberg(lake).manage_snapshots().create_tag(main, f"tag {number}").commit()
            elif step == "branch":
                if "side" not in iceberg(lake).metadata.refs:
                    iceberg(lake).manage_snapshots().create_branch(main, "side", min_snapshots_to_keep=2).commit()
            elif step == "compact":
                lake.compact("n.t", min_files=1)
            elif step == "to branch" and "side" in iceberg(lake).metadata.refs:
                lake.write("n.t", {"id": [100 + number]}, "append", branch="side")
            elif step == "overwrite":
                lake.write("n.t", {"id": [number] * value}, "overwrite")
            else:
                lake.write("n.t", {"id": [number] * (value + 1)})
        table = iceberg(lake)
        versions = {one.snapshot_id: ids(lake, snapshot=one.snapshot_id) for one in table.metadata.snapshots}
        told = lake.expire_snapshots("n.t", older_than=NOW, keep_last=keep_last, dry_run=True)
        assert iceberg(lake).metadata_location == table.metadata_location
        done = lake.expire_snapshots("n.t", older_than=NOW, keep_last=keep_last)
        assert (done.snapshots, done.files, done.kept_files) == (told.snapshots, told.files, 0)
        after = iceberg(lake)
        left = {one.snapshot_id for one in after.metadata.snapshots}
        assert left == versions.keys() - set(done.snapshots)
        assert {name: ref.snapshot_id for name, ref in after.metadata.refs.items()} == {
            name: ref.snapshot_id for name, ref in table.metadata.refs.items()
        }
        lines = {}
        for name in table.metadata.refs:  # each branch keeps as many as it must, if it has them
            line, snapshot = [], table.metadata.snapshot_by_name(name)
            while snapshot is not None:
                line.append(snapshot.snapshot_id)
                snapshot = table.metadata.snapshot_by_id(snapshot.parent_snapshot_id or 0)
            lines[name] = line
        kept = {"main": keep_last, "side": 2}
        assert left == {one for name, line in lines.items() for one in line[: kept.get(name, 1)]}
        assert {one: ids(lake, snapshot=one) for one in left} == {one: versions[one] for one in left}
        assert on_disk(after) == reachable(after)


def test_a_time_is_told_in_several_ways(lake: ib.Lake) -> None:
    for number in range(4):
        lake.write("n.t", {"id": [number]}, "overwrite" if number else "create")
        time.sleep(0.002)  # two snapshots never share a millisecond here
    at_ms = iceberg(lake).metadata.snapshots[2].timestamp_ms
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    for said in (at, at.isoformat(), at_ms):
        assert len(lake.expire_snapshots("n.t", older_than=said, dry_run=True).snapshots) == 2
    assert lake.expire_snapshots("n.t", dry_run=True).snapshots == ()  # five days
    assert lake.expire_snapshots("n.t", older_than=NOW, keep_last=3, dry_run=True).data_files == 1
    with pytest.raises(ConfigError):
        lake.expire_snapshots("n.t", keep_last=0)
    with pytest.raises(ConfigError):
        lake.expire_snapshots("n.t", older_than="yesterday")
    first, second, *_between, last = (one.snapshot_id for one in iceberg(lake).metadata.snapshots)
    with pytest.raises(ConfigError, match="main"):
        lake.expire_snapshots("n.t", snapshot_ids=[first, last])
    with pytest.raises(SnapshotNotFound):
        lake.expire_snapshots("n.t", snapshot_ids=[7])
    assert lake.expire_snapshots("n.t", snapshot_ids=[second]).snapshots == (second,)
    assert ids(lake, snapshot=first) == [0]


def test_properties_of_the_table_and_of_its_references_are_kept(lake: ib.Lake) -> None:
    for number in range(5):
        lake.write("n.t", {"id": [number]}, "overwrite" if number else "create")
    first, second, third, *_rest = (one.snapshot_id for one in iceberg(lake).metadata.snapshots)
    with iceberg(lake).transaction() as change:
        change.set_properties({"history.expire.max-snapshot-age-ms": "1", "history.expire.min-snapshots-to-keep": "2"})
    iceberg(lake).manage_snapshots().create_tag(first, "for ever").commit()
    iceberg(lake).manage_snapshots().create_tag(second, "for a moment", max_ref_age_ms=1).commit()
    iceberg(lake).manage_snapshots().create_branch(third, "young", max_snapshot_age_ms=10**9).commit()
    time.sleep(0.003)  # the least age that a property can say
    done = lake.expire_snapshots("n.t")
    assert done.refs == ("for a moment",)
    assert sorted(iceberg(lake).metadata.refs) == ["for ever", "main", "young"]
    assert done.snapshots == ()  # `young` keeps what it came from
    assert ids(lake, tag="for ever") == [0]
    iceberg(lake).manage_snapshots().remove_branch("young").commit()
    assert lake.expire_snapshots("n.t").snapshots == (second, third)
    assert ids(lake, tag="for ever") == [0]
    assert ids(lake) == [4]


def test_nothing_is_removed_where_a_snapshot_that_stays_cannot_be_read(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    lake.write("n.t", {"id": [2]}, "overwrite")
    table = iceberg(lake)
    (manifest, *_others) = (one for one in table.current_snapshot().manifests(table.io) if one.has_added_files())
    Path(manifest.manifest_path).write_bytes(Path(manifest.manifest_path).read_bytes()[:60])
    before = on_disk(table)
    forget()
    with pytest.raises(DataCorrupt):
        lake.expire_snapshots("n.t", older_than=NOW)
    assert on_disk(table) == before
    assert len(iceberg(lake).metadata.snapshots) == 2


def test_a_table_whose_files_others_share_is_left_alone(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create", properties={"gc.enabled": "false"})
    for refused in (lake.expire_snapshots, lake.remove_orphan_files):
        with pytest.raises(ConfigError, match=r"gc\.enabled"):
            refused("n.t")


# orphans


def aged(folder: str | Path, seconds: float) -> None:
    for path in Path(folder).rglob("*"):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


DAY = 24 * 3600.0


def test_only_old_files_that_nothing_refers_to_are_orphans(lake: ib.Lake) -> None:
    lake.create("n.t", {"id": "long", "k": "string"}, partition_by=["k"])
    lake.write("n.t", {"id": [1, 2], "k": ["ü %20", "a=b/c"]})
    lake.write("n.t.inside", {"id": [3]}, "create")  # has a folder of its own
    location = Path(iceberg(lake).location())
    stray = [location / "data" / name for name in ("old ü.parquet", "k=%C3%BC/x y%20.parquet")]
    hidden = location / "data" / "_temporary" / "x.parquet"
    nested = location / "nested" / "metadata" / "0.metadata.json"  # a table of another catalog
    beside = location / "nested" / "data" / "x.parquet"
    for path in (*stray, hidden, nested, beside, location / "metadata" / "version-hint.text"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    aged(location, 4 * DAY)
    young = location / "data" / "young.parquet"
    young.write_text("x")
    os.utime(young, (time.time() - 2 * DAY,) * 2)
    told = lake.remove_orphan_files("n.t", dry_run=True)
    assert sorted(told.files) == sorted(map(str, stray))
    assert told.file_bytes == 2
    done = lake.remove_orphan_files("n.t")
    assert done.files == told.files
    assert not any(path.exists() for path in stray)
    assert all(path.exists() for path in (hidden, nested, beside, young))
    assert sorted(row["id"] for row in lake.table("n.t").to_pylist()) == [1, 2]
    assert lake.table("n.t.inside").count() == 1
    assert not list(location.rglob("iceblink-clock-*"))


def test_an_age_below_a_day_must_be_forced(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    for age in (timedelta(hours=23), datetime.now(UTC) - timedelta(hours=1)):
        with pytest.raises(ConfigError, match="force"):
            lake.remove_orphan_files("n.t", older_than=age, dry_run=True)
    assert lake.remove_orphan_files("n.t", older_than=NOW, force=True).files == ()


def test_files_of_a_running_write_are_no_orphans_however_the_clocks_go(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    table = lake.session.catalog.load("n.t")
    with TableWriter(table, lake.session.engine.settings) as writer:
        for batch in lake.from_arrow({"id": [2]}).to_arrow().to_batches():
            writer.write(batch)
        made = writer.finish()
        aged(table.location, 4 * DAY)  # a store that is days behind: by it the files are old
        assert lake.remove_orphan_files("n.t").files == ()
        Commit(table, writer.token).append(made).run()
    assert ids(lake) == [1, 2]


def test_what_recent_metadata_reached_is_kept_for_who_still_reads_it(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    lake.write("n.t", {"id": [2]}, "overwrite")
    table = iceberg(lake)
    first = table.metadata.snapshots[0].snapshot_id
    table.maintenance.expire_snapshots().by_id(first).commit()  # PyIceberg's: no file goes
    aged(table.location(), 4 * DAY)
    assert lake.remove_orphan_files("n.t").files == ()  # a reader of this minute may have it
    gone = lake.remove_orphan_files("n.t", older_than=NOW, force=True).files
    assert len([path for path in gone if path.endswith(".parquet")]) == 1
    assert on_disk(iceberg(lake)) == reachable(iceberg(lake))
    assert ids(lake) == [2]


def test_paths_with_a_scheme_are_known_in_a_listing(tmp_path: Path) -> None:
    home = tmp_path / "wäre house%20"
    with ib.connect(type="sql", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{home}") as lake:
        lake.create("n.t", {"id": "long", "k": "string"}, partition_by=["k"])
        for number in range(2):
            lake.write("n.t", {"id": [number, number], "k": ["ü %20", None]})
        lake.compact("n.t", min_files=2)
        (folder,) = home.rglob("data")
        (folder / "stray x.parquet").write_text("x")
        removed = lake.remove_orphan_files("n.t", older_than=NOW, force=True)
        assert [path.rpartition("/")[2] for path in removed.files] == ["stray x.parquet"]
        assert removed.files[0].startswith("file://")
        assert lake.expire_snapshots("n.t", older_than=NOW).data_files == 4
        assert len(list(home.rglob("*.parquet"))) == 2
        assert ids(lake) == [0, 0, 1, 1]


# manifests


def entries(table: Any) -> set[tuple[Any, ...]]:
    """Return every live entry of a table, with all that a reader goes by."""
    return {
        (
            manifest.content,
            entry.data_file.file_path,
            entry.snapshot_id,
            entry.sequence_number,
            entry.file_sequence_number,
            entry.data_file.record_count,
            str(entry.data_file.partition),
        )
        for manifest in table.current_snapshot().manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }


@pytest.mark.parametrize("version", ["1", "2"])
def test_manifests_become_few_and_in_order_and_their_entries_stay(lake: ib.Lake, version: str) -> None:
    lake.create("n.t", {"id": "long", "k": "string"}, partition_by=["k"], properties={"format-version": version})
    for number in range(6):
        lake.write("n.t", {"id": [2 * number, 2 * number + 1], "k": ["a", "ü"]})
    if version == "2":
        delete_by_position(lake, "n.t", [0, 3])
        delete_by_value(lake, "n.t", [5])
    rows, before = ids(lake), entries(iceberg(lake))
    done = lake.rewrite_manifests("n.t")
    kinds = {ManifestContent.DATA} if version == "1" else set(ManifestContent)
    assert done.manifests_before == (6 if version == "1" else 8)
    assert done.manifests_after == len(kinds)
    assert entries(iceberg(lake)) == before
    assert ids(lake) == rows
    table = iceberg(lake)
    assert table.current_snapshot().summary.operation.value == "replace"
    assert {manifest.content for manifest in table.current_snapshot().manifests(table.io)} == kinds
    again = lake.rewrite_manifests("n.t")
    assert again.manifests_after == again.manifests_before
    assert iceberg(lake).metadata_location == table.metadata_location
    cut = lake.rewrite_manifests("n.t", target_size="1KB")
    assert cut.manifests_after == done.manifests_after  # large ones are not cut, but for disorder
    lake.write("n.t", {"id": [99], "k": ["a"]})
    assert ids(lake) == [*rows, 99]


# health


def test_health_names_what_mends_and_what_is_mended_is_good(lake: ib.Lake) -> None:
    for number in range(6):
        lake.write("n.t", {"id": [number]}, "append" if number else "create")
    delete_by_position(lake, "n.t", [0, 1, 2])
    with iceberg(lake).transaction() as change:
        change.set_properties({"history.expire.max-snapshot-age-ms": "1"})
    verdicts = {row["check"]: row for row in lake.health("n.t").to_pylist()}
    acting = {name for name, row in verdicts.items() if row["verdict"] == "act"}
    assert acting == {"files to compact", "deleted part of rows", "snapshots", "manifests"}
    assert verdicts["files to compact"]["value"] == 6
    assert verdicts["deleted part of rows"]["value"] == 0.5
    for check in ("files to compact", "manifests", "snapshots"):
        eval(verdicts[check]["mend"], {"lake": lake})
    mended = lake.health("n.t", orphans=True).to_pylist()
    assert [row["verdict"] for row in mended] == ["good"] * 8
    assert ids(lake) == [3, 4, 5]
    lake.create("n.empty", {"id": "long"})
    assert {row["verdict"] for row in lake.health("n.empty", orphans=True).to_pylist()} == {"good"}
