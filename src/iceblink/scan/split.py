"""Splits: slim, picklable orders to read row groups, sized by what they decode to."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from iceblink.lake.entries import DeleteFile
from iceblink.predicate import Predicate

WHOLE_FILE = -1
"""Number of row groups of a piece whose footer was not read: all there are, pruned when it is read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive row groups of one data file.

    Parameters
    ----------
    path, file_bytes
        The data file and its size [bytes].
    first_group, groups : int
        Index of the first row group and their number, or `WHOLE_FILE`.
    first_row, rows : int
        Position in the file of the first row, and the number of rows, before deletes.
    decoded_bytes : int
        Estimated Arrow size of the projected columns [bytes].
    spec_id : int
        Partition spec of the file.
    identity : tuple of (int, object)
        Field id and value of identity-partitioned columns: they may be absent from the file itself.
    deletes : tuple of DeleteFile
        Deletes to apply.
    only : tuple of DeleteFile
        Where there are any, just the rows are read that one of these takes out, and none of `deletes`.
    lineage : tuple of (int, int), optional
        Id of the file's first row, and the file's sequence number, if its rows have ids: see `scan.lineage`.
    """

    path: str
    file_bytes: int
    first_group: int
    groups: int
    first_row: int
    rows: int
    decoded_bytes: int
    spec_id: int = 0
    identity: tuple[tuple[int, object], ...] = ()
    deletes: tuple[DeleteFile, ...] = ()
    only: tuple[DeleteFile, ...] = ()
    lineage: tuple[int, int] | None = None

    @property
    def every_row(self) -> bool:
        """Whether no delete file leaves rows out."""
        return not self.deletes and not self.only

    def __reduce__(self) -> tuple[type[Piece], tuple[Any, ...]]:
        # what a dataclass with slots does by itself takes twice as long, and there may be a million of these
        return Piece, _values(self)


_values = attrgetter(*Piece.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Split:
    """One unit of reading: part of a big file, or several small files packed together.

    Parameters
    ----------
    table : str
        UUID of the table.
    snapshot_id, schema_id : int
        What was pinned when the plan was made.
    columns : tuple of str
        Projected top-level column names, in output order; the schema that goes with them travels once with
        the scan, not with each split.
    residual : Predicate
        What is left to check by row; used to prune row groups and pages, never the only check.
    pieces : tuple of Piece
        What to read, in order.
    """

    table: str
    snapshot_id: int
    schema_id: int
    columns: tuple[str, ...]
    residual: Predicate
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Rows before deletes."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size [bytes]."""
        return sum(piece.decoded_bytes for piece in self.pieces)
