"""Page checksums verified without decoding: for readers that do not look at them.

References
----------
.. [1] Apache Parquet format, ``parquet.thrift``: PageHeader; README, "Checksumming".
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from iceblink.lake.storage import Storage
from iceblink.scan.damage import damaged, reading
from iceblink.scan.footer import Chunk, Footer
from iceblink.scan.thrift import ThriftError, Want, read_struct

# ids in parquet.thrift
_TYPE, _COMPRESSED, _CRC, _DATA, _DICTIONARY, _DATA_V2, _NUM_VALUES = 1, 3, 4, 5, 7, 8, 1
_HEADER: dict[int, Want] = {
    _TYPE: None,
    _COMPRESSED: None,
    _CRC: None,
    _DATA: {_NUM_VALUES: None},
    _DICTIONARY: {_NUM_VALUES: None},
    _DATA_V2: {_NUM_VALUES: None},
}
_HEADER_OF_TYPE = {0: _DATA, 2: _DICTIONARY, 3: _DATA_V2}

_Verified = tuple[str, int, int, int, int]
"""Path, size, time of last change [ns], row group, leaf."""

_verified: set[_Verified] = set()
_lock = threading.Lock()


def verify_pages(
    storage: Storage,
    footer: Footer,
    groups: Iterable[int],
    leaves: Iterable[int],
    threads: int = 1,
    owner: str = "",
) -> None:
    """Check the pages of column chunks against their checksums; a page without one passes.

    Each chunk is checked once in the life of the process, as long as the file keeps its size and time of change.

    Parameters
    ----------
    storage : Storage
    footer : Footer
    groups, leaves : iterable of int
        Row groups, and leaf columns of each.
    threads : int
        Chunks checked side by side.
    owner : str
        Table and snapshot, in words, for errors.

    Raises
    ------
    DataCorrupt
        A page does not fit its checksum, or a page header does not parse or disagrees with the footer.
    """
    with reading(owner, footer.path):
        filesystem, inside = storage.filesystem(footer.path)
        info = filesystem.get_file_info(inside)
    columns = list(leaves)
    todo = [
        key
        for group in groups
        for leaf in columns
        if (key := (footer.path, footer.file_bytes, info.mtime_ns or 0, group, leaf)) not in _verified
    ]

    def check(key: _Verified) -> None:
        _check_chunk(storage, footer, key[3], key[4], owner)
        with _lock:
            _verified.add(key)

    if threads < 2 or len(todo) < 2:
        for key in todo:
            check(key)
        return
    with ThreadPoolExecutor(min(threads, len(todo)), "iceblink-checksums") as pool:
        for _ in pool.map(check, todo):
            pass


def _check_chunk(storage: Storage, footer: Footer, group: int, leaf: int, owner: str) -> None:
    chunk = footer.chunks[group][leaf]
    column = footer.leaf_paths[leaf]
    with reading(owner, footer.path, group):
        with storage.open_input(footer.path) as file:
            file.seek(chunk.start)
            data = file.read(chunk.compressed_bytes)
        for what, offset in _faults(data, chunk):
            raise damaged(
                f"column {column!r}, page at byte {chunk.start + offset:,}: {what}", owner, footer.path, group
            )


def _faults(data: bytes, chunk: Chunk) -> Iterator[tuple[str, int]]:
    """Yield what is wrong with the pages of a chunk, and at which byte of it."""
    view = memoryview(data)
    at, values = 0, 0
    while at < chunk.compressed_bytes:
        try:
            header, body = read_struct(data, _HEADER, at)
        except ThriftError:
            yield "its header cannot be read", at
            return
        part, size = _HEADER_OF_TYPE.get(header.get(_TYPE, -1), 0), header.get(_COMPRESSED, -1)
        own = header.get(part)
        if own is None or _NUM_VALUES not in own or size < 0 or body + size > len(data):
            yield "its header makes no sense", at
            return
        if _CRC in header and zlib.crc32(view[body : body + size]) != header[_CRC] & 0xFFFFFFFF:
            yield "its bytes do not fit their checksum", at
        if part != _DICTIONARY:
            values += own[_NUM_VALUES]
        at = body + size
    if values != chunk.num_values:
        yield f"up to here there are {values:,} values, the footer says {chunk.num_values:,}", at
