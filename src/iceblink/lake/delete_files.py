"""Position delete files: which rows of which data file are gone, written without touching the data file.

References
----------
.. [1] Iceberg table spec, "Position Delete Files".
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyiceberg.manifest import DataFile

from iceblink.errors import WriteError
from iceblink.events import FileWritten, emit
from iceblink.lake.files import NewFile
from iceblink.lake.leftovers import mark_write, remove_writes
from iceblink.lake.manifests import data_files_by_path
from iceblink.lake.schemas import FIELD_ID
from iceblink.lake.table import Table

PATH_ID, POSITION_ID = 2147483546, 2147483545  # field ids that the spec reserves
POSITION_DELETES = pa.schema(
    [
        pa.field("file_path", pa.string(), metadata={FIELD_ID: str(PATH_ID).encode()}),
        pa.field("pos", pa.int64(), metadata={FIELD_ID: str(POSITION_ID).encode()}),
    ]
)
_REQUIRED = pa.schema([field.with_nullable(False) for field in POSITION_DELETES])

GROUP_ROWS = 1 << 20
"""Positions of a row group, and the most that are held in memory: 8 MiB."""


class PositionDeleteWriter:
    """Writes a delete file for each data file, one after the other; leaves nothing behind unless finished.

    A delete file names one data file: who reads that one reads no deletes of others, and its bounds say so.

    Parameters
    ----------
    table : Table
        The version whose rows are deleted; not changed here.
    """

    def __init__(self, table: Table) -> None:
        self.token = uuid4().hex
        """Names this write: its files begin with it."""
        self._table = table
        self._locations = table.pyiceberg.location_provider()
        self._open: _DeleteFile | None = None
        self._made: list[str] = []
        self._closed: list[_Closed] = []
        self._finished = self._marked = False

    def delete(self, path: str, positions: NDArray[np.int64]) -> None:
        """Delete rows of a data file: ascending positions, those of one file after those of another.

        Raises
        ------
        WriteError
            The storage refused; the writer is of no more use.
        """
        if self._open is None or self._open.target != path:
            self._close()
            if not self._marked:
                mark_write(self._table.pyiceberg, self.token)
                self._marked = True
            name = f"{self.token}-{len(self._made):05d}-deletes.parquet"
            self._made.append(self._locations.new_data_location(name))
            self._open = _DeleteFile(self._table, self._made[-1], path)
        self._open.write(positions)

    def finish(self, but: Collection[str] = ()) -> list[NewFile]:
        """Close the last file and return all, without those for the data files `but`, which are removed."""
        self._close()
        wanted = {closed.target: closed for closed in self._closed if closed.target not in but}
        targets = data_files_by_path(self._table, wanted.keys())
        made = [wanted[target.file_path].of(target, self.token) for target in targets]
        unwanted = [closed.path for closed in self._closed if closed.target in but]
        remove_writes(self._table.pyiceberg, [] if made or not self._marked else [self.token], unwanted)
        self._finished = True
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finished:
            return
        if self._open is not None:
            self._open.abort()
        if self._marked:
            remove_writes(self._table.pyiceberg, [self.token], self._made)

    def _close(self) -> None:
        if self._open is not None:
            closed, self._open = self._open.close(), None
            emit(FileWritten(self._table.name, closed.path, closed.rows, closed.file_bytes))
            self._closed.append(closed)


@dataclass(frozen=True)
class _Closed:
    """A delete file that is written, and the data file that it names."""

    path: str
    target: str
    file_bytes: int
    rows: int
    first: int
    last: int
    column_sizes: Mapping[int, int]
    offsets: Sequence[int]

    def of(self, target: DataFile, token: str) -> NewFile:
        """Return what a commit needs to know: it is of the partition of its data file."""
        path = self.target.encode()  # whole: readers take equal bounds for the one target
        record = target.partition
        return NewFile(
            path=self.path,
            token=token,
            file_bytes=self.file_bytes,
            rows=self.rows,
            spec_id=target.spec_id,
            partition=tuple(record[place] for place in range(len(record))),
            sort_order_id=None,
            metrics={
                "record_count": self.rows,
                "column_sizes": dict(self.column_sizes),
                "value_counts": {PATH_ID: self.rows, POSITION_ID: self.rows},
                "null_value_counts": {PATH_ID: 0, POSITION_ID: 0},
                "nan_value_counts": {},
                "lower_bounds": {PATH_ID: path, POSITION_ID: _stored(self.first)},
                "upper_bounds": {PATH_ID: path, POSITION_ID: _stored(self.last)},
                "split_offsets": list(self.offsets),
            },
            deletes=True,
        )


class _DeleteFile:
    """One delete file being written; nothing exists before its first row group."""

    def __init__(self, table: Table, path: str, target: str) -> None:
        self.target = target
        self._table, self._path = table, path
        self._held: list[NDArray[np.int64]] = []
        self._rows = self._held_rows = 0
        self._first = self._last = -1
        self._sink: Any = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, positions: NDArray[np.int64]) -> None:
        if not self._rows:
            self._first = int(positions[0])
        self._last = int(positions[-1])
        self._rows += len(positions)
        self._held_rows += len(positions)
        self._held.append(positions)
        if self._held_rows >= GROUP_ROWS:
            self._flush()

    def close(self) -> _Closed:
        try:
            self._flush()
            assert self._writer is not None, "it has rows"
            self._writer.close()
            file_bytes = int(self._sink.tell())
            self._sink.close()
        except OSError as error:
            raise self._refused(error) from error
        metadata = self._writer.writer.metadata
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        sizes = {
            field_id: sum(group.column(place).total_compressed_size for group in groups)
            for place, field_id in enumerate((PATH_ID, POSITION_ID))
        }
        offsets = [group.column(0).dictionary_page_offset or group.column(0).data_page_offset for group in groups]
        return _Closed(self._path, self.target, file_bytes, self._rows, self._first, self._last, sizes, offsets)

    def abort(self) -> None:
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            if self._writer is not None:
                self._writer.close()
            if self._sink is not None:
                self._sink.close()

    def _flush(self) -> None:
        if not self._held:
            return
        positions = pa.array(np.concatenate(self._held))
        paths = pa.repeat(pa.scalar(self.target), len(positions))
        try:
            if self._writer is None:
                self._sink = self._table.pyiceberg.io.new_output(self._path).create(overwrite=True)
                self._writer = pq.ParquetWriter(
                    self._sink, _REQUIRED, compression="zstd", write_page_checksum=True, use_dictionary=["file_path"]
                )
            self._writer.write_table(pa.table([paths, positions], schema=_REQUIRED), row_group_size=len(positions))
        except OSError as error:
            raise self._refused(error) from error
        self._held, self._held_rows = [], 0

    def _refused(self, error: OSError) -> WriteError:
        return WriteError(
            f"cannot write {self._path}: {error.strerror or error}",
            self._table.name,
            "check that the location may be written and has space; the files of this write are removed",
        )


def _stored(position: int) -> bytes:
    """Return a long in Iceberg's single-value form."""
    return position.to_bytes(8, "little", signed=True)
