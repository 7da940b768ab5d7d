"""Splits become Arrow batches: decoded, projected, without deleted rows, each knowing where it comes from.

A row group is the unit of work. Small ones are decoded whole, large ones step by step; a scan decodes several at a
time and hands the batches on in the table's order. The residual predicate of a split prunes row groups only: whoever
asked for the predicate filters the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from contextvars import copy_context
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from iceblink.config import MIB, Settings
from iceblink.events import SplitRead, emit
from iceblink.lake.entries import DeleteFile
from iceblink.lake.ranges import Parts
from iceblink.lake.storage import Storage
from iceblink.scan.ahead import ReadAhead
from iceblink.scan.batch import Batch
from iceblink.scan.checksum import check_headers
from iceblink.scan.damage import reading
from iceblink.scan.decode import checked, chunk_ranges, open_file, read_group, stream_group
from iceblink.scan.deletes import Deletes
from iceblink.scan.estimate import guessed, learn
from iceblink.scan.footer import FOOTERS, Footer
from iceblink.scan.lineage import lineage_places, with_inherited
from iceblink.scan.ordered import in_order
from iceblink.scan.pieces import check_rows
from iceblink.scan.place import in_files, is_placed, with_placed
from iceblink.scan.plan import ScanPlan, projected
from iceblink.scan.project import Projection, check_named
from iceblink.scan.prune import kept_groups
from iceblink.scan.split import WHOLE_FILE, Piece, Split

STEPS = 4
"""Row groups are decoded in quarters of a batch: the same CPU as whole, and half of the memory or less."""


AHEAD_BYTES, AHEAD_OF_MEMORY = 32 * MIB, 16
"""Of files elsewhere, so much is fetched ahead for each thread that decodes, and at most this part of the memory
budget: what is fetched too early makes what is needed first wait."""
TOGETHER_BYTES = 8 * MIB
"""Neighbouring row groups of a file elsewhere are fetched together as long as they decode to no more."""
WHOLE_FILE_BYTES = 32 * MIB
"""Of a file whose row groups were not told apart when planning, all are fetched together up to this size."""


class _Unit(NamedTuple):
    """What one task reads: row groups, or the file if `first` is `WHOLE_FILE`; no piece: the end of a split."""

    split: Split
    piece: Piece | None
    first: int
    end: int = 0


class _Located(NamedTuple):
    """The row groups of a unit, and their bytes if these were fetched."""

    groups: Sequence[int]
    parts: Parts | None


Item: TypeAlias = "tuple[Batch | Split, int]"
"""A batch and its Arrow size [bytes], asked of Arrow once: it walks every buffer."""

Task: TypeAlias = "Callable[[], Iterator[Item]]"
"""Yields the batches of one row group; the last one of a split yields the split itself, of no bytes, as a mark."""


def read_split(
    split: Split, schema: pa.Schema, storage: Storage, settings: Settings, owner: str = ""
) -> Generator[Batch, None, None]:
    """Read one split in the calling thread, row group by row group.

    Lazy: a file is opened when its first row is asked for.

    Parameters
    ----------
    split : Split
    schema : pa.Schema
        The table's, or at least its projected columns, with field ids.
    storage : Storage
    settings : Settings
        `batch_bytes` and `batch_rows` bound a batch.
    owner : str, optional
        Table and snapshot, in words, for errors.

    Yields
    ------
    Batch

    Raises
    ------
    DataCorrupt
        A file is missing, cut short or changed; names table, snapshot, file and row group.
    """
    owner = owner or f"table {split.table}, snapshot {split.snapshot_id}"
    reader = _Reader(schema, split.columns, storage, settings, owner, threads=settings.threads > 1)
    with reader.ahead() as ahead:
        for task in reader.tasks([split], ahead):
            for item, _ in task():
                if isinstance(item, Batch):
                    yield item


def read_scan(plan: ScanPlan, storage: Storage, settings: Settings) -> Generator[Batch, None, None]:
    """Read a whole scan with `settings.threads` threads; batches come in the table's order.

    Lazy: threads start at the first batch asked for, and end when the generator is closed. Half of `batch_bytes` for
    each thread lies ready at most, and each has a quarter of it in its hands, with the Parquet pages it comes from.

    Parameters
    ----------
    plan : ScanPlan
    storage : Storage
    settings : Settings

    Yields
    ------
    Batch

    Raises
    ------
    DataCorrupt
        A file is missing, cut short or changed; names table, snapshot, file and row group.
    """
    return _scan(plan, storage, settings, copy_context().run)


def _scan(
    plan: ScanPlan, storage: Storage, settings: Settings, in_context: Callable[..., Any]
) -> Generator[Batch, None, None]:
    """Read, and tell the observers of whoever asked for the scan, whichever thread runs the generator."""
    counts = [piece.groups for piece in plan.pieces]
    units = math.inf if WHOLE_FILE in counts else sum(counts)
    threads = int(max(1, min(settings.threads, units)))
    reader = _Reader(
        plan.table_schema, plan.schema.names, storage, settings, plan.owner, threads=units < settings.threads
    )
    rows = size = 0
    ready_bytes = threads * settings.batch_bytes // 2
    with (
        reader.ahead() as ahead,
        closing(in_order(reader.tasks(plan.splits, ahead), threads, itemgetter(1), ready_bytes, ahead.stop)) as items,
    ):
        for item, item_bytes in items:
            if isinstance(item, Split):
                in_context(emit, SplitRead(plan.table_name, rows, size))
                rows = size = 0
            else:
                rows += item.data.num_rows
                size += item_bytes
                yield item


class _Reader:
    """What all row groups of one scan have in common; used by several threads.

    Parameters
    ----------
    threads : bool
        Decode the columns of a row group side by side: there are fewer row groups than threads.
    """

    def __init__(
        self,
        schema: pa.Schema,
        columns: Iterable[str],
        storage: Storage,
        settings: Settings,
        owner: str,
        threads: bool,
    ) -> None:
        names = tuple(columns)
        schema = in_files(schema)
        self.schema = projected(schema, [name for name in names if not is_placed(name)], owner)
        self.placed = [name for name in names if is_placed(name)]
        self.lineage = lineage_places(self.schema)
        self.storage, self.settings, self.owner, self.threads = storage, settings, owner, threads
        self.deletes = Deletes(storage, schema, owner)

    def ahead(self) -> ReadAhead[_Unit, _Located]:
        """Return what fetches the bytes of files elsewhere before they are decoded."""
        settings = self.settings
        limit_bytes = min(settings.memory_bytes // AHEAD_OF_MEMORY, AHEAD_BYTES * settings.threads)
        return ReadAhead(self._located, self._fetched_bytes, limit_bytes)

    def tasks(self, splits: Iterable[Split], ahead: ReadAhead[_Unit, _Located]) -> Iterator[Task]:
        """Yield one task for each row group, or for each file whose row groups are not known yet."""
        for unit, fetched in ahead.over(self._units(splits)):
            yield partial(iter, [(unit.split, 0)]) if unit.piece is None else partial(self._run, unit, fetched)

    def _units(self, splits: Iterable[Split]) -> Iterator[_Unit]:
        for split in splits:
            for piece in split.pieces:
                if piece.groups == WHOLE_FILE:
                    yield _Unit(split, piece, WHOLE_FILE)
                else:
                    end, step = piece.first_group + piece.groups, self._together(piece)
                    for first in range(piece.first_group, end, step):
                        yield _Unit(split, piece, first, min(first + step, end))
            yield _Unit(split, None, WHOLE_FILE)

    def _together(self, piece: Piece) -> int:
        """Return how many row groups are one unit: of a file elsewhere, small ones are fetched by one request."""
        if self.storage.local_path(piece.path) is not None:
            return 1
        return max(1, TOGETHER_BYTES * piece.groups // max(1, piece.decoded_bytes))

    def _footer(self, piece: Piece) -> Footer:
        return FOOTERS.get(self.storage, piece.path, piece.file_bytes, self.owner)

    def _fetched_bytes(self, unit: _Unit) -> int:
        """Return about what is fetched ahead for a unit [bytes]: what it decodes to, which is more as a rule."""
        if unit.piece is None or self.storage.local_path(unit.piece.path) is not None:
            return 0
        part = 1 if unit.first == WHOLE_FILE else (unit.end - unit.first) / max(1, unit.piece.groups)
        return max(1, int(unit.piece.decoded_bytes * part))

    def _located(self, unit: _Unit) -> _Located:
        """Find the row groups of a unit, and fetch them if they are elsewhere."""
        split, piece, first, end = unit
        assert piece is not None
        footer, groups = self._footer(piece), list(range(first, end))
        if first == WHOLE_FILE:
            table = self.deletes.schema
            check_rows(piece, footer, self.owner)
            check_named(table, footer.schema, self.owner, piece.path)
            groups = list(kept_groups(split.residual, footer, table, piece.identity, self.storage, self.owner))
        if self.storage.local_path(piece.path) is not None:
            return _Located(groups, None)
        with reading(self.owner, piece.path):
            leaves = Projection.of(self.schema, footer.schema, piece.identity).leaves
            ranges = [chunk for one in groups for chunk in chunk_ranges(footer, one, leaves)]
            if (
                first == WHOLE_FILE
                and len(groups) > 1
                and sum(stop - start for start, stop in ranges) > WHOLE_FILE_BYTES
            ):
                return _Located(groups, None)
            return _Located(groups, self.storage.opened(piece.path, constant=True).parts(ranges))

    def _run(self, unit: _Unit, fetched: Future[_Located] | None) -> Iterator[Item]:
        assert unit.piece is not None
        groups, parts = self._located(unit) if fetched is None else fetched.result()
        del fetched
        for group in groups:
            yield from self._group(unit.split, unit.piece, group, parts)

    def _group(self, split: Split, piece: Piece, group: int, fetched: Parts | None) -> Iterator[Item]:
        footer = self._footer(piece)
        first = footer.first_rows[group]
        with reading(self.owner, piece.path, group), open_file(self.storage, footer, fetched) as file:
            gone = self._gone(file, footer, piece, group)
            if gone is not None and gone.all():
                return
            decoded = self._decoded(file, footer, split, piece, group)
            start = 0
            for data in checked(decoded, self.schema, self.owner, piece.path, group):
                part = None if gone is None else gone[start : start + data.num_rows]
                whole = with_inherited(data, self.lineage, piece.lineage, first + start)
                placed = with_placed(whole, self.placed, piece.path, first + start)
                yield from self._cut(placed, piece.path, first + start, part)
                start += data.num_rows

    def _decoded(
        self, file: pq.ParquetFile, footer: Footer, split: Split, piece: Piece, group: int
    ) -> Iterator[pa.RecordBatch]:
        projection = Projection.of(self.schema, footer.schema, piece.identity)
        if self.storage.local_path(piece.path) is not None:  # elsewhere each header would be a request
            check_headers(self.storage, footer, group, projection.leaves, self.owner)
        sizes = dict.fromkeys(guessed(split.table, projection, footer), 0)
        rows = footer.metadata.row_group(group).num_rows
        # the planner's estimate serves: the footer, parsed by pyarrow, need not be parsed again for its own
        size = piece.decoded_bytes * rows / max(1, piece.rows)
        steps = math.ceil(STEPS * size / self.settings.batch_bytes)
        if steps > 1 and projection.leaves:
            batches = stream_group(file, footer, group, projection, math.ceil(rows / steps))
        else:
            batches = iter(read_group(file, footer, group, projection, self.threads))
        for batch in batches:
            for place in sizes:
                sizes[place] += batch.column(place).nbytes
            yield batch
        learn(split.table, projection, footer, group, sizes)

    def _gone(self, file: pq.ParquetFile, footer: Footer, piece: Piece, group: int) -> NDArray[np.bool_] | None:
        """Return which rows of a row group are left out; None for none."""
        if piece.every_row:
            return None
        gone = self._taken(file, footer, piece, group, piece.deletes)
        if piece.only:
            gone |= ~self._taken(file, footer, piece, group, piece.only)
        return gone if gone.any() else None

    def _taken(
        self, file: pq.ParquetFile, footer: Footer, piece: Piece, group: int, deletes: Sequence[DeleteFile]
    ) -> NDArray[np.bool_]:
        """Return which rows of a row group some delete file takes out."""
        first, end = footer.first_rows[group : group + 2]
        positions = self.deletes.positions(piece.path, deletes)
        low, high = np.searchsorted(positions, [first, end])
        taken = self.deletes.equal(file, footer, group, deletes, piece.identity)
        taken[positions[low:high] - first] = True
        return taken

    def _cut(self, data: pa.RecordBatch, path: str, first: int, gone: NDArray[np.bool_] | None) -> Iterator[Item]:
        """Slice into batches of bounded bytes and rows, of about the same length; no copy but where rows go."""
        rows, size = data.num_rows, data.nbytes
        pieces = max(1, math.ceil(size / self.settings.batch_bytes), math.ceil(rows / self.settings.batch_rows))
        step = math.ceil(rows / pieces) or 1
        for start in range(0, rows, step):
            part = data.slice(start, step)
            if gone is None:
                yield Batch(part, path, first + start), size if step >= rows else part.nbytes
                continue
            kept = ~gone[start : start + step]
            if kept.any():
                left = part.filter(pa.array(kept))
                places = np.flatnonzero(kept)
                gapless = int(places[-1] - places[0]) + 1 == left.num_rows
                yield Batch(left, path, first + start + int(places[0]), gapless), left.nbytes
