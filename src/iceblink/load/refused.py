"""Rows that a loader has replaced, kept in a table or a folder: each once, with where it lies and what failed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import pyarrow as pa

from iceblink.errors import DataCorrupt, IceblinkError, WriteError
from iceblink.load.units import Units
from iceblink.run.pipeline.rejected import WHY, traced
from iceblink.run.quarantine import Quarantine

WAITING = 4096
"""At most so many rows wait for the end of the pass, each with its error and traceback."""

WHEN = pa.schema(
    [
        pa.field("iceblink_rows", pa.int64(), nullable=False),
        pa.field("iceblink_epoch", pa.int64(), nullable=False),
        pa.field("iceblink_step", pa.int64()),
    ]
)
"""What is told of each row beside `WHY`.

Of rows that cannot be read there is one row, without the dataset's columns, for each stretch of a file: it begins at
``iceblink_row``, and has ``iceblink_rows``. The step is known where a function failed; rows are read for many steps.
"""


def refused_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns of refused rows of a dataset: any of its own may be null."""
    ours = [*WHY, *WHEN]
    names = {field.name for field in ours}
    given = (field.with_nullable(True) for field in schema.remove_metadata() if field.name not in names)
    return pa.schema([*given, *ours])


@dataclass(frozen=True)
class _Noted:
    """A row of a unit, or all of them, and what failed."""

    unit: int
    row: int | None
    error: str
    traceback: str
    epoch: int
    step: int | None


@dataclass(frozen=True)
class _Place:
    """Where a row lies, or so many from one on, as far as that is known."""

    path: str
    row: int | None
    rows: int


class Refused:
    """Takes note of refused rows, from any thread; they are read once more when they are written.

    They are committed together when the pass ends, however it ends, so that a process that dies leaves nothing half
    done; and sooner if very many wait. A row that is refused again, in a later epoch, is known.

    Parameters
    ----------
    units : Units
    quarantine : Quarantine
    operator : callable
        Says of a unit who refuses its rows.
    read : callable
        Gives the rows of a unit.
    """

    def __init__(
        self, units: Units, quarantine: Quarantine, operator: Callable[[int], str], read: Callable[[int], pa.Table]
    ) -> None:
        self._units, self._quarantine, self._operator, self._read = units, quarantine, operator, read
        self._schema = refused_schema(units.schema)
        self._lock = threading.Lock()
        self._known: set[tuple[int, int | None]] = set()
        self._waiting: list[_Noted] = []
        self._epoch = 0

    @contextmanager
    def during(self, epoch: int) -> Iterator[None]:
        """Go through an epoch, and commit in the end.

        Raises
        ------
        WriteError
            They could not be committed; they wait for the next time.
        """
        self._epoch = epoch
        try:
            yield
        finally:
            with self._lock:
                self._commit()

    def note(self, unit: int, row: int | None, error: IceblinkError, step: int | None) -> None:
        """Take note of a row of a unit, or of all of them.

        Raises
        ------
        WriteError
            So many wait that they were to be committed.
        """
        with self._lock:
            if (unit, row) not in self._known:
                self._known.add((unit, row))
                self._waiting.append(_Noted(unit, row, error.what, traced(error), self._epoch, step))
            if len(self._waiting) >= WAITING:
                self._commit()

    def _commit(self) -> None:
        if not self._waiting:
            return
        if sys.is_finalizing():  # a script has held on to the pass; no thread could be started to write
            what = f"{len(self._waiting):,} refused rows are not kept: Python has ended, and the pass had not"
            raise WriteError(what, self._operator(self._waiting[0].unit), "loader.close() before that")
        refusals = self._quarantine.open(self._schema)
        try:
            for batch in self._batches():
                refusals.write(batch)
            files = refusals.finish()
        except BaseException:
            refusals.abort()
            raise
        self._quarantine.commit(files)
        self._waiting = []

    def _batches(self) -> Iterator[pa.RecordBatch]:
        by_unit: dict[int, list[_Noted]] = {}
        for noted in self._waiting:
            by_unit.setdefault(noted.unit, []).append(noted)
        for unit, found in by_unit.items():
            whole = [noted for noted in found if noted.row is None]
            lost = [(noted, _Place(*one)) for noted in whole for one in map(astuple, self._units.stretches(unit))]
            if lost:
                yield self._batch(None, lost)
            rows = [(noted, self._place(unit, noted.row)) for noted in found if noted.row is not None]
            if rows:
                yield self._batch(self._rows(unit, [noted.row for noted, _ in rows]), rows)

    def _rows(self, unit: int, places: Sequence[int | None]) -> pa.Table | None:
        try:
            return self._read(unit).take(pa.array(places, pa.int64()))
        except DataCorrupt:  # since it was read for the epoch
            return None

    def _place(self, unit: int, row: int) -> _Place:
        stretches = self._units.stretches(unit)
        if not self._units.untouched(unit):
            return _Place(stretches[0].path if len(stretches) == 1 else "", None, 1)
        for stretch in stretches:
            if row < stretch.rows:
                return _Place(stretch.path, stretch.first_row + row, 1)
            row -= stretch.rows
        raise IndexError(row)

    def _batch(self, given: pa.Table | None, rows: Sequence[tuple[_Noted, _Place]]) -> pa.RecordBatch:
        """Return rows with why and when; `given` has the dataset's columns, if they can be had."""
        schema = self._schema
        told = [
            {
                "iceblink_operator": self._operator(noted.unit),
                "iceblink_error": noted.error,
                "iceblink_traceback": noted.traceback,
                "iceblink_file": place.path or None,
                "iceblink_row": place.row,
                "iceblink_rows": place.rows,
                "iceblink_epoch": noted.epoch,
                "iceblink_step": noted.step,
            }
            for noted, place in rows
        ]
        ours = pa.RecordBatch.from_pylist(told, pa.schema([*WHY, *WHEN]))
        arrays = [
            ours.column(field.name)
            if field.name in ours.schema.names
            else pa.nulls(len(rows), field.type)
            if given is None
            else given.column(field.name).combine_chunks()
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
