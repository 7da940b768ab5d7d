"""Deleted rows do not come back, whatever kind of file deletes them; plain Python decides which they are."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from iceblink.errors import DataCorrupt
from iceblink.lake.delete_files import POSITION_DELETES
from iceblink.lake.entries import DeleteFile
from iceblink.lake.roaring import MAGIC
from iceblink.scan.chance import chance_of

HandMade = Any  # see conftest.py
Make = Callable[[pa.Schema], HandMade]


def field(name: str, dtype: pa.DataType, number: int, **metadata: str) -> pa.Field:
    return pa.field(name, dtype, metadata={"PARQUET:field_id": str(number), **metadata})


SCHEMA = pa.schema([field("x", pa.int64(), 1), field("y", pa.string(), 2)])


def data(rows: int) -> pa.Table:
    return pa.table({"x": list(range(rows)), "y": [f"y{row}" for row in range(rows)]}, schema=SCHEMA)


def position_deletes(table: HandMade, rows: list[tuple[str, int]], group_rows: int = 1 << 20) -> DeleteFile:
    listed = pa.table([[path for path, _ in rows], [row for _, row in rows]], schema=POSITION_DELETES)
    path = table.write(listed, group_rows)
    return DeleteFile("position", path, Path(path).stat().st_size)


def vector(table: HandMade, positions: list[int], name: str = "v.puffin") -> DeleteFile:
    body = MAGIC + BitMap64(positions).serialize()
    blob = len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    path = table.folder / name
    path.write_bytes(b"PFA1" + blob + b"PFA1")
    return DeleteFile("vector", str(path), path.stat().st_size, offset=4, length=len(blob))


def equality_deletes(table: HandMade, rows: pa.Table, ids: tuple[int, ...]) -> DeleteFile:
    path = table.write(rows)
    return DeleteFile("equality", path, Path(path).stat().st_size, ids)


def path_of(table: HandMade, number: int) -> str:
    return str(table.folder / f"{number}.parquet")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(
    positions=st.sets(st.integers(0, 29)),
    elsewhere=st.sets(st.integers(0, 29)),
    vectored=st.sets(st.integers(0, 29)),
    group_rows=st.integers(1, 31),
    batch_rows=st.integers(1, 31),
    delete_rows=st.integers(1, 40),
)
def test_positions_and_vectors_take_out_their_rows(
    hand_made: Make,
    positions: set[int],
    elsewhere: set[int],
    vectored: set[int],
    group_rows: int,
    batch_rows: int,
    delete_rows: int,
) -> None:
    table = hand_made(SCHEMA)
    here, other = path_of(table, 1), path_of(table, 2)
    listed = sorted([(here, row) for row in positions] + [(other, row) for row in elsewhere])
    by_position = position_deletes(table, listed, delete_rows)
    table.add(data(30), group_rows, (by_position, vector(table, sorted(vectored))))
    table.add(data(30), group_rows, (by_position,))
    batches = table.batches(batch_rows=batch_rows)
    got = {path: [x for b in batches if b.path == path for x in b.data["x"].to_pylist()] for path in (here, other)}
    assert got == {
        here: [row for row in range(30) if row not in positions | vectored],
        other: [row for row in range(30) if row not in elsewhere],
    }
    assert all(batch.first_row == batch.data["x"][0].as_py() for batch in batches)
    for batch in batches:
        values = batch.data["x"].to_pylist()
        assert batch.exact == (values == list(range(values[0], values[0] + len(values))))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(
    before=st.sets(st.integers(0, 29)),
    listed=st.sets(st.integers(0, 29)),
    vectored=st.sets(st.integers(0, 29)),
    equal=st.sets(st.integers(0, 29)),
    group_rows=st.integers(1, 31),
)
def test_only_the_rows_that_deletes_take_out_now_are_read_where_these_are_asked_for(
    hand_made: Make, before: set[int], listed: set[int], vectored: set[int], equal: set[int], group_rows: int
) -> None:
    table = hand_made(SCHEMA)
    table.add(data(30), group_rows)
    path = path_of(table, 0)
    values = equality_deletes(table, data(30).select(["x"]).filter(pa.array([x in equal for x in range(30)])), (1,))
    only = (position_deletes(table, [(path, row) for row in sorted(listed)]), vector(table, sorted(vectored)), values)
    (entry,) = table.entries
    table.entries = [
        replace(entry, deletes=(vector(table, sorted(before), "before.puffin"),)),
        replace(entry, deletes=(vector(table, sorted(before), "before.puffin"),), only=only),
    ]
    kept = [row for row in range(30) if row not in before]
    gone = [row for row in kept if row in listed | vectored | equal]
    assert [row["x"] for row in table.rows(("x",))] == kept + gone


def test_rows_beside_deleted_ones_keep_their_chance(hand_made: Make) -> None:
    table, chance = hand_made(SCHEMA), chance_of(1)
    table.add(data(30), 7)
    before = table.rows(("x", chance))
    (entry,) = table.entries
    table.entries = [replace(entry, deletes=(vector(table, [0, 3, 4, 5, 20, 29]),))]
    assert table.rows(("x", chance)) == [row for row in before if row["x"] not in (0, 3, 4, 5, 20, 29)]


VALUES = st.none() | st.integers(0, 3)
TEXTS = st.none() | st.sampled_from("abc")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(
    rows=st.lists(st.tuples(VALUES, TEXTS), min_size=1, max_size=12),
    pairs=st.lists(st.tuples(VALUES, TEXTS), max_size=4),
    singles=st.lists(TEXTS, max_size=2),
    columns=st.sampled_from([("x", "y"), ("x",), ("y",)]),
)
def test_equality_deletes_take_out_equal_rows_and_null_equals_null(
    hand_made: Make,
    rows: list[tuple[int | None, str | None]],
    pairs: list[tuple[int | None, str | None]],
    singles: list[str | None],
    columns: tuple[str, ...],
) -> None:
    table = hand_made(SCHEMA)
    both = equality_deletes(table, pa.table([[x for x, _ in pairs], [y for _, y in pairs]], schema=SCHEMA), (1, 2))
    one = equality_deletes(table, pa.table([singles], schema=pa.schema([SCHEMA.field("y")])), (2,))
    table.add(pa.table([[x for x, _ in rows], [y for _, y in rows]], schema=SCHEMA), 5, (both, one))
    kept = [dict(zip("xy", row, strict=True)) for row in rows if row not in pairs and row[1] not in singles]
    assert table.rows(columns) == [{name: row[name] for name in columns} for row in kept]


def test_equality_deletes_follow_a_column_through_rename_and_promotion(hand_made: Make) -> None:
    table = hand_made(pa.schema([field("renamed", pa.int64(), 1)]))
    deletes = equality_deletes(table, pa.table([[2]], schema=pa.schema([field("between", pa.int64(), 1)])), (1,))
    table.add(pa.table([[1, 2, 3]], schema=pa.schema([field("old", pa.int32(), 1)])), deletes=(deletes,))
    assert table.rows() == [{"renamed": 1}, {"renamed": 3}]


def test_equality_deletes_may_compare_a_dropped_an_added_or_a_nested_column(hand_made: Make) -> None:
    inner = field("in", pa.struct([field("x", pa.int64(), 5), field("z", pa.int64(), 6)]), 4)
    stored = pa.schema([field("kept", pa.int64(), 1), field("dropped", pa.int64(), 2), inner])
    added = field("added", pa.int64(), 3, **{"iceblink:default": "9"})
    table = hand_made(pa.schema([stored.field(0), added, inner]))
    by_dropped = equality_deletes(table, pa.table([[10]], schema=pa.schema([stored.field(1)])), (2,))
    by_nested = equality_deletes(table, pa.table([[{"x": 5, "z": 0}]], schema=pa.schema([inner])), (5,))
    rows = [[1, 2, 3], [10, 11, 12], [{"x": 4, "z": 0}, {"x": 5, "z": 1}, {"x": 6, "z": 2}]]
    table.add(pa.table(rows, schema=stored), deletes=(by_dropped, by_nested))
    assert table.rows(("kept",)) == [{"kept": 3}]
    by_added = equality_deletes(table, pa.table([[9]], schema=pa.schema([added])), (3,))
    table.entries.clear()
    table.add(pa.table(rows, schema=stored), deletes=(by_added,))
    assert table.rows(("kept",)) == []


def test_not_a_number_equals_itself_in_a_delete(hand_made: Make) -> None:
    schema = pa.schema([field("f", pa.float64(), 1)])
    table = hand_made(schema)
    deletes = equality_deletes(table, pa.table([[math.nan]], schema=schema), (1,))
    table.add(pa.table([[1.0, math.nan]], schema=schema), deletes=(deletes,))
    assert table.rows() == [{"f": 1.0}]


def test_row_groups_about_other_files_are_not_read(hand_made: Make) -> None:
    table = hand_made(SCHEMA)
    deletes = position_deletes(table, [("a", 0), (path_of(table, 1), 3), ("z", 1)], group_rows=1)
    table.add(data(5), deletes=(deletes,))
    content = bytearray(Path(deletes.path).read_bytes())
    content[4] ^= 0xFF  # a page of "a"
    Path(deletes.path).write_bytes(content)
    assert [row["x"] for row in table.rows()] == [0, 1, 2, 4]


def damage_nothing_there(path: Path) -> None:
    path.unlink()


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[35] ^= 4  # past the header of the first page
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_nothing_there, damage_cut, damage_flipped])
@pytest.mark.parametrize("kind", ["position", "equality", "vector"])
def test_a_damaged_delete_file_is_named(hand_made: Make, kind: str, damage: Callable[[Path], None]) -> None:
    table = hand_made(SCHEMA)
    kinds: dict[str, Callable[[], DeleteFile]] = {
        "position": lambda: position_deletes(table, [(path_of(table, 1), 3)]),
        "equality": lambda: equality_deletes(table, data(3), (1,)),
        "vector": lambda: vector(table, [1, 2, 3]),
    }
    deletes = kinds[kind]()
    if kind == "vector":
        table.write(data(1))
    table.add(data(5), deletes=(deletes,))
    damage(Path(deletes.path))
    with pytest.raises(DataCorrupt) as caught:
        table.rows()
    assert deletes.path in caught.value.where
    assert "demo.t, snapshot 7" in caught.value.where


def test_an_equality_delete_without_its_key_is_named(hand_made: Make) -> None:
    table = hand_made(SCHEMA)
    for deletes in (
        equality_deletes(table, data(3), (77,)),
        equality_deletes(table, data(3).select(["x"]), (2,)),
    ):
        table.entries.clear()
        table.add(data(5), deletes=(deletes,))
        with pytest.raises(DataCorrupt, match="lacks a column") as caught:
            table.rows()
        assert deletes.path in caught.value.where
