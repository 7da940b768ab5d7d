"""Files by location, wherever they lie: a picklable handle on the file systems that a catalog's properties reach.

Scans, writes, metadata and caches all read and write by it. What a store refuses for a moment is tried again
(`retries`), and what is read of a file somewhere else is fetched by ranges (`ranges`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from iceblink.config import KIB, MIB
from iceblink.credentials import remember
from iceblink.lake.file_systems import PREFIXES, Objects, file_system, objects, split_location
from iceblink.lake.ranges import Opened
from iceblink.lake.remembered import Remembered
from iceblink.lake.retries import PATIENCE_S, CutShort, patiently

Result = TypeVar("Result")

SMALL_BYTES = 256 * KIB
"""A data file up to this size is read whole with its ending: that comes faster than another answer would."""
WHOLE_BYTES = 64 * MIB
"""Most that is held of such files [bytes]: as many as a plan reads footers of."""
READS = 32
"""Small reads side by side, of a store that takes its time for each: as many as connections are kept."""
_UNSAID = "flush response stream"
"""Amazon's client has no room for an answer longer than what was asked for: perhaps that there is no such file."""

_LOCAL = re.compile(r"(?:file:(?://(?:localhost)?)?)?(/.*)", re.DOTALL)
"""``/a/b``, ``file:/a/b`` (Hadoop's form), ``file:///a/b``; then the path as it is, never percent-decoded."""
_MISSING = re.compile(r"NO_SUCH_KEY|NoSuchKey|RESOURCE_NOT_FOUND|HTTP (?:status|response code):? ?404", re.IGNORECASE)


