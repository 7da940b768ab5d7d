"""GET over HTTP for files: connections kept, answers checked, refusals as file systems raise them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import urllib3

from iceblink.lake.seekable import Seekable

CONNECTIONS = 32
TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)  # [s], of one request; who tries again is `retries.patiently`
Wanted: TypeAlias = tuple[int, int] | int | None
"""The bytes of a file from the first to before the second; the last so many; or all."""
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


class Refused(PermissionError):
    """A server that will not answer this request, whoever sends it again."""


@dataclass(frozen=True, slots=True)
class Got:
    """Bytes of a file, and how large all of it is.

    Parameters
    ----------
    content : bytes
    start : int
        Where they begin in the file [bytes].
    size : int
        Of the whole file [bytes].
    """

    content: bytes
    start: int
    size: int


class Sends(Protocol):
    """What sends a request: a pool of connections to one server, or to all."""

    def urlopen(self, method: str, url: str, *, headers: Mapping[str, str], **options: Any) -> Any: ...


class OwnPool:
    """A pool of connections of this process: after a fork two would read each other's answers.

    Parameters
    ----------
    make : callable
        Returns a new pool.
    """

    def __init__(self, make: Callable[[], Sends]) -> None:
        self._make, self._held = make, (os.getpid(), make())

    def urlopen(self, method: str, url: str, *, headers: Mapping[str, str], **options: Any) -> Any:
        """Send a request; parameters as of urllib3's pools."""
        process, pool = self._held
        if process != os.getpid():
            process, pool = self._held = os.getpid(), self._make()
        return pool.urlopen(method, url, headers=headers, **options)


def get(pool: Sends, url: str, headers: Mapping[str, str], name: str, wanted: Wanted) -> Got:
    """Get a file, or a part of it.

    Parameters
    ----------
    pool : Sends
    url : str
        As `pool` takes it.
    headers : mapping of str to str
    name : str
        Of the file, for errors; shows no secret.
    wanted : Wanted

    Returns
    -------
    Got
        Just what was wanted, or what there is of it: not every server knows ranges.

    Raises
    ------
    FileNotFoundError
    Refused
        It may not be read, or the server takes the request for a wrong one.
    ConnectionError
        There is no way to the server, the answer broke off, or is another part of the file.
    OSError
        The server fails in another way.
    """
    asked = {}
    if wanted is not None:
        asked["Range"] = f"bytes=-{wanted}" if isinstance(wanted, int) else f"bytes={wanted[0]}-{wanted[1] - 1}"
    answer = _answer(pool, "GET", url, {**headers, **asked}, name)
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status == 416:  # nothing is there: the file ends before, or is empty
        size = int(found[2]) if found else 0
        return Got(b"", size, size)
    content: bytes = answer.data
    if answer.status == 206:
        if found is None or found[1] is None:
            raise OSError(f"{name} cannot be read: a part comes without its place")
        start, size = int(found[1]), int(found[2])
        first, end = places(wanted, size)
        if start != first:
            raise ConnectionError(f"{name} was asked for from byte {first:,}, and came from byte {start:,}")
        return Got(content[: end - start], start, size)
    start, end = places(wanted, len(content))
    return Got(content[start:end], start, len(content))


def head(pool: Sends, url: str, headers: Mapping[str, str], name: str) -> int:
    """Return the size of a file [bytes]; parameters and errors as `get`."""
    answer = _answer(pool, "HEAD", url, headers, name)
    if "Content-Length" not in answer.headers:
        raise Refused(f"the server does not tell the size of {name}")
    return int(answer.headers["Content-Length"])


def places(wanted: Wanted, size: int) -> tuple[int, int]:
    """Return from where to where there is something of what is wanted of a file of `size` bytes."""
    if wanted is None:
        return 0, size
    start, end = (size - wanted, size) if isinstance(wanted, int) else wanted
    return min(max(0, start), size), min(end, size)


def _answer(pool: Sends, method: str, url: str, headers: Mapping[str, str], name: str) -> Any:
    """Return an answer that is one: of a file, or of a part of it that is not there (416)."""
    try:
        answer = pool.urlopen(method, url, headers=headers, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        if isinstance(getattr(error, "reason", error), urllib3.exceptions.SSLError):
            raise Refused(f"no trust in the server of {name}: {error}") from None
        raise ConnectionError(f"no answer for {name}: {error}") from None
    status = answer.status
    if status in (404, 410):
        raise FileNotFoundError(name)
    if status in (401, 403):
        raise Refused(f"{name} may not be read: HTTP status {status}")
    if status >= 300 and status != 416:
        kind = OSError if status >= 500 or status in (408, 425, 429) else Refused
        raise kind(f"{name} cannot be read: HTTP status {status}")
    return answer


class Reader(Seekable):
    """One file; each read is a request.

    Parameters
    ----------
    get : callable
        Given a range, returns that part of the file.
    size : int
        [bytes]
    """

    def __init__(self, get: Callable[[Wanted], Got], size: int) -> None:
        super().__init__(size)
        self._get = get

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Read at a place, which moves nothing."""
        end = min(self._size, offset + nbytes)
        return self._get((offset, end)).content if end > offset else b""
