"""Units read as columns: from the cache if they are there, and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.errors import BatchContractBroken, DataCorrupt, IceblinkError, OutOfMemoryBudget
from iceblink.events import emit, observed
from iceblink.load.cache.disk import Cache
from iceblink.load.columns import Columns, Layout, columns_of
from iceblink.load.refused import Refused
from iceblink.load.replace import RowsReplaced, failing, instead
from iceblink.load.units import Units
from iceblink.load.waits import Counts
from iceblink.scan.ordered import in_order


def read_unit(units: Units, unit: int, cache: Cache | None) -> pa.Table:
    """Return the rows of a unit.

    Raises
    ------
    DataCorrupt
        They cannot be read, or are not as many as were counted.
    """
    table = units.read(unit) if cache is None else cache.fetch(units.key(unit), partial(units.read, unit))
    return _as_counted(units, unit, table)


def _as_counted(units: Units, unit: int, table: pa.Table) -> pa.Table:
    if table.num_rows != units.rows[unit]:
        what = f"{units.rows[unit]:,} rows were counted here, and {table.num_rows:,} are read"
        raise DataCorrupt(what, units.place(unit), "what deletes or filters rows must not change")
    return table


class UnitReader:
    """Reads the units of a loader, in many threads.

    With `replace` other rows are in the place of those that cannot be read, or have no place in a tensor; `refused`
    takes note of them.
    """

    def __init__(
        self,
        units: Units,
        layouts: Sequence[Layout],
        threads: int,
        memory_bytes: int,
        cache: Cache | None,
        replace: bool,
        refused: Refused | None = None,
    ) -> None:
        self._units, self._layouts, self._cache, self._replace = units, layouts, cache, replace
        self._refused = refused
        self._threads, self._memory_bytes = threads, memory_bytes
        self._held: dict[int, Columns] = {}
        self._stand_ins: dict[int, tuple[int, NDArray[np.int64]]] = {}  # of units with other rows: which those are
        self._lock = threading.Lock()
        self.counts = Counts()

    def __call__(self, unit: int) -> Columns:
        """Return the rows of a unit."""
        found = self._held.get(unit)
        return self._read(unit) if found is None else found

    def hold(self, units: NDArray[np.int64]) -> None:
        """Read some units and hold them from now on: in memory, or mapped.

        Raises
        ------
        OutOfMemoryBudget
            The cache has not kept them, for other jobs use it, too; and they are more than the memory.
        """

        def held(unit: int) -> Iterator[int]:
            self._held[unit] = self._read(unit)
            mapped = self._cache is not None and self._cache.get(self._units.key(unit)) is not None
            yield 0 if mapped else sum(int(column.nbytes) for column in self._held[unit].values())

        tasks = [partial(held, unit) for unit in units.tolist() if unit not in self._held]
        total = 0
        with closing(in_order(tasks, self._threads, lambda _: 0, 1)) as sizes:
            for size in sizes:
                total += size
                if self._cache is not None and total > self._memory_bytes:
                    self._held.clear()
                    raise OutOfMemoryBudget(
                        f"the cache {self._cache.folder} has no room for rows that must be at hand",
                        self._units.place(0),
                        "raise its limit, or quality='window'",
                    )

    def finished(self, seconds: float) -> None:
        """Take note of how long a batch was made of columns [s]."""
        with self._lock:
            self.counts.finish_s += seconds

    def replaced(self, unit: int, row: int | None, error: IceblinkError, step: int | None = None) -> None:
        """Take note of a row of a unit, or of all, in whose place are others; tell the observers."""
        rows, which = (int(self._units.rows[unit]), "all rows") if row is None else (1, f"row {row:,}")
        with self._lock:
            self.counts.replaced_rows += rows
        if observed():
            emit(RowsReplaced(f"{which} of {self._units.place(unit)}", rows, str(error)))
        if self._refused is not None:
            self._refused.note(unit, row, error, step)

    def behind(self, unit: int, row: int) -> tuple[int, int]:
        """Return the unit and the place of the row that is in the place of a row."""
        if unit not in self._stand_ins:
            return unit, row
        other, rows = self._stand_ins[unit]
        return other, int(rows[row])

    def _read(self, unit: int) -> Columns:
        begun = time.perf_counter()
        columns = self._whole(unit) if self._replace else self._columns(unit, self._table(unit))
        with self._lock:
            self.counts.decode_s += time.perf_counter() - begun
        return columns

    def _table(self, unit: int) -> pa.Table:
        units, cache, made = self._units, self._cache, False

        def make() -> pa.Table:
            nonlocal made
            made = True
            return units.read(unit)

        table = _as_counted(units, unit, make() if cache is None else cache.fetch(units.key(unit), make))
        with self._lock:
            if made:
                self.counts.decoded_bytes += table.nbytes
            else:
                self.counts.cached_bytes += table.nbytes
            if cache is not None:
                self.counts.cache_misses += made
                self.counts.cache_hits += not made
        return table

    def _columns(self, unit: int, table: pa.Table) -> Columns:
        return columns_of(table, self._layouts, self._units.place(unit))

    def _whole(self, unit: int) -> Columns:
        source, places = unit, None
        try:
            table = self._table(unit)
        except DataCorrupt as error:
            self.replaced(unit, None, error)
            source, places, table = self._another(unit, error)
        try:
            columns = self._columns(unit, table)
        except BatchContractBroken:
            rows = table.num_rows
            bad = failing(rows, lambda begin, end: self._columns(unit, table.slice(begin, end - begin)))
            good = instead(rows, bad)
            columns = self._columns(unit, table.take(good))
            for row, why in bad.items():
                self.replaced(source, row if places is None else int(places[row]), why)
            places = good if places is None else places[good]
        if places is not None:
            self._stand_ins[unit] = source, places
        elif unit in self._stand_ins:  # it could not be read before
            self._stand_ins.pop(unit, None)
        return columns

    def _another(self, unit: int, error: DataCorrupt) -> tuple[int, NDArray[np.int64], pa.Table]:
        """Return as many rows as a unit has, of the next unit that can be read: which, their places there, and they."""
        count, wanted = len(self._units.rows), int(self._units.rows[unit])
        for other in ((unit + step) % count for step in range(1, count)):
            with suppress(DataCorrupt):
                if self._units.rows[other]:
                    table = self._table(other)
                    places = np.arange(wanted) % table.num_rows
                    return other, places, table.take(places)
        raise error
