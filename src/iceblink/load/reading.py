"""Units read as columns: from the cache if they are there, and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.errors import DataCorrupt, OutOfMemoryBudget
from iceblink.load.cache.disk import Cache
from iceblink.load.columns import Columns, Layout, columns_of
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
    """Reads the units of a loader, in many threads."""

    def __init__(
        self, units: Units, layouts: Sequence[Layout], threads: int, memory_bytes: int, cache: Cache | None
    ) -> None:
        self._units, self._layouts, self._cache = units, layouts, cache
        self._threads, self._memory_bytes = threads, memory_bytes
        self._held: dict[int, Columns] = {}
        self._lock = threading.Lock()
        self.decoded_bytes, self.busy_s = 0, 0.0

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

    def _read(self, unit: int) -> Columns:
        begun = time.perf_counter()
        table = read_unit(self._units, unit, self._cache)
        columns = columns_of(table, self._layouts, self._units.place(unit))
        with self._lock:
            self.decoded_bytes += table.nbytes
            self.busy_s += time.perf_counter() - begun
        return columns
