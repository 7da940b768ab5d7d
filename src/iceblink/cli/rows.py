"""Rows on their way out: a table for eyes; CSV, JSON lines, an Arrow stream or Parquet for programs."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyarrow.types as pt
from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iceblink.errors import ConfigError
from iceblink.watch.watching import watching

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

FORMATS = ("table", "csv", "json", "arrow")
WIDEST = 48  # characters of a cell; what is longer ends in an ellipsis


def print_rows(rows: Dataset, form: str, most: int) -> None:
    """Print `rows` on stdout as one of `FORMATS`; a table shows at most `most` of them."""
    if form == "table":
        with watching():
            shown = rows.limit(most + 1).to_arrow()
        print_table(shown, most, Console())
        return
    # What is drawn on stderr and rows on stdout may share one screen; then the rows win.
    with nullcontext() if sys.stdout.isatty() else watching(), rows.to_reader() as reader:
        WRITERS[form](reader, sys.stdout.buffer)


def save_rows(rows: Dataset, path: Path) -> None:
    """Write `rows` to the file `path` in the format of its ending; a failure leaves no file behind."""
    form = ENDINGS.get(path.suffix)
    if form is None:
        raise ConfigError(f"cannot tell the format of {str(path)!r}", "export", f"end it with one of {[*ENDINGS]}")
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as out, rows.to_reader() as reader:
            WRITERS[form](reader, out)
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error.strerror or error}", "export") from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_csv(rows: pa.RecordBatchReader, out: BinaryIO) -> None:
    """Write a header and rows; null is empty, text is quoted, and what CSV has no form for is JSON text."""
    flat = pa.schema([pa.field(f.name, f.type if has_csv_form(f.type) else pa.string()) for f in rows.schema])
    header = "none" if all(name.isidentifier() for name in flat.names) else "needed"
    with pa.csv.CSVWriter(out, flat, write_options=pa.csv.WriteOptions(quoting_header=header)) as writer:
        for batch in rows:
            columns = [
                column if has_csv_form(field.type) else pa.array(map(json_text, pylist(column)), pa.string())
                for field, column in zip(rows.schema, batch.columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=flat))


def write_json(rows: pa.RecordBatchReader, out: BinaryIO) -> None:
    """Write one JSON object a row; times in ISO 8601, decimals as text, bytes in base64, NaN as null."""
    for batch in rows:
        columns = [pylist(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            row = dict(zip(rows.schema.names, map(plain, values), strict=True))
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def write_arrow(rows: pa.RecordBatchReader, out: BinaryIO) -> None:
    """Write an Arrow IPC stream, which `pyarrow.ipc.open_stream` reads."""
    with pa.ipc.new_stream(out, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)


def write_parquet(rows: pa.RecordBatchReader, out: BinaryIO) -> None:
    """Write one Parquet file, a row group a batch."""
    with pq.ParquetWriter(out, rows.schema, compression="zstd") as writer:
        for batch in rows:
            writer.write_batch(batch)


WRITERS: dict[str, Callable[[pa.RecordBatchReader, BinaryIO], None]] = {
    "csv": write_csv,
    "json": write_json,
    "arrow": write_arrow,
    "parquet": write_parquet,
}
ENDINGS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".arrow": "arrow"}


def print_table(rows: pa.Table, most: int, console: Console) -> None:
    """Print at most `most` rows, and the columns from the left that fit; say what is not shown."""
    shown = rows.slice(0, most)
    columns = [[cell_text(value) for value in pylist(column)] for column in shown.columns]
    fitting = columns_that_fit(shown.column_names, columns, console.width)
    table = Table(box=ROUNDED)
    for field in [*shown.schema][:fitting]:
        number = pt.is_integer(field.type) or pt.is_floating(field.type) or pt.is_decimal(field.type)
        table.add_column(
            Text(field.name), justify="right" if number else "left", no_wrap=True, max_width=WIDEST, overflow="ellipsis"
        )
    for cells in zip(*columns[:fitting], strict=True):
        table.add_row(*cells)
    console.print(table)
    if rows.num_rows > most:
        console.print(Text(f"the first {most} rows; --rows N shows more, --format csv all", style="dim"))
    if hidden := shown.column_names[fitting:]:
        console.print(Text(f"too narrow for {len(hidden)} more columns: {', '.join(hidden)}", style="dim"))


def columns_that_fit(names: list[str], columns: list[list[Text]], width: int) -> int:
    """Return how many columns, from the left and at least one, fit into `width` characters."""
    used = 1
    for count, (name, cells) in enumerate(zip(names, columns, strict=True)):
        used += 3 + min(WIDEST, max([Text(name).cell_len, *(cell.cell_len for cell in cells)]))
        if used > width:
            return max(1, count)
    return len(names)


def cell_text(value: object) -> Text:
    """Return a value as a person reads it: on one line, null dimmed."""
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.10g}")
    if isinstance(value, bool | dict | list | tuple):
        return Text(json_text(value) or "")
    if isinstance(value, datetime):
        precision = "microseconds" if value.microsecond % 1000 else "milliseconds" if value.microsecond else "seconds"
        return Text(value.isoformat(" ", precision).replace("+00:00", "Z"))
    text = str(plain(value))
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def json_text(value: object) -> str | None:
    """Return `value` as JSON text, a bare string as itself, and None as None."""
    value = plain(value)
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return `value` in JSON's own types."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat()
        case _:  # decimals, UUIDs, intervals
            return str(value)


def pylist(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return a column as Python values; tensors as nested lists, maps as dicts."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return [None if scalar.as_py() is None else scalar.to_numpy().tolist() for scalar in column]
    return list(column.to_pylist(maps_as_pydicts="strict"))


def has_csv_form(dtype: pa.DataType) -> bool:
    """Tell whether Arrow's CSV writer takes this type."""
    return not (pt.is_nested(dtype) or pt.is_binary(dtype) or isinstance(dtype, pa.BaseExtensionType))
