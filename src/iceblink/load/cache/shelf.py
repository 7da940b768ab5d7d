"""The folder of a cache: files written whole, their sum below a limit, and none in use taken away for another."""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from iceblink.load.cache.entry import Piece
from iceblink.load.cache.locked_file import is_at, lock_file, remove_orphan
from iceblink.load.cache.rounds import Rounds
from iceblink.load.cache.tier import Tally

_ENTRY, _UNFINISHED, _JOB, _LEDGER = ".rows", ".rows-unfinished", ".rows-job", "rows-ledger"

_TOUCHED_EVERY_NS = 60 * 10**9
IDLE_S = 3600
"""A job that asked for nothing for so long [s] keeps no entry from going: it is an open notebook, or it hangs."""

_SURVEYED_EVERY = 64  # one look at a full folder for so many entries in it: a look costs microseconds an entry
_AFTER_FAILURE = 16  # tables that a disk is spared which did not take one


class _Kept(NamedTuple):
    used_ns: int
    name: str
    size: int


class Shelf:
    """Files that several jobs share, the one used longest ago first to go.

    An entry is in use if it was used, by any job, in the current round of a living job or the one before (see
    `Rounds`). It does not go for another: then that other is not taken. When a file was used is its time of change; a
    job tells of itself with an empty file that it holds locked, whose time of change is that since when it needs what
    is used, and whose time of access is that of its last request.

    The sum of all files lies in a ledger, so that a new one needs no look at the others while there is room. A process
    that is killed leaves it too high; it is put right whenever the folder seems full.

    Parameters
    ----------
    folder : Path
    limit_bytes : int
        Of this user; another's may differ.
    tally : Tally
        Counts what is evicted.

    Raises
    ------
    OSError
        No file can be made there.
    """

    def __init__(self, folder: Path, limit_bytes: int, tally: Tally) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._rounds, self._tally, self._lock = Rounds(), tally, threading.Lock()
        self._job: Path | None = None
        self._told_ns = self._spared = 0
        self._oldest: deque[_Kept] = deque()
        folder.mkdir(parents=True, exist_ok=True)
        with self._ledger() as ledger:
            _note(ledger, self._survey()[0])

    def place(self, key: str) -> Path:
        """Return where the entry of a key is, if it is there."""
        return self.folder / f"{key}{_ENTRY}"

    def ask(self, key: str) -> None:
        """Note that this job asks for a key."""
        now = time.time_ns()
        with self._lock:
            if self._rounds.ask(key, now) or now - self._told_ns > _TOUCHED_EVERY_NS:
                self._told_ns = now
                with suppress(OSError):  # then the job's entries may go
                    self._tell(now)

    def touch(self, key: str) -> None:
        """Note that an entry is used: at most once a minute, but in each round."""
        now = time.time_ns()
        with suppress(OSError):  # gone, or another user's
            if self.place(key).stat().st_mtime_ns < max(self._rounds.started or 0, now - _TOUCHED_EVERY_NS):
                os.utime(self.place(key), ns=(now, now))

    def full(self) -> bool:
        """Return whether a table need not be offered, since others lately were in vain; to be asked once a table."""
        with self._lock:
            self._spared, full = max(0, self._spared - 1), self._spared > 0
            return full

    def claim(self, key: str) -> int:
        """Wait until nobody else makes the entry of a key, and return its unfinished file, empty.

        Raises
        ------
        OSError
        """
        file = lock_file(self._unfinished(key))
        os.truncate(file, 0)  # a process may have been killed at it
        return file

    def release(self, key: str, file: int) -> None:
        """Let others have the key; what was claimed and not put is gone."""
        with suppress(OSError):
            if is_at(file, self._unfinished(key)):
                self._unfinished(key).unlink()
        os.close(file)

    def put(self, key: str, file: int, pieces: Sequence[Piece]) -> bool:
        """Write an entry into its unfinished file and let it be seen; return False if there is no room.

        Raises
        ------
        OSError
        """
        try:
            if not self._reserve(file, sum(map(len, pieces))):
                return False
            with open(file, "wb", buffering=1 << 20, closefd=False) as stream:
                for piece in pieces:
                    stream.write(piece)
            now = time.time_ns()
            os.utime(file, ns=(now, now))
            self._unfinished(key).rename(self.place(key))
        except OSError:
            self._spared = _AFTER_FAILURE
            raise
        return True

    def used_bytes(self) -> int:
        """Return what all entries take [bytes]."""
        return sum(size for _, _, size in self._entries())

    def _unfinished(self, key: str) -> Path:
        return self.folder / f"{key}{_UNFINISHED}"

    def _tell(self, now: int) -> None:
        if self._job is None:
            job = self.folder / f"{uuid.uuid4().hex}{_JOB}"
            weakref.finalize(self, _leave, job, lock_file(job), os.getpid())
            self._job = job
        assert self._rounds.in_use_since is not None
        os.utime(self._job, ns=(now, self._rounds.in_use_since))

    def _reserve(self, file: int, size: int) -> bool:
        """Make room for an unfinished file and let it count; return whether there was any."""
        if size > self.limit_bytes:
            return False
        with self._ledger() as ledger:
            used = _noted(ledger)
            if used is None:
                used, _ = self._survey()
            if used + size > self.limit_bytes:
                used = self._evict(used, size)
            if used + size > self.limit_bytes:
                used, entries = self._survey()
                if used + size - sum(kept.size for kept in self._oldest) <= self.limit_bytes:
                    used = self._evict(used, size)
                else:
                    self._spared = entries // _SURVEYED_EVERY
            if fits := used + size <= self.limit_bytes:
                os.truncate(file, size)
                used += size
            _note(ledger, used)
            return fits

    def _evict(self, used: int, size: int) -> int:
        """Remove what was found to be out of use until there is room, and return what is used then."""
        while self._oldest and used + size > self.limit_bytes:
            kept = self._oldest.popleft()
            path = self.folder / kept.name
            with suppress(FileNotFoundError):  # others evict too
                if path.stat().st_mtime_ns == kept.used_ns:
                    path.unlink()  # who has mapped it reads on
                    self._tally.add("evicted")
                    used -= kept.size
        return used

    def _survey(self) -> tuple[int, int]:
        """Find what is out of use, remove what dead processes left; return what is used, and by how many entries."""
        now = time.time_ns()
        in_use_since, used = now, 0
        for path in self.folder.glob(f"*{_JOB}"):
            with suppress(FileNotFoundError):
                told = path.stat()
                if not remove_orphan(path) and now - told.st_atime_ns < IDLE_S * 10**9:
                    in_use_since = min(in_use_since, told.st_mtime_ns)
        for path in self.folder.glob(f"*{_UNFINISHED}"):  # first: what is renamed now is not missed
            with suppress(FileNotFoundError):
                used += 0 if remove_orphan(path) else path.stat().st_size
        entries = sorted(self._entries())
        self._oldest = deque(kept for kept in entries if kept.used_ns < in_use_since)
        return used + sum(kept.size for kept in entries), len(entries)

    def _entries(self) -> Iterator[_Kept]:
        for path in self.folder.glob(f"*{_ENTRY}"):  # none where the folder is gone
            with suppress(FileNotFoundError):
                found = path.stat()
                yield _Kept(found.st_mtime_ns, path.name, found.st_size)

    @contextmanager
    def _ledger(self) -> Iterator[int]:
        """Hold the folder alone; only for what takes milliseconds."""
        file = lock_file(self.folder / _LEDGER)
        try:
            yield file
        finally:
            os.close(file)


def _noted(ledger: int) -> int | None:
    text = os.pread(ledger, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _note(ledger: int, used: int) -> None:
    os.pwrite(ledger, b"%-32d" % used, 0)


def _leave(job: Path, lock: int, process: int) -> None:
    if os.getpid() == process:  # and not a fork of it
        job.unlink(missing_ok=True)
        os.close(lock)
