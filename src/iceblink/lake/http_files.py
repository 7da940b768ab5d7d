"""Files on web servers, read by ranges: an Arrow file system over HTTP that cannot list, write or delete."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import urllib3

from iceblink.lake.http_get import CONNECTIONS, TIMEOUT, Got, OwnPool, Reader, Wanted, get


class HttpFiles(pafs.FileSystemHandler):  # type: ignore[misc]
    """One scheme, ``http`` or ``https``; paths are ``host/path?query``, and sent as they are.

    Parameters
    ----------
    scheme : str
    headers : mapping of str to str
        What ``http.header.NAME`` of the catalog's properties says.
    origins : collection of str
        To whom they are sent, ``scheme://host`` or ``scheme://host:port``: anybody may name a host in a location.
    """

    tells_endings = False  # not every server does

    def __init__(self, scheme: str, headers: dict[str, str], origins: Collection[str]) -> None:
        self.scheme, self.headers, self.origins = scheme, headers, frozenset(origins)
        # a redirect to somebody else takes none of them along
        redirects = urllib3.Retry(None, connect=0, read=0, redirect=5, remove_headers_on_redirect=headers)
        self._pool = OwnPool(partial(urllib3.PoolManager, maxsize=CONNECTIONS, retries=redirects, timeout=TIMEOUT))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpFiles) and self._said == other._said

    @property
    def _said(self) -> tuple[Any, ...]:
        return self.scheme, self.headers, self.origins

    def __hash__(self) -> int:
        return hash(self.scheme)

    def get_type_name(self) -> str:
        """Return the scheme."""
        return self.scheme

    def normalize_path(self, path: str) -> str:
        """Return the path as it is."""
        return path

    def get(self, path: str, wanted: Wanted = None) -> Got:
        """Get a file, or a part of it; parameters and errors as `http_get.get`."""
        origin = f"{self.scheme}://{path.partition('/')[0]}".lower()
        headers = self.headers if origin in self.origins else {}
        return get(self._pool, f"{self.scheme}://{path}", headers, path, wanted)

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """Return sizes, by asking for one byte of each: servers know the range, and not all know HEAD."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> pafs.FileInfo:
        try:
            return pafs.FileInfo(path, pafs.FileType.File, size=self.size_of(path))
        except FileNotFoundError:
            return pafs.FileInfo(path, pafs.FileType.NotFound)

    def size_of(self, path: str) -> int:
        """Return the size of a file [bytes]."""
        return self.get(path, (0, 1)).size

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for reads at any place."""
        return pa.PythonFile(self.reader(path), mode="r")

    def reader(self, path: str, size: int | None = None) -> Reader:
        """Open a file for reads at any place, by several threads at once."""
        return Reader(partial(self.get, path), self.size_of(path) if size is None else size)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file to be read from its beginning."""
        return self.open_input_file(path)

    def _refused(self, *_: Any) -> Any:
        raise OSError(f"files of {self.scheme} can only be read, one by one")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refused
    delete_root_dir_contents = delete_file = move = copy_file = open_output_stream = open_append_stream = _refused
