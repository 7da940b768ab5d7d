"""Objects of S3 read by signed requests of our own: one for each part, and none to ask for a size first.

Arrow's client asks for the size of each file that it opens, and takes three times as much CPU for a byte
(decision 24). It writes, lists and deletes, and reads where keys must be fetched from somewhere first.

References
----------
.. [1] Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Self
from urllib.parse import quote, urlsplit

import pyarrow.fs as pafs
import urllib3

from iceblink.lake.http_get import CONNECTIONS, TIMEOUT, Got, OwnPool, Reader, Refused, Wanted, get, head, places

_KEY = ("s3.access-key-id", "client.access-key-id")
_SECRET = ("s3.secret-access-key", "client.secret-access-key")
_TOKEN = ("s3.session-token", "client.session-token")
_REGION = ("s3.region", "client.region")
_ELSEWHERE = ("role-arn", "profile-name", "proxy-uri", "signer", "resolve-region", "anonymous")
"""With a property of S3 that begins so, the way to a store is more than its keys."""
_OTHER_CLOUDS = ("cn-", "us-iso", "eu-iso")
"""Regions whose hosts are not those of amazonaws.com."""
_NOTHING = hashlib.sha256(b"").hexdigest()


class S3Objects:
    """The objects of one bucket.

    Parameters
    ----------
    bucket : str
    endpoint : str
        ``http`` or ``https``, host and port.
    virtual : bool
        The bucket is part of the host's name, and not of the path.
    region, key, secret, token : str
        What requests are signed with; `token` may be empty.
    arrow : callable
        Returns Arrow's file system of the same bucket: what is refused here is asked of it, which knows of redirects
        and regions. Its error counts.
    """

    tells_endings = True

    def __init__(
        self,
        bucket: str,
        endpoint: str,
        virtual: bool,
        region: str,
        key: str,
        secret: str,
        token: str,
        arrow: Callable[[], pafs.FileSystem],
    ) -> None:
        given = urlsplit(endpoint)
        self._host = f"{bucket}.{given.netloc}" if virtual else given.netloc
        self._virtual, self._arrow = virtual, arrow
        self._region, self._key, self._secret, self._token = region, key, secret, token
        kind = urllib3.HTTPSConnectionPool if given.scheme == "https" else urllib3.HTTPConnectionPool
        found = urlsplit(f"//{self._host}")
        assert found.hostname is not None
        make = partial(kind, found.hostname, found.port, maxsize=CONNECTIONS, timeout=TIMEOUT, retries=False)
        self._pool = OwnPool(make)

    @classmethod
    def of(cls, given: Mapping[str, str], bucket: str, arrow: Callable[[], pafs.FileSystem]) -> Self | None:
        """Return the objects that FileIO properties lead to by themselves, or None where more must be asked."""
        key, secret, token, region = (_first(given, names) for names in (_KEY, _SECRET, _TOKEN, _REGION))
        words = [name.partition(".")[2] for name in given if name.startswith(("s3.", "client."))]
        if not (key and secret and region) or any(word.startswith(_ELSEWHERE) for word in words):
            return None
        endpoint = given.get("s3.endpoint", "")
        virtual = given.get("s3.force-virtual-addressing", "").lower() in ("true", "1", "yes")
        if not endpoint:
            if region.startswith(_OTHER_CLOUDS):
                return None
            endpoint, virtual = f"https://s3.{region}.amazonaws.com", "." not in bucket
        if "://" not in endpoint:
            endpoint = f"https://{endpoint}"  # as Arrow has it
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or parts.path.strip("/") or "@" in parts.netloc:
            return None
        return cls(bucket, endpoint, virtual, region, key, secret, token, arrow)

    def get(self, path: str, wanted: Wanted = None) -> Got:
        """Get an object, or a part of it; parameters and errors as `http_get.get`.

        Parameters
        ----------
        path : str
            ``bucket/key``.
        """
        target, headers = self._signed("GET", path)
        try:
            return get(self._pool, target, headers, path, wanted)
        except Refused:
            with self._arrow().open_input_file(path) as file:
                size = file.size()
                start, end = places(wanted, size)
                return Got(file.read_at(end - start, start), start, size)

    def size_of(self, path: str) -> int:
        """Return the size of an object [bytes]; errors as `get`."""
        target, headers = self._signed("HEAD", path)
        try:
            return head(self._pool, target, headers, path)
        except Refused:
            with self._arrow().open_input_file(path) as file:
                return int(file.size())

    def reader(self, path: str, size: int | None = None) -> Reader:
        """Open an object for reads at any place, by several threads at once."""
        return Reader(partial(self.get, path), self.size_of(path) if size is None else size)

    def _signed(self, method: str, path: str) -> tuple[str, dict[str, str]]:
        """Return what stands in the first line of a request for an object, and the headers that sign it."""
        now = datetime.now(UTC)
        target = "/" + quote(path.partition("/")[2] if self._virtual else path, safe="/~")
        headers = {"Host": self._host, "X-Amz-Content-SHA256": _NOTHING, "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}"}
        if self._token:
            headers["X-Amz-Security-Token"] = self._token
        names = ";".join(headers).lower()
        lines = [f"{name.lower()}:{value}" for name, value in headers.items()]
        canonical = "\n".join([method, target, "", *lines, "", names, _NOTHING])
        scope = f"{now:%Y%m%d}/{self._region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", headers["X-Amz-Date"], scope, _sha256(canonical)])
        signature = hmac.new(_key(self._secret, scope), text.encode(), hashlib.sha256).hexdigest()
        credential = f"Credential={self._key}/{scope}"
        headers["Authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
        return target, headers


def _first(given: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((given[name] for name in names if name in given), "")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=64)
def _key(secret: str, scope: str) -> bytes:
    """Return the key of a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
