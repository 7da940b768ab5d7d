"""One Parquet data file, from its first row group to what a commit needs to know of it."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder
from pyiceberg.typedef import Record

from iceblink.errors import WriteError
from iceblink.lake.file_format import writer_arguments
from iceblink.lake.late import iceberg_arrow
from iceblink.lake.partition import Partition
from iceblink.lake.row_lineage import is_lineage
from iceblink.lake.schemas import arrow_schema, byte_tensors
from iceblink.lake.storage import Storage
from iceblink.lake.tensors import to_bytes


@dataclass(frozen=True)
class VectorPlace:
    """Where in a Puffin file a deletion vector is.

    Parameters
    ----------
    target : str
        The data file whose rows it takes out.
    offset, length : int
        Of its blob [bytes].
    """

    target: str
    offset: int
    length: int


@dataclass(frozen=True)
class NewFile:
    """A finished file that no snapshot refers to yet: plain data, so that it travels between processes.

    Parameters
    ----------
    path : str
    token : str
        The write that made it, whose marker is beside the metadata.
    file_bytes : int
        Size on disk [bytes].
    rows : int
    spec_id : int
        Partition spec it was written under.
    partition : tuple
        One value per partition field, as Iceberg stores them.
    sort_order_id : int or None
        The table's sort order that its rows are in.
    metrics : dict
        Sizes, counts, bounds by field id and row-group offsets (Iceberg spec, "Data File Fields").
    deletes : bool
        Whether it says which rows of a data file are deleted, by position; each is a row of this one.
    vector : VectorPlace, optional
        Of deletes that are a deletion vector: several share one file.
    """

    path: str
    token: str
    file_bytes: int
    rows: int
    spec_id: int
    partition: Partition
    sort_order_id: int | None
    metrics: dict[str, Any]
    deletes: bool = False
    vector: VectorPlace | None = None

    def data_file(self) -> DataFile:
        """Return it in PyIceberg's form."""
        vector = self.vector
        file = DataFile.from_args(
            3,  # writers of manifests of version 2 pass over what that has not
            content=DataFileContent.POSITION_DELETES if self.deletes else DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET if vector is None else FileFormat.PUFFIN,
            partition=Record(*self.partition),
            file_size_in_bytes=self.file_bytes,
            sort_order_id=self.sort_order_id,
            equality_ids=None,
            key_metadata=None,
            referenced_data_file=None if vector is None else vector.target,
            content_offset=None if vector is None else vector.offset,
            content_size_in_bytes=None if vector is None else vector.length,
            **self.metrics,
        )
        file.spec_id = self.spec_id
        return file


@dataclass(frozen=True)
class FileKind:
    """What all data files of one write have in common.

    Parameters
    ----------
    table : str
        Name of the table, for errors.
    token : str
        The write.
    storage : Storage
    schema : pyiceberg Schema
    properties : dict of str to str
        The table's properties.
    spec_id : int
    sort_order : pyiceberg SortOrder
        The order the rows are in, or the unsorted order.
    """

    table: str
    token: str
    storage: Storage
    schema: Schema
    properties: dict[str, str]
    spec_id: int
    sort_order: SortOrder


class ParquetFile:
    """A data file being written; nothing exists before the first row group.

    Parameters
    ----------
    kind : FileKind
    path : str
    partition : tuple
        Partition values of every row.
    """

    def __init__(self, kind: FileKind, path: str, partition: Partition) -> None:
        self.kind, self.path, self.partition = kind, path, partition
        self._schema = arrow_schema(kind.schema, {})  # tensors as they are stored
        self._sink: Any = None
        self._writer: pq.ParquetWriter | None = None

    @property
    def file_bytes(self) -> int:
        """Bytes written so far; the footer comes at the end."""
        return 0 if self._sink is None else int(self._sink.tell())

    def write(self, rows: pa.Table) -> None:
        """Write `rows`, in the table's schema, as one row group.

        Raises
        ------
        WriteError
            The storage refused: no space, no permission, no connection.
        NullInRequired
            A tensor that is stored as bytes has nulls inside.
        """
        with self._explained():
            stored = [self._stored(column, field) for column, field in zip(rows.columns, self._schema, strict=True)]
            rows = pa.Table.from_arrays(stored, schema=self._schema)
            self._opened(rows).write_table(rows, row_group_size=max(1, rows.num_rows))

    def close(self) -> NewFile:
        """Write the footer and return what a commit needs.

        Raises
        ------
        WriteError
            The storage refused.
        """
        assert self._writer is not None, "a file is made by its first row group"
        with self._explained():
            self._writer.close()
            file_bytes = self.file_bytes
            self._sink.close()
        statistics = iceberg_arrow.data_file_statistics_from_parquet_metadata(
            parquet_metadata=self._writer.writer.metadata,
            stats_columns=iceberg_arrow.compute_statistics_plan(self.kind.schema, self._metrics()),
            parquet_column_mapping=iceberg_arrow.parquet_path_to_id_mapping(self.kind.schema),
        )
        return NewFile(
            path=self.path,
            token=self.kind.token,
            file_bytes=file_bytes,
            rows=statistics.record_count,
            spec_id=self.kind.spec_id,
            partition=self.partition,
            sort_order_id=None if self.kind.sort_order.is_unsorted else self.kind.sort_order.order_id,
            metrics=statistics.to_serialized_dict(),
        )

    def abort(self) -> None:
        """Let go of the file; whoever named it removes it."""
        if self._writer is not None and self._writer.is_open:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer.is_open = False  # pyarrow would try again when it is collected, and warn
        if self._sink is not None:
            with contextlib.suppress(OSError, pa.ArrowException, ValueError):
                self._sink.close()

    def _opened(self, rows: pa.Table) -> pq.ParquetWriter:
        """Return the writer, made for the first row group."""
        if self._writer is None:
            arguments = writer_arguments(self.kind.schema, self.kind.properties, self.kind.sort_order, rows)
            self._sink = self.kind.storage.open_output(self.path)
            self._writer = pq.ParquetWriter(self._sink, self._schema, **arguments)
        return self._writer

    def _metrics(self) -> dict[str, str]:
        """Return the table's properties, and that only sizes are known of some columns.

        Of tensors: see `file_format`. Of row lineage: bounds would be those of rows that have it of their own.
        """
        sized = [*byte_tensors(self.kind.schema, self.kind.properties)]
        sized += [field.name for field in self._schema if is_lineage(field)]
        return self.kind.properties | {f"write.metadata.metrics.column.{name}": "none" for name in sized}

    def _stored(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        if column.type == field.type:
            return column
        if pa.types.is_fixed_size_binary(field.type):
            return pa.chunked_array(
                [to_bytes(chunk, field.name, self.kind.table) for chunk in column.chunks], field.type
            )
        return column.cast(field.type)  # tensors to lists, at any depth

    @contextlib.contextmanager
    def _explained(self) -> Any:
        written = self.file_bytes
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise WriteError(
                f"cannot write {self.path}, {written:,} bytes of it written: {error.strerror or error}",
                self.kind.table,
                "free space there, or write to another location: the files of this write are removed"
                if full
                else "check that the location exists and may be written; the files of this write are removed",
            ) from error
