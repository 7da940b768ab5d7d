"""Pages verified without decoding them: what a reader does not look at itself.

References
----------
.. [1] Apache Parquet format, ``parquet.thrift``: PageHeader; README, "Checksumming".
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from iceblink.lake.storage import Storage
from iceblink.scan.damage import damaged, reading
from iceblink.scan.footer import Footer
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

HEADER_BYTES = 512  # enough for most

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
        group, leaf = key[3:]
        with reading(owner, footer.path, group), storage.open_input(footer.path) as file:
            _check_chunk(file, footer, group, leaf, owner, sums=True)
        with _lock:
            _verified.add(key)

    if threads < 2 or len(todo) < 2:
        for key in todo:
            check(key)
        return
    with ThreadPoolExecutor(min(threads, len(todo)), "iceblink-checksums") as pool:
        for _ in pool.map(check, todo):
            pass


def check_headers(storage: Storage, footer: Footer, group: int, leaves: Iterable[int], owner: str) -> None:
    """Check that the page headers of column chunks agree with the footer; the pages themselves are not read.

    No checksum covers a header. pyarrow and DuckDB find almost all damage there, but believe a wrong number of values
    in a page with nulls or lists.

    Raises
    ------
    DataCorrupt
        A page header does not parse or disagrees with the footer.
    """
    with reading(owner, footer.path, group), storage.open_input(footer.path) as file:
        for leaf in leaves:
            _check_chunk(file, footer, group, leaf, owner, sums=False)


def _check_chunk(file: pa.NativeFile, footer: Footer, group: int, leaf: int, owner: str, sums: bool) -> None:
    for what, offset in _faults(file, footer.metadata.row_group(group).column(leaf), sums):
        column = footer.leaf_paths[leaf]
        raise damaged(f"column {column!r}, page at byte {offset:,}: {what}", owner, footer.path, group)


def _faults(file: pa.NativeFile, chunk: pq.ColumnChunkMetaData, sums: bool) -> Iterator[tuple[str, int]]:
    """Yield what is wrong with the pages of a chunk, and at which byte of the file."""
    # an offset of 0 is what some writers say for "no dictionary": the magic lies there
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    at, end, values = start, start + chunk.total_compressed_size, 0
    while at < end and chunk.num_values:  # of no values there may be no page, or an empty one at no place
        header = _header(file, at, end)
        if header is None or at + header.length + header.size > end:
            yield "its header makes no sense", at
            return
        if sums and header.crc is not None:
            file.seek(at + header.length)
            if zlib.crc32(file.read_buffer(header.size)) != header.crc & 0xFFFFFFFF:
                yield "its bytes do not fit their checksum", at
        values += header.values
        at += header.length + header.size
    if values != chunk.num_values:
        yield f"its column has {values:,} values here, {chunk.num_values:,} by the footer", start


class _Header(NamedTuple):
    """A page's: bytes of the header itself and of what follows, checksum, values (of a dictionary, none)."""

    length: int
    size: int
    crc: int | None
    values: int


def _header(file: pa.NativeFile, at: int, end: int) -> _Header | None:
    for window in (HEADER_BYTES, end - at):  # the second time if its statistics are long
        try:
            found, length = read_struct(file.read_at(min(window, end - at), at), _HEADER)
        except ThriftError:
            continue
        kind, size, crc = found.get(_TYPE), found.get(_COMPRESSED), found.get(_CRC, 0)
        if not type(kind) is type(size) is type(crc) is int:
            return None
        part = _HEADER_OF_TYPE.get(kind, -1)
        own = found.get(part)
        values = own.get(_NUM_VALUES) if isinstance(own, dict) else None
        if type(values) is not int or values < 0 or size < 0:
            return None
        return _Header(length, size, found.get(_CRC), 0 if part == _DICTIONARY else values)
    return None
