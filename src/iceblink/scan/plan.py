"""A table version and a predicate become splits: files pruned by metadata, row groups by footers, packed by size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from iceblink.config import MIB, Settings
from iceblink.errors import ColumnNotFound
from iceblink.events import ScanPlanned, emit
from iceblink.lake.storage import Storage
from iceblink.lake.table import Table
from iceblink.mapped import Each, Mapped, here
from iceblink.predicate import Everything, Predicate
from iceblink.scan.damage import reading
from iceblink.scan.decode import open_file, read_group
from iceblink.scan.estimate import RATIOS, inexact, learn, ratio_key
from iceblink.scan.footer import FOOTERS
from iceblink.scan.pieces import GroupFinder, Groups, whole_file
from iceblink.scan.place import in_files, is_placed, placed_field
from iceblink.scan.project import Projection
from iceblink.scan.split import Piece, Split

FOOTERS_READ = 256
"""Up to so many files, all footers are read when planning; of more, a sample, and splits end where files end."""
FOOTERS_SAMPLED = 16
READ_THREADS = 16  # waiting for storage, not computing
FOOTER_S, CHUNK_S, GROUP_BYTES = 4e-4, 3e-5, 64 * MIB
"""What a footer takes to be read and looked at [s], each column of a row group in it, and of how many bytes of a file
there is one row group, about."""


@dataclass(frozen=True)
class ScanPlan:
    """What will be read of a table, in which order, and how much that is.

    Parameters
    ----------
    table_name, table_id : str
        Dotted name, and UUID.
    snapshot_id : int or None
        None for an empty table.
    schema : pa.Schema
        What batches have: the projected columns, in the order asked for.
    table_schema : pa.Schema
        All columns of the table, with field ids.
    predicate : Predicate
        What was pruned by; rows are not filtered by it.
    splits : tuple of Split
        In the table's order.
    files, files_total : int
        Data files kept, of those in the snapshot.
    groups, groups_total : int
        Row groups kept, of those in the kept files whose footers were read.
    storage : Storage
        Where the files are.
    """

    table_name: str
    table_id: str
    snapshot_id: int | None
    schema: pa.Schema
    table_schema: pa.Schema
    predicate: Predicate
    splits: tuple[Split, ...]
    files: int
    files_total: int
    groups: int
    groups_total: int
    storage: Storage

    @property
    def pieces(self) -> Iterator[Piece]:
        """All pieces, in order."""
        return (piece for split in self.splits for piece in split.pieces)

    @property
    def rows(self) -> int:
        """Rows in the kept row groups, before deletes."""
        return sum(split.rows for split in self.splits)

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size of what is kept [bytes]."""
        return sum(split.decoded_bytes for split in self.splits)

    @property
    def deletes(self) -> int:
        """Pieces of which delete files leave rows out."""
        return sum(not piece.every_row for piece in self.pieces)

    @property
    def owner(self) -> str:
        """Table and snapshot, in words, as errors name them."""
        return owner_of(self.table_name, self.snapshot_id)

    def with_columns(self, names: Sequence[str]) -> ScanPlan:
        """Return the plan of the same row groups and these columns; sizes stay those of the columns planned for."""
        splits = tuple(replace(split, columns=tuple(names)) for split in self.splits)
        return replace(self, schema=projected(self.table_schema, names, self.table_name), splits=splits)

    def first(self, rows: int) -> ScanPlan:
        """Return the plan of the first row groups that hold so many rows; for a table without deletes."""
        kept: list[Split] = []
        for split in self.splits:
            if rows <= 0:
                break
            pieces = []
            for piece in split.pieces:
                if rows > 0:
                    pieces.append(piece)
                    rows -= piece.rows
            kept.append(replace(split, pieces=tuple(pieces)))
        return replace(self, splits=tuple(kept), files=len({piece.path for split in kept for piece in split.pieces}))


def owner_of(table_name: str, snapshot_id: int | None) -> str:
    """Return table and snapshot in words."""
    return f"table {table_name}, snapshot {snapshot_id}"


