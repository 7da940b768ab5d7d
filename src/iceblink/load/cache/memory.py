"""Decoded rows, kept in the memory of this process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import pyarrow as pa

from iceblink.load.cache.rounds import Rounds
from iceblink.load.cache.tier import CacheStats, Tally, limit_bytes


class _Held(NamedTuple):
    table: pa.Table
    size: int
    used: int  # the number of the request


class MemoryCache:
    """Decoded rows, kept in the memory of this process for its next epoch.

    The one used longest ago goes first, but none that is in use (see `Rounds`): rather the new one is not kept.
    A pickled one travels empty.

    Parameters
    ----------
    limit : str or int
        ``"4 GiB"``, or a number of bytes.

    Raises
    ------
    ConfigError
        `limit` is no size.
    """

    def __init__(self, limit: str | int) -> None:
        self.limit_bytes = limit_bytes(limit, "MemoryCache(limit)")
        self._tables: OrderedDict[str, _Held] = OrderedDict()  # the one used longest ago first
        self._making: dict[str, Future[pa.Table]] = {}
        self._used_bytes = self._requests = 0
        self._rounds, self._tally, self._lock = Rounds(), Tally(), threading.Lock()

    def __reduce__(self) -> tuple[type[MemoryCache], tuple[int]]:
        return MemoryCache, (self.limit_bytes,)

    def get(self, key: str) -> pa.Table | None:
        """Return the table of a key, or None."""
        with self._lock:
            self._ask(key)
            found = self._find(key)
        self._tally.add("misses" if found is None else "hits")
        return found

    def fetch(self, key: str, make: Callable[[], pa.Table]) -> pa.Table:
        """Return the table of a key, made now if it is not there.

        One thread makes it; others that ask for it meanwhile wait, and make it themselves if that one failed.
        """
        asked = False
        while True:
            with self._lock:
                if not asked:
                    self._ask(key)
                    asked = True
                if (found := self._find(key)) is not None:
                    self._tally.add("hits")
                    return found
                if mine := key not in self._making:
                    self._making[key] = Future()
                making = self._making[key]
            if mine:
                self._tally.add("misses")
                return self._make(key, make, making)
            if making.exception() is None:
                self._tally.add("hits")
                return making.result()

    def stats(self) -> CacheStats:
        """Return what was counted since this object was made."""
        with self._lock:
            return self._tally.stats(self._used_bytes)

    def _make(self, key: str, make: Callable[[], pa.Table], making: Future[pa.Table]) -> pa.Table:
        try:
            table = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            making.set_exception(error)
            raise
        with self._lock:
            self._keep(key, table)
            del self._making[key]
        making.set_result(table)
        return table

    def _ask(self, key: str) -> None:
        self._requests += 1
        self._rounds.ask(key, self._requests)

    def _find(self, key: str) -> pa.Table | None:
        if key not in self._tables:
            return None
        held = self._tables.pop(key)
        self._tables[key] = held._replace(used=self._requests)
        return held.table

    def _keep(self, key: str, table: pa.Table) -> None:
        size = table.get_total_buffer_size()
        in_use_since = self._rounds.in_use_since or 0
        idle = sum(held.size for held in self._tables.values() if held.used < in_use_since)
        if self._used_bytes - idle + size > self.limit_bytes:
            self._tally.add("not_kept")
            return
        while self._used_bytes + size > self.limit_bytes:
            _, held = self._tables.popitem(last=False)
            self._used_bytes -= held.size
            self._tally.add("evicted")
        self._tables[key] = _Held(table, size, self._requests)
        self._used_bytes += size
