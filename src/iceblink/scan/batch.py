"""Rows, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one data file.

    Parameters
    ----------
    data : pa.RecordBatch
        In the projected schema.
    path : str
        The data file.
    first_row : int
        Position in the file of the first row; the following rows follow it, but for deleted ones.
    """

    data: pa.RecordBatch
    path: str
    first_row: int
