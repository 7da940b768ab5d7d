"""Batches become data files: partitioned, sized by bytes, in bounded memory, none left behind on failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import uuid4

import pyarrow as pa
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from iceblink.config import Settings
from iceblink.events import FileWritten, emit
from iceblink.lake.file_format import ROW_GROUP_ROWS, number
from iceblink.lake.files import FileKind, NewFile, ParquetFile
from iceblink.lake.lanes import Lane
from iceblink.lake.leftovers import mark_write, remove_writes
from iceblink.lake.partition import Partition, Partitioner
from iceblink.lake.row_lineage import stored
from iceblink.lake.table import Table
from iceblink.types import conform

OPEN_FILES = 64
MERGE_AT = 256  # this many batches of a buffer become one: small batches cost more than their bytes


@dataclass
class Buffer:
    """Rows of one partition that are not yet a row group."""

    ordinal: int
    groups: int = 0
    encoded_bytes: int = 0  # Arrow size of the row groups so far
    rows: int = 0
    nbytes: int = 0
    batches: list[pa.RecordBatch] = field(default_factory=list)
    recent: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self.nbytes += batch.nbytes
        self.recent.append(batch)
        if len(self.recent) == MERGE_AT:
            self.batches.append(pa.concat_batches(self.recent))
            self.recent = []

    def empty(self, schema: pa.Schema) -> pa.Table:
        """Return the rows, and hold none."""
        rows = pa.Table.from_batches(self.batches + self.recent, schema)
        self.groups += 1
        self.encoded_bytes += self.nbytes
        self.rows = self.nbytes = 0
        self.batches, self.recent = [], []
        return rows


class TableWriter:
    """Writes data files for one commit; a context manager that leaves nothing behind unless finished.

    Rows are buffered per partition up to a row group and encoded in background threads; `write` waits when they
    are busy. Of the memory budget of the settings a quarter is used: half of it for buffers (over it, the largest
    become smaller row groups), half for what is being encoded.

    Parameters
    ----------
    table : Table
        Where the files will be committed; not changed here.
    settings : Settings
    sorted : bool
        The rows come in the table's sort order. Each partition then fills one file after the other, so that files
        hold disjoint ranges, and files say that they are sorted. Otherwise a partition gets one more file at a time
        for each half of a target file size that it has received, so that large inputs are encoded in parallel.
    job : str
        Folder of the journal that will name the files, if there is one: they are no leftovers while it is there.
    share_of : str, optional
        The token of a write that several writers share; whoever began it has marked it, and ends it.
    group_rows : int, optional
        Most rows of a row group, where that is fewer than the table says.
    """

    def __init__(
        self,
        table: Table,
        settings: Settings,
        sorted: bool = False,
        job: str = "",
        share_of: str = "",
        group_rows: int | None = None,
    ) -> None:
        self.token = share_of or uuid4().hex
        """Names this write: its data files begin with it. Always new, so that no two writes share a file name."""
        self._table, self._sorted, self._job = table, sorted, job
        iceberg = table.pyiceberg
        properties = iceberg.metadata.properties
        self._kind = FileKind(
            table=table.name,
            token=self.token,
            storage=table.storage,
            schema=stored(table.iceberg_schema),
            properties=properties,
            spec_id=iceberg.metadata.default_spec_id,
            sort_order=iceberg.sort_order() if sorted else UNSORTED_SORT_ORDER,
        )
        self._partitioner = Partitioner(table.iceberg_schema, iceberg.spec())
        self._locations = iceberg.location_provider()
        self._file_bytes = number(properties, "write.target-file-size-bytes", settings.file_bytes)
        most_rows = number(properties, ROW_GROUP_ROWS, 1 << 20)
        self._group_rows = most_rows if group_rows is None else min(most_rows, group_rows)
        self._buffer_bytes = settings.memory_bytes // 8
        group_bytes = number(properties, "write.parquet.row-group-size-bytes", settings.row_group_bytes)
        self._group_bytes = min(group_bytes, self._buffer_bytes)
        width = max(1, min(settings.threads, self._buffer_bytes // self._group_bytes))
        self._lanes = [self._lane(ordinal, max(1, OPEN_FILES // width)) for ordinal in range(width)]
        self._buffers: dict[Partition, Buffer] = {}
        self._buffered = 0
        self._made: list[str] = []
        self._closed: list[NewFile] = []
        self._shared, self._marked, self._finished = bool(share_of), bool(share_of), False
        self._names = f"{self.token}-{uuid4().int % 10**18:018d}" if share_of else self.token
        self.peak_bytes = 0
        """Most Arrow bytes ever held, in buffers and in lanes [bytes]."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; blocks while the encoders are behind.

        Raises
        ------
        SchemaMismatch, NullInRequired
            The batch does not fit the table.
        WriteError
            A file could not be written; the writer is of no more use.
        """
        fitting = conform(batch, self._table.schema, self._table.name)
        for partition, rows in self._partitioner.split(fitting):
            self._buffer(partition, rows)

    def finish(self) -> list[NewFile]:
        """Write what is buffered, close every file and return them, in the order of their names.

        Raises
        ------
        WriteError
            A file could not be written; all are removed.
        """
        try:
            for partition in self._buffers:
                self._encode(partition)
            for lane in self._lanes:
                self._collect(lane.finish())
        except BaseException:
            self.abort()
            raise
        self._finished = True
        return sorted(self._closed, key=lambda file: file.path.rpartition("/")[2])

    def abort(self) -> None:
        """Stop, and remove every file made so far; not after a commit was tried."""
        for lane in self._lanes:
            lane.abort()
        self._buffers.clear()
        if self._marked:
            remove_writes(self._table.pyiceberg, [] if self._shared else [self.token], self._made)
        self._made, self._marked = [], False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:  # once finished, the files are the commit's: it may have landed even if it raised
            self.abort()

    def _buffer(self, partition: Partition, rows: pa.RecordBatch) -> None:
        buffer = self._buffers.setdefault(partition, Buffer(ordinal=len(self._buffers)))
        row_bytes = max(rows.nbytes / rows.num_rows, 1e-3)
        start = 0
        while start < rows.num_rows:
            room = min(int((self._group_bytes - buffer.nbytes) / row_bytes), self._group_rows - buffer.rows)
            if room < 1 and buffer.rows:
                self._encode(partition)
                continue
            piece = _owned(rows.slice(start, max(room, 1)))
            buffer.add(piece)
            self._buffered += piece.nbytes
            start += piece.num_rows
        self._note_peak()
        if self._buffered > self._buffer_bytes:
            self._relieve()

    def _relieve(self) -> None:
        """Encode the largest buffers until half of their memory is free."""
        for partition, _ in sorted(self._buffers.items(), key=lambda item: -item[1].nbytes):
            if self._buffered <= self._buffer_bytes // 2:
                return
            self._encode(partition)

    def _encode(self, partition: Partition) -> None:
        buffer = self._buffers[partition]
        if not buffer.rows:
            return
        nbytes = buffer.nbytes
        spread = 1 if self._sorted else 1 + 2 * buffer.encoded_bytes // self._file_bytes
        lane = self._lanes[(buffer.ordinal + buffer.groups % min(spread, len(self._lanes))) % len(self._lanes)]
        if not self._marked:
            mark_write(self._table.pyiceberg, self.token, self._job)
            self._marked = True
        self._collect(lane.wait())  # before the buffer is counted as being encoded
        self._collect(lane.put(partition, buffer.empty(self._table.schema), nbytes))
        self._buffered -= nbytes
        self._note_peak()

    def _lane(self, ordinal: int, open_files: int) -> Lane:
        made = 0

        def new_file(partition: Partition) -> ParquetFile:
            nonlocal made
            name = f"{self._names}-{ordinal:02d}-{made:05d}.parquet"
            made += 1
            path = self._locations.new_data_location(name, self._partitioner.folder(partition))
            self._made.append(path)  # before it exists, so that abort never misses one
            return ParquetFile(self._kind, path, partition)

        return Lane(new_file, self._file_bytes, open_files)

    def _collect(self, closed: list[NewFile]) -> None:
        self._closed += closed
        for file in closed:
            emit(FileWritten(self._table.name, file.path, file.rows, file.file_bytes))

    def _note_peak(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._buffered + sum(lane.busy_bytes for lane in self._lanes))


def _owned(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Copy rows that are a small part of a large allocation, which they would hold in memory."""
    if rows.get_total_buffer_size() > 2 * rows.nbytes + 4096:
        return pa.concat_batches([rows])
    return rows
