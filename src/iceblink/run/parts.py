"""A dataset that others read part by part: splits of a scan, and the row-wise statement over them, run anywhere."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Self

import pyarrow as pa

from iceblink.config import MIB, Settings
from iceblink.lake.storage import Storage
from iceblink.plan.nodes import Plan, Query, Scan
from iceblink.plan.optimize import statement
from iceblink.plan.query import sql_of
from iceblink.plan.rowwise import leaf_of, over
from iceblink.predicate import Everything, Predicate
from iceblink.run.kernel import Kernel
from iceblink.run.lower import Job, plan_of
from iceblink.run.source import Source
from iceblink.scan.plan import projected
from iceblink.scan.read import read_split
from iceblink.scan.split import Split

TASK_BYTES, SMALL_BYTES = 128 * MIB, 16 * MIB
"""Decoded bytes of one part of a large table, and of one that is not worth dividing for the sake of more CPUs."""
LEAST_MEMORY = 64 * MIB  # of a kernel


@dataclass(frozen=True)
class Statement:
    """A row-wise statement: its SQL, its name for the scan, the columns of it that it names, and those it needs."""

    sql: str
    scan: str
    named: tuple[str, ...]
    needed: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """Reads splits wherever it is unpickled: it asks no catalog, and works in one thread.

    Parameters
    ----------
    schema : pa.Schema
        What rows have.
    table_schema : pa.Schema
        All columns of the table, with field ids.
    owner : str
        Table and snapshot, in words, for errors.
    storage : Storage
    settings : Settings
        Of one task.
    statement : Statement or None
        None where rows are the columns of `schema` as they are.
    """

    schema: pa.Schema
    table_schema: pa.Schema
    owner: str
    storage: Storage
    settings: Settings
    statement: Statement | None = None

    def rows(self, splits: Sequence[Split]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of some splits in order, in batches of at most `Settings.batch_bytes`."""
        if self.statement is None:
            return self._scanned(splits, self.schema.names)
        schema = projected(self.table_schema, self.statement.named, self.owner)
        source = Source(schema, partial(self._scanned, splits), self.statement.needed)
        inputs = {self.statement.scan: source}
        return _kernel(self.settings).stream(self.statement.sql, inputs, self.schema, self.settings.batch_rows)

    def table(self, splits: Sequence[Split]) -> pa.Table:
        """Return the rows of some splits."""
        return pa.Table.from_batches(self.rows(splits), self.schema)

    def _scanned(self, splits: Sequence[Split], columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        for split in splits:
            chosen = replace(split, columns=tuple(columns))
            for batch in read_split(chosen, self.table_schema, self.storage, self.settings, self.owner):
                yield batch.data


@cache
def _kernel(settings: Settings) -> Kernel:
    """Return the kernel of this process: opening one takes longer than a small task."""
    return Kernel(settings)


@dataclass(frozen=True)
class Parts:
    """A planned scan, ready to be shared out.

    Parameters
    ----------
    reader : Reader
    splits : tuple of Split
        In the table's order; small.
    every_row : bool
        Whether the rows of a split are those that its footer counts: none is deleted or filtered.
    """

    reader: Reader
    splits: tuple[Split, ...]
    every_row: bool

    @classmethod
    def of(
        cls,
        plan: Plan,
        settings: Settings,
        predicate: Predicate | None = None,
        footers_read: float | None = None,
    ) -> Self | None:
        """Plan a dataset that looks at one row of one table at a time; None for any other.

        Eager in metadata: manifests, and footers of up to `footers_read` files, are read. `predicate` prunes the scan
        of a whole table; whoever gives it filters the rows.
        """
        scan = leaf_of(plan)
        if not isinstance(scan, Scan):
            return None
        job = Job(replace(settings, split_bytes=1), _kernel(settings))  # a row group each, so that groups come out even
        query = over(plan, scan)
        made: Statement | None = None
        columns, wanted = tuple(scan.schema.names), predicate or Everything()
        if isinstance(query, Query):
            fused = statement(query, lambda constant: job.kernel.evaluate(sql_of(constant)))
            (reference,) = fused.references
            made = Statement(sql_of(fused.tree), reference.name, reference.named, reference.columns)
            columns, wanted = reference.columns, reference.predicate
        planned = plan_of(scan, columns, wanted, job, footers_read=footers_read)
        one = replace(settings, threads=1, memory_bytes=max(LEAST_MEMORY, settings.memory_bytes // settings.threads))
        reader = Reader(plan.schema, planned.table_schema, planned.owner, planned.storage, one, made)
        every_row = made is None and predicate is None and not planned.deletes
        return cls(reader, planned.splits, every_row)

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size of what is scanned [bytes]."""
        return sum(split.decoded_bytes for split in self.splits)

    def shared(self, count: int) -> list[tuple[Split, ...]]:
        """Return consecutive splits in at most `count` groups of about one decoded size."""
        total = self.decoded_bytes
        groups: dict[int, list[Split]] = {}
        before = 0
        for place, split in enumerate(self.splits):
            middle = (before + split.decoded_bytes / 2) / total if total else place / len(self.splits)
            groups.setdefault(min(count - 1, int(middle * count)), []).append(split)
            before += split.decoded_bytes
        return [tuple(group) for group in groups.values()]

    def by_bytes(self, least: int = 1) -> list[tuple[Split, ...]]:
        """Return groups of at most `TASK_BYTES`, where splits allow; at least `least` of them, unless they are tiny."""
        size = self.decoded_bytes
        return self.shared(max(1, math.ceil(size / TASK_BYTES), min(least, math.ceil(size / SMALL_BYTES))))
