"""Columns that no file has and each row's place gives: of chance, or the place itself, as two numbers.

Whoever changes rows asks a statement where they are: in which data file, and at which position there. A path in every
row would cost more than most rows, so a file is a number that its path decides; whoever asks knows the paths.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from iceblink.scan.chance import chances, is_chance
from iceblink.splitmix import start_of

POSITION = "iceblink position"
"""Of the row in its data file, from 0, as position deletes count."""
_FILE = "iceblink file "  # in lower case, as the planner has names


def file_column(paths: Collection[str]) -> tuple[str, Mapping[int, str]]:
    """Return the name of a column that numbers data files, and the paths by their numbers.

    Numbers are hashes of 64 bits: should two of these paths share one, the column has another name, which gives others.
    """
    attempt = 0
    while True:
        name = f"{_FILE}{attempt}"
        by_number = {_number(name, path): path for path in paths}
        if len(by_number) == len(set(paths)):
            return name, by_number
        attempt += 1


def is_placed(name: str) -> bool:
    """Whether a column is made of each row's place."""
    return is_chance(name) or name == POSITION or name.startswith(_FILE)


def placed_field(name: str) -> pa.Field:
    """Return the field of such a column: 64 bits, never null."""
    return pa.field(name, pa.int64(), nullable=False)


def in_files(schema: pa.Schema) -> pa.Schema:
    """Return the columns of `schema` that files have."""
    return pa.schema([field for field in schema if not is_placed(field.name)])


def with_placed(data: pa.RecordBatch, names: Sequence[str], path: str, first_row: int) -> pa.RecordBatch:
    """Return consecutive rows of a place with such columns after their own.

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
    made = [_made(name, path, first_row, data.num_rows) for name in names]
    fields = [*data.schema, *map(placed_field, names)]
    return pa.RecordBatch.from_arrays([*data.columns, *made], schema=pa.schema(fields))


def _made(name: str, path: str, first_row: int, rows: int) -> pa.Array:
    if is_chance(name):
        return chances(name, path, first_row, rows)
    if name == POSITION:
        return pa.array(np.arange(first_row, first_row + rows, dtype=np.int64))
    return pa.repeat(pa.scalar(_number(name, path), pa.int64()), rows)


def _number(name: str, path: str) -> int:
    return start_of(name, path) - 2**63
