"""Cells of an experiment that are kept with the version of the table that they are of, and follow it by its changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from iceblink.causal.experiments.cells import Cells, constants, first_rows, read_cells
from iceblink.causal.experiments.scan import Scan
from iceblink.causal.moments import Floats
from iceblink.causal.saved import BOUND, ROUNDING
from iceblink.causal.versions import Source, changed, one_row
from iceblink.errors import PlanError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("table_uuid", pa.string()),
        ("snapshot_id", pa.int64()),
        ("statement", pa.string()),
        ("refreshes", pa.int64()),
        ("keys", pa.list_(pa.list_(pa.string()))),
        ("columns", pa.list_(pa.string())),
        ("shifts", pa.list_(pa.float64())),
        ("sums", pa.list_(pa.string())),
        ("values", pa.list_(pa.float64())),
        ("noise", pa.list_(pa.float64())),
    ]
)
"""Of saved cells as one row."""
_AS_TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
)
"""Types of keys whose values Arrow makes texts of, and reads back."""


@dataclass(frozen=True, eq=False)
class SavedCells:
    """What an experiment needs of a table's rows, at a version of the table; made by ``ABTest.cells``.

    `to_arrow` is a row of a table, to be written to the lake or anywhere, and `from_arrow` brings it back.
    ``ABTest.cells(data, saved=...)`` reads what changed since.

    Parameters
    ----------
    subject : str
        What is asked: keys, groups of columns, what becomes of missing values.
    source : Source
        Table, snapshot and statement.
    keys : tuple of string Array (cells,)
        Arm, stratum if there are strata, segments.
    shifts : mapping
        Of a column to what was subtracted from its values, then and ever since.
    sums : tuple of str
        Names of what is summed.
    values : float64 array (cells, sums)
    noise : float64 array (cells, sums)
        How far refreshing may have moved sums of what is not negative by rounding, at most.
    refreshes : int
        How often changes were read since the whole table was.
    """

    subject: str
    source: Source
    keys: tuple[pa.Array, ...]
    shifts: Mapping[str, float]
    sums: tuple[str, ...]
    values: Floats
    noise: Floats
    refreshes: int = 0

    def __repr__(self) -> str:
        at = f"{self.rows:,} rows at snapshot {self.snapshot_id}, refreshed {self.refreshes} times"
        return f"{len(self.values):,} cells of {self.subject}: {at}"

    @property
    def snapshot_id(self) -> int | None:
        """The snapshot of the table that they are of; None of an empty table."""
        return self.source.snapshot_id

    @property
    def rows(self) -> int:
        """How many rows they are of."""
        return int(self.values[:, self.sums.index("rows")].sum())

    def to_arrow(self) -> pa.Table:
        """Return them as one row."""
        row = {
            "subject": self.subject,
            "table_uuid": self.source.table,
            "snapshot_id": self.source.snapshot_id,
            "statement": self.source.statement,
            "refreshes": self.refreshes,
            "keys": [one.to_pylist() for one in self.keys],
            "columns": list(self.shifts),
            "shifts": list(self.shifts.values()),
            "sums": list(self.sums),
            "values": self.values.ravel().tolist(),
            "noise": self.noise.ravel().tolist(),
        }
        return pa.Table.from_pylist([row], SCHEMA)

    @classmethod
    def from_arrow(cls, rows: pa.Table) -> Self:
        """Return what `to_arrow` gave.

        Raises
        ------
        PlanError
            There is not one row, or it has other columns.
        """
        (row,) = one_row(rows, SCHEMA, "SavedCells").to_pylist()
        values, noise = (np.array(row[name], float).reshape(-1, len(row["sums"])) for name in ("values", "noise"))
        return cls(
            row["subject"],
            Source(row["table_uuid"], row["snapshot_id"], row["statement"]),
            tuple(pa.array(one, pa.string()) for one in row["keys"]),
            dict(zip(row["columns"], row["shifts"], strict=True)),
            tuple(row["sums"]),
            values,
            noise,
            row["refreshes"],
        )

    @classmethod
    def of(cls, subject: str, source: Source, cells: Cells, noise: Floats, refreshes: int) -> Self:
        """Return those of cells as they are in memory; keys become texts."""
        fields = [cells.scan.schema.field(name) for name in cells.parts]
        keys = (pa.array([key[at] for key in cells.keys], one.type) for at, one in enumerate(fields))
        texts = tuple(one.cast(pa.string()) for one in keys)
        return cls(subject, source, texts, cells.shifts, tuple(cells.names), cells.values, noise, refreshes)

    def cells(self, scan: Scan, segments: Sequence[str]) -> Cells:
        """Return them as they were in memory; keys have the types of their columns again."""
        parts = (*scan.keys, *segments)
        typed = [one.cast(scan.schema.field(name).type).to_pylist() for name, one in zip(parts, self.keys, strict=True)]
        places = {name: at for at, name in enumerate(self.sums)}
        nothing = np.empty((len(self.values), 0))
        return Cells(scan, parts, self.shifts, list(zip(*typed, strict=True)), places, self.values, nothing, nothing)


def saved_cells(data: Dataset, scan: Scan, segments: Sequence[str], saved: SavedCells | None) -> SavedCells:
    """Return the cells of a dataset at its version, by what changed since others were saved where that is less.

    Eager. All rows are read where none were saved, where more rows came and went than there are, and where rounding
    would take more than `BOUND` of what some column varies by.

    Raises
    ------
    TypeMismatch
        A key is of bytes or times of day.
    SnapshotNotFound
        Snapshots between the two versions were expired.
    PlanError
        The dataset is not one table, row by row; the saved cells are of something else; the version was not made from
        theirs; there are more cells than are held.
    QueryError
        As `read_cells`.
    """
    for name in (*scan.keys, *segments):
        kind = scan.schema.field(name).type
        if not any(is_kind(kind) for is_kind in _AS_TEXT):
            what = f"column {name!r} is {show_type(kind)}, of which no texts are saved"
            raise TypeMismatch(what, scan.where, "make a text of it by mutate")
    source = Source.of(data, scan.where)
    found = None if saved is None else _refreshed(saved, data, scan, segments, source)
    if found is not None:
        return found
    whole = read_cells(data, scan, constants(first_rows(data, scan, segments), scan), segments)
    return SavedCells.of(_subject(scan, segments), source, whole, np.zeros_like(whole.values), 0)


def _refreshed(
    saved: SavedCells, data: Dataset, scan: Scan, segments: Sequence[str], source: Source
) -> SavedCells | None:
    """Return saved cells at another version; None where it is better to read that version as a whole."""
    source.check_follows(saved.source, scan.where)
    subject = _subject(scan, segments)
    if (subject, scan.sums) != (saved.subject, saved.sums):
        what = f"the saved cells are of {saved.subject}, or of other metrics"
        raise PlanError(what, scan.where, f"here it is {subject}")
    if source.snapshot_id == saved.source.snapshot_id:
        return saved
    rows = changed(data, saved.source.snapshot_id, scan.where)
    if rows.most_rows > rows.whole_rows or not saved.rows:
        return None
    before = saved.cells(scan, segments)
    came, went = (read_cells(part, scan, saved.shifts, segments) for part in (rows.came, rows.went))
    both = before.merged(came)
    left = both.merged(replace(went, values=-went.values))
    noise = replace(before, values=saved.noise).merged(replace(both, values=ROUNDING * np.abs(both.values)))
    kept = np.flatnonzero(left["rows"]).tolist()
    left, noise = left.only(kept), noise.only(kept)
    return SavedCells.of(subject, source, left, noise.values, saved.refreshes + 1) if _small(noise, left) else None


def _subject(scan: Scan, segments: Sequence[str]) -> str:
    columns = "; ".join(", ".join(group.columns) for group in scan.groups)
    return f"{columns} by {', '.join([*scan.keys, *segments])}, missing {scan.missing}"


def _small(noise: Cells, left: Cells) -> bool:
    """Whether rounding is little in each cell, beside what so many rows of all cells together vary by.

    Of zeros and ones sums are exact. Of a constant column there is nothing but rounding.
    """
    scan = left.scan
    for number, group in enumerate(scan.groups):
        for at, name in enumerate(group.columns, 1):
            if name in scan.binary:
                continue
            square = scan.name(number, at, at)
            counts, sums = left[f"n{number}"], left[f"s{number}_{at}"]
            means = sums / np.maximum(counts, 1)
            variance = (left[square] - sums * means).sum() / max(counts.sum(), 1)
            constant = (np.finfo(np.float64).eps * (left.shifts[name] + means)) ** 2
            if not (noise[square] <= counts * (BOUND * variance + constant)).all():
                return False
    return True
