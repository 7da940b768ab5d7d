"""How large row groups are once decoded to Arrow, known before they are read.

With SizeStatistics in the footer the Arrow layout can be computed: values at each level give the lengths of lists and
the nulls, `unencoded_byte_array_data_bytes` the characters. Without them, a column of fixed width is still exact, and
for the others the ratio of Arrow bytes to Parquet bytes is remembered from row groups that were decoded.

References
----------
.. [1] Apache Parquet format, ``parquet.thrift``: SizeStatistics.
.. [2] Apache Arrow columnar format, "Physical Memory Layout".
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from iceblink.scan.footer import Chunk, Footer
from iceblink.scan.project import Column, Projection, field_id

RatioKey = tuple[str, str, int | str]
"""Table, writer, and the column's field id or name."""


class DecodedRatios:
    """Arrow bytes per uncompressed Parquet byte, by writer and column, learned from what was decoded.

    Parameters
    ----------
    weight : float
        Weight of the newest observation in the moving average.
    """

    def __init__(self, weight: float = 0.3) -> None:
        self.weight = weight
        self._lock = threading.Lock()
        self._ratios: dict[RatioKey, float] = {}

    def get(self, key: RatioKey) -> float | None:
        """Return the ratio; None when nothing of that kind was decoded yet."""
        return self._ratios.get(key)

    def learn(self, key: RatioKey, decoded_bytes: int, encoded_bytes: int) -> None:
        """Move the average towards one more observation."""
        with self._lock:
            seen = decoded_bytes / max(1, encoded_bytes)
            known = self._ratios.get(key, seen)
            self._ratios[key] = known + self.weight * (seen - known)


RATIOS = DecodedRatios()
"""What this process has learned."""


def ratio_key(table: str, footer: Footer, column: Column) -> RatioKey:
    """Return under what the ratio of a column is remembered."""
    return table, footer.metadata.created_by or "", field_id(column.target) or column.target.name


def encoded_bytes(column: Column, footer: Footer, group: int) -> int:
    """Return what a column takes in Parquet, uncompressed [bytes]."""
    return sum(footer.chunks[group][leaf].uncompressed_bytes for leaf in column.leaves)


def inexact(projection: Projection, footer: Footer, group: int) -> list[int]:
    """Return the places of the columns whose size the footer does not tell."""
    return [place for place, column in enumerate(projection.columns) if exact_bytes(column, footer, group) is None]


def guessed(table: str, projection: Projection, footer: Footer) -> list[int]:
    """Return the places of the columns that a ratio is remembered for."""
    keys = (ratio_key(table, footer, column) for column in projection.columns)
    return [place for place, key in enumerate(keys) if RATIOS.get(key) is not None]


def learn(
    table: str,
    projection: Projection,
    footer: Footer,
    group: int,
    sizes: Mapping[int, int],
    ratios: DecodedRatios = RATIOS,
) -> None:
    """Remember what columns of a decoded row group took.

    Parameters
    ----------
    sizes : mapping of int to int
        Place of the column to its Arrow size [bytes].
    """
    for place, size in sizes.items():
        column = projection.columns[place]
        values = max(0, size - slot_bytes(column, footer, group))
        ratios.learn(ratio_key(table, footer, column), values, encoded_bytes(column, footer, group))


def slot_bytes(column: Column, footer: Footer, group: int) -> int:
    """Return what a column takes for being there, whatever its values [bytes]: offsets and bitmap of flat text.

    Only the rest is learned as a ratio: in a column that is nearly all null this is nearly all there is.
    """
    rows: int = footer.metadata.row_group(group).num_rows
    return 4 * (rows + 1) + math.ceil(rows / 8) if column.flat else 0


@dataclass(frozen=True, slots=True)
class Size:
    """What a row group takes once decoded: what its footer tells, and what only those know who have decoded its like.

    Parameters
    ----------
    told : float
        Arrow bytes.
    guessed : tuple of (RatioKey, int)
        The ratio of a column whose size is not told, and the Parquet bytes that it is of.
    """

    told: float
    guessed: tuple[tuple[RatioKey, int], ...] = ()

    def total(self, ratios: DecodedRatios = RATIOS) -> int:
        """Return Arrow bytes; for what was never decoded, a ratio of 1 is assumed."""
        return math.ceil(self.told + sum(encoded * (ratios.get(key) or 1.0) for key, encoded in self.guessed))


def size_of(projection: Projection, footer: Footer, group: int, table: str = "") -> Size:
    """Return the size of a row group's projected columns.

    Parameters
    ----------
    projection : Projection
    footer : Footer
    group : int
        Row group.
    table : str
        UUID of the table, under which ratios are remembered.
    """
    told, guessed = 0.0, []
    for column in projection.columns:
        size = exact_bytes(column, footer, group)
        if size is None:
            size = slot_bytes(column, footer, group)
            guessed.append((ratio_key(table, footer, column), encoded_bytes(column, footer, group)))
        told += size
    return Size(told, tuple(guessed))


