"""Are two answers the same: rows in any order, decimals equal, floats within a relative error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

Row = tuple[object, ...]


def difference(ours: Path, reference: Path, tolerance: float) -> str:
    """Return how the answer in one Arrow file differs from that in another, or nothing."""
    got, wanted = sorted_rows(ours), sorted_rows(reference)
    if len(got) != len(wanted):
        return f"{len(got)} rows instead of {len(wanted)}"
    for number, (row, other) in enumerate(zip(got, wanted, strict=True)):
        if len(row) != len(other):
            return f"{len(row)} columns instead of {len(other)}"
        for value, expected in zip(row, other, strict=True):
            if not same(value, expected, tolerance):
                return f"row {number}: {value!r} instead of {expected!r}"
    return ""


def sorted_rows(path: Path) -> list[Row]:
    """Return the rows of an Arrow file, ordered by what does not depend on rounding first."""
    with pa.ipc.open_file(path) as file:
        columns = [column.to_pylist() for column in file.read_all().columns]
    return sorted(zip(*columns, strict=True), key=sort_key)


def sort_key(row: Row) -> tuple[Sequence[str], Sequence[float]]:
    """Return texts, dates and whole numbers first, then the other numbers."""
    numbers = [float(value) for value in row if isinstance(value, float | int | Decimal)]
    return [str(value) for value in row if not isinstance(value, float | int | Decimal)], numbers


def same(value: object, expected: object, tolerance: float) -> bool:
    """Whether two values are equal; with a float on either side, nearly equal."""
    numbers = (int, float, Decimal)
    if isinstance(value, numbers) and isinstance(expected, numbers) and float in {type(value), type(expected)}:
        return math.isclose(value, expected, rel_tol=tolerance, abs_tol=1e-12)
    return value == expected
