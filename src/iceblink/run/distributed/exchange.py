"""Where each row of an exchange goes: the kernel numbers its partition, and rows leave partition by partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from iceblink.config import MIB
from iceblink.plan.stage import Order
from iceblink.run.kernel_types import quoted

PART = "iceblink partition"
PLACE = "iceblink place"
KEY = "iceblink sort key"
HELD_BYTES = 64 * MIB
"""So many bytes a task gathers before it lets go of them: its pieces are then as large as they can be."""
SAMPLED_ROWS = 512
"""Sort keys that each task of a sort tells: with them the ranges of 64 partitions differ by a few per cent."""


def by_hash(sql: str, keys: Sequence[str], partitions: int) -> str:
    """Return a statement that also numbers the partition of each row: equal keys have equal numbers."""
    names = ", ".join(quoted(key) for key in keys)
    return f"SELECT *, (hash({names}) % {partitions})::USMALLINT AS {quoted(PART)} FROM ({sql})"


def by_turns(sql: str, partitions: int) -> str:
    """Return a statement that numbers partitions in turn, so that they are of one size."""
    return f"SELECT *, ((row_number() OVER () - 1) % {partitions})::USMALLINT AS {quoted(PART)} FROM ({sql})"


def by_chance(sql: str, column: str, partitions: int) -> str:
    """Return a statement that numbers partitions by ranges of a column of chance: all are as likely."""
    part = f"least({partitions - 1}, floor(({quoted(column)} / 18446744073709551616e0 + 0.5e0) * {partitions}))"
    return f"SELECT *, {part}::USMALLINT AS {quoted(PART)} FROM ({sql})"


def in_groups(numbered: str, size: int) -> str:
    """Return a statement that numbers groups of so many partitions; the partition in it becomes one more column."""
    part, place = quoted(PART), quoted(PLACE)
    return f"SELECT * EXCLUDE ({part}), {part} AS {place}, ({part} // {size})::USMALLINT AS {part} FROM ({numbered})"


def out_of_groups(sql: str) -> str:
    """Return a statement that numbers partitions by the column that `in_groups` has added."""
    return f"SELECT * EXCLUDE ({quoted(PLACE)}), {quoted(PLACE)} AS {quoted(PART)} FROM ({sql})"


def with_sort_key(sql: str, order: Sequence[Order]) -> str:
    """Return a statement that also gives a key for each row; keys compare byte by byte as the rows are ordered."""
    parts = ", ".join(f"{quoted(key.column)}, '{_direction(key)}'" for key in order)
    # of columns of fixed width alone the kernel would make an integer
    return f"SELECT *, create_sort_key({parts}, '', 'ASC NULLS LAST') AS {quoted(KEY)} FROM ({sql})"


def _direction(key: Order) -> str:
    return f"{'DESC' if key.descending else 'ASC'} NULLS {'FIRST' if key.nulls_first else 'LAST'}"


def by_range(sql: str, bounds: Sequence[bytes]) -> str:
    """Return a statement that numbers partitions by the sort key: as many as there are bounds not above it."""

    def choose(low: int, high: int) -> str:
        if low == high:
            return str(low)
        middle = (low + high) // 2
        return (
            f"CASE WHEN {quoted(KEY)} < {_blob(bounds[middle])} "
            f"THEN {choose(low, middle)} ELSE {choose(middle + 1, high)} END"
        )

    return f"SELECT * EXCLUDE ({quoted(KEY)}), ({choose(0, len(bounds))})::USMALLINT AS {quoted(PART)} FROM ({sql})"


def _blob(value: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"


def bounds_of(samples: Iterable[tuple[bytes, float]], partitions: int) -> list[bytes]:
    """Return up to `partitions` - 1 keys that divide sampled ones, each with a weight, in parts of about one weight."""
    ordered = sorted(samples)
    total = sum(weight for _, weight in ordered)
    bounds: list[bytes] = []
    passed = 0.0
    for key, weight in ordered:
        if passed >= total * (len(bounds) + 1) / partitions and (not bounds or key > bounds[-1]):
            bounds.append(key)
        passed += weight
    return bounds[: partitions - 1]


@dataclass(frozen=True)
class Piece:
    """Rows of one partition."""

    part: int
    data: pa.RecordBatch


def divided(batches: Iterable[pa.RecordBatch], memory_bytes: int) -> Iterator[Piece]:
    """Yield rows by the partition that their last column numbers, without it; a piece may hold rows of many batches.

    An eighth of the memory is for rows that are held back.
    """
    return gathered((piece for batch in batches for piece in _cut(batch)), min(HELD_BYTES, memory_bytes // 8))


def gathered(pieces: Iterable[Piece], held_bytes: int = HELD_BYTES) -> Iterator[Piece]:
    """Join the pieces of each partition; so many bytes are held at most."""
    waiting: dict[int, list[pa.RecordBatch]] = {}
    size = 0
    for piece in pieces:
        waiting.setdefault(piece.part, []).append(piece.data)
        size += piece.data.nbytes
        if size >= held_bytes:
            yield from _let_go(waiting)
            size = 0
    yield from _let_go(waiting)


def _cut(batch: pa.RecordBatch) -> Iterator[Piece]:
    """Sort a batch by partition, in one pass over its columns, and slice it."""
    parts = batch.column(batch.num_columns - 1).to_numpy()
    data = batch.select(range(batch.num_columns - 1))
    order = np.argsort(parts, kind="stable")
    found, starts = np.unique(parts[order], return_index=True)
    if len(found) > 1:
        data = data.take(pa.array(order))
    for part, start, end in zip(found.tolist(), starts, [*starts[1:], len(parts)], strict=True):
        yield Piece(int(part), data.slice(start, end - start))


def _let_go(waiting: dict[int, list[pa.RecordBatch]]) -> Iterator[Piece]:
    for part in sorted(waiting):
        yield Piece(part, pa.concat_batches(waiting.pop(part)))  # a copy: a slice would keep its whole batch