def decoded_bytes(
    projection: Projection, footer: Footer, group: int, table: str = "", ratios: DecodedRatios = RATIOS
) -> int:
    """Estimate the Arrow size of a row group's projected columns: within 5 % where the footer has SizeStatistics."""
    return size_of(projection, footer, group, table).total(ratios)


def exact_bytes(column: Column, footer: Footer, group: int) -> float | None:
    """Return the Arrow size of one column of a row group [bytes]; None when the footer does not tell."""
    rows: int = footer.metadata.row_group(group).num_rows
    if column.source is None:
        return _constant_bytes(column, rows)
    try:
        if not column.flat:
            return _nested_bytes(column, footer.chunks[group], rows, 0, 0)
        bitmap = _bitmap(column, rows, _has_nulls(footer, group, column.leaves[0]))
        tensor = isinstance(column.target.type, pa.FixedShapeTensorType)  # stored as bytes, which it shares
        width = _bit_width(column.source.type if tensor else column.target.type)
        if width is not None:  # without SizeStatistics, and without parsing them
            return bitmap + rows * width / 8
        return bitmap + _text_bytes(footer.chunks[group][column.leaves[0]], rows)
    except _Unknown:
        return None


class _Unknown(Exception):
    """The footer lacks a statistic that the size depends on."""


def _has_nulls(footer: Footer, group: int, leaf: int) -> bool:
    statistics = footer.metadata.row_group(group).column(leaf).statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count > 0


def _text_bytes(chunk: Chunk, slots: int) -> float:
    if chunk.byte_array_bytes is None:
        raise _Unknown
    return 4 * (slots + 1) + chunk.byte_array_bytes


def _nested_bytes(column: Column, chunks: tuple[Chunk, ...], rows: int, level: int, depth: int) -> float:
    """Return the size of a field and all inside it.

    Parameters
    ----------
    level : int
        Definition level from which its parent is present.
    depth : int
        Number of lists around it: its repetition level.
    """
    chunk = chunks[column.leaves[0]]
    slots = _slots(chunk, rows, level, depth)
    assert column.source is not None, "an absent field has no levels"
    present = level + column.source.nullable
    size = _bitmap(column, slots, _count(chunk, level, present) > 0)
    target = column.target.type
    if pt.is_struct(target):
        inner = [child for child in column.children if child.source is not None]
        added = [child for child in column.children if child.source is None]
        size += sum(_constant_bytes(child, slots) for child in added)
        return size + sum(_nested_bytes(child, chunks, rows, present, depth) for child in inner)
    if column.children:  # of a list or a map: the repeated group around them is one more level
        inside = (_nested_bytes(child, chunks, rows, present + 1, depth + 1) for child in column.children)
        return size + 4 * (slots + 1) + sum(inside)
    width = _bit_width(target)
    return size + (_text_bytes(chunk, slots) if width is None else slots * width / 8)


def _slots(chunk: Chunk, rows: int, level: int, depth: int) -> int:
    """Return the number of values, nulls included, of a field inside `depth` lists.

    Every one of them begins with an entry that repeats at `depth` or above; entries below `level` stand for lists
    that are null or empty, at `depth` or further out.
    """
    if not depth:
        return rows
    if not chunk.repetition or not chunk.definition:
        raise _Unknown
    return sum(chunk.repetition[: depth + 1]) - sum(chunk.definition[:level])


def _count(chunk: Chunk, low: int, high: int) -> int:
    """Return the number of entries that end at a definition level of [low, high): nulls of one field."""
    if low == high:
        return 0
    if not chunk.definition:
        raise _Unknown
    return sum(chunk.definition[low:high])


_KEEP_BITMAP = (pt.is_int32, pt.is_int64, pt.is_floating, pt.is_timestamp)
"""Types that pyarrow hands over as Parquet's buffers stand; the others lose a bitmap without nulls."""


def _bitmap(column: Column, slots: int, nulls: bool) -> float:
    kept = any(kind(column.target.type) for kind in _KEEP_BITMAP)
    nullable = column.source is None or column.source.nullable
    return slots / 8 if nullable and (nulls or kept) else 0.0


def _bit_width(dtype: pa.DataType) -> int | None:
    """Return the bits of one value; None for strings, binaries, lists and structs."""
    if isinstance(dtype, pa.FixedShapeTensorType):
        return int(math.prod(dtype.shape) * (dtype.value_type.bit_width + 1))  # its elements keep their bitmap
    plain = dtype.storage_type if isinstance(dtype, pa.BaseExtensionType) else dtype
    fixed = pt.is_primitive(plain) or pt.is_decimal(plain) or pt.is_fixed_size_binary(plain)
    return int(plain.bit_width) if fixed else None


def _constant_bytes(column: Column, slots: int) -> float:
    if column.constant is None:
        return float(pa.nulls(1024, column.target.type).nbytes) / 1024 * slots
    return float(column.constant.nbytes) * slots
