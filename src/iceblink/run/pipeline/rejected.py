"""Rows that an operator refused, with where they came from and why."""

from __future__ import annotations

import traceback

import pyarrow as pa

from iceblink.errors import BatchContractBroken, DataCorrupt, FunctionError
from iceblink.scan.batch import Batch

OURS = ("iceblink.run.pipeline.", "iceblink.load.")  # modules that call a user's functions

WHY = pa.schema(
    [
        pa.field("iceblink_operator", pa.string(), nullable=False),
        pa.field("iceblink_error", pa.string(), nullable=False),
        pa.field("iceblink_traceback", pa.string(), nullable=False),
        pa.field("iceblink_file", pa.string()),
        pa.field("iceblink_row", pa.int64()),
    ]
)
"""What is told of each row, after the columns that the operator was given.

The row is null where it is not known: beside deleted rows, and behind another function, which may have done anything to
the rows of the file. The file is then that of the first row from which the batch was made.
"""


def rejected_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns of rejected rows whose operator was given `schema`."""
    given = [field for field in schema.remove_metadata() if field.name not in WHY.names]  # refused once more
    return pa.schema([*given, *WHY])


def rejected_rows(batch: Batch, operator: str, error: str, traceback: str) -> Batch:
    """Return rows with the reason beside each: operator, error, traceback, data file and position in it."""
    rows, first = batch.data.num_rows, batch.first_row
    schema = rejected_schema(batch.data.schema)
    why = [
        pa.repeat(operator, rows),
        pa.repeat(error, rows),
        pa.repeat(traceback, rows),
        pa.repeat(batch.path, rows) if batch.path else pa.nulls(rows, pa.string()),
        pa.array(range(first, first + rows) if batch.exact else [None] * rows, pa.int64()),
    ]
    given = [batch.data.column(name) for name in schema.names[: -len(WHY)]]
    return Batch(pa.RecordBatch.from_arrays([*given, *why], schema=schema), batch.path, first)


def traced(error: BaseException) -> str:
    """Return the traceback of the user's own error; it begins where our own code ends."""
    if isinstance(error, BatchContractBroken | DataCorrupt):  # nothing was raised where the user could look
        return "".join(traceback.format_exception_only(error)).rstrip()
    if isinstance(error, FunctionError) and error.__cause__ is not None:
        error = error.__cause__
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(OURS):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
