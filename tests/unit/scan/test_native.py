"""Only what the kernel's own reader reads rightly is given to it; the reason is told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from iceblink.errors import DataCorrupt
from iceblink.lake.entries import DeleteFile
from iceblink.run.native_sql import native_sql
from iceblink.scan.native import NativeColumn, NativeScan, native_scan, native_splits

HandMade = Any  # see conftest.py
Make = Callable[[pa.Schema], HandMade]


def field(name: str, dtype: pa.DataType, number: int, nullable: bool = True, default: str = "") -> pa.Field:
    return pa.field(
        name,
        dtype,
        nullable,
        metadata={"PARQUET:field_id": str(number)} | ({"iceblink:default": default} if default else {}),
    )


INNER = pa.struct([field("a", pa.int64(), 5)])
STORED = pa.schema([field("x", pa.int32(), 1), field("d", pa.decimal128(9, 2), 2), field("n", INNER, 4)])
DATA = pa.table([pa.array([1, 2], pa.int32()), pa.array([Decimal(1), Decimal(2)], pa.decimal128(9, 2)),
                 pa.array([{"a": 1}, None], INNER)], schema=STORED)  # fmt: skip


def why_not(make: Make, schema: pa.Schema, data: pa.Table = DATA, **options: Any) -> str:
    table = make(schema)
    table.add(data, **options)
    reason = native_scan(table.plan())
    assert isinstance(reason, str)
    return reason


def test_renamed_widened_and_added_columns_are_the_kernels_to_read(hand_made: Make) -> None:
    added = field("new", pa.string(), 9, default='"x"')
    wide = pa.schema([field("long", pa.int64(), 1), field("d", pa.decimal128(20, 2), 2), field("n", INNER, 4), added])
    table = hand_made(wide)
    paths = [table.add(DATA), table.add(DATA, group_rows=1)]
    scan = native_scan(table.plan())
    assert isinstance(scan, NativeScan)
    assert scan.paths == tuple(paths)
    assert scan.columns == (
        NativeColumn(1, "long", pa.int64(), None),
        NativeColumn(2, "d", pa.decimal128(20, 2), None),
        NativeColumn(4, "n", INNER, None),
        NativeColumn(9, "new", pa.string(), "x"),
    )
    for check in scan.checks():
        check()


def test_row_groups_of_renamed_columns_are_the_kernels_to_read_and_no_other_rows_are(hand_made: Make) -> None:
    table = hand_made(pa.schema([field("long", pa.int64(), 1)]))
    path = table.add(pa.table([pa.array(range(50), pa.int32())], schema=pa.schema([STORED.field("x")])), group_rows=10)
    (whole,) = table.plan().splits
    (piece,) = whole.pieces
    parts = [replace(piece, first_group=at, groups=1, first_row=10 * at, rows=10) for at in (1, 4)]
    scan = native_splits([replace(whole, pieces=tuple(parts))], table.storage, "demo.t", table.schema, ["long"])
    assert isinstance(scan, NativeScan)
    assert (scan.paths, scan.evolved, scan.whole) == ((path, path), True, False)
    found = duckdb.sql(f"SELECT list(long ORDER BY long) FROM ({native_sql(scan)})").fetchall()
    assert found == [([*range(10, 20), *range(40, 50)],)]


def test_row_groups_of_a_table_with_a_column_of_the_kernels_name_for_positions_are_not(hand_made: Make) -> None:
    named = field("File_Row_Number", pa.int32(), 1)
    table = hand_made(pa.schema([named]))
    table.add(pa.table([pa.array([1], pa.int32())], schema=pa.schema([named])))
    assert isinstance(native_scan(table.plan()), NativeScan)
    reason = native_splits(table.plan().splits, table.storage, "demo.t", table.schema, [named.name])
    assert "file_row_number" in str(reason)


def test_damage_is_found_before_the_kernel_reads(hand_made: Make) -> None:
    table = hand_made(STORED)
    path = Path(table.add(DATA))
    scan = native_scan(table.plan())
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert isinstance(scan, NativeScan)
    (check,) = scan.checks()
    with pytest.raises(DataCorrupt) as caught:
        check()
    assert f"demo.t, snapshot 7, file {path}" in caught.value.where


def test_deletes_are_not(hand_made: Make) -> None:
    assert "deleted" in why_not(hand_made, STORED, deletes=(DeleteFile("position", "p", 1),))


def test_files_without_field_ids_are_not(hand_made: Make) -> None:
    named = pa.schema([one.with_metadata({**(one.metadata or {}), "iceblink:names": "[]"}) for one in STORED])
    assert "without field ids" in why_not(hand_made, named, pa.table({"x": [1]}))


def test_partition_values_that_the_file_lacks_are_not(hand_made: Make) -> None:
    schema = pa.schema([STORED.field("x"), field("part", pa.string(), 8)])
    assert "partition value" in why_not(hand_made, schema, identity={8: "emea"})


def test_nested_changes_are_not(hand_made: Make) -> None:
    renamed = pa.struct([field("b", pa.int64(), 5)])
    assert "changed inside" in why_not(hand_made, pa.schema([field("n", renamed, 4)]))
    assert "struct that is not in every file" in why_not(hand_made, pa.schema([field("added", renamed, 40)]))


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (pa.schema([field("x", pa.int32(), 1, nullable=False)]), "only iceblink's reader checks"),
        (pa.schema([field("y", pa.int32(), 7, nullable=False)]), "required and not in every file"),
        (pa.schema([field("x", pa.float64(), 1)]), "another type"),
        (pa.schema([field("t", pa.fixed_shape_tensor(pa.float32(), [2]), 8)]), "a tensor"),
        (pa.schema([field("t", pa.timestamp("ns", "UTC"), 8)]), "timestamptz_ns"),
        (pa.schema([field("t", pa.binary(), 8, default='"00"')]), "default of bytes"),
    ],
)
def test_columns_that_the_kernel_would_misread_are_not(hand_made: Make, schema: pa.Schema, reason: str) -> None:
    assert reason in why_not(hand_made, schema)


def test_many_files_and_none_are_not(hand_made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native_scan(hand_made(STORED).plan()) == "no files are read"
    assert native_scan(hand_made(STORED).plan(())) == "no columns are read"
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_READ", 0)
    assert "not every footer" in why_not(hand_made, STORED)
