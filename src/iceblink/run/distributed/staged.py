"""A statement in stages: the planner says what each does, this runs it and tells what was seen."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa

from iceblink.config import MIB
from iceblink.plan.cut.functions import changing
from iceblink.plan.nodes import Tree
from iceblink.plan.query import sql_of
from iceblink.plan.rowwise import row_wise_over
from iceblink.plan.stage import Gather, Hash, Keep, Observed, Order, Range, Read, Result, Send, Stage
from iceblink.plan.stages import stages
from iceblink.run.distributed.exchange import (
    KEY,
    PLACE,
    bounds_of,
    by_chance,
    by_hash,
    by_range,
    in_groups,
    out_of_groups,
    with_sort_key,
)
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.kept import (
    Kept,
    Shared,
    group_size,
    partitions_for,
    shares_of_blocks,
    shares_of_partitions,
)
from iceblink.run.distributed.runner import Runner
from iceblink.run.distributed.share import Share, grouped
from iceblink.run.distributed.stage_work import SAMPLE, ReadSpec, Sent, StageWork
from iceblink.run.distributed.tables import ScanTable, Table, leaf_of
from iceblink.run.kernel import Kernel
from iceblink.run.kernel_types import quoted
from iceblink.run.pipeline.backend import Stored
from iceblink.run.pipeline.chain import Fed
from iceblink.scan.chance import is_chance
from iceblink.scan.split import Split

Planning: TypeAlias = Generator[Stage, Observed | None, None]

FEW_BYTES = 1 * MIB
"""So little is not divided: it costs more to run a stage than to read it in every task."""
HELD_SHARE = 0.125
"""Of a worker's memory, for rows of a task that are in memory at once; the kernel has most of the rest."""


@dataclass(frozen=True)
class Task:
    """What one task of a stage reads, by the names of its reads."""

    splits: Mapping[str, tuple[Split, ...]]
    blocks: Shared

    def share(self, most_bytes: float) -> Share:
        """Return the order for the worker, which is to hold up to so many bytes of it at once.

        What one read feeds has no order of joins, and streams.
        """
        sizes = {name: sum(split.decoded_bytes for split in splits) for name, splits in self.splits.items()}
        sizes |= {name: sum(block.nbytes for block in blocks) for name, blocks in self.blocks.items()}
        held: set[str] = set()
        for name in sorted(sizes, key=lambda name: sizes[name]) if len(sizes) > 1 else ():
            most_bytes -= sizes[name]
            if most_bytes >= 0:
                held.add(name)
        names = tuple(name for name, blocks in self.blocks.items() for _ in blocks)
        return Share(self.splits, names, frozenset(held))


