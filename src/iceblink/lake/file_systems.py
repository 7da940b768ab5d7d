"""Which file system a location is in: schemes, the properties that reach them, and what each is opened with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import pyarrow.fs as pafs

from iceblink.errors import ConfigError, nearest
from iceblink.lake.late import hdfs_files, http_files, iceberg_arrow, s3_objects

if TYPE_CHECKING:
    from iceblink.lake.http_get import Got, Reader, Wanted

S3 = frozenset({"s3", "s3a", "s3n"})
AS_S3 = {"oss": "oss", "cos": "cos", "cosn": "cos"}
"""Stores that speak S3 at an endpoint of their own, and how their properties begin."""
AZURE = frozenset({"abfs", "abfss", "wasb", "wasbs"})
GOOGLE = frozenset({"gs", "gcs"})
HADOOP = frozenset({"hdfs", "viewfs"})
WEB = frozenset({"http", "https"})
SCHEMES = sorted({"file", *S3, *AS_S3, *AZURE, *GOOGLE, *HADOOP, *WEB})

PREFIXES = ("s3.", "client.", "gcs.", "adls.", "hdfs.", "hadoop.", "oss.", "cos.", "fs.cosn.", "http.", "storage.")
"""How the names of properties begin that reach file systems."""

REGION = "us-east-1"
"""Of a store at an endpoint of its own that was given no region: what MinIO and its like go by."""
CONNECT_S, REQUEST_S = "10", "30"  # PyIceberg takes properties as text
_HTTP_HEADER, _HTTP_ORIGINS = "http.header.", "http.origins"

_THEIR_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "oss": {
        "s3.endpoint": ("oss.endpoint",),
        "s3.region": ("oss.region",),
        "s3.access-key-id": ("oss.access-key-id",),
        "s3.secret-access-key": ("oss.access-key-secret", "client.access-key-secret"),
        "s3.session-token": ("oss.security-token", "client.security-token"),
    },
    "cos": {
        "s3.endpoint": ("cos.endpoint",),
        "s3.region": ("cos.region", "fs.cosn.bucket.region"),
        "s3.access-key-id": ("cos.secret-id", "fs.cosn.userinfo.secretId"),
        "s3.secret-access-key": ("cos.secret-key", "fs.cosn.userinfo.secretKey"),
        "s3.session-token": ("cos.session-token", "fs.cosn.userinfo.sessionToken"),
    },
}
"""What those stores call the properties of S3; where none is given, the property of S3 itself counts."""
_ENDPOINT = {"oss": "https://oss-{region}.aliyuncs.com", "cos": "https://cos.{region}.myqcloud.com"}


class Objects(Protocol):
    """Files that are read by requests of our own; paths are those inside of their file system."""

    tells_endings: bool
    """Whether the last bytes of a file may be asked for before its size is known."""

    def get(self, path: str, wanted: Wanted = None) -> Got: ...

    def reader(self, path: str, size: int | None = None) -> Reader: ...


def split_location(path: str) -> tuple[str, str, str]:
    """Return scheme, authority, and the path as the file system of that scheme takes it.

    Names are taken as they are: a key may hold ``?``, ``#`` and ``%``.

    Raises
    ------
    ValueError
        It is no location at all.
    ConfigError
        A scheme that leads to no file system.
    """
    scheme, found, rest = path.partition("://")
    if not found:
        raise ValueError(f"{path!r} is no location of a file")
    if scheme not in SCHEMES:
        what = f"{path!r} is on no file system that is known here"
        raise ConfigError(what, "storage", nearest(scheme, SCHEMES, "schemes"))
    authority, slash, inside = rest.partition("/")
    if scheme in HADOOP:
        return scheme, authority, slash + inside
    if scheme in AZURE:  # container@account.dfs.core.windows.net
        return scheme, authority, f"{authority.partition('@')[0]}{slash}{inside}"
    return scheme, authority, rest


@lru_cache(maxsize=64)
def file_system(properties: tuple[tuple[str, str], ...], scheme: str, authority: str) -> pafs.FileSystem:
    """Return the Arrow file system of a scheme and authority; opened once for the same properties.

    Raises
    ------
    ConfigError
        A package that it takes is not installed, or the properties do not suffice.
    """
    given = dict(properties)
    try:
        if scheme in WEB:
            return pafs.PyFileSystem(_web(given, scheme))
        if scheme in HADOOP:
            return _hadoop(given, scheme, authority)
        if scheme in S3:
            given = _s3(given)
        elif scheme in AS_S3:
            scheme, given = "s3", _s3(_as_s3(given, AS_S3[scheme]))
        elif scheme in AZURE:
            account = authority.partition("@")[2].partition(".")[0]
            given = ({"adls.account-name": account} if account else {}) | given
        return iceberg_arrow.PyArrowFileIO(given).fs_by_scheme(scheme, authority)
    except (ImportError, NotImplementedError) as error:
        raise ConfigError(f"{scheme}:// cannot be read here: {error}", "storage", "install what it names") from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{scheme}://{authority} cannot be opened: {error}", "storage") from None


@lru_cache(maxsize=64)
def objects(properties: tuple[tuple[str, str], ...], scheme: str, authority: str) -> Objects | None:
    """Return what reads the files of a scheme and authority by requests of our own; None where Arrow does."""
    if scheme in WEB:
        handler: Objects = file_system(properties, scheme, authority).handler
        return handler
    if scheme not in S3 and scheme not in AS_S3:
        return None
    given = dict(properties)
    given = _s3(_as_s3(given, AS_S3[scheme]) if scheme in AS_S3 else given)
    return s3_objects.S3Objects.of(given, authority, partial(file_system, properties, scheme, authority))


def _s3(given: Mapping[str, str]) -> dict[str, str]:
    patient = {
        "s3.retry-strategy-impl": "iceblink.lake.retries.PatientS3",
        "s3.connect-timeout": CONNECT_S,
        "s3.request-timeout": REQUEST_S,
    }
    if "s3.endpoint" in given and "client.region" not in given:
        patient["s3.region"] = REGION  # otherwise Amazon would be asked where the bucket is
    return patient | dict(given)


def _as_s3(given: Mapping[str, str], kind: str) -> dict[str, str]:
    """Return properties of S3 for those of a store that speaks it: buckets are part of the host's name there."""
    theirs = {
        ours: next(given[word] for word in words if word in given)
        for ours, words in _THEIR_WORDS[kind].items()
        if any(word in given for word in words)
    }
    found = {"s3.force-virtual-addressing": "true"} | dict(given) | theirs
    if "s3.endpoint" not in found:
        region = found.get("s3.region", found.get("client.region"))
        if region is None:
            hint = f"give {kind}.region= or {kind}.endpoint= with the catalog's properties"
            raise ConfigError(f"a location of {kind} needs an endpoint or a region", "storage", hint)
        found["s3.endpoint"] = _ENDPOINT[kind].format(region=region)
    return found


