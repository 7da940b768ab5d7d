"""One file, wherever it lies: opened, asked for over HTTP and asked for again, or read by Arrow."""

from __future__ import annotations

import errno
import random
import threading
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
import pyarrow.fs as pafs

from iceblink.interop import optional

REDIRECTS = 5
HOSTS = 64  # to which connections are kept
CHUNK_BYTES = 1 << 18
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
PASSING = {408, 425, 429}  # and 5xx: the same request may succeed later
ABSENT, REFUSED = {404, 410}, {401, 403}


class Fetcher:
    """Fetches files from any number of threads; its connections are kept for the next file.

    Parameters
    ----------
    connections : int
        Kept to one server.
    timeout_s : float
        A server that is silent for so long has failed [s].
    retries : int
    largest_bytes : int
        A larger file is an error [bytes].
    headers : dict of str to str
    """

    def __init__(
        self, connections: int, timeout_s: float, retries: int, largest_bytes: int, headers: dict[str, str]
    ) -> None:
        urllib3 = optional("urllib3", "media")
        once = urllib3.Retry(
            REDIRECTS, connect=0, read=0, status=0, other=0, respect_retry_after_header=False
        )  # a body that breaks off must be tried again as well, so it is done here
        limit = urllib3.Timeout(connect=timeout_s, read=timeout_s)
        self._http = urllib3.PoolManager(HOSTS, headers, maxsize=connections, timeout=limit, retries=once)
        self._errors = urllib3.exceptions
        self._retries, self._largest_bytes = retries, largest_bytes
        self._closed = threading.Event()

    def fetch(self, place: str) -> bytes:
        """Return the bytes of a file.

        Raises
        ------
        OSError
            It is not there, may not be read, is too large, or cannot be had even after retries.
        """
        for tried in count():
            try:
                return self._once(place)
            except (ConnectionError, TimeoutError) as error:
                if tried == self._retries or self._closed.wait(_pause_s(tried, error)):
                    raise
        raise AssertionError("count() never ends")

    def close(self) -> None:
        """Drop all connections; nothing is asked for again."""
        self._closed.set()
        self._http.clear()

    def _once(self, place: str) -> bytes:
        scheme = place.partition("://")[0] if "://" in place else ""
        match scheme:
            case "":
                return self._opened(Path(place))
            case "file":
                return self._opened(_path(place))
            case "http" | "https":
                return self._asked(place)
        try:
            filesystem, path = pafs.FileSystem.from_uri(place)
            with filesystem.open_input_stream(path) as stream:
                return self._whole(stream, place)
        except (pa.ArrowException, ValueError) as error:  # Arrow says so of schemes that it does not know
            raise OSError(f"{place}: {str(error).splitlines()[0]}") from error

    def _opened(self, path: Path) -> bytes:
        with open(path, "rb") as file:
            return self._whole(file, str(path))

    def _asked(self, url: str) -> bytes:
        try:
            with self._http.request("GET", url, preload_content=False) as answer:
                _check(answer, url)
                return self._whole(answer, url)
        except self._errors.LocationValueError as error:
            raise OSError(f"{url}: {error}") from error
        except self._errors.HTTPError as error:
            raise self._told(error, url) from error

    def _told(self, error: Any, url: str) -> OSError:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, self._errors.ResponseError):
            return OSError(f"{url}: {reason}")  # redirected in circles
        silent = isinstance(reason, self._errors.TimeoutError)
        if silent and not isinstance(reason, self._errors.NewConnectionError):  # refused at once, and one of them too
            return TimeoutError(f"{url}: the server is silent")
        return ConnectionError(f"{url}: {reason}")

    def _whole(self, file: Any, place: str) -> bytes:
        data = bytearray()
        while chunk := file.read(CHUNK_BYTES):
            data += chunk
            if len(data) > self._largest_bytes:
                raise OSError(errno.EFBIG, f"larger than {self._largest_bytes:,} bytes", place)
            if self._closed.is_set():
                raise OSError(errno.ECANCELED, "nobody waits for it", place)
        return bytes(data)


class _Later(ConnectionError):
    """The server asks to come back after `pause_s`."""

    pause_s: float | None = None


def _check(answer: Any, url: str) -> None:
    """Raise what an HTTP status means."""
    if 200 <= answer.status < 300:
        return
    told = f"{url}: {answer.status} {answer.reason or ''}".rstrip()
    if answer.status in ABSENT:
        raise FileNotFoundError(told)
    if answer.status in REFUSED:
        raise PermissionError(told)
    if answer.status in PASSING or answer.status >= 500:
        later = _Later(told)
        asked = answer.headers.get("Retry-After", "")
        later.pause_s = float(asked) if asked.isdecimal() else None
        raise later
    raise OSError(told)


def _pause_s(tried: int, error: OSError) -> float:
    """How long to wait before a file is asked for again [s]."""
    asked: float | None = getattr(error, "pause_s", None)
    usual = FIRST_PAUSE_S * 2.0 ** min(tried, 30) * random.uniform(0.5, 1.0)
    return min(LONGEST_PAUSE_S, usual if asked is None else asked)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise OSError(f"{url}: the file is on another machine")
    return Path(url2pathname(parts.path))
