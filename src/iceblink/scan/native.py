"""Whether the query kernel may read a scan's files with its own Parquet reader, and what it must know to do so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.types as pt

from iceblink.lake.schemas import DEFAULT
from iceblink.scan.chance import is_chance
from iceblink.scan.checksum import verify_pages
from iceblink.scan.footer import FOOTERS, Footer
from iceblink.scan.plan import ScanPlan
from iceblink.scan.project import Column, Projection, field_id, inner_fields
from iceblink.scan.split import WHOLE_FILE, Piece


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
    """Whole files that the kernel's own reader reads rightly, given field ids.

    Parameters
    ----------
    plan : ScanPlan
    paths : tuple of str
        On this machine, in the table's order. More is read than the plan keeps: row groups are the kernel's to prune.
    columns : tuple of NativeColumn
        Those of the plan and those asked for besides, in the table's order.
    evolved : bool
        Whether some file has columns of other names or types than the table has now, or lacks one.
    """

    plan: ScanPlan = field(repr=False)
    paths: tuple[str, ...]
    columns: tuple[NativeColumn, ...]
    evolved: bool

    def checks(self, threads: int = 4) -> list[Callable[[], None]]:
        """Return what verifies the page checksums of all that may be read, each once in the life of the process.

        There is one call for each file. It raises DataCorrupt when a page does not fit its checksum.
        """
        return [partial(self._verify, piece, threads) for piece in _files(self.plan)]

    def _verify(self, piece: Piece, threads: int) -> None:
        footer = _footer(self.plan, piece)
        leaves = Projection.of(self.plan.schema, footer.schema).leaves
        groups = range(footer.metadata.num_row_groups)
        verify_pages(self.plan.storage, footer, groups, leaves, threads, self.plan.owner)


def native_scan(plan: ScanPlan, also: Collection[str] = ()) -> NativeScan | str:
    """Return what the kernel needs to read a scan by itself, or in words why it must not.

    The kernel matches top-level columns by field id, fills added ones and widens numbers. It knows no deletes, no
    partition values that a file lacks, and nothing of how the inside of a nested column changed.

    Parameters
    ----------
    plan : ScanPlan
    also : collection of str
        Columns of the table that the kernel should know of besides those of the plan; it will not read them.
    """
    if not len(plan.schema):
        return "no columns are read"
    if any(map(is_chance, plan.schema.names)):
        return "chance is drawn by the place of each row"
    if plan.deletes:
        return "some rows are deleted by delete files"
    if any(piece.groups == WHOLE_FILE for piece in plan.pieces):
        return "so many files that not every footer was read"
    schema = pa.schema(
        [column for column in plan.table_schema if column.name in plan.schema.names or column.name in also]
    )
    for column in schema:
        if (why := _unreadable(column)) is not None:
            return f"column {column.name!r} {why}"
    pieces = _files(plan)
    if not pieces:
        return "no files are read"
    local = [plan.storage.local_path(piece.path) for piece in pieces]
    evolved = False
    for piece in pieces:
        footer = _footer(plan, piece)
        if any(field_id(stored) is None for stored in footer.schema):
            return f"a file has columns without field ids: {piece.path}"
        for found in Projection.of(schema, footer.schema, piece.identity).columns:
            if (why := _misread(found)) is not None:
                return f"column {found.target.name!r} {why}"
            evolved |= found.source is None or found.source.name != found.target.name or not found.same
    paths = tuple(path for path in local if path is not None)
    if len(paths) < len(pieces):
        return "some files are not on this machine"
    return NativeScan(plan, paths, tuple(map(_described, schema)), evolved)


def _files(plan: ScanPlan) -> list[Piece]:
    """Return one piece of each file."""
    return list({piece.path: piece for piece in plan.pieces}.values())


def _footer(plan: ScanPlan, piece: Piece) -> Footer:
    return FOOTERS.get(plan.storage, piece.path, piece.file_bytes, plan.owner)


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