def plan_scan(
    table: Table,
    columns: Sequence[str] | None,
    predicate: Predicate,
    settings: Settings,
    mapped: Mapped = here,
    footers_read: float | None = None,
    paths: Collection[str] | None = None,
) -> ScanPlan:
    """Plan the reading of one table version.

    Eager in metadata: manifests, and footers of up to `footers_read` files, are read; data is not, but for one row
    group of files whose writer left no SizeStatistics.

    Parameters
    ----------
    table : Table
    columns : sequence of str or None
        Top-level columns to read, in that order, columns of place among them; None for all.
    predicate : Predicate
        Prunes files and row groups; whoever asked filters the rows.
    settings : Settings
        `split_bytes` is the decoded size aimed at.
    mapped : Mapped
        Reads manifests and footers; the plan is the same whoever does.
    footers_read : float, optional
        Of more files than this (default: `FOOTERS_READ`) only a sample of the footers is read, and row groups are not
        told apart.
    paths : collection of str, optional
        Just these data files; default: all that the predicate keeps.

    Raises
    ------
    ColumnNotFound
        A column that the table does not have.
    DataCorrupt
        A manifest or a footer is missing, cut short or changed.
    """
    schema = projected(table.schema, columns, table.name)
    files = list(table.files_as(whole_file, predicate, mapped)) if table.snapshot_id is not None else []
    files = files if paths is None else [file for file in files if file.path in paths]
    planner = _Planner(table, in_files(schema), predicate, settings.threads, mapped)
    if len(files) <= (FOOTERS_READ if footers_read is None else footers_read):
        pieces, groups_total = planner.by_row_group(files)
    else:
        pieces, groups_total = planner.by_file(files), 0
    plan = planner.plan(schema, pieces, settings, table.file_count, groups_total)
    emit(ScanPlanned(table.name, plan.files, plan.files_total, len(plan.splits), plan.rows, plan.decoded_bytes))
    return plan


def plan_files(table: Table, files: Sequence[Piece], settings: Settings) -> ScanPlan:
    """Plan the reading of whole data files of a table, all columns of all rows; `whole_file` makes the pieces.

    Eager: reads the footers of up to `FOOTERS_READ` files, or a sample, and no manifest.

    Raises
    ------
    DataCorrupt
        A footer is missing, cut short or changed, or does not have the rows that the metadata says. Where only a sample
        is read, the others are found so when the plan is read.
    """
    planner = _Planner(table, table.schema, Everything(), settings.threads, here)
    pieces, groups = planner.by_row_group(files) if len(files) <= FOOTERS_READ else (planner.by_file(files), 0)
    return planner.plan(table.schema, pieces, settings, len(files), groups)


def projected(schema: pa.Schema, columns: Sequence[str] | None, table: str) -> pa.Schema:
    """Return the part of a table's schema that is read.

    Raises
    ------
    ColumnNotFound
    """
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names and not is_placed(name):
            raise ColumnNotFound.of(name, schema.names, f"scan of {table}")
    return pa.schema([placed_field(name) if is_placed(name) else schema.field(name) for name in columns])


