"""Decoded rows, kept on a local disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from iceblink.errors import ConfigError
from iceblink.load.cache.entry import Seal, laid_out, opened, seal
from iceblink.load.cache.shelf import Shelf
from iceblink.load.cache.tier import CacheStats, Tally, limit_bytes


class Cache:
    """Decoded rows, kept on a local disk for the next epoch and the next job.

    Jobs of one machine share a folder; each table is one file there, uncompressed Arrow that is mapped and not read.
    A file is verified once in the life of this object, when it is first mapped: a damaged one is removed and made
    again. A process that is killed, and a disk that is full, cost the rows that were to be kept, and nothing else.

    When the limit is reached, what was used longest ago goes, but nothing that a living job has used in its current
    round (see `Rounds` and `Shelf`): rather the new table is not kept. So what does not fit in is answered in part.

    It travels to other processes as its folder and its limit.

    Parameters
    ----------
    folder : str or Path
        On a disk of this machine; made if it is not there.
    limit : str or int
        What all entries of the folder may take: ``"50 GiB"``, or a number of bytes.

    Raises
    ------
    ConfigError
        No file can be made in `folder`, or `limit` is no size.
    """

    def __init__(self, folder: str | Path, limit: str | int = "50 GiB") -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.limit_bytes = limit_bytes(limit, "Cache(limit)")
        self._seals: dict[str, Seal] = {}  # under which entries were verified
        self._tally = Tally()
        try:
            self._shelf = Shelf(self.folder, self.limit_bytes, self._tally)
        except OSError as error:
            hint = "give it a folder on a disk of this machine where files can be made"
            raise ConfigError(f"cannot keep rows: {error.strerror}", f"Cache({str(folder)!r})", hint) from error

    def __reduce__(self) -> tuple[type[Cache], tuple[Path, int]]:
        return Cache, (self.folder, self.limit_bytes)

    def get(self, key: str) -> pa.Table | None:
        """Return the rows of a key, mapped, or None if they are not there or damaged.

        Parameters
        ----------
        key : str
            A name as `entry_key` makes them.
        """
        self._shelf.ask(key)
        found = self._mapped(key)
        self._tally.add("misses" if found is None else "hits")
        return found

    def fetch(self, key: str, make: Callable[[], pa.Table]) -> pa.Table:
        """Return the rows of a key, mapped; made and kept now if they are not there.

        One thread of one process of this machine makes them while others wait for it; where there is no room,
        each makes them for itself, and gets them as they were made.

        Parameters
        ----------
        key : str
            A name as `entry_key` makes them.
        make : callable
            Makes the rows; what it raises goes to who asked, and the next one tries.
        """
        self._shelf.ask(key)
        claim = None
        if (found := self._mapped(key)) is None and not self._shelf.full():
            with suppress(OSError):
                claim = self._shelf.claim(key)
        if claim is not None:
            try:
                found = self._mapped(key)  # who was waited for may have made it
                if found is None:
                    self._tally.add("misses")
                    return self._keep(key, claim, make())
            finally:
                self._shelf.release(key, claim)
        if found is None:
            self._tally.add("misses")
            table = make()
            self._tally.add("not_kept")
            return table
        self._tally.add("hits")
        return found

    def stats(self) -> CacheStats:
        """Return what was counted since this object was made, and what the folder holds now."""
        return self._tally.stats(self._shelf.used_bytes())

    def _keep(self, key: str, claim: int, table: pa.Table) -> pa.Table:
        kept = False
        with suppress(OSError, pa.ArrowException):
            pieces = laid_out(table)
            mark = seal(pieces)
            kept = self._shelf.put(key, claim, [*pieces, mark])
        if not kept:
            self._tally.add("not_kept")
            return table
        self._seals[key] = mark
        found = self._mapped(key)
        return table if found is None else found

    def _mapped(self, key: str) -> pa.Table | None:
        place = self._shelf.place(key)
        try:
            with pa.memory_map(str(place)) as file:
                entry = file.read_buffer()
        except OSError:  # most likely not there
            return None
        found = opened(entry, self._seals.get(key))
        if found is None:
            self._tally.add("damaged")
            with suppress(OSError):
                place.unlink()
            return None
        table, self._seals[key] = found
        self._shelf.touch(key)
        return table
