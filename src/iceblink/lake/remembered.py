"""What was read of files that never change, kept while there is room: metadata files, manifest lists, manifests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """The values used last, as many as weigh `limit` together; safe to share between threads.

    Values are handed out as they are, to many: nobody may change them.

    Parameters
    ----------
    limit : int
        Most that all values weigh together, in the unit of `put`. A value that weighs more by itself is not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._weight = limit, 0
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """Return the value of `key`, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value, weight: int = 1) -> None:
        """Keep a value, and let go of those not used for longest."""
        if weight > self._limit:
            return
        with self._lock:
            self._forget(key)
            self._kept[key] = value, weight
            self._weight += weight
            while self._weight > self._limit:
                self._forget(next(iter(self._kept)))

    def take(self, key: Key) -> Value | None:
        """Return the value of `key`, or None, and let go of it."""
        with self._lock:
            found = self._kept.get(key)
            self._forget(key)
            return None if found is None else found[0]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._kept.clear()
            self._weight = 0

    def _forget(self, key: Key) -> None:
        _, weight = self._kept.pop(key, (None, 0))
        self._weight -= weight
