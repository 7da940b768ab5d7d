"""A stream that says so when it is asked for twice."""

from __future__ import annotations

import pyarrow as pa

from iceblink.errors import PlanError


class Once:
    """Opens a reader once; the second time is an error rather than no rows."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader: pa.RecordBatchReader | None = reader

    def __call__(self) -> pa.RecordBatchReader:
        if self._reader is None:
            raise PlanError(
                "this stream was read already", "from_arrow", "give a Table, or write the stream to a table first"
            )
        reader, self._reader = self._reader, None
        return reader
