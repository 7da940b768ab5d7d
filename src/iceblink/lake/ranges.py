"""Files read by ranges: near ranges as one request, large ones as several side by side, each tried again in need."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from iceblink.config import KIB, MIB
from iceblink.lake.seekable import Seekable

Range = tuple[int, int]
"""From the first byte to before the second."""

NEAR_BYTES = 512 * KIB
"""Ranges with a gap of so much or less are one request: the gap comes faster than another answer would."""
REQUEST_BYTES = 8 * MIB
"""No request is for much more: several at once are faster than a large one, from any store."""
REQUESTS = 32
"""Most requests of this process for parts of files at once."""


def coalesced(ranges: Iterable[Range], near_bytes: int = NEAR_BYTES, request_bytes: int = REQUEST_BYTES) -> list[Range]:
    """Return the requests that fetch all of `ranges`, in the file's order; they do not overlap.

    Parameters
    ----------
    ranges : iterable of (int, int)
        In any order; empty ones are left out.
    near_bytes : int
        Ranges not further from each other than this are fetched together [bytes].
    request_bytes : int
        Ranges are not put together beyond this, and one that is more than twice as long is divided [bytes].
    """
    requests: list[list[int]] = []
    for start, end in sorted(one for one in ranges if one[0] < one[1]):
        last = requests[-1] if requests else None
        if last is not None and start < last[1]:  # it overlaps: bytes are fetched once
            last[1] = max(last[1], end)
        elif last is not None and start - last[1] <= near_bytes and end - last[0] <= request_bytes:
            last[1] = end
        else:
            requests.append([start, end])
    return [part for start, end in requests for part in _divided(start, end, request_bytes)]


def _divided(start: int, end: int, request_bytes: int) -> list[Range]:
    length = end - start
    if length <= 2 * request_bytes:
        return [(start, end)]
    pieces = -(-length // request_bytes)
    cuts = [start + length * piece // pieces for piece in range(pieces + 1)]
    return list(itertools.pairwise(cuts))


@dataclass(frozen=True, eq=False)
class Opened:
    """A file somewhere else, ready to be read; used by several threads.

    Parameters
    ----------
    path : str
    size : int
        [bytes]
    fetch : callable
        Given an offset and a length inside the file, returns just those bytes, trying again in need.
    whole : callable
        Returns all of the file and lets go of it, where that was read already; else None.
    """

    path: str
    size: int
    fetch: Callable[[int, int], pa.Buffer]
    whole: Callable[[], pa.Buffer | None] = lambda: None

    def native(self) -> pa.NativeFile:
        """Return it as Arrow's readers want it; every read is a request."""
        return pa.PythonFile(_Positioned(self.size, self.fetch), mode="r")

    def parts(self, ranges: Iterable[Range]) -> Parts:
        """Fetch ranges, as few requests as they take, side by side."""
        whole = self.whole()
        if whole is not None:
            return Parts(self, [(0, self.size)], [whole])
        requests = coalesced(ranges)
        if len(requests) < 2:
            return Parts(self, requests, [self._part(request) for request in requests])
        return Parts(self, requests, list(_requests().map(self._part, requests)))

    def _part(self, request: Range) -> pa.Buffer:
        start, end = request
        return self.fetch(start, end - start)


class Parts:
    """What was fetched of a file; the rest of it is fetched when it is read after all."""

    def __init__(self, opened: Opened, requests: Sequence[Range], buffers: Sequence[pa.Buffer]) -> None:
        self._opened, self._requests, self._buffers = opened, requests, buffers
        self._starts = [start for start, _ in requests]

    @property
    def nbytes(self) -> int:
        """What is held [bytes]."""
        return sum(end - start for start, end in self._requests)

    def native(self) -> pa.NativeFile:
        """Return the file as Arrow's readers want it; what is held is read without a copy."""
        return pa.PythonFile(_Positioned(self._opened.size, self.fetch), mode="r")

    def fetch(self, offset: int, nbytes: int) -> pa.Buffer:
        """Return bytes of the file."""
        place = bisect_right(self._starts, offset) - 1
        if place >= 0:
            start, end = self._requests[place]
            if offset + nbytes <= end:
                return self._buffers[place].slice(offset - start, nbytes)
            if (joined := self._joined(place, offset, offset + nbytes)) is not None:
                return joined
        return self._opened.fetch(offset, nbytes)

    def _joined(self, place: int, offset: int, end: int) -> pa.Buffer | None:
        """Return bytes that lie in several parts without a gap, or None."""
        pieces, at = [], offset
        for (start, stop), buffer in zip(self._requests[place:], self._buffers[place:], strict=True):
            if not start <= at < stop:
                return None
            pieces.append(buffer.slice(at - start, min(stop, end) - at))
            at = min(stop, end)
            if at == end:
                return pa.py_buffer(b"".join(pieces))
        return None


class _Positioned(Seekable):
    """A file of which Arrow reads parts that are held already."""

    def __init__(self, size: int, fetch: Callable[[int, int], pa.Buffer]) -> None:
        super().__init__(size)
        self._fetch = fetch

    def read_buffer(self, nbytes: int) -> pa.Buffer:
        """Read without a copy: Arrow looks for this word."""
        found = self._buffer(nbytes, self._at)
        self._at += found.size
        return found

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Read at a place, which moves nothing."""
        content: bytes = self._buffer(nbytes, offset).to_pybytes()
        return content

    def _buffer(self, nbytes: int, offset: int) -> pa.Buffer:
        length = max(0, min(nbytes, self._size - offset))
        return self._fetch(offset, length) if length else pa.py_buffer(b"")


_starting = threading.Lock()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REQUESTS, "iceblink-requests")


def _requests() -> ThreadPoolExecutor:
    """Return the threads that wait for answers; made once, when first needed."""
    with _starting:
        return _pool()