def _web(given: Mapping[str, str], scheme: str) -> pafs.FileSystemHandler:
    headers = {k.removeprefix(_HTTP_HEADER): v for k, v in given.items() if k.startswith(_HTTP_HEADER)}
    origins = [one.strip().rstrip("/").lower() for one in given.get(_HTTP_ORIGINS, "").split(",") if one.strip()]
    if headers and not origins:
        hint = f"give {_HTTP_ORIGINS}='https://data.example.com' with them"
        raise ConfigError(f"nobody is named whom the headers of {_HTTP_HEADER} are for", "storage", hint)
    return http_files.HttpFiles(scheme, headers, origins)


def _hadoop(given: Mapping[str, str], scheme: str, authority: str) -> pafs.FileSystem:
    """Return HDFS by `hdfs-native`, or by libhdfs where only that is there or ``hdfs.client`` asks for it."""
    if given.get("hdfs.client", "native") == "native" and find_spec("hdfs_native") is not None:
        if not authority and "hdfs.host" in given:
            authority = f"{given['hdfs.host']}:{given.get('hdfs.port', '8020')}"
        return pafs.PyFileSystem(hdfs_files.HdfsFiles(f"{scheme}://{authority}" if authority else None, given))
    try:
        return iceberg_arrow.PyArrowFileIO(dict(given)).fs_by_scheme(scheme, authority)
    except OSError as error:
        hint = "pip install 'iceblink[hdfs]' reads it without Java; libhdfs needs JAVA_HOME, HADOOP_HOME and CLASSPATH"
        raise ConfigError(f"{scheme}:// cannot be read here: {error}", "storage", hint) from None
