"""Files on web servers, read by ranges: an Arrow file system over HTTP that cannot list, write or delete."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import urllib3

from iceblink.lake.seekable import Seekable

CONNECTIONS = 32
CONNECT_S, READ_S = 10.0, 60.0  # of one request; who tries again is `retries.patiently`
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class HttpFiles(pafs.FileSystemHandler):  # type: ignore[misc]
    """One scheme, ``http`` or ``https``; paths are ``host/path?query``, and sent as they are.

    Parameters
    ----------
    scheme : str
    headers : mapping of str to str
        Sent with each request: what ``http.header.NAME`` of the catalog's properties says.
    """

    def __init__(self, scheme: str, headers: dict[str, str]) -> None:
        self.scheme, self.headers = scheme, headers
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            retries=urllib3.Retry(0, redirect=5),
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpFiles) and (self.scheme, self.headers) == (other.scheme, other.headers)

    def __hash__(self) -> int:
        return hash(self.scheme)

    def get_type_name(self) -> str:
        """Return the scheme."""
        return self.scheme

    def normalize_path(self, path: str) -> str:
        """Return the path as it is."""
        return path

    def request(self, path: str, byte_range: tuple[int, int] | None = None) -> urllib3.BaseHTTPResponse:
        """Get a file, or the bytes from the first to before the second of a range.

        Raises
        ------
        FileNotFoundError, PermissionError
        OSError
            The server refuses in another way, or there is no way to it.
        """
        headers = dict(self.headers)
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range[0]}-{byte_range[1] - 1}"
        try:
            answer = self._pool.request("GET", f"{self.scheme}://{path}", headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"no answer from {path.partition('/')[0]}: {error}") from None
        if answer.status in (404, 410):
            raise FileNotFoundError(path)
        if answer.status in (401, 403):
            raise PermissionError(f"{path} may not be read: HTTP status {answer.status}")
        if answer.status >= 400:
            raise OSError(f"{path} cannot be read: HTTP status {answer.status}")
        return answer

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
        try:
            answer = self.request(path, (0, 1))
        except OSError as error:
            if "HTTP status 416" in str(error):  # of an empty file there is no first byte
                return 0
            raise
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return int(found[3]) if found else len(answer.data)  # without ranges all of it came

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for reads at any place."""
        return pa.PythonFile(self.reader(path), mode="r")

    def reader(self, path: str) -> HttpReader:
        """Open a file for reads at any place, by several threads at once."""
        return HttpReader(self, path, self.size_of(path))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file to be read from its beginning."""
        return self.open_input_file(path)

    def _refused(self, *_: Any) -> Any:
        raise OSError(f"files of {self.scheme} can only be read, one by one")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refused
    delete_root_dir_contents = delete_file = move = copy_file = open_output_stream = open_append_stream = _refused


class HttpReader(Seekable):
    """One file; each read is a request."""

    def __init__(self, files: HttpFiles, path: str, size: int) -> None:
        super().__init__(size)
        self._files, self._path = files, path

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Read at a place, which moves nothing."""
        end = min(self._size, offset + nbytes)
        if end <= offset:
            return b""
        answer = self._files.request(self._path, (offset, end))
        content: bytes = answer.data
        return content if answer.status == 206 else content[offset:end]  # not every server knows ranges
