"""Splits: packed by decoded bytes, cut at row groups, slim."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.elsewhere import elsewhere
from iceblink.config import MIB, Settings
from iceblink.errors import ColumnNotFound
from iceblink.lake.catalog import Catalog
from iceblink.lake.entries import DeleteFile
from iceblink.mapped import here
from iceblink.predicate import Compare, Everything
from iceblink.scan.plan import pack, plan_scan
from iceblink.scan.split import Piece, Split

HandMade = Any  # see conftest.py
Make = Callable[[pa.Schema], HandMade]

SCHEMA = pa.schema(
    [
        pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"}),
        pa.field("s", pa.string(), metadata={"PARQUET:field_id": "2"}),
    ]
)


def data(rows: int) -> pa.Table:
    return pa.table([list(range(rows)), ["text"] * rows], schema=SCHEMA)


EMPTY = Split("id", 1, 0, ("x",), Everything(), ())


@given(
    files=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=6), max_size=6),
    limit=st.integers(1, 100),
)
def test_row_groups_are_packed_in_order_and_never_over_the_limit_but_alone(files: list[list[int]], limit: int) -> None:
    pieces = [
        Piece(f"f{number}", 1, group, 1, 10 * group, 10, size)
        for number, sizes in enumerate(files)
        for group, size in enumerate(sizes)
    ]
    splits = pack(pieces, limit, EMPTY)
    groups = [
        (piece.path, group)
        for split in splits
        for piece in split.pieces
        for group in range(piece.first_group, piece.first_group + piece.groups)
    ]
    assert groups == [(piece.path, piece.first_group) for piece in pieces]
    assert sum(split.decoded_bytes for split in splits) == sum(piece.decoded_bytes for piece in pieces)
    assert sum(split.rows for split in splits) == 10 * len(pieces)
    for split in splits:
        assert split.decoded_bytes <= limit or sum(piece.groups for piece in split.pieces) == 1
        paths = [piece.path for piece in split.pieces]
        assert len(paths) == len(set(paths)), "consecutive row groups of a file are one piece"
    for left, right in pairwise(splits):
        first = right.pieces[0]
        size = next(p.decoded_bytes for p in pieces if (p.path, p.first_group) == (first.path, first.first_group))
        assert left.decoded_bytes + size > limit, "the next row group would have fitted"


def test_row_groups_that_do_not_touch_are_pieces_of_their_own() -> None:
    pieces = [Piece("f", 1, group, 1, group, 1, 1) for group in (0, 1, 3)]
    (split,) = pack(pieces, 100, EMPTY)
    assert [(piece.first_group, piece.groups) for piece in split.pieces] == [(0, 2), (3, 1)]


def test_small_files_are_packed_and_big_ones_cut(hand_made: Make) -> None:
    table = hand_made(SCHEMA)
    for _ in range(4):
        table.add(data(10))
    table.add(data(400), group_rows=100)
    plan = table.plan(split_bytes=3_400)  # a row takes 16 bytes and two bits
    shape = [[(piece.first_group, piece.groups) for piece in split.pieces] for split in plan.splits]
    assert shape == [[(0, 1)] * 4 + [(0, 1)], [(1, 2)], [(3, 1)]]
    assert (plan.files, plan.files_total, plan.groups, plan.groups_total, plan.rows) == (5, 5, 8, 8, 440)
    assert plan.decoded_bytes == pytest.approx(440 * 16.1, rel=0.05)


def test_a_plan_counts_what_is_pruned(hand_made: Make) -> None:
    table = hand_made(SCHEMA)
    deletes = DeleteFile("position", "nowhere", 1)
    table.add(data(40), group_rows=10, deletes=(deletes,))
    table.add(data(5))
    plan = table.plan(("s",), Compare("x", ">=", 25))
    assert (plan.files, plan.groups, plan.groups_total, plan.rows, plan.deletes) == (1, 2, 5, 20, 1)
    assert plan.schema.names == ["s"]
    assert table.plan(predicate=Compare("x", ">", 99)).splits == ()


def test_a_plan_of_some_files_only(hand_made: Make) -> None:
    table = hand_made(SCHEMA)
    first, second = table.add(data(10)), table.add(data(20))
    assert (table.plan(paths={second}).rows, table.plan(paths={second}).files) == (20, 1)
    assert (table.plan(paths={first, second}).rows, table.plan(paths=set()).splits) == (30, ())


def test_an_unknown_column_is_named(hand_made: Make) -> None:
    with pytest.raises(ColumnNotFound, match="did you mean 's'"):
        hand_made(SCHEMA).plan(("ss",))


def test_an_empty_table_has_no_splits(tmp_path: Path) -> None:
    table = Catalog.embedded(tmp_path).create("demo.t", {"id": "long"})
    plan = plan_scan(table, None, Everything(), Settings(threads=1, memory_bytes=64 * MIB))
    assert (plan.splits, plan.files, plan.files_total, plan.rows) == ((), 0, 0, 0)


def test_splits_of_one_file_pickle_in_a_kilobyte(hand_made: Make) -> None:
    table = hand_made(SCHEMA)
    table.add(data(10), identity={1: "emea"})
    (split,) = table.plan(predicate=Compare("x", ">=", 0)).splits
    assert len(pickle.dumps(split)) <= 1024
    assert pickle.loads(pickle.dumps(split)) == split


def test_of_many_files_only_a_sample_of_footers_is_read(hand_made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_READ", 5)
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_SAMPLED", 2)
    table = hand_made(SCHEMA)
    for _ in range(6):
        table.add(data(100))
    Path(table.entries[1].path).unlink()  # not in the sample
    plan = table.plan(split_bytes=3_300)
    assert [len(split.pieces) for split in plan.splits] == [2, 2, 2]
    assert {piece.groups for piece in plan.pieces} == {-1}
    assert plan.rows == 600
    assert plan.decoded_bytes == pytest.approx(600 * 16.1, rel=0.05)


def test_a_writer_without_size_statistics_is_sampled_once(hand_made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.scan.footer._SIZES", 99)  # a field that no footer has
    table = hand_made(SCHEMA)
    table.uuid = "sampled"
    for _ in range(2):
        table.add(pa.table([list(range(500)), ["the same long text"] * 500], schema=SCHEMA))
    assert table.plan().decoded_bytes == pytest.approx(1000 * (8 + 4 + 18), rel=0.05)
    assert sum(batch.data.num_rows for batch in table.batches()) == 1000


@pytest.mark.parametrize("footers_read", [256, 3])
@pytest.mark.parametrize("sizes_told", [True, False])
def test_a_plan_is_the_same_wherever_footers_are_read(
    hand_made: Make, monkeypatch: pytest.MonkeyPatch, sizes_told: bool, footers_read: int
) -> None:
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_READ", footers_read)
    if not sizes_told:
        monkeypatch.setattr("iceblink.scan.footer._SIZES", 99)  # a field that no footer has
    table = hand_made(SCHEMA)
    deletes = DeleteFile("position", "nowhere", 1)
    for number in range(5):
        some = data(10 * number + 5).slice(5)
        table.add(some, group_rows=7, identity={2: "emea"} if number == 3 else {}, deletes=(deletes,) * (number % 2))
    for columns, predicate in ((None, Everything()), (("s",), Compare("x", ">=", 25)), (None, Compare("x", ">", 99))):
        plans = []
        for number, mapped in enumerate((here, elsewhere)):
            table.uuid = f"{sizes_told} {footers_read} {columns} {number}"  # what is learned is remembered by table
            made = table.plan(columns, predicate, mapped=mapped, split_bytes=200)
            splits = tuple(replace(split, table="") for split in made.splits)
            plans.append(replace(made, table_id="", splits=splits))
        assert plans[0] == plans[1]