class _Planner:
    """What is the same for every file of one plan."""

    def __init__(self, table: Table, schema: pa.Schema, predicate: Predicate, threads: int, mapped: Mapped) -> None:
        self.table, self.schema, self.predicate = table, schema, predicate
        self.threads, self.mapped = threads, mapped
        self.owner = owner_of(table.name, table.snapshot_id)

    def empty_split(self, names: Sequence[str]) -> Split:
        snapshot = self.table.snapshot_id or 0
        return Split(self.table.uuid, snapshot, self.table.schema_id, tuple(names), self.predicate, ())

    def plan(
        self, schema: pa.Schema, pieces: Sequence[Piece], settings: Settings, files_total: int, groups_total: int
    ) -> ScanPlan:
        """Return the plan that reads `pieces`."""
        return ScanPlan(
            table_name=self.table.name,
            table_id=self.table.uuid,
            snapshot_id=self.table.snapshot_id,
            schema=schema,
            table_schema=self.table.schema,
            predicate=self.predicate,
            splits=pack(pieces, settings.split_bytes, self.empty_split(schema.names)),
            files=len({piece.path for piece in pieces}),
            files_total=files_total,
            groups=sum(max(0, piece.groups) for piece in pieces),
            groups_total=groups_total,
            storage=self.table.storage,
        )

    def by_row_group(self, files: Sequence[Piece]) -> tuple[list[Piece], int]:
        """Return a piece for each row group that is kept, and the number of all row groups."""
        found = self._groups(files, self.predicate)
        return [piece for groups in found for piece in groups.sized()], sum(groups.total for groups in found)

    def by_file(self, files: Sequence[Piece]) -> list[Piece]:
        """Return the files, each sized by the bytes that a row of a sample takes."""
        sample = self._groups(files[:: max(1, len(files) // FOOTERS_SAMPLED)], Everything())
        measured = [piece for groups in sample for piece in groups.sized()]
        row_bytes = sum(piece.decoded_bytes for piece in measured) / max(1, sum(piece.rows for piece in measured))
        return [replace(file, decoded_bytes=round(row_bytes * file.rows)) for file in files]

    def _groups(self, files: Sequence[Piece], predicate: Predicate) -> list[Groups]:
        """Read footers, and see to it that sizes which these do not tell can be guessed."""
        table = self.table
        finder = GroupFinder(table.uuid, table.schema, self.schema, predicate, table.storage, self.owner)
        readers = table.storage.at_once(table.location, READ_THREADS)
        each = Each("footers", partial(_itself, finder), self._cost_s, readers)
        found = list(self.mapped(each, files))
        self._learn_ratios(files, found)
        return found

    def _cost_s(self, file: Piece) -> float:
        return FOOTER_S + CHUNK_S * len(self.table.schema) * (1 + file.file_bytes // GROUP_BYTES)

    def _learn_ratios(self, files: Iterable[Piece], found: Iterable[Groups]) -> None:
        """Decode one row group of each writer that leaves no SizeStatistics, for the columns that need them."""
        seen: set[str] = set()
        for file, groups in zip(files, found, strict=True):
            if groups.writer in seen or all(RATIOS.get(key) is not None for key in groups.guessed):
                continue
            footer = FOOTERS.get(self.table.storage, file.path, file.file_bytes, self.owner)
            if not footer.metadata.row_group(0).num_rows:
                continue
            seen.add(groups.writer)
            everything = Projection.of(self.schema, footer.schema)
            unknown = [
                column.target
                for column in (everything.columns[place] for place in inexact(everything, footer, 0))
                if RATIOS.get(ratio_key(self.table.uuid, footer, column)) is None
            ]
            if unknown:
                sampled = Projection.of(pa.schema(unknown), footer.schema)
                with reading(self.owner, footer.path, 0), open_file(self.table.storage, footer) as opened:
                    batches = read_group(opened, footer, 0, sampled, threads=self.threads > 1)
                sizes = {place: sum(batch.column(place).nbytes for batch in batches) for place in range(len(unknown))}
                learn(self.table.uuid, sampled, footer, 0, sizes)


def _itself(finder: GroupFinder) -> GroupFinder:
    return finder


def pack(pieces: Iterable[Piece], split_bytes: int, empty: Split) -> tuple[Split, ...]:
    """Put pieces into splits of at most `split_bytes` decoded, in order; a larger piece is a split of its own."""
    splits: list[Split] = []
    current: list[Piece] = []
    size = 0
    for piece in pieces:
        if current and size + piece.decoded_bytes > split_bytes:
            splits.append(replace(empty, pieces=tuple(current)))
            current, size = [], 0
        size += piece.decoded_bytes
        if current and (joined := _joined(current[-1], piece)) is not None:
            current[-1] = joined
        else:
            current.append(piece)
    if current:
        splits.append(replace(empty, pieces=tuple(current)))
    return tuple(splits)


def _joined(left: Piece, right: Piece) -> Piece | None:
    """Return two pieces as one when the second continues the first."""
    if left.path != right.path or left.first_group + left.groups != right.first_group:
        return None
    if (left.identity, left.deletes, left.only) != (right.identity, right.deletes, right.only):
        return None  # a file that came and went has its rows twice among changes
    return replace(
        left,
        groups=left.groups + right.groups,
        rows=left.rows + right.rows,
        decoded_bytes=left.decoded_bytes + right.decoded_bytes,
    )
