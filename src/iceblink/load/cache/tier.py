"""What the tiers of a cache have in common: how they are asked, what they count, how an entry is named."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from iceblink.config import parse_bytes
from iceblink.errors import ConfigError

FORMAT_VERSION = 1
"""Of entries, and of what decoding makes of the same file: entries of another version are not seen, and age out."""


@dataclass(frozen=True)
class CacheStats:
    """What a cache was asked since it was made, and how much it has now.

    Parameters
    ----------
    hits, misses : int
        Requests answered with rows that were there, and those that were not.
    damaged : int
        Entries that did not fit their checksum; they are gone.
    evicted : int
        Entries that went for a new one, by this object.
    not_kept : int
        Tables made and not kept: no room, or no disk that would take them.
    bytes : int
        What all entries take [bytes], whoever made them.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    evicted: int = 0
    not_kept: int = 0
    bytes: int = 0


class CacheTier(Protocol):
    """Keeps tables by key; any thread may ask."""

    def get(self, key: str) -> pa.Table | None:
        """Return the table of a key, or None."""

    def fetch(self, key: str, make: Callable[[], pa.Table]) -> pa.Table:
        """Return the table of a key, made now if it is not there."""

    def stats(self) -> CacheStats:
        """Return what was counted."""


class Tally:
    """Counts, from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] += 1

    def stats(self, used_bytes: int) -> CacheStats:
        """Return the counts so far."""
        with self._lock:
            return CacheStats(bytes=used_bytes, **self._counts)


def entry_key(*parts: str) -> str:
    """Return the name of an entry for all that its rows depend on; it is a safe name of a file."""
    digest = hashlib.sha256(FORMAT_VERSION.to_bytes(4, "little"))
    for part in parts:
        text = part.encode()
        digest.update(len(text).to_bytes(8, "little") + text)  # so that ("ab", "c") is not ("a", "bc")
    return digest.hexdigest()


def limit_bytes(limit: str | int, where: str) -> int:
    """Return a limit in bytes.

    Raises
    ------
    ConfigError
        It is no size, or not above zero.
    """
    found = parse_bytes(limit, where) if isinstance(limit, str) else limit
    if found < 1:
        raise ConfigError(f"the limit is {limit!r}", where, "write it like '50 GiB'")
    return found
