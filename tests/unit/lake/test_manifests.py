"""Live files: pruned, with their deletes, or an error that names the damaged file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from contract.elsewhere import elsewhere
from iceblink.errors import ColumnNotFound, DataCorrupt, PlanError
from iceblink.lake.entries import FileEntry
from iceblink.lake.manifests import data_files_by_path, files_matching, verify
from iceblink.lake.table import Table
from iceblink.predicate import Compare, Everything, IsIn, Nothing, Predicate

STATISTICS = ("column_bytes", "null_counts")  # decoded when asked for

Crafted = Any  # of conftest.py, which tests cannot import
Make = Callable[..., Crafted]


def found_files(table: Table, predicate: Predicate | None = None) -> list[FileEntry]:
    """Return the files, which are the same wherever the manifests are read."""
    found = list(table.files(predicate))
    assert list(table.files_as(told, predicate, elsewhere)) == list(map(told, found))
    return found


def told(entry: FileEntry) -> str:
    """Return an entry in words: not-a-number is not equal to itself."""
    return repr([getattr(entry, name) for name in FileEntry.__slots__ if name not in STATISTICS])


def names(table: Table, predicate: Predicate | None = None) -> list[str]:
    return sorted(Path(entry.path).name for entry in found_files(table, predicate))


def deletes(table: Table) -> dict[str, list[tuple[str, str]]]:
    found = {Path(entry.path).name: entry for entry in found_files(table)}
    return {
        name: sorted((one.kind, Path(one.path).name) for one in entry.deletes) for name, entry in sorted(found.items())
    }


def test_an_empty_table_has_no_files(crafted: Make) -> None:
    assert names(crafted({"id": "long"}).table) == []


def test_files_are_pruned_by_partition_and_by_statistics(crafted: Make) -> None:
    made = crafted({"id": "long", "day": "date"}, partition_by=["day"])
    table = made.append(
        made.file("a", (20454,), {"id": (1, 5)}),
        made.file("b", (20455,), {"id": (6, 9)}),
        made.file("c", (None,), {"id": (1, 9)}),
    )
    assert names(table, Compare("day", "=", date(2026, 1, 1))) == ["a"]
    assert names(table, Compare("id", ">", 5)) == ["b", "c"]
    assert names(table, IsIn("id", frozenset({1, 2}))) == ["a", "c"]
    assert names(table, Nothing()) == []
    assert names(table, Everything()) == ["a", "b", "c"]


def test_entries_say_what_planning_needs(crafted: Make) -> None:
    made = crafted({"id": "long", "day": "date", "text": "string"}, partition_by=["day", "bucket(4, id)"])
    table = made.append(made.file("a", (20454, 3), {"id": (1, 5), "text": ("x", "y")}, record_count=7))
    (entry,) = table.files(Compare("id", "<", 3), bounds=["text"])
    assert entry == FileEntry(
        f"{table.location}/data/a",
        1000,
        7,
        0,
        {"day": date(2026, 1, 1), "id_bucket": 3},
        {2: date(2026, 1, 1)},
        {1: 100, 3: 100},
        {1: 0, 3: 0},
        {1: 1, 3: "x"},
        {1: 5, 3: "y"},
    )
    (unasked,) = table.files()
    assert (unasked.lower, unasked.upper) == ({}, {})


def test_an_unknown_column_is_named(crafted: Make) -> None:
    table = crafted({"price": "long"}).table
    for files in (table.files(Compare("prise", "=", 1)), table.files(bounds=["prise"])):
        with pytest.raises(ColumnNotFound, match="did you mean 'price'"):
            list(files)


def test_a_file_that_is_not_parquet_is_refused(crafted: Make) -> None:
    made = crafted({"id": "long"})
    table = made.append(made.file("a", file_format="ORC"))
    with pytest.raises(PlanError, match="ORC"):
        list(table.files())


def test_files_of_old_partition_specs_stay_and_are_pruned_by_their_own(crafted: Make) -> None:
    made = crafted({"id": "long"})
    made.append(made.file("old", (), {"id": (1, 9)}))
    with made.table.pyiceberg.update_spec() as update:
        update.add_identity("id")
    made.table = made.table.refresh()
    table = made.append(made.file("one", (1,), {"id": (1, 1)}), made.file("two", (2,), {"id": (2, 2)}))
    assert names(table, Compare("id", "=", 2)) == ["old", "two"]
    assert {Path(entry.path).name: entry.identity for entry in table.files()} == {
        "old": {},
        "one": {1: 1},
        "two": {1: 2},
    }


def test_a_column_that_is_gone_leaves_its_partitions_readable(crafted: Make) -> None:
    made = crafted({"id": "long", "k": "string"}, partition_by=["k"])
    made.append(made.file("a", ("x",), {"id": (1, 2)}))
    with made.table.pyiceberg.update_spec() as spec:
        spec.remove_field("k")
    with made.table.pyiceberg.refresh().update_schema() as schema:
        schema.delete_column("k")
    table = made.table.refresh()
    assert names(table, Compare("id", "=", 1)) == ["a"]
    assert names(table, Compare("id", "=", 3)) == []


# deletes


def test_position_deletes_apply_to_older_and_equally_old_files_of_their_partition(crafted: Make) -> None:
    made = crafted({"id": "long", "k": "string"}, partition_by=["k"])
    made.append(made.file("old-x", ("x",)), made.file("old-y", ("y",)))
    made.delete(made.position_deletes("del-x", ("x",)))
    table = made.append(made.file("new-x", ("x",)))
    assert deletes(table) == {"new-x": [], "old-x": [("position", "del-x")], "old-y": []}


def test_deletes_find_the_partition_of_nan(crafted: Make) -> None:
    made = crafted({"id": "long", "x": "double"}, partition_by=["x"])
    made.append(made.file("a", (float("nan"),)), made.file("b", (1.0,)))
    table = made.delete(made.position_deletes("pos", (float("nan"),)))
    assert deletes(table) == {"a": [("position", "pos")], "b": []}


def test_position_deletes_apply_only_between_their_paths(crafted: Make) -> None:
    made = crafted({"id": "long"})
    made.append(made.file("a"), made.file("b"), made.file("c"))
    folder = f"{made.table.location}/data/"
    spans = {"lower_bounds": {2147483546: f"{folder}a".encode()}, "upper_bounds": {2147483546: f"{folder}b".encode()}}
    exact = {"lower_bounds": {2147483546: f"{folder}c".encode()}, "upper_bounds": {2147483546: f"{folder}c".encode()}}
    table = made.delete(made.position_deletes("ab", **spans), made.position_deletes("c-only", **exact))
    assert deletes(table) == {"a": [("position", "ab")], "b": [("position", "ab")], "c": [("position", "c-only")]}


def test_equality_deletes_apply_to_strictly_older_files(crafted: Make) -> None:
    made = crafted({"id": "long", "k": "string"}, partition_by=["k"])
    made.append(made.file("old-x", ("x",)), made.file("old-y", ("y",)))
    made.delete(made.equality_deletes("eq-x", [1], ("x",)))
    table = made.append(made.file("new-x", ("x",)))
    assert deletes(table) == {"new-x": [], "old-x": [("equality", "eq-x")], "old-y": []}
    (entry,) = (one for one in table.files() if one.deletes)
    assert entry.deletes[0].equality_ids == (1,)


def test_equality_deletes_without_partition_are_global(crafted: Make) -> None:
    made = crafted({"id": "long"})
    made.append(made.file("a"))
    with made.table.pyiceberg.update_spec() as update:
        update.add_identity("id")
    made.table = made.table.refresh()
    made.append(made.file("b", (1,)))
    with made.table.pyiceberg.update_spec() as update:
        update.remove_field("id")
    made.table = made.table.refresh()
    table = made.delete(made.equality_deletes("eq", [1]))
    assert deletes(table) == {"a": [("equality", "eq")], "b": [("equality", "eq")]}


def test_a_vector_takes_the_place_of_position_deletes(crafted: Make) -> None:
    made = crafted({"id": "long"})
    made.append(made.file("a"), made.file("b"))
    made.delete(made.position_deletes("pos"))
    table = made.delete(made.vector("dv.puffin", "a", 4), made.vector("dv.puffin", "elsewhere", 44))
    assert deletes(table) == {"a": [("vector", "dv.puffin")], "b": [("position", "pos")]}
    (vector,) = next(entry.deletes for entry in table.files() if entry.path.endswith("/a"))
    assert (vector.offset, vector.length) == (4, 40)
    assert table.metadata_table("delete_files").num_rows == 3


def test_a_vector_older_than_the_file_does_not_apply(crafted: Make) -> None:
    made = crafted({"id": "long"})
    made.delete(made.vector("dv.puffin", "a", 4))
    assert deletes(made.append(made.file("a"))) == {"a": []}


# whole matches, and what a commit needs


def test_files_are_told_apart_that_match_as_a_whole(crafted: Make) -> None:
    made = crafted({"id": "long", "x": "double", "k": "string"}, partition_by=["k"])
    table = made.append(
        made.file("in", ("x",), {"id": (1, 5), "x": (1.0, 5.0)}),
        made.file("across", ("x",), {"id": (5, 15), "x": (5.0, 15.0)}),
        made.file("uncounted", ("y",), {"id": (1, 5)}, null_value_counts={}),
        made.file("out", ("y",), {"id": (11, 15), "x": (11.0, 15.0)}),
    )

    def said(predicate: Predicate) -> dict[str, str]:
        return {Path(entry.path).name: answer for entry, answer in files_matching(table, predicate)}

    assert said(Compare("id", "<", 10)) == {"in": "all", "across": "some", "uncounted": "some"}
    assert said(Compare("k", "=", "x")) == {"in": "all", "across": "all"}
    # there may be NaN, which is above all numbers and in no bounds
    assert said(Compare("x", "<", 10)) == {"in": "some", "across": "some", "uncounted": "some"}
    assert said(Everything()) == dict.fromkeys(["in", "across", "uncounted", "out"], "all")


def test_pyicebergs_own_files_are_found_by_path(crafted: Make) -> None:
    made = crafted({"id": "long", "k": "string"}, partition_by=["k"])
    made.append(made.file("a", ("x",)), made.file("b", ("y",)))
    table = made.append(made.file("c", ("x",)))
    wanted = {f"{table.location}/data/a", f"{table.location}/data/c", "no such file"}
    found = data_files_by_path(table, wanted)
    assert {file.file_path for file in found} == wanted - {"no such file"}
    with table.pyiceberg.transaction() as transaction, transaction.update_snapshot().overwrite() as overwrite:
        for file in found:
            overwrite.delete_data_file(file)
    assert names(table.refresh()) == ["b"]


# damage


def metadata_file(table: Table, kind: str) -> Path:
    assert table.snapshot is not None
    if kind == "manifest list":
        return Path(table.snapshot.manifest_list)
    (manifest,) = table.snapshot.manifests(table.pyiceberg.io)
    return Path(manifest.manifest_path)


@pytest.mark.parametrize("kind", ["manifest list", "manifest"])
def test_a_missing_metadata_file_is_named_with_a_way_out(crafted: Make, kind: str) -> None:
    made = crafted({"id": "long"})
    table = made.append(made.file("a"))
    path = metadata_file(table, kind)
    path.unlink()
    for ask in (lambda: list(table.files()), lambda: table.metadata_table("files")):
        with pytest.raises(DataCorrupt, match=f"a {kind} is missing") as caught:
            ask()
        assert str(path) in caught.value.where
        assert f"table ns.t, snapshot {table.snapshot_id}" in caught.value.where


@pytest.mark.parametrize("kind", ["manifest list", "manifest"])
def test_what_was_read_once_is_not_read_again_before_it_is_forgotten(crafted: Make, kind: str) -> None:
    made = crafted({"id": "long"})
    table = made.append(made.file("a", (), {"id": (1, 5)}), made.file("b", (), {"id": (6, 9)}))
    assert names(table) == ["a", "b"]
    metadata_file(table, kind).unlink()
    assert names(table.refresh(), Compare("id", ">", 5)) == ["b"]
    with pytest.raises(DataCorrupt, match=f"a {kind} is missing"):
        verify(table)


@pytest.mark.parametrize("kind", ["manifest list", "manifest"])
def test_a_metadata_file_cut_short_anywhere_is_never_read_as_less(crafted: Make, kind: str) -> None:
    made = crafted({"id": "long"})
    table = made.append(*(made.file(f"f{number}", (), {"id": (number, number)}) for number in range(3)))
    path = metadata_file(table, kind)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 97), len(whole) - 17, len(whole) - 16, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataCorrupt) as caught:
            list(table.files())
        assert str(path) in caught.value.where
    path.write_bytes(whole)
    assert names(table) == ["f0", "f1", "f2"]


def test_a_manifest_that_lost_whole_blocks_is_noticed(crafted: Make) -> None:
    made = crafted({"id": "long"})
    table = made.append(made.file("a"), made.file("b"))
    path = metadata_file(table, "manifest")
    whole = path.read_bytes()
    sync = whole[-16:]  # PyIceberg writes a block for each entry, so a file may end well after the first
    path.write_bytes(whole[: whole.index(sync, whole.index(sync) + 16) + 16])
    with pytest.raises(DataCorrupt, match="1 files where 2"):
        list(table.files())


def test_the_way_out_is_the_version_before(crafted: Make) -> None:
    made = crafted({"id": "long"})
    before = made.append(made.file("a"))
    table = made.append(made.file("b"))
    metadata_file(table.at(snapshot=table.snapshot_id), "manifest list").write_bytes(b"Obj\x01 not really")
    with pytest.raises(DataCorrupt) as caught:
        list(table.files())
    assert f"snapshot {before.snapshot_id}" in caught.value.hint
    assert names(table.at(snapshot=before.snapshot_id)) == ["a"]
