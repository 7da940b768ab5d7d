"""Tables: pinned to a version, and the ways from one version to another."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from iceblink.errors import ConfigError, IceblinkError, SnapshotNotFound
from iceblink.lake.metadata_tables import KINDS
from iceblink.lake.table import Table

Crafted = Any  # of conftest.py, which tests cannot import
Make = Callable[..., Crafted]


def files(table: Table) -> list[str]:
    return sorted(entry.path.rpartition("/")[2] for entry in table.files())


@pytest.fixture
def versions(crafted: Make) -> tuple[Table, Table]:
    """A table with a file, and the same later: one file and one column more."""
    made = crafted({"id": "long", "u": "uuid"}, partition_by=["bucket(2, id)"])
    old = made.append(made.file("a", (0,), {"id": (1, 2)}))
    with made.table.pyiceberg.update_schema() as update:
        update.add_column("name", StringType())
    made.table = made.table.refresh()
    return old, made.append(made.file("b", (1,), {"id": (3, 4)}))


def tag(table: Table, name: str, at: Table) -> Table:
    assert at.snapshot_id is not None
    with table.pyiceberg.manage_snapshots() as manage:
        manage.create_tag(at.snapshot_id, name)
    return table.refresh()


def committed_at(table: Table) -> datetime:
    assert table.snapshot is not None
    return datetime.fromtimestamp(table.snapshot.timestamp_ms / 1000, UTC)


def test_a_table_stays_as_it_was(versions: tuple[Table, Table]) -> None:
    old, new = versions
    assert (files(old), old.file_count, old.row_count, old.schema.names) == (["a"], 1, 10, ["id", "u"])
    assert (files(new), new.file_count, new.row_count, new.schema.names) == (["a", "b"], 2, 20, ["id", "u", "name"])
    assert files(old.refresh()) == ["a", "b"]
    assert old.uuid == new.uuid


def test_a_version_is_reached_by_its_id_with_the_schema_of_its_time(versions: tuple[Table, Table]) -> None:
    old, new = versions
    again = new.at(snapshot=old.snapshot_id)
    assert (files(again), again.schema.names, again.schema_id) == (["a"], ["id", "u"], old.schema_id)
    assert files(again.refresh()) == ["a", "b"]


@pytest.mark.parametrize(
    "form",
    [
        lambda at: at,
        lambda at: at.replace(tzinfo=None),
        lambda at: at.astimezone(timezone(timedelta(hours=5))),
        lambda at: at.isoformat(),
        lambda at: round(at.timestamp() * 1000),
    ],
)
def test_a_version_is_reached_by_time(versions: tuple[Table, Table], form: Callable[[datetime], Any]) -> None:
    old, new = versions
    assert new.at(as_of=form(committed_at(old))).snapshot_id == old.snapshot_id
    assert new.at(as_of=form(committed_at(new) + timedelta(days=1))).snapshot_id == new.snapshot_id


def test_tags_and_branches_are_followed(versions: tuple[Table, Table]) -> None:
    old, new = versions
    assert old.snapshot_id is not None
    with new.pyiceberg.manage_snapshots() as manage:
        manage.create_branch(old.snapshot_id, "try")
    new = tag(new.refresh(), "v1", old)
    tagged, branched = new.at(tag="v1"), new.at(branch="try")
    assert (files(tagged), tagged.schema.names, tagged.branch) == (["a"], ["id", "u"], "main")
    assert (files(branched), branched.schema.names, branched.branch) == (["a"], ["id", "u", "name"], "try")
    assert branched.refresh().branch == "try"
    assert files(branched.at(branch="main")) == ["a", "b"]
    refs = {row["name"]: (row["type"], row["snapshot_id"]) for row in new.refs().to_pylist()}
    assert refs == {
        "main": ("BRANCH", new.snapshot_id),
        "v1": ("TAG", old.snapshot_id),
        "try": ("BRANCH", old.snapshot_id),
    }


ASKS: list[tuple[dict[str, Any], type[IceblinkError], str]] = [
    ({"snapshot": 1}, SnapshotNotFound, "the oldest is"),
    ({"as_of": "2020-01-01"}, SnapshotNotFound, "the oldest is"),
    ({"as_of": 0}, SnapshotNotFound, "the oldest is"),
    ({"tag": "v2"}, SnapshotNotFound, "the tags are: v1"),
    ({"branch": "v1"}, SnapshotNotFound, "branches"),
    ({"as_of": "yesterday"}, ConfigError, "2026-01-31"),
    ({}, ConfigError, "one of"),
    ({"snapshot": 1, "tag": "v1"}, ConfigError, "one of"),
]


@pytest.mark.parametrize(("asked", "error", "hint"), ASKS, ids=str)
def test_a_version_that_is_not_there_says_what_is(
    versions: tuple[Table, Table], asked: dict[str, Any], error: type[IceblinkError], hint: str
) -> None:
    old, new = versions
    tagged = tag(new, "v1", old)
    with pytest.raises(error) as caught:
        tagged.at(**asked)
    assert hint in caught.value.hint


def test_an_empty_table_has_no_versions(crafted: Make) -> None:
    table = crafted({"id": "long"}).table
    with pytest.raises(SnapshotNotFound) as caught:
        table.at(as_of=datetime.now(UTC))
    assert "nothing was written" in caught.value.hint
    assert table.history().num_rows == 0


def test_a_table_pickles_to_exactly_its_version(versions: tuple[Table, Table]) -> None:
    old, new = versions
    again: Table = pickle.loads(pickle.dumps(new.at(snapshot=old.snapshot_id)))
    assert again.schema.equals(old.schema, check_metadata=True)
    assert (again.name, again.snapshot_id, files(again)) == (old.name, old.snapshot_id, ["a"])
    assert len(pickle.dumps(new)) < 1000


def test_a_table_that_came_from_elsewhere_is_read_without_its_catalog_and_can_be_changed(
    versions: tuple[Table, Table],
) -> None:
    again: Table = pickle.loads(pickle.dumps(versions[1]))
    assert files(again) == files(versions[1])
    assert again.schema == versions[1].schema
    assert "pyiceberg" not in vars(again.catalog), "the catalog was opened"
    with again.pyiceberg.transaction() as transaction:
        transaction.set_properties(color="green")
    assert again.refresh().properties["color"] == "green"


def test_history_tells_what_was_done(versions: tuple[Table, Table]) -> None:
    old, new = versions
    rows = new.history().to_pylist()
    assert [(row["snapshot_id"], row["parent_id"], row["operation"]) for row in rows] == [
        (old.snapshot_id, None, "append"),
        (new.snapshot_id, old.snapshot_id, "append"),
    ]
    assert [(row["rows_added"], row["rows"], row["files"], row["refs"]) for row in rows] == [
        (10, 10, 1, []),
        (10, 20, 2, ["main"]),
    ]
    assert rows[0]["committed_at"] == committed_at(old)


@pytest.mark.parametrize("kind", KINDS)
def test_every_metadata_table_is_of_its_version(versions: tuple[Table, Table], crafted: Make, kind: str) -> None:
    old, new = versions
    by_version = {"files", "data_files", "entries", "partitions", "manifests"}
    rows = {"refs": 1, "delete_files": 0, "statistics": 0, "metadata_log_entries": 4, "all_manifests": 3}.get(kind, 2)
    assert new.metadata_table(kind).num_rows == rows
    if kind in by_version:
        assert new.at(snapshot=old.snapshot_id).metadata_table(kind).num_rows == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_metadata_table_of_an_empty_table_is_empty(crafted: Make, kind: str) -> None:
    table = crafted({"id": "long", "u": "uuid", "l": "list<string>"}, partition_by=["u"]).table
    found = table.metadata_table(kind)
    assert isinstance(found, pa.Table)
    assert found.num_rows == (1 if kind == "metadata_log_entries" else 0)
    assert found.num_columns > 1


def test_files_are_shown_with_typed_statistics(versions: tuple[Table, Table]) -> None:
    old, _ = versions
    (row,) = old.metadata_table("files").to_pylist()
    assert (row["partition"], row["record_count"]) == ({"id_bucket": 0}, 10)
    metrics = row["readable_metrics"]["id"]
    assert (metrics["lower_bound"], metrics["upper_bound"], metrics["null_value_count"]) == (1, 2, 0)


def test_partitions_add_up_files_and_deletes(crafted: Make) -> None:
    made = crafted({"id": "long", "k": "string"}, partition_by=["k"])
    made.append(made.file("a", ("x",)), made.file("b", ("x",)), made.file("c", (None,)))
    table = made.delete(made.position_deletes("d", ("x",)))
    rows = {row["partition"]["k"]: row for row in table.metadata_table("partitions").to_pylist()}
    assert (rows["x"]["file_count"], rows["x"]["record_count"], rows["x"]["delete_file_count"]) == (2, 20, 1)
    assert (rows[None]["file_count"], rows[None]["delete_file_count"]) == (1, 0)


def test_rows_are_not_counted_from_the_summary_where_deletes_apply(crafted: Make) -> None:
    made = crafted({"id": "long"})
    assert made.append(made.file("a")).row_count == 10
    snapshot = made.delete(made.position_deletes("d")).snapshot
    # PyIceberg's own summary does not know of the crafted delete: say it as another engine would
    snapshot.summary["total-delete-files"] = "1"
    assert made.table.row_count is None


def test_an_unknown_metadata_table_names_the_nearest(versions: tuple[Table, Table]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'snapshots'"):
        versions[0].metadata_table("snapshot")