class Staged:
    """Runs the stages of one statement.

    Parameters
    ----------
    runner : Runner
    kernel : Kernel
        Binds statements, here.
    tables : mapping of str to ScanTable or Kept
        What the statement reads; what is kept is let go of when the last rows have been taken.
    small_bytes : int
        A statement that reads no more is one task [bytes].
    broadcast_bytes : int
        The smaller side of a join is sent to all tasks up to this [bytes].
    """

    def __init__(
        self,
        runner: Runner,
        kernel: Kernel,
        tables: Mapping[str, Table],
        small_bytes: int,
        broadcast_bytes: int,
    ) -> None:
        self._runner, self._kernel = runner, kernel
        self._small_bytes, self._broadcast_bytes = small_bytes, broadcast_bytes
        self._tables = dict(tables)
        self._free_shares = {name for name, table in tables.items() if isinstance(table, Kept)}
        self._sent: dict[str, Send] = {}

    def rows_of(self, name: str, sql: str, schema: pa.Schema) -> Flow:
        """Return the chain of a statement that looks at one row of one table at a time."""
        flow = self._flow(name, sql, (Read(name, (name,)),), schema, ordered=True, atomic=False)
        return replace(flow, kept=(*flow.kept, *self._all_kept()))

    def statement(self, tree: Tree, schema: pa.Schema) -> Flow:
        """Run all stages but the last, and return the chain of that one.

        Raises
        ------
        IceblinkError
            Whatever a stage raised.
        """
        leaves = [leaf_of(name, table) for name, table in self._tables.items()]
        sizes = {
            "small_bytes": self._small_bytes,
            "broadcast_bytes": self._broadcast_bytes,
            "few_bytes": FEW_BYTES,
        }
        plan = stages(tree, leaves, self._kernel.describe, **sizes)
        results: list[Stage] = []
        try:
            observed: Observed | None = None
            while (stage := _next(plan, observed)) is not None:
                observed = Observed(0, 0)
                if isinstance(stage.send, Result):
                    results.append(stage)
                    continue
                self._tables[stage.name] = made = self._run(stage)
                observed = Observed(made.rows, made.total_bytes)
                self._free_met(stage)
                self._sent[stage.name] = stage.send
            return self._last(results, schema)
        except BaseException:
            for kept in self._all_kept():
                kept.free(self._runner.backend)
            raise

    def _last(self, results: Sequence[Stage], schema: pa.Schema) -> Flow:
        if len(results) == 1:
            (stage,) = results
            names = [read.name for read in stage.reads]
            streams = len(names) == 1 and row_wise_over(stage.query, names) and changing(stage.query) is None
            ordered = streams or (isinstance(stage.send, Result) and stage.send.ordered)
            flow = self._flow(
                stage.name, sql_of(stage.query), stage.reads, schema, ordered, atomic=not streams, stage=stage
            )
            return replace(flow, kept=(*flow.kept, *self._all_kept()))
        kept = [
            self._exchanged(stage.name, sql_of(stage.query), stage.reads, stage.schema, stage=stage)
            for stage in results
        ]

        def rows() -> Fed:
            for one in kept:
                yield from one.handed_on()

        return Flow("union", rows, schema, kept=(*kept, *self._all_kept()))

    def _run(self, stage: Stage) -> Kept:
        """Run a stage and keep what it sends."""
        sql = sql_of(stage.query)
        match stage.send:
            case Hash(keys=keys, like=like):
                count = self._kept(like).partitions if like else self._partitions(stage.reads)
                return self._divided(stage.name, by_hash(sql, keys, count), stage.reads, stage.schema, count, stage)
            case Range(order=order) if (count := self._partitions(stage.reads)) > 1:
                first = order[0]
                if is_chance(first.column) and not first.descending:  # ranges of it are known to be of one size
                    numbered = by_chance(sql, first.column, count)
                    return self._divided(stage.name, numbered, stage.reads, stage.schema, count, stage)
                return self._sorted_apart(stage, order, count)
            case Keep():
                self._free_shares.add(stage.name)
        return self._exchanged(stage.name, sql, stage.reads, stage.schema, stage=stage)

    def _free_met(self, stage: Stage) -> None:
        """Let go of what a stage has read of exchanges: nobody reads these again, as they may what others keep."""
        for read in stage.reads:
            for name in read.of:
                if isinstance(self._sent.get(name), Hash | Range | Gather):
                    self._kept(name).free(self._runner.backend)

    def _sorted_apart(self, stage: Stage, order: Sequence[Order], count: int) -> Kept:
        """Divide rows by ranges of their sort keys; the ranges are known when a sample of all keys is."""
        keyed = stage.schema.append(pa.field(KEY, pa.binary()))
        sql = with_sort_key(sql_of(stage.query), order)
        rows = self._exchanged(stage.name, sql, stage.reads, keyed, "with samples", stage=stage)
        backend = self._runner.backend
        samples: list[tuple[bytes, float]] = []
        for block in rows.blocks.pop(SAMPLE, ()):
            found = backend.fetch(block).data
            samples += zip(found["key"].to_pylist(), found["weight"].to_pylist(), strict=True)
            backend.free(block)
        bounds = bounds_of(samples, count)
        name = f"{stage.name}, in ranges"
        with self._lent(name, rows) as read:
            sql = by_range(f"SELECT * FROM {quoted(name)}", bounds)
            return self._divided(name, sql, (read,), stage.schema, len(bounds) + 1)

    def _divided(
        self,
        label: str,
        numbered: str,
        reads: Sequence[Read],
        schema: pa.Schema,
        count: int,
        stage: Stage | None = None,
    ) -> Kept:
        """Run a statement that numbers partitions, and keep its rows by them; in two rounds if pieces are too many."""
        tasks = self._tasks(reads)
        size = group_size(len(tasks), count, self._read_bytes(reads), self._runner.slots.cpus)
        if size == 1:
            return self._exchanged(label, numbered, reads, schema, "by partition", count, stage)
        placed = schema.append(pa.field(PLACE, pa.uint16()))
        rows = self._exchanged(
            label, in_groups(numbered, size), reads, placed, "by partition", math.ceil(count / size), stage
        )
        name = f"{label}, out of groups"
        with self._lent(name, rows) as read:
            sql = out_of_groups(f"SELECT * FROM {quoted(name)}")
            return self._exchanged(name, sql, (read,), schema, "by partition", count)

    @contextmanager
    def _lent(self, name: str, rows: Kept) -> Iterator[Read]:
        """Let a statement read rows, in any shares, and let go of them behind it; if it fails, `statement` does so."""
        self._tables[name] = rows
        self._free_shares.add(name)
        yield Read(name, (name,))
        del self._tables[name]
        rows.free(self._runner.backend)

    def _exchanged(
        self,
        label: str,
        sql: str,
        reads: Sequence[Read],
        schema: pa.Schema,
        sent: Sent = "as it is",
        partitions: int = 1,
        stage: Stage | None = None,
    ) -> Kept:
        """Run a statement over shares of its reads, and keep its rows."""
        return self._runner.exchange(self._flow(label, sql, reads, schema, sent=sent, stage=stage), partitions)

    # -- one stage as a chain --------------------------------------------------------------------------------------

    def _flow(
        self,
        label: str,
        sql: str,
        reads: Sequence[Read],
        schema: pa.Schema,
        ordered: bool = False,
        atomic: bool = True,
        sent: Sent = "as it is",
        stage: Stage | None = None,
    ) -> Flow:
        """Return the chain that runs a statement, that of a `stage` if any, over shares of its reads."""
        runner = self._runner
        tasks = self._tasks(reads)
        specs = {read.name: self._spec(read, stage) for read in reads}
        alone = len(tasks) == 1
        settings = runner.worker_settings(alone)
        planned, direct = stage is not None and stage.planned, stage is not None
        work = StageWork(sql, specs, schema, sent, settings, planned=planned, direct=direct)
        operator = runner.operator(label, work, settings.threads, ordered=ordered, call_bytes=1, atomic=atomic)
        shares = Kept(schema)

        def open() -> Fed:
            for task in tasks:
                block = runner.backend.put(task.share(settings.memory_bytes * HELD_SHARE).packed())
                shares.add(0, block)
                read = [block for blocks in task.blocks.values() for block in blocks]
                yield Stored(grouped(block.schema, [block, *read]))

        return Flow(f"tasks of {label}", open, schema, nbytes=self._read_bytes(reads), kept=(shares,)).then(
            operator, schema
        )

    def _tasks(self, reads: Sequence[Read]) -> list[Task]:
        """Return what each task reads."""
        cpus = self._runner.slots.cpus
        divided = [read for read in reads if not read.whole]
        tables = [self._tables[name] for read in divided for name in read.of]
        tasks: list[Task]
        if not divided:
            tasks = [Task({}, {})]
        elif len(tables) == 1 and isinstance(tables[0], ScanTable):
            name = divided[0].name
            whole = self._read_bytes([read for read in reads if read.whole])
            tasks = [Task({name: splits}, {}) for splits in tables[0].shares(cpus, whole)] or [Task({name: ()}, {})]
        else:
            kept = {read.name: [self._kept(name) for name in read.of] for read in divided}
            if len(divided) == 1 and all(name in self._free_shares for name in divided[0].of):
                name = divided[0].name
                blocks = [block for one in kept[name] for block in one.all()]
                shared = list(shares_of_blocks(name, blocks, cpus)) or [{name: ()}]
            else:
                divisible = [read.name for read in divided if read.divisible]
                shared = list(shares_of_partitions(kept, divisible, cpus))
            tasks = [Task({}, blocks) for blocks in shared]
        return self._with_whole(tasks, [read for read in reads if read.whole])

    def _with_whole(self, tasks: list[Task], reads: Sequence[Read]) -> list[Task]:
        """Give each task all rows of some reads; what several tasks read is decoded once."""
        splits: dict[str, tuple[Split, ...]] = {}
        blocks: Shared = {}
        for read in reads:
            table = self._tables[read.of[0]]
            few = len(tasks) == 1 or table.total_bytes <= FEW_BYTES
            if isinstance(table, ScanTable) and len(read.of) == 1 and few:
                splits[read.name] = table.plan.splits
            else:
                blocks[read.name] = tuple(block for name in read.of for block in self._kept(name).all())
        return [Task({**task.splits, **splits}, {**task.blocks, **blocks}) for task in tasks]

    def _spec(self, read: Read, stage: Stage | None) -> ReadSpec:
        table = self._tables[read.of[0]]  # by now a scan, if splits of it are read, else what was kept of it
        spec = table.spec if isinstance(table, ScanTable) else ReadSpec(table.schema)
        return spec if stage is None else spec.narrowed(stage.names)

    def _kept(self, name: str) -> Kept:
        """Return rows in blocks; a scan is run for that."""
        table = self._tables[name]
        if isinstance(table, ScanTable):
            columns = ", ".join(map(quoted, table.schema.names))
            sql = f"SELECT {columns} FROM {quoted(name)}"
            table = self._exchanged(name, sql, (Read(name, (name,)),), table.schema)
            self._tables[name] = table
            self._free_shares.add(name)
        return table

    def _partitions(self, reads: Sequence[Read]) -> int:
        return partitions_for(self._read_bytes(reads), self._runner.slots.cpus)

    def _read_bytes(self, reads: Sequence[Read]) -> float:
        return sum(self._tables[name].total_bytes for read in reads for name in read.of)

    def _all_kept(self) -> tuple[Kept, ...]:
        return tuple(table for table in self._tables.values() if isinstance(table, Kept))


def _next(plan: Planning, observed: Observed | None) -> Stage | None:
    """Return the next stage once what the last one gave is known; None after the last."""
    try:
        return next(plan) if observed is None else plan.send(observed)
    except StopIteration:
        return None
