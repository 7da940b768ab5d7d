"""Files of HDFS and ViewFS as an Arrow file system, by `hdfs-native`: no JVM, no libhdfs.

Name services, high availability and Kerberos are what Hadoop's own configuration says (``HADOOP_CONF_DIR``), and what
properties that begin with ``hadoop.`` add to it: ``hadoop.dfs.nameservices`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import hdfs_native
import pyarrow as pa
import pyarrow.fs as pafs

from iceblink.lake.seekable import Seekable

PREFIX = "hadoop."
_BY_NAME_NODE = re.compile(r'RPCError\("([\w.$]+)"')
Result = TypeVar("Result")


class HdfsFiles(pafs.FileSystemHandler):  # type: ignore[misc]
    """One cluster.

    Parameters
    ----------
    url : str or None
        ``hdfs://host:port``, ``hdfs://nameservice`` or ``viewfs://mounts``; None for the configuration's default.
    properties : mapping of str to str
        ``hadoop.*``, ``hdfs.kerberos.principal``, ``hdfs.kerberos.keytab``, ``hdfs.kerberos_ticket``.

    Raises
    ------
    ValueError
        Configuration that leads nowhere, such as a mount table without ``linkFallback``.
    """

    def __init__(self, url: str | None, properties: Mapping[str, str]) -> None:
        self.url = url
        config = {key.removeprefix(PREFIX): value for key, value in properties.items() if key.startswith(PREFIX)}
        try:
            self._client = hdfs_native.Client(
                url,
                config or None,
                kerberos_principal=properties.get("hdfs.kerberos.principal"),
                kerberos_keytab=properties.get("hdfs.kerberos.keytab"),
                kerberos_cache=properties.get("hdfs.kerberos_ticket"),
            )
        except RuntimeError as error:  # it asks nobody yet: what is wrong is the configuration
            raise ValueError(str(error)) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HdfsFiles) and self.url == other.url and self._client is other._client

    def __hash__(self) -> int:
        return hash(self.url)

    def get_type_name(self) -> str:
        """Return the name of the kind of file system."""
        return "hdfs-native"

    def normalize_path(self, path: str) -> str:
        """Return the path as it is."""
        return path

    # what there is

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """Return what is known of each path."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> pafs.FileInfo:
        try:
            return _described(_spoken(self._client.get_file_info, path), path)
        except FileNotFoundError:
            return pafs.FileInfo(path, pafs.FileType.NotFound)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """Return what is in a folder."""
        try:
            listed = _spoken(lambda: list(self._client.list_status(selector.base_dir, selector.recursive)))
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise
        return [_described(status, status.path) for status in listed]

    # changes

    def create_dir(self, path: str, recursive: bool) -> None:
        """Make a folder."""
        _spoken(self._client.mkdirs, path, 0o755, recursive)

    def delete_dir(self, path: str) -> None:
        """Remove a folder and all in it."""
        self._delete(path, recursive=True)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        """Remove all that is in a folder."""
        for info in self.get_file_info_selector(pafs.FileSelector(path, allow_not_found=missing_dir_ok)):
            self._delete(info.path, recursive=True)

    def delete_root_dir_contents(self) -> None:
        """Refuse: nobody means that."""
        raise OSError("the root of a cluster is not emptied")

    def delete_file(self, path: str) -> None:
        """Remove a file; FileNotFoundError when there is none."""
        self._delete(path, recursive=False)

    def _delete(self, path: str, recursive: bool) -> None:
        if not _spoken(self._client.delete, path, recursive):
            raise FileNotFoundError(path)

    def move(self, src: str, dest: str) -> None:
        """Give a file or folder another name."""
        _spoken(self._client.rename, src, dest, True)

    def copy_file(self, src: str, dest: str) -> None:
        """Copy a file through this process."""
        with self.open_input_stream(src) as source, self.open_output_stream(dest, {}) as target:
            while block := source.read(8 << 20):
                target.write(block)

    # content

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for reads at any place."""
        return pa.PythonFile(self.reader(path), mode="r")

    def reader(self, path: str) -> HdfsReader:
        """Open a file for reads at any place, by several threads at once."""
        return HdfsReader(_spoken(self._client.read, path))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file to be read from its beginning."""
        return self.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Mapping[str, str]) -> pa.NativeFile:
        """Write a file, its folders made if absent, in the place of one that is there."""
        options = hdfs_native.WriteOptions(overwrite=True, create_parent=True)
        return pa.PythonFile(_HdfsWriter(_spoken(self._client.create, path, options)), mode="w")

    def open_append_stream(self, path: str, metadata: Mapping[str, str]) -> pa.NativeFile:
        """Write on at the end of a file."""
        return pa.PythonFile(_HdfsWriter(_spoken(self._client.append, path)), mode="w")


class HdfsReader(Seekable):
    """A file that is read; `hdfs-native` has one without the few words that Arrow asks for."""

    def __init__(self, reader: Any) -> None:
        super().__init__(len(reader))
        self._reader = reader

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Read at a place, which moves nothing."""
        length = min(nbytes, self._size - offset)
        return bytes(_spoken(self._reader.read_range, offset, length)) if length > 0 else b""


class _HdfsWriter:
    closed = False

    def __init__(self, writer: Any) -> None:
        self._writer, self._at = writer, 0

    def write(self, content: Any) -> int:
        _spoken(self._writer.write, content)
        self._at += len(memoryview(content))
        return len(memoryview(content))

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Blocks go out as they fill."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            _spoken(self._writer.close)


def _described(status: Any, path: str) -> pafs.FileInfo:
    changed = datetime.fromtimestamp(status.modification_time / 1000, UTC)
    if status.isdir:
        return pafs.FileInfo(path, pafs.FileType.Directory, mtime=changed)
    return pafs.FileInfo(path, pafs.FileType.File, size=status.length, mtime=changed)


def _spoken(call: Callable[..., Result], *arguments: Any) -> Result:
    """Call, with what `hdfs-native` raises made OSErrors of the kind that file systems raise."""
    try:
        return call(*arguments)
    except OSError:
        raise
    except Exception as error:
        text = str(error)
        by_name_node = _BY_NAME_NODE.match(text)  # its words may have all kinds of other words in them
        kind = by_name_node[1] if by_name_node else text
        if "FileNotFound" in kind or (not by_name_node and ("not found" in kind.lower() or "does not exist" in kind)):
            raise FileNotFoundError(text) from None
        if "AccessControl" in kind:
            raise PermissionError(text) from None
        raise OSError(text) from None
