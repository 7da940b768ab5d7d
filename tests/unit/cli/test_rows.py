"""Rows on their way out keep their values, in each format."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from iceblink.cli.rows import WRITERS, print_table

ROWS = pa.table(
    {
        "id": pa.array([1, 2], pa.int64()),
        "name": pa.array(['a "quoted", name', None], pa.string()),
        "price": pa.array([Decimal("9.50"), None], pa.decimal128(8, 2)),
        "share": pa.array([float("nan"), 0.1], pa.float64()),
        "day": pa.array([date(2026, 1, 31), None], pa.date32()),
        "at": pa.array([datetime(2026, 1, 31, 12, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "raw": pa.array([b"\x00\xff", None], pa.binary()),
        "tags": pa.array([["x", "y"], None], pa.list_(pa.string())),
        "where": pa.array([{"lat": 1.5}, None], pa.struct([("lat", pa.float64())])),
        "counts": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "key": pa.array([uuid.UUID(int=7).bytes, None], pa.binary(16)).cast(pa.uuid()),
        "image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype="float32").reshape(2, 2, 2)),
    }
)


def written(form: str, rows: pa.Table = ROWS) -> bytes:
    out = io.BytesIO()
    WRITERS[form](rows.to_reader(), out)
    return out.getvalue()


def test_json_lines_hold_every_type() -> None:
    first, second = map(json.loads, written("json").splitlines())
    assert first == {
        "id": 1,
        "name": 'a "quoted", name',
        "price": "9.50",
        "share": None,
        "day": "2026-01-31",
        "at": "2026-01-31T12:00:00+00:00",
        "raw": "AP8=",
        "tags": ["x", "y"],
        "where": {"lat": 1.5},
        "counts": {"k": 1},
        "key": str(uuid.UUID(int=7)),
        "image": [[0.0, 1.0], [2.0, 3.0]],
    }
    assert [name for name, value in second.items() if value is not None] == ["id", "share", "image"]


def test_csv_is_read_back_by_python() -> None:
    first, second = csv.DictReader(io.StringIO(written("csv").decode()))
    assert first["name"] == 'a "quoted", name'
    assert (first["price"], first["day"], first["raw"]) == ("9.50", "2026-01-31", "AP8=")
    assert json.loads(first["tags"]) == ["x", "y"]
    assert json.loads(first["where"]) == {"lat": 1.5}
    assert first["key"] == str(uuid.UUID(int=7))
    assert json.loads(first["image"]) == [[0.0, 1.0], [2.0, 3.0]]
    assert (second["name"], second["tags"]) == ("", "")


def test_csv_without_rows_has_a_header() -> None:
    assert written("csv", ROWS.slice(0, 0).select(["id", "name"])).decode() == "id,name\n"


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_arrow_and_parquet_are_read_back_as_they_were(form: str) -> None:
    rows = ROWS.drop_columns(["share"])  # NaN equals nothing
    data = io.BytesIO(written(form, rows))
    back = pa.ipc.open_stream(data).read_all() if form == "arrow" else pa.parquet.read_table(data)
    assert back.equals(rows)


def shown(rows: pa.Table, most: int = 40, width: int = 400) -> str:
    out = io.StringIO()
    print_table(rows, most, Console(file=out, width=width))
    return out.getvalue()


def test_a_table_shows_every_value() -> None:
    text = shown(ROWS)
    for expected in ("9.50", "null", "0.1", "nan", "2026-01-31 12:00:00Z", '["x", "y"]', '{"lat": 1.5}'):
        assert expected in text


def test_a_table_says_which_rows_and_columns_it_leaves_out() -> None:
    text = shown(pa.table({"a": range(50), "b": ["long" * 9] * 50, "c": range(50), "d": ["x" * 30] * 50}), 3, 60)
    assert len([line for line in text.splitlines() if "long" in line]) == 3
    assert "the first 3 rows" in text
    assert "1 more columns: d" in text


def test_a_cell_cannot_break_its_line_or_move_the_cursor() -> None:
    text = shown(pa.table({"a": ["one\ntwo \x1b[2J [bold]three"]}))
    assert r"one\ntwo \x1b[2J [bold]three" in text


def test_a_table_without_columns_that_fit_still_shows_one() -> None:
    assert "abc" in shown(pa.table({"abc": ["x" * 40], "d": [1]}), width=12)
