"""What a loader reads: a dataset as units, each read apart from the others and with a known number of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.config import GIB, MIB, Settings
from iceblink.load.cache.tier import CacheTier, entry_key
from iceblink.plan.fingerprint import parts_of
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Query
from iceblink.run.parts import Parts, Reader
from iceblink.scan.ordered import in_order
from iceblink.scan.split import Piece, Split

PACKED_ROWS, PACKED_BYTES = 8192, 4 * MIB
"""Small files next to each other are one unit of up to so many rows and bytes on disk."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive rows of a file: so many, from a position on. Computed rows have no file, and an empty path."""

    path: str
    first_row: int
    rows: int


class Units(Protocol):
    """The units of a dataset; immutable, and they pickle."""

    @property
    def schema(self) -> pa.Schema:
        """What rows have."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """How many rows each unit has, exactly; shape (units,)."""

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size of all units [bytes]."""

    @property
    def identity(self) -> dict[str, str]:
        """What the rows and their order depend on: who finds the same words finds the same rows."""

    def read(self, unit: int) -> pa.Table:
        """Return the rows of a unit; called by several threads."""

    def key(self, unit: int) -> str:
        """Return what names the rows of a unit, whatever else the dataset has: a key for a cache."""

    def place(self, unit: int) -> str:
        """Return where the rows of a unit lie, in words."""

    def stretches(self, unit: int) -> tuple[Stretch, ...]:
        """Return what is read for a unit."""

    def untouched(self, unit: int) -> bool:
        """Whether the rows of a unit are those of its stretches, one behind the other: none is left out or made."""


@dataclass(frozen=True, eq=False)
class TableUnits:
    """Row groups of a table, and a row-wise statement over them; small files are packed."""

    reader: Reader
    splits: tuple[Split, ...]
    rows: NDArray[np.int64]
    identity: dict[str, str]

    @property
    def schema(self) -> pa.Schema:
        """What rows have."""
        return self.reader.schema

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size [bytes]."""
        return sum(split.decoded_bytes for split in self.splits)

    def read(self, unit: int) -> pa.Table:
        """Return the rows of a unit."""
        return self.reader.table([self.splits[unit]])

    def key(self, unit: int) -> str:
        """Return a digest of files, row groups, deletes and statement."""
        reader = self.reader
        pieces = [_text(piece) for piece in self.splits[unit].pieces]
        return entry_key(reader.schema.to_string(), str(reader.statement), *pieces)

    def place(self, unit: int) -> str:
        """Return table, files and row groups."""
        first, *others = self.splits[unit].pieces
        more = f" and {len(others):,} files more" if others else ""
        return f"{self.reader.owner}, file {first.path}, row group {first.first_group}{more}"

    def stretches(self, unit: int) -> tuple[Stretch, ...]:
        """Return the rows of the row groups, before deletes and filters."""
        return tuple(Stretch(piece.path, piece.first_row, piece.rows) for piece in self.splits[unit].pieces)

    def untouched(self, unit: int) -> bool:
        """Whether no row is deleted or filtered, which the counts tell as long as no row becomes several."""
        statement = self.reader.statement
        several = statement is not None and "UNNEST(" in statement.sql
        return not several and self.splits[unit].rows == self.rows[unit]


def table_units(plan: Plan, settings: Settings, cache: CacheTier | None) -> TableUnits | None:
    """Plan a dataset that looks at one row of one table at a time; None for any other.

    Eager in metadata. Where rows are filtered or deleted, they are counted: the columns that decides it are read once,
    unless `cache` knows the numbers from an earlier time.
    """
    whole = replace(settings, batch_bytes=GIB, batch_rows=1 << 30)  # a unit in one piece
    parts = Parts.of(plan, whole, footers_read=math.inf)
    if parts is None:
        return None
    splits = packed(parts.splits)
    identity = {
        **parts_of(plan),
        "row groups": entry_key(*(_text(piece) for split in splits for piece in split.pieces)),
    }
    rows = np.array([split.rows for split in splits], np.int64)
    if not parts.every_row:
        counts = partial(_counted, plan, splits, whole)
        key = entry_key("rows of units", *identity, *identity.values())
        rows = (counts() if cache is None else cache.fetch(key, counts))["rows"].to_numpy()
    return TableUnits(parts.reader, splits, rows, identity)


def packed(splits: Iterable[Split]) -> tuple[Split, ...]:
    """Put small files that follow each other into one split.

    By what files say, not by what they are estimated to decode to: the units are the same in every process.
    """
    found: list[Split] = []
    sizes: dict[str, int] = {}
    for split in splits:
        files = {piece.path: piece.file_bytes for piece in split.pieces}
        rows = split.rows + (found[-1].rows if found else 0)
        if found and rows <= PACKED_ROWS and sum((sizes | files).values()) <= PACKED_BYTES:
            found[-1] = replace(found[-1], pieces=found[-1].pieces + split.pieces)
            sizes |= files
        else:
            found.append(split)
            sizes = files
    return tuple(found)


def _counted(plan: Plan, splits: Sequence[Split], settings: Settings) -> pa.Table:
    """Count the rows of each split that are neither deleted nor filtered, reading no column that does not decide it."""
    one = exp.alias_(exp.Literal.number(1), "one")
    tree = exp.select(one).from_(exp.Table(this=exp.to_identifier(plan.name, quoted=True)))
    ones = Parts.of(Query(pa.schema([pa.field("one", pa.int32())]), tree, {plan.name: plan}), settings)
    assert ones is not None
    reader = ones.reader

    def count(split: Split) -> Iterator[int]:
        yield sum(batch.num_rows for batch in reader.rows([split]))

    tasks = (partial(count, split) for split in splits)
    with closing(in_order(tasks, settings.threads, lambda _: 0, 1)) as found:
        return pa.table({"rows": pa.array(found, pa.int64())})


def _text(piece: Piece) -> str:
    deletes = sorted(str(delete) for delete in piece.deletes)
    only = sorted(str(delete) for delete in piece.only) or ""
    groups = f"{piece.first_group} {piece.groups} {piece.identity} {piece.lineage or ''}"
    return f"{piece.path} {piece.file_bytes} {groups}{deletes}{only}"
