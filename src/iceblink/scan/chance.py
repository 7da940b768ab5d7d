"""Columns of chance: for each row a number that looks random, and that a name and the row's place alone decide.

No file has such a column. Whoever reads a row makes it, so it is the same wherever, whenever and beside whatever other
rows the row is read.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from iceblink.splitmix import numbers, start_of

_PREFIX = "iceblink chance "  # in lower case, as the planner has names


def chance_of(seed: int, taken: Collection[str] = ()) -> str:
    """Return the name of a seed's column, with another ending for each time that it is `taken`.

    Columns of different names have nothing to do with each other.
    """
    name = f"{_PREFIX}{seed}"
    while name in taken:
        name += " again"
    return name


def is_chance(name: str) -> bool:
    """Whether a column is of chance."""
    return name.startswith(_PREFIX)


def chances(name: str, path: str, first_row: int, rows: int) -> pa.Array:
    """Return numbers `first_row` and following of the file, which no two rows of it have in common."""
    places = np.arange(first_row, first_row + rows, dtype=np.uint64)
    return pa.array(numbers(start_of(name, path), places).view(np.int64))
