"""Whether the query kernel may read a scan's files with its own Parquet reader, and what it must know to do so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.types as pt

from iceblink.lake.row_lineage import is_lineage
from iceblink.lake.schemas import DEFAULT
from iceblink.lake.storage import Storage
from iceblink.scan.checksum import verify_pages
from iceblink.scan.footer import FOOTERS
from iceblink.scan.place import is_placed
from iceblink.scan.plan import ScanPlan
from iceblink.scan.project import Column, Projection, field_id, inner_fields
from iceblink.scan.split import WHOLE_FILE, Piece, Split

ROW_NUMBER = "file_row_number"
"""How the kernel calls a row's position in its file."""
MOST_PIECES = 64
"""Each piece is a table of its own to the kernel, which takes a fraction of a millisecond to look at it."""


@dataclass(frozen=True)
class NativeColumn:
    """A column as the kernel's reader wants it described.

    Parameters
    ----------
    field_id : int
    name : str
    dtype : pa.DataType
    default : object
        Value of the column in files that lack it, as Iceberg's JSON form gives it; None for null.
    """

    field_id: int
    name: str
    dtype: pa.DataType
    default: object


@dataclass(frozen=True)
class NativeScan:
    """Files that the kernel's own reader reads rightly, given field ids.

    Parameters
    ----------
    storage : Storage
    owner : str
        Whose files they are, for errors.
    schema : pa.Schema
        What is read of them.
    pieces : tuple of Piece
        One of each file where all of it may be read; else what is to be read and no more.
    paths : tuple of str
        Of each piece, on this machine, in the table's order.
    columns : tuple of NativeColumn
        Those that are read and those asked for besides, in the table's order.
    evolved : bool
        Whether some file has columns of other names or types than the table has now, or lacks one.
    whole : bool
        Whether all of each file may be read: row groups are the kernel's to prune.
    """

    storage: Storage
    owner: str
    schema: pa.Schema
    pieces: tuple[Piece, ...] = field(repr=False)
    paths: tuple[str, ...]
    columns: tuple[NativeColumn, ...]
    evolved: bool
    whole: bool

    def checks(self, threads: int = 4) -> list[Callable[[], None]]:
        """Return what verifies the page checksums of all that may be read, each once in the life of the process.

        There is one call for each piece. It raises DataCorrupt when a page does not fit its checksum.
        """
        return [partial(self._verify, piece, threads) for piece in self.pieces]

    def _verify(self, piece: Piece, threads: int) -> None:
        footer = FOOTERS.get(self.storage, piece.path, piece.file_bytes, self.owner)
        leaves = Projection.of(self.schema, footer.schema).leaves
        every = self.whole or piece.groups == WHOLE_FILE
        first, groups = (0, footer.metadata.num_row_groups) if every else (piece.first_group, piece.groups)
        verify_pages(self.storage, footer, range(first, first + groups), leaves, threads, self.owner)


def native_scan(plan: ScanPlan, also: Collection[str] = ()) -> NativeScan | str:
    """Return what the kernel needs to read the files of a scan by itself, or in words why it must not.

    More is read than the plan keeps: row groups are the kernel's to prune.

    Parameters
    ----------
    plan : ScanPlan
    also : collection of str
        Columns of the table that the kernel should know of besides those of the plan; it will not read them.
    """
    if any(piece.groups == WHOLE_FILE for piece in plan.pieces):
        return "so many files that not every footer was read"
    by_path = {piece.path: piece for piece in plan.pieces}
    if any(piece.identity != by_path[piece.path].identity for piece in plan.pieces):
        return "a file is read more than once"
    files = by_path.values()
    return _native(plan.storage, plan.owner, plan.table_schema, plan.schema.names, also, tuple(files), whole=True)


def native_splits(
    splits: Sequence[Split], storage: Storage, owner: str, schema: pa.Schema, names: Collection[str]
) -> NativeScan | str:
    """Return what the kernel needs to read just some splits, or in words why it must not.

    Parameters
    ----------
    splits : sequence of Split
    storage : Storage
    owner : str
        The table, for errors.
    schema : pa.Schema
        Of the table, with field ids.
    names : collection of str
        Columns that are read.
    """
    pieces = tuple(piece for split in splits for piece in split.pieces)
    if len(pieces) > MOST_PIECES:
        return "so many pieces"
    if ROW_NUMBER in {column.name.lower() for column in schema}:
        return f"a column is named {ROW_NUMBER}"
    return _native(storage, owner, schema, names, (), pieces, whole=False)


