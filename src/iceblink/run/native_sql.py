"""The SELECT with which the kernel reads the files of a scan itself."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from iceblink.run.kernel_types import kernel_type, literal, quoted
from iceblink.scan.native import ROW_NUMBER, NativeColumn, NativeScan


def native_sql(native: NativeScan) -> str:
    """Return the SELECT, in the table's column order.

    Where all files have the table's own columns the kernel may use their statistics; else columns are matched by
    field id, as they were renamed, added or widened since.
    """
    names = ", ".join(quoted(column.name) for column in native.columns)
    # statistics leave NaN out, and the kernel would believe them: a filter such as x > 5 would lose it
    options = ["can_have_nan = true", "hive_partitioning = false"]  # folder names are no data in Iceberg
    if native.evolved:
        columns = ", ".join(
            f"{column.field_id}: {{name: {literal(column.name)}, type: {literal(kernel_type(column.dtype))}, "
            f"default_value: {'NULL' if column.default is None else literal(str(column.default))}}}"
            for column in native.columns
        )
        options.append(f"schema = MAP {{{columns}}}")
    if native.whole:
        if len(native.paths) == 1:
            names = ", ".join(map(_computed, native.columns))
        return _select(names, native.paths, options)
    options.append(f"{ROW_NUMBER} = true")  # a filter on it prunes row groups
    return " UNION ALL ".join(
        f"{_select(names, [path], options)} WHERE {ROW_NUMBER} BETWEEN {piece.first_row} "
        f"AND {piece.first_row + piece.rows - 1}"
        for path, piece in zip(native.paths, native.pieces, strict=True)
    )


def _computed(column: NativeColumn) -> str:
    """Return a column of one file as the kernel has no statistics of it, if it may have NaN.

    It would answer a bare ``max(x)`` by them alone, with NaN where they may leave it out.
    """
    name = quoted(column.name)
    return f"{name} * 1::{kernel_type(column.dtype)} AS {name}" if pa.types.is_floating(column.dtype) else name


def _select(names: str, paths: Sequence[str], options: Sequence[str]) -> str:
    files = ", ".join(map(literal, paths))
    return f"SELECT {names} FROM read_parquet([{files}], {', '.join(options)})"