@dataclass(frozen=True)
class Storage:
    """The file systems of a catalog; cheap to make and to pickle, opens nothing until asked.

    Parameters
    ----------
    properties : tuple of (str, str)
        PyIceberg FileIO properties: endpoints, keys, regions. Their secrets are never shown.
    """

    properties: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        remember(dict(self.properties))

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[tuple[str, str], ...]]]:
        return type(self), (self.properties,)  # by __init__, which takes note of what is secret

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Self:
        """Return the storage that FileIO `properties` describe; what is not about files is left out."""
        about = ((name, str(value)) for name, value in properties.items() if name.startswith(PREFIXES))
        return cls(tuple(sorted(about)))  # tables of one catalog share connections: their own properties do not count

    def local_path(self, path: str) -> str | None:
        """Return the path on this machine's file system, or None when `path` lies elsewhere."""
        found = _LOCAL.fullmatch(path)
        return found.group(1) if found else None

    def filesystem(self, path: str) -> tuple[pafs.FileSystem, str]:
        """Return the Arrow file system that holds `path`, and the path inside it.

        Raises
        ------
        ValueError
            `path` is no location at all.
        ConfigError
            A scheme that leads nowhere, or what it takes is not installed.
        """
        local = self.local_path(path)
        if local is not None:
            return _local_filesystem(), local
        scheme, authority, inside = split_location(path)
        return file_system(self.properties, scheme, authority), inside

    def _objects(self, path: str) -> tuple[Objects | None, str]:
        """Return what reads a file elsewhere by requests of our own, if anything does, and the path inside it."""
        scheme, authority, inside = split_location(path)
        return objects(self.properties, scheme, authority), inside

    # reading

    def open_input(self, path: str, constant: bool = False) -> pa.NativeFile:
        """Open a file for random reads.

        Parameters
        ----------
        path : str
        constant : bool
            The file never changes, as data files do not: what is known of it may be remembered.

        Raises
        ------
        FileNotFoundError
        OSError
            It cannot be read, also not after trying for a while.
        """
        local = self.local_path(path)
        if local is not None:
            return _local_filesystem().open_input_file(local)
        return self.opened(path, constant).native()

    def opened(self, path: str, constant: bool = False) -> Opened:
        """Return a file somewhere else, ready for reads by several threads; parameters and errors as `open_input`."""
        known = _opened.get((self.properties, path)) if constant else None
        if known is None:
            known = self._open(path)
            if constant:
                _opened.put((self.properties, path), known)
        return known

    def _open(self, path: str) -> Opened:
        ours, inside = self._objects(path)
        if ours is not None:
            opener = ours.reader
        else:
            filesystem, inside = self.filesystem(path)
            handler = getattr(filesystem, "handler", None)  # one of ours: Arrow's file over it would read one by one
            opener = filesystem.open_input_file if handler is None else handler.reader
        file = self._patiently(path, lambda: opener(inside))
        return self._ready(path, self._patiently(path, file.size), file)

    def _ready(self, path: str, size: int, file: Any) -> Opened:
        key = self.properties, path

        def once(offset: int, nbytes: int) -> pa.Buffer:
            try:
                content = file.read_at(nbytes, offset)
            except OSError as error:
                if _UNSAID in str(error) and self._is_gone(path):
                    raise FileNotFoundError(path) from error
                raise
            if len(content) < nbytes:
                raise CutShort(path, offset, nbytes, len(content))
            return pa.py_buffer(content)

        def fetch(offset: int, nbytes: int) -> pa.Buffer:
            held = _whole.get(key)
            if held is not None:
                return held.slice(offset, nbytes)
            return self._patiently(path, partial(once, offset, nbytes))

        return Opened(path, size, fetch, partial(_whole.take, key))

    def _is_gone(self, path: str) -> bool:
        filesystem, inside = self.filesystem(path)
        return bool(filesystem.get_file_info(inside).type == pafs.FileType.NotFound)

    def ending(self, path: str, nbytes: int, file_bytes: int | None = None) -> tuple[int, pa.Buffer]:
        """Return the size of a data file [bytes], and its last `nbytes`, or all of them; errors as `open_input`.

        That is one request to a store that takes it; the file is opened by it, for whoever reads more. Of one that is
        thought to have `file_bytes`, which are few, all is asked for, and held for who reads parts of it next.
        """
        ours = None if self.local_path(path) is not None else self._objects(path)[0]
        if ours is None or not ours.tells_endings:
            with self.open_input(path, constant=True) as file:
                size = file.size()
                file.seek(max(0, size - nbytes))
                return size, file.read_buffer()
        inside = self._objects(path)[1]
        wanted = file_bytes if file_bytes is not None and nbytes < file_bytes <= SMALL_BYTES else nbytes
        got = self._patiently(path, lambda: ours.get(inside, wanted))
        reader = ours.reader(inside, got.size)
        _opened.put((self.properties, path), self._ready(path, got.size, reader))
        if len(got.content) == got.size:
            _whole.put((self.properties, path), pa.py_buffer(got.content), got.size)
        return got.size, pa.py_buffer(got.content)[-nbytes:]

    def at_once(self, path: str, here: int) -> int:
        """Return how many small reads near `path` wait side by side: `here` on this machine, more elsewhere."""
        return here if self.local_path(path) is not None else max(here, READS)

    def read(self, path: str) -> bytes:
        """Return a whole file: for small ones, metadata above all. Errors as `open_input`."""
        if self.local_path(path) is None:
            ours, inside = self._objects(path)
            if ours is not None:
                return self._patiently(path, lambda: ours.get(inside).content)
        with self.open_input(path) as file:
            content: bytes = file.read()
            return content

    def size(self, path: str) -> int:
        """Return the size of a file [bytes]; FileNotFoundError when there is none."""
        info = self._info(path)
        if info.type == pafs.FileType.NotFound:
            raise FileNotFoundError(path)
        return int(info.size)

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return bool(self._info(path).type == pafs.FileType.File)

    def _info(self, path: str) -> pafs.FileInfo:
        filesystem, inside = self.filesystem(path)
        return self._patiently(path, lambda: filesystem.get_file_info(inside))

    def files(self, folder: str, recursive: bool = False) -> list[str]:
        """Return the files in a folder, named as `folder` is, sorted; none if there is no such folder."""
        filesystem, inside = self.filesystem(folder)
        wanted = pafs.FileSelector(inside, allow_not_found=True, recursive=recursive)
        found = self._patiently(folder, lambda: filesystem.get_file_info(wanted))
        return sorted(folder + info.path[len(inside) :] for info in found if info.is_file)

    # writing

    def open_output(self, path: str) -> pa.NativeFile:
        """Write a file as a stream, its folder made if absent, in the place of one that is there.

        Large files go out in parts, which the file system's own client sends again in need.
        """
        local = self.local_path(path)
        if local is not None:
            Path(local).parent.mkdir(parents=True, exist_ok=True)
            # not Python's own file: a Parquet writer whose disk is full would never end, it keeps what is unwritten
            return pa.OSFile(local, "wb")
        filesystem, inside = self.filesystem(path)
        return self._patiently(path, lambda: filesystem.open_output_stream(inside))

    def write(self, path: str, content: bytes) -> None:
        """Write a whole small file, again and again until the store has taken it."""

        def once() -> None:
            with self.open_output(path) as stream:
                stream.write(content)

        self._patiently(path, once)

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        filesystem, inside = self.filesystem(path)
        try:
            self._patiently(path, lambda: filesystem.delete_file(inside))
        except FileNotFoundError:
            return

    def _patiently(self, path: str, call: Callable[[], Result]) -> Result:
        if self.local_path(path) is not None:
            return call()

        def once() -> Result:
            try:
                return call()
            except OSError as error:
                if not isinstance(error, FileNotFoundError) and _MISSING.search(str(error)):
                    raise FileNotFoundError(path) from None
                raise

        return patiently(once, float(dict(self.properties).get("storage.patience-s", PATIENCE_S)))

    def __str__(self) -> str:
        return f"Storage({', '.join(name for name, _ in self.properties)})"  # values may be secrets

    __repr__ = __str__


_opened: Remembered[tuple[tuple[tuple[str, str], ...], str], Opened] = Remembered(limit=1024)
"""Files elsewhere that never change: asking for their size again would be a request each time."""

_whole: Remembered[tuple[tuple[tuple[str, str], ...], str], pa.Buffer] = Remembered(limit=WHOLE_BYTES)
"""Small data files that came with their endings, until they are read [bytes]."""


@lru_cache(maxsize=1)
def _local_filesystem() -> pafs.FileSystem:
    return pafs.LocalFileSystem()
