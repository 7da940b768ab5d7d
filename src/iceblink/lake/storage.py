"""Files by location, wherever they lie: a picklable handle on the file systems that a catalog's properties reach."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import pyarrow as pa
import pyarrow.fs as pafs

from iceblink.lake.late import iceberg_arrow

_LOCAL = re.compile(r"(?:file:(?://(?:localhost)?)?)?(/.*)", re.DOTALL)
"""``/a/b``, ``file:/a/b`` (Hadoop's form), ``file:///a/b``; then the path as it is, never percent-decoded."""


@dataclass(frozen=True)
class Storage:
    """The file systems of a catalog; cheap to make and to pickle, opens nothing until asked.

    Parameters
    ----------
    properties : tuple of (str, str)
        PyIceberg FileIO properties: endpoints, keys, regions.
    """

    properties: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Self:
        """Return the storage that FileIO `properties` describe."""
        return cls(tuple(sorted((name, str(value)) for name, value in properties.items())))

    def local_path(self, path: str) -> str | None:
        """Return the path on this machine's file system, or None when `path` lies elsewhere."""
        found = _LOCAL.fullmatch(path)
        return found.group(1) if found else None

    def filesystem(self, path: str) -> tuple[pafs.FileSystem, str]:
        """Return the Arrow file system that holds `path`, and the path inside it.

        Raises
        ------
        ValueError
            A scheme that PyIceberg does not know.
        """
        local = self.local_path(path)
        if local is not None:
            return _local_filesystem(), local
        file_io = _file_io(self.properties)
        scheme, netloc, inside = file_io.parse_location(path, file_io.properties)
        if scheme in ("s3", "s3a", "s3n", "gs", "gcs", "oss"):  # a key may hold ? and #: parse_location would cut there
            inside = path.split("://", 1)[1]
        return file_io.fs_by_scheme(scheme, netloc), inside

    def open_input(self, path: str) -> pa.NativeFile:
        """Open a file for random reads; FileNotFoundError when there is none."""
        filesystem, inside = self.filesystem(path)
        return filesystem.open_input_file(inside)

    def read(self, path: str) -> bytes:
        """Return a whole file: for small ones, metadata above all."""
        with self.open_input(path) as file:
            content: bytes = file.read()
            return content

    def size(self, path: str) -> int:
        """Return the size of a file [bytes]; FileNotFoundError when there is none."""
        filesystem, inside = self.filesystem(path)
        info = filesystem.get_file_info(inside)
        if info.type == pafs.FileType.NotFound:
            raise FileNotFoundError(path)
        return int(info.size)

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        filesystem, inside = self.filesystem(path)
        try:
            filesystem.delete_file(inside)
        except FileNotFoundError:
            return

    def __str__(self) -> str:
        return f"Storage({', '.join(name for name, _ in self.properties)})"  # values may be secrets

    __repr__ = __str__


@lru_cache(maxsize=1)
def _local_filesystem() -> pafs.FileSystem:
    return pafs.LocalFileSystem()


@lru_cache(maxsize=16)
def _file_io(properties: tuple[tuple[str, str], ...]) -> iceberg_arrow.PyArrowFileIO:
    return iceberg_arrow.PyArrowFileIO(dict(properties))
