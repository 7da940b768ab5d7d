"""What a function made of single rows, as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from iceblink.errors import BatchContractBroken, IceblinkError
from iceblink.plan.function import Function
from iceblink.run.columns import of_type
from iceblink.run.formats import returned
from iceblink.run.pipeline.contract import called
from iceblink.run.pipeline.pieces import Piece

Row = dict[str, Any]


def from_rows(
    function: Function, piece: Piece, results: Sequence[list[Row] | IceblinkError], like: pa.Schema
) -> pa.RecordBatch:
    """Join the results for the rows of `piece`; columns of the names in `like` keep types that Python cannot tell.

    Raises
    ------
    IceblinkError
        The first that is among the results.
    BatchContractBroken
        A row lacks a column that another has, or values do not have one type.
    """
    rows: list[Row] = []
    origins: list[int] = []
    for index, result in enumerate(results):
        if isinstance(result, IceblinkError):
            raise result
        rows.extend(result)
        origins.extend([index] * len(result))
    where = f"{called(function)}, {piece.place}"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not rows and function.declared is not None:
        columns = list(function.declared.names)
    for row, origin in zip(rows, origins, strict=True):
        if len(row) != len(columns):
            raise _ragged(function, piece, columns, rows, origins, row, origin)
    values = {name: [row[name] for row in rows] for name in columns}
    declared = function.declared
    if declared is not None and set(columns) == set(declared.names):
        arrays = [of_type(field, values[field.name], where) for field in declared]
        return pa.RecordBatch.from_arrays(arrays, names=declared.names)
    return returned(values, where, like)


def _ragged(
    function: Function, piece: Piece, columns: list[str], rows: list[Row], origins: list[int], row: Row, origin: int
) -> BatchContractBroken:
    name = next(name for name in columns if name not in row)
    other = next(at for at, full in zip(origins, rows, strict=True) if name in full)
    return BatchContractBroken(
        f"it returned no {name!r} for a row, and did for {piece.slice(other, 1).place}",
        f"{called(function)}, {piece.slice(origin, 1).place}",
        "return it as None",
    )
