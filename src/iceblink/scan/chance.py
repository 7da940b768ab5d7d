"""Columns of chance: for each row a number that looks random, and that a name and the row's place alone decide.

No file has such a column. Whoever reads a row makes it, so it is the same wherever, whenever and beside whatever other
rows the row is read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa

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


def chance_field(name: str) -> pa.Field:
    """Return the field of a column of chance: any 64 bits, never null."""
    return pa.field(name, pa.int64(), nullable=False)


def in_files(schema: pa.Schema) -> pa.Schema:
    """Return the columns of `schema` that are not of chance."""
    return pa.schema([field for field in schema if not is_chance(field.name)])


def with_chances(data: pa.RecordBatch, names: Sequence[str], path: str, first_row: int) -> pa.RecordBatch:
    """Return consecutive rows of a place with columns of chance after their own.

    Parameters
    ----------
    data : pa.RecordBatch
    names : sequence of str
    path : str
        The data file; empty for rows that have just a number.
    first_row : int
        Position of the first row there.
    """
    if not names:
        return data
    made = [_chances(name, path, first_row, data.num_rows) for name in names]
    fields = [*data.schema, *map(chance_field, names)]
    return pa.RecordBatch.from_arrays([*data.columns, *made], schema=pa.schema(fields))


def _chances(name: str, path: str, first_row: int, rows: int) -> pa.Array:
    """Return numbers `first_row` and following of a SplitMix64 [1]_, which no two rows of a file have in common.

    References
    ----------
    .. [1] Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    start = int.from_bytes(blake2b(f"{name}\0{path}".encode(), digest_size=8).digest(), "little")
    places = np.arange(first_row + 1, first_row + 1 + rows, dtype=np.uint64)
    state = np.uint64(start) + places * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return pa.array((state ^ (state >> np.uint64(31))).view(np.int64))