def _native(
    storage: Storage,
    owner: str,
    table: pa.Schema,
    names: Collection[str],
    also: Collection[str],
    pieces: tuple[Piece, ...],
    whole: bool,
) -> NativeScan | str:
    """Look at all files.

    The kernel matches top-level columns by field id, fills added ones and widens numbers. It knows no deletes, no
    partition values that a file lacks, and nothing of how the inside of a nested column changed.
    """
    if not names:
        return "no columns are read"
    if any(map(is_placed, names)):
        return "some columns are made of the place of each row"
    if not all(piece.every_row for piece in pieces):
        return "some rows are deleted by delete files"
    schema = pa.schema([column for column in table if column.name in names or column.name in also])
    if any(map(is_lineage, schema)):
        return "the lineage of rows is read"
    for column in schema:
        if (why := _unreadable(column)) is not None:
            return f"column {column.name!r} {why}"
    if not pieces:
        return "no files are read"
    local = [storage.local_path(piece.path) for piece in pieces]
    evolved = False
    for piece in pieces:
        footer = FOOTERS.get(storage, piece.path, piece.file_bytes, owner)
        if any(field_id(stored) is None for stored in footer.schema):
            return f"a file has columns without field ids: {piece.path}"
        for found in Projection.of(schema, footer.schema, piece.identity).columns:
            if (why := _misread(found)) is not None:
                return f"column {found.target.name!r} {why}"
            evolved |= found.source is None or found.source.name != found.target.name or not found.same
    paths = tuple(path for path in local if path is not None)
    if len(paths) < len(pieces):
        return "some files are not on this machine"
    read = pa.schema([column for column in schema if column.name in names])
    return NativeScan(storage, owner, read, pieces, paths, tuple(map(_described, schema)), evolved, whole)


def _described(column: pa.Field) -> NativeColumn:
    default = (column.metadata or {}).get(DEFAULT)
    number = field_id(column)
    assert number is not None, "columns of a table have field ids"
    return NativeColumn(number, column.name, column.type, None if default is None else json.loads(default))


def _unreadable(column: pa.Field) -> str | None:
    """Return why the kernel cannot read a column of any file."""
    dtype = column.type
    if _holds_tensor(dtype):
        return "is a tensor"
    if pt.is_timestamp(dtype) and dtype.unit == "ns" and dtype.tz is not None:
        return "is a timestamptz_ns, which the kernel does not have"
    if DEFAULT in (column.metadata or {}) and (pt.is_binary(dtype) or pt.is_fixed_size_binary(dtype)):
        return "has a default of bytes"
    return None


def _holds_tensor(dtype: pa.DataType) -> bool:
    if isinstance(dtype, pa.FixedShapeTensorType):
        return True
    return any(_holds_tensor(inner.type) for inner in inner_fields(dtype))


def _misread(column: Column) -> str | None:
    """Return why the kernel would read a column of one file wrongly."""
    source, target = column.source, column.target
    if source is None:
        if pt.is_struct(target.type):  # DuckDB 2.0 takes a field that is asked of it for the struct
            return "is a struct that is not in every file"
        if column.constant is not None and DEFAULT not in (target.metadata or {}):
            return "is a partition value that is not in the files"
        return None if target.nullable or column.constant is not None else "is required and not in every file"
    if source.nullable and not target.nullable:
        return "is required, which only iceblink's reader checks"
    if column.same or _widens(source.type, target.type):
        return None
    return "has changed inside since some file was written" if column.children else "has another type in some file"


def _widens(source: pa.DataType, target: pa.DataType) -> bool:
    if pt.is_decimal(source) and pt.is_decimal(target):
        return bool(source.scale == target.scale and source.precision <= target.precision)
    return (source, target) in ((pa.int32(), pa.int64()), (pa.float32(), pa.float64()))
