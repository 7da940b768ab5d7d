"""Branches and tags come, move and go; the newest snapshot is another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from iceblink.errors import CatalogError, CommitConflict, ConfigError, SnapshotNotFound
from iceblink.lake.alteration import Alteration, altered
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.references import (
    Kind,
    Retention,
    drop_reference,
    has_reference,
    rolled_back,
    set_current,
    set_reference,
)
from iceblink.lake.table import Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table with three snapshots."""
    table = Catalog.embedded(tmp_path / "lake").create("n.t", {"id": "int"})
    for _ in range(3):
        table = Commit(table).append([]).run()
    return table


def ids(table: Table) -> list[int]:
    return [one["snapshot_id"] for one in table.history().to_pylist()]


def test_a_reference_is_made_moved_and_dropped(table: Table) -> None:
    first, second, third = ids(table)
    made = set_reference(table, "tag", "v1", first)
    assert made.at(tag="v1").snapshot_id == first
    moved = set_reference(made, "tag", "v1", second, "replace")
    assert set_reference(moved, "tag", "v2", "v1").at(tag="v2").snapshot_id == second
    branched = set_reference(moved, "branch", "dev")
    assert branched.at(branch="dev").snapshot_id == third
    gone = drop_reference(branched, "tag", "v1")
    assert has_reference(gone, "branch", "dev")
    assert not has_reference(gone, "tag", "v1")
    assert not has_reference(gone, "tag", "dev")


def test_how_long_a_branch_is_kept_stays_when_it_moves(table: Table) -> None:
    kept = Retention(timedelta(days=7), timedelta(hours=1), 3)
    set_reference(table, "branch", "dev", ids(table)[0], retention=kept)
    (row,) = [
        one for one in set_reference(table, "branch", "dev", how="replace").refs().to_pylist() if one["name"] == "dev"
    ]
    assert row["snapshot_id"] == ids(table)[-1]
    assert row["max_reference_age_in_ms"] == 7 * 86_400_000
    assert (row["min_snapshots_to_keep"], row["max_snapshot_age_in_ms"]) == (3, 3_600_000)


@pytest.mark.parametrize("kind", ["tag", "branch"])
def test_mistakes_about_references_are_told(table: Table, kind: Kind) -> None:
    table = set_reference(table, kind, "versionen")
    other: Kind = "branch" if kind == "tag" else "tag"
    with pytest.raises(CatalogError, match="already"):
        set_reference(table, kind, "versionen")
    with pytest.raises(CatalogError, match=f"is a {kind}"):
        set_reference(table, other, "versionen", how="create or replace")
    with pytest.raises(SnapshotNotFound, match="did you mean 'versionen'"):
        drop_reference(table, kind, "version")
    with pytest.raises(SnapshotNotFound, match=f"no {other}"):
        set_reference(table, other, "versionen", how="replace")
    with pytest.raises(SnapshotNotFound, match="no snapshot 12"):
        set_reference(table, kind, "x", 12)
    with pytest.raises(SnapshotNotFound, match="did you mean 'versionen'"):
        set_reference(table, kind, "x", "version")
    for name in ("main", " "):
        with pytest.raises(ConfigError):
            set_reference(table, kind, name)
    with pytest.raises(ConfigError, match="main branch"):
        drop_reference(table, kind, "main")


def test_an_empty_table_has_nothing_to_name(tmp_path: Path) -> None:
    empty = Catalog.embedded(tmp_path).create("n.t", {"id": "int"})
    with pytest.raises(SnapshotNotFound, match="no snapshots yet"):
        set_reference(empty, "tag", "v1")
    with pytest.raises(SnapshotNotFound):
        rolled_back(empty, as_of="2026-01-31")


def test_a_table_is_rolled_back_by_id_and_by_time(table: Table) -> None:
    first, second, third = ids(table)
    assert rolled_back(table, first).refresh().snapshot_id == first
    forward = set_current(table.refresh(), third)
    assert forward.snapshot_id == third
    times = {one["snapshot_id"]: one["committed_at"] for one in table.history().to_pylist()}
    assert rolled_back(forward, as_of=times[second]).snapshot_id == max(
        (one for one in (first, second, third) if times[one] <= times[second]), key=ids(table).index
    )
    assert len(ids(table.refresh())) == 3


def test_what_the_main_branch_never_was_at_is_no_rollback(table: Table) -> None:
    first, _, third = ids(table)
    back = rolled_back(table, first)
    with pytest.raises(SnapshotNotFound, match="never was at"):
        rolled_back(back, third)
    with pytest.raises(SnapshotNotFound, match="as old"):
        rolled_back(back, as_of=5)
    with pytest.raises(SnapshotNotFound, match="no snapshot 5"):
        rolled_back(back, 5)
    with pytest.raises(ConfigError):
        rolled_back(back)


def test_rows_that_others_commit_meanwhile_are_not_rolled_back_unseen(table: Table) -> None:
    altered(table, Alteration(properties={"a": "1"}))
    assert set_current(table, ids(table)[2]).snapshot_id == ids(table)[2]  # a property is another matter
    newest = Commit(table).append([]).run()
    with pytest.raises(CommitConflict, match="meanwhile"):
        rolled_back(table, ids(table)[0])
    assert table.refresh().snapshot_id == newest.snapshot_id


def test_one_of_those_who_make_one_tag_at_once_makes_it(table: Table, tmp_path: Path) -> None:
    def tag(number: int) -> bool:
        try:
            set_reference(Catalog.embedded(tmp_path / "lake").load("n.t"), "tag", "once", ids(table)[number % 3])
        except CatalogError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(tag, range(4))) == [False, False, False, True]
