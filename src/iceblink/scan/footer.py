"""Parquet footers: read from the tail of a file, checked, kept in memory for the next plan or reader.

pyarrow parses the footer and gives schema, counts and min/max; what it does not tell, SizeStatistics and the place of
the page index, is read from the same bytes when it is first asked for.

References
----------
.. [1] Apache Parquet format, ``parquet.thrift``: FileMetaData, ColumnChunk, SizeStatistics.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iceblink.config import KIB, MIB
from iceblink.lake.storage import Storage
from iceblink.scan.damage import damaged, reading
from iceblink.scan.thrift import Want, read_struct

MAGIC, ENCRYPTED = b"PAR1", b"PARE"
TAIL_BYTES = 64 * KIB  # most footers fit: one read
ENDING = 8  # the footer's length, and the magic

# ids in parquet.thrift
_ROW_GROUPS, _COLUMNS, _ENCRYPTION = 4, 1, 8
_INDEX_OFFSET, _INDEX_LENGTH, _META = 6, 7, 3
_UNCOMPRESSED, _SIZES = 6, 16
_BYTES, _REPETITION, _DEFINITION = 1, 2, 3
_CHUNK: dict[int, Want] = {_UNCOMPRESSED: None, _SIZES: dict.fromkeys((_BYTES, _REPETITION, _DEFINITION))}
_FOOTER: dict[int, Want] = {_ROW_GROUPS: {_COLUMNS: {_INDEX_OFFSET: None, _INDEX_LENGTH: None, _META: _CHUNK}}}


@dataclass(frozen=True, slots=True)
class Chunk:
    """What pyarrow does not tell of one leaf column of one row group, and its size.

    Parameters
    ----------
    uncompressed_bytes : int
        Pages and their headers [bytes].
    byte_array_bytes : int or None
        Strings and binaries without lengths and before encoding [bytes]; None when the writer did not say.
    repetition, definition : tuple of int
        Number of values at each level; empty when unknown, or when there is only one level.
    index_offset, index_length : int
        Place of the column's page index [bytes]; length 0 when there is none.
    """

    uncompressed_bytes: int
    byte_array_bytes: int | None
    repetition: tuple[int, ...]
    definition: tuple[int, ...]
    index_offset: int
    index_length: int


@dataclass(frozen=True, eq=False)
class Footer:
    """What a Parquet file says of itself.

    Parameters
    ----------
    path, file_bytes
        The file and its size [bytes].
    metadata : pq.FileMetaData
        pyarrow's own: given to ``pq.ParquetFile``, nothing is parsed twice.
    schema : pa.Schema
        Arrow types as they will be decoded; field ids at every depth under ``PARQUET:field_id``.
    raw : bytes
        The footer itself, in Thrift.
    owner : str
        Table and snapshot, in words, for which it was read first.
    page_bounds : dict
        What `prune` has read of the page index, by row group and leaf: it lives as long as the footer.
    """

    path: str
    file_bytes: int
    metadata: pq.FileMetaData
    schema: pa.Schema
    raw: bytes
    owner: str = ""
    page_bounds: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False)

    @cached_property
    def first_rows(self) -> tuple[int, ...]:
        """Position in the file of each row group's first row; one more at the end, the number of rows."""
        counts = (self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups))
        return tuple(accumulate(counts, initial=0))

    @property
    def encrypted(self) -> bool:
        """Whether columns may be encrypted, though the footer is not."""
        return _ENCRYPTION in read_struct(self.raw, {_ENCRYPTION: {}})[0]

    @cached_property
    def leaf_paths(self) -> tuple[str, ...]:
        """Dotted path of each leaf column, in the file's order."""
        schema = self.metadata.schema
        return tuple(schema.column(leaf).path for leaf in range(self.metadata.num_columns))

    @cached_property
    def chunks(self) -> tuple[tuple[Chunk, ...], ...]:
        """Column chunks by row group and leaf.

        Raises
        ------
        DataCorrupt
            The footer does not parse, or disagrees with its schema.
        """
        with reading(self.owner, self.path):
            groups = read_struct(self.raw, _FOOTER)[0].get(_ROW_GROUPS, [])
            leaves = self.metadata.num_columns
            try:
                chunks = tuple(tuple(map(_chunk, group[_COLUMNS])) for group in groups)
            except (KeyError, TypeError):
                raise damaged("a Parquet footer lacks required fields", self.owner, self.path) from None
            if len(chunks) != self.metadata.num_row_groups or any(len(group) != leaves for group in chunks):
                raise damaged("a Parquet footer disagrees with its own schema", self.owner, self.path)
            return chunks


