"""Files: a column of paths or URLs becomes their bytes, many of them fetched at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, TypeAlias

import pyarrow as pa

from iceblink.casts import is_text
from iceblink.config import MIB
from iceblink.errors import ConfigError
from iceblink.interop import optional
from iceblink.media.column import found, parts, with_column, with_values
from iceblink.media.fetch import Fetcher

File: TypeAlias = bytes | OSError
"""The bytes of a file, or why they are not there."""


@dataclass(frozen=True)
class Download:
    """Paths and URLs to bytes.

    Plain paths and ``file://`` are opened here, ``http(s)://`` is fetched with redirects and kept connections, and
    what else Arrow knows (``s3://``, ``gs://``, ``hdfs://``) with Arrow. Null stays null. Rows go on in their order,
    8 MiB together, so that a batch of any length takes little memory.

    Paths that strangers wrote can name any file that this process may read: filter them first.

    Parameters
    ----------
    column : str
        Where the paths and URLs are.
    to : str
        Name of the new column of bytes.
    error : str, optional
        Name of another new column, which says why a file is not there; its bytes are null then, and nothing is
        raised. Without it the first failure is raised.
    concurrency : int
        Files under way at the same time, in each worker.
    timeout_s : float
        A server that is silent for so long has failed [s].
    retries : int
        How often a file is asked for again after a failure that may pass: no connection, a connection lost,
        silence, and the answers 408, 425, 429 and 5xx. The pauses grow, and are what the server asks for.
    largest_bytes : int
        A larger file is an error [bytes].
    headers : mapping of str to str, optional
        Sent with each request over HTTP, ``{"Authorization": "Bearer ..."}`` for example.
    keep : bool
        Whether the paths stay.

    Raises
    ------
    ConfigError
        A number that cannot be; urllib3 is not installed.
    ColumnNotFound, DuplicateColumn, TypeMismatch
        Where `map_batches` is written: the column is not there or no string, or `to` or `error` is taken.
    OSError
        When it runs: FileNotFoundError, also for 404 and 410; PermissionError, also for 401 and 403; TimeoutError and
        ConnectionError when all retries failed.
    """

    cpus: ClassVar[float] = 0.0  # it waits

    column: str
    _: KW_ONLY
    to: str = "bytes"
    error: str | None = None
    concurrency: int = 16
    timeout_s: float = 30.0
    retries: int = 3
    largest_bytes: int = 256 * MIB
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    keep: bool = True

    def __post_init__(self) -> None:
        optional("urllib3", "media")
        if self.concurrency < 1 or self.timeout_s <= 0 or self.retries < 0 or self.largest_bytes < 1:
            raise ConfigError(
                f"concurrency={self.concurrency}, timeout_s={self.timeout_s}, retries={self.retries}, "
                f"largest_bytes={self.largest_bytes}",
                "files.Download",
                "retries may be 0, the others not",
            )

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return what comes of a dataset of `schema`."""
        source = found(schema, self.column, is_text, "string", "files.Download")
        made = pa.field(self.to, pa.binary(), source.nullable or self.error is not None)
        schema = with_column(schema, self.column, made, self.keep, "files.Download")
        if self.error is None:
            return schema
        return with_column(schema, self.column, pa.field(self.error, pa.string()), True, "files.Download")

    def __call__(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows with the bytes of their files."""
        schema = self.output_schema(batch.schema)
        for part, files in parts(batch, self._fetched(batch.column(self.column).to_pylist()), _nbytes):
            made = {self.to: pa.array([None if isinstance(file, OSError) else file for file in files], pa.binary())}
            if self.error is not None:
                made[self.error] = pa.array([_reason(file) for file in files], pa.string())
            yield with_values(part, schema, **made)

    def _fetched(self, places: Iterable[str | None]) -> Iterator[File | None]:
        """Yield files in order; up to `concurrency` are under way, and as many more may be ready behind a slow one."""
        pool = ThreadPoolExecutor(self.concurrency, "iceblink-download")
        fetcher = Fetcher(self.concurrency, self.timeout_s, self.retries, self.largest_bytes, dict(self.headers or {}))
        ahead: deque[Future[File | None]] = deque()
        try:
            for place in places:
                ahead.append(pool.submit(self._one, fetcher, place))
                if len(ahead) == 2 * self.concurrency:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # whoever takes no more waits for no server
            fetcher.close()

    def _one(self, fetcher: Fetcher, place: str | None) -> File | None:
        try:
            return None if place is None else fetcher.fetch(place)
        except OSError as error:
            if self.error is None:
                raise
            return error


def _nbytes(file: File | None) -> int:
    return len(file) if isinstance(file, bytes) else 0


def _reason(file: File | None) -> str | None:
    return f"{type(file).__name__}: {file}" if isinstance(file, OSError) else None
