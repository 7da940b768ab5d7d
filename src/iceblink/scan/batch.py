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
        Position in the file of the first row, or of the first one that these rows were made from.
    exact : bool
        Whether each row is the next one of the file: not so where some between them were deleted, and not known of
        what a function made.
    """

    data: pa.RecordBatch
    path: str
    first_row: int
    exact: bool = True

    def slice(self, start: int, rows: int | None = None) -> Batch:
        """Return `rows` from `start` on, all the others by default, without a copy."""
        first_row = self.first_row + start if self.exact else self.first_row
        return Batch(self.data.slice(start, rows), self.path, first_row, self.exact)