def _chunk(column: dict[int, Any]) -> Chunk:
    meta = column[_META]
    sizes = meta.get(_SIZES, {})
    return Chunk(
        meta[_UNCOMPRESSED],
        sizes.get(_BYTES),
        tuple(sizes.get(_REPETITION, ())),
        tuple(sizes.get(_DEFINITION, ())),
        column.get(_INDEX_OFFSET, 0),
        column.get(_INDEX_LENGTH, 0),
    )


def read_footer(storage: Storage, path: str, file_bytes: int, owner: str = "") -> Footer:
    """Read a Parquet footer; only the tail of the file is touched.

    Parameters
    ----------
    storage : Storage
    path : str
    file_bytes : int
        Size that the table's metadata gives [bytes].
    owner : str
        Table and snapshot, in words, for errors.

    Raises
    ------
    DataCorrupt
        The file is missing, shorter than it was, or does not end as a Parquet file does.
    """
    with reading(owner, path):
        size, ending = storage.ending(path, TAIL_BYTES, file_bytes)
        if size < file_bytes:
            raise damaged(f"a file of the table is cut short: {size:,} of {file_bytes:,} bytes", owner, path)
        tail = ending.to_pybytes()
        if tail[-4:] == ENCRYPTED:
            raise damaged("a file of the table is encrypted, which cannot be read", owner, path)
        if tail[-4:] != MAGIC or len(tail) < ENDING + 4:
            raise damaged("a file of the table does not end as a Parquet file does", owner, path)
        length = int.from_bytes(tail[-ENDING:-4], "little")
        if length > size - ENDING - len(MAGIC):
            raise damaged("a Parquet footer is longer than its file", owner, path)
        if length + ENDING > len(tail):
            tail = storage.ending(path, length + ENDING)[1].to_pybytes()
        ending = tail[-ENDING - length :]
        # with the magic before it, the footer alone is a Parquet file to pyarrow
        parsed = pq.ParquetFile(pa.BufferReader(MAGIC + ending))
        return Footer(path, size, parsed.metadata, parsed.schema_arrow, ending[:-ENDING], owner)


class FooterCache:
    """Footers of this process, the least recently used forgotten first; safe to share between threads.

    Data files never change under their name, so path and size are the key.

    Parameters
    ----------
    max_bytes : int
        Bound on the footers' size on disk [bytes]; parsed, they take some ten times that.
    """

    def __init__(self, max_bytes: int = 16 * MIB) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._footers: OrderedDict[tuple[str, int], Footer] = OrderedDict()
        self._bytes = 0

    def get(self, storage: Storage, path: str, file_bytes: int, owner: str = "") -> Footer:
        """Return a footer, from memory if it is there.

        Raises
        ------
        DataCorrupt
            As `read_footer`.
        """
        key = (path, file_bytes)
        with self._lock:
            if key in self._footers:
                self._footers.move_to_end(key)
                return self._footers[key]
        footer = read_footer(storage, path, file_bytes, owner)
        with self._lock:
            if key not in self._footers:
                self._footers[key] = footer
                self._bytes += len(footer.raw)
            while self._bytes > self.max_bytes and len(self._footers) > 1:
                self._bytes -= len(self._footers.popitem(last=False)[1].raw)
        return footer


FOOTERS = FooterCache()
"""The cache of this process."""
