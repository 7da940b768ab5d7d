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
from iceblink.events import emit
from iceblink.load.cache.disk import Cache
from iceblink.load.columns import Columns, Layout, bytes_of, columns_of
from iceblink.load.replace import RowsReplaced, failing, instead
from iceblink.load.units import Units
from iceblink.scan.ordered import in_order


def read_unit(units: Units, unit: int, cache: Cache | None) -> pa.Table:
    """Return the rows of a unit.

    Raises
    ------
    DataCorrupt
        They cannot be read, or are not as many as were counted.
    """
    table = units.read(unit) if cache is None else cache.fetch(units.key(unit), partial(units.read, unit))
    if table.num_rows != units.rows[unit]:
        what = f"{units.rows[unit]:,} rows were counted here, and {table.num_rows:,} are read"
        raise DataCorrupt(what, units.place(unit), "what deletes or filters rows must not change")
    return table


class UnitReader:
    """Reads the units of a loader, in many threads.

    With `replace` other rows are in the place of those that cannot be read, or have no place in a tensor.
    """

    def __init__(
        self,
        units: Units,
        layouts: Sequence[Layout],
        threads: int,
        memory_bytes: int,
        cache: Cache | None,
        replace: bool,
    ) -> None:
        self._units, self._layouts, self._cache, self._replace = units, layouts, cache, replace
        self._threads, self._memory_bytes = threads, memory_bytes
        self._held: dict[int, Columns] = {}
        self._lock = threading.Lock()
        self.decoded_bytes, self.decode_s, self.finish_s, self.replaced_rows = 0, 0.0, 0.0, 0

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
            self.finish_s += seconds

    def replaced(self, unit: int, row: int | None, error: IceblinkError) -> None:
        """Take note of a row of a unit, or of all, in whose place are others; tell the observers."""
        rows, which = (int(self._units.rows[unit]), "all rows") if row is None else (1, f"row {row:,}")
        with self._lock:
            self.replaced_rows += rows
        emit(RowsReplaced(f"{which} of {self._units.place(unit)}", rows, str(error)))

    def _read(self, unit: int) -> Columns:
        begun = time.perf_counter()
        columns = self._whole(unit) if self._replace else self._columns(unit, self._table(unit))
        with self._lock:
            self.decoded_bytes += bytes_of(columns)
            self.decode_s += time.perf_counter() - begun
        return columns

    def _table(self, unit: int) -> pa.Table:
        return read_unit(self._units, unit, self._cache)

    def _columns(self, unit: int, table: pa.Table) -> Columns:
        return columns_of(table, self._layouts, self._units.place(unit))

    def _whole(self, unit: int) -> Columns:
        try:
            table = self._table(unit)
        except DataCorrupt as error:
            self.replaced(unit, None, error)
            table = self._another(unit, error)
        try:
            return self._columns(unit, table)
        except BatchContractBroken:
            rows = table.num_rows
            bad = failing(rows, lambda begin, end: self._columns(unit, table.slice(begin, end - begin)))
            columns = self._columns(unit, table.take(instead(rows, bad)))
            for row, why in bad.items():
                self.replaced(unit, row, why)
            return columns

    def _another(self, unit: int, error: DataCorrupt) -> pa.Table:
        """Return as many rows as a unit has, of the next unit that can be read."""
        count, wanted = len(self._units.rows), int(self._units.rows[unit])
        for other in ((unit + step) % count for step in range(1, count)):
            with suppress(DataCorrupt):
                if self._units.rows[other]:
                    table = self._table(other)
                    return table.take(np.arange(wanted) % table.num_rows)
        raise error
