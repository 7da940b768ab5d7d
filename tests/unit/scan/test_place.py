"""Columns of place: each row knows its data file and its position there, also beside rows that are deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iceblink.scan import place
from iceblink.scan.place import POSITION, file_column, is_placed

SCHEMA = pa.schema([pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"})])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(group_rows=st.integers(1, 40), batch_rows=st.integers(1, 40), split_bytes=st.sampled_from([1, 100, 1 << 20]))
def test_a_row_knows_its_file_and_position_however_the_table_is_divided(
    hand_made: Callable[[pa.Schema], Any], group_rows: int, batch_rows: int, split_bytes: int
) -> None:
    table = hand_made(SCHEMA)
    paths = [table.add(pa.table({"x": range(30 * n, 30 * n + 30)}, schema=SCHEMA), group_rows) for n in range(2)]
    name, by_number = file_column(paths)
    assert is_placed(name)
    rows = table.rows(("x", name, POSITION), batch_rows=batch_rows, split_bytes=split_bytes)
    assert [(by_number[row[name]], row[POSITION], row["x"]) for row in rows] == [
        (paths[x // 30], x % 30, x) for x in range(60)
    ]


def test_files_whose_numbers_meet_get_others(monkeypatch: Any) -> None:
    monkeypatch.setattr(place, "start_of", lambda name, path: 5 if name.endswith("0") else len(path))
    name, by_number = file_column(["a", "bc"])
    assert name.endswith("1")
    assert sorted(by_number.values()) == ["a", "bc"]
