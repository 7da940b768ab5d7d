"""Columns of chance: the same number for a row wherever it is read, and as if thrown with dice."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iceblink.scan.chance import chance_of
from iceblink.scan.place import with_placed

NAME = chance_of(7)


def numbers(name: str, path: str, first_row: int, rows: int) -> list[int]:
    data = pa.record_batch({"x": list(range(rows))})
    made = with_placed(data, [name], path, first_row)
    assert made.select(["x"]) == data
    found: list[int] = made[name].to_pylist()
    return found


def split_mix(name: str, path: str, row: int) -> int:
    """One number of the generator, in plain integers."""
    start = int.from_bytes(blake2b(f"{name}\0{path}".encode(), digest_size=8).digest(), "little")
    state = (start + (row + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    state ^= state >> 31
    return state - 2**64 if state >= 2**63 else state


@given(path=st.text(max_size=5), first=st.integers(0, 2**40), rows=st.integers(0, 20), seed=st.integers())
def test_a_number_is_decided_by_name_path_and_row_alone(path: str, first: int, rows: int, seed: int) -> None:
    name = chance_of(seed)
    assert numbers(name, path, first, rows) == [split_mix(name, path, row) for row in range(first, first + rows)]


def test_numbers_are_spread_evenly_and_differ() -> None:
    found = numbers(NAME, "a.parquet", 0, 40_000)
    assert len(set(found)) == 40_000
    parts = [(number + 2**63) >> 60 for number in found]
    assert all(2_300 < parts.count(part) < 2_700 for part in range(16))


@pytest.mark.parametrize("other", [(chance_of(8), "a"), (chance_of(7, [NAME]), "a"), (NAME, "b")])
def test_seeds_draws_and_files_have_nothing_to_do_with_each_other(other: tuple[str, str]) -> None:
    pairs = zip(numbers(NAME, "a", 0, 40_000), numbers(*other, 0, 40_000), strict=True)
    assert 9_500 < sum(one < 0 and two < 0 for one, two in pairs) < 10_500


SCHEMA = pa.schema([pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"})])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    group_rows=st.integers(1, 40),
    batch_rows=st.integers(1, 40),
    split_bytes=st.sampled_from([1, 100, 1 << 20]),
    alone=st.booleans(),
)
def test_a_row_has_its_number_however_the_table_is_divided(
    hand_made: Callable[[pa.Schema], Any], group_rows: int, batch_rows: int, split_bytes: int, alone: bool
) -> None:
    table = hand_made(SCHEMA)
    path = table.add(pa.table({"x": range(60)}, schema=SCHEMA), group_rows)
    rows = table.rows((NAME,) if alone else ("x", NAME), batch_rows=batch_rows, split_bytes=split_bytes)
    assert [row[NAME] for row in rows] == [split_mix(NAME, path, row) for row in range(60)]
    assert alone or [row["x"] for row in rows] == list(range(60))
