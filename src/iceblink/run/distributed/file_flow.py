"""The chain of a distributed write: rows shared out so that files are few and large, then written where they are."""

from __future__ import annotations

import math

from iceblink.lake.portable import PortableTable
from iceblink.lake.table import Table
from iceblink.plan.nodes import Plan, Repartition
from iceblink.run.distributed.file_work import RouteWork, WriteWork
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.kept import LARGE_BYTES, Kept, shares_of_partitions
from iceblink.run.distributed.lowering import Lowering
from iceblink.run.distributed.packed import PACKED
from iceblink.run.distributed.share import grouped
from iceblink.run.distributed.tables import LEAST_BYTES
from iceblink.run.pipeline.backend import Stored
from iceblink.run.pipeline.chain import Fed
from iceblink.run.pipeline.scheduler import QUEUE_SHARE

ROUTES = 4
"""Tasks for each CPU that the partitions of a table are shared out among."""


def written_flow(
    lowering: Lowering, plan: Plan, table: Table, token: str, sorted: bool, group_rows: int | None = None
) -> Flow:
    """Return the chain whose rows are the files that it wrote, all under one token.

    A task has as many rows as make a file; those of one partition of the table go to the same tasks, and each part of a
    `Repartition` is one.
    """
    runner, portable = lowering.runner, PortableTable.of(table)
    work = WriteWork(portable, runner.worker_settings(), token, sorted, group_rows)
    if isinstance(plan, Repartition):
        kept = lowering.repartitioned(plan)
        flow = Flow("partitions", lambda: _partitions(kept), table.schema, kept=(kept,))
        return flow.then(runner.operator("write", work, schema=PACKED, call_bytes=1, atomic=True), PACKED)
    flow = lowering.flow(plan)
    cpus = max(1, int(runner.slots.cpus))
    budget = runner.slots.memory_bytes * QUEUE_SHARE / (2 * (cpus + 1))  # so that those who write can be fed
    task_bytes = int(min(runner.settings.file_bytes, budget, max(LEAST_BYTES, (flow.nbytes or math.inf) / cpus)))
    if table.partition_by and not sorted and not 0 < flow.nbytes < LARGE_BYTES:
        count = ROUTES * cpus
        route = runner.operator("route", RouteWork(portable, count), call_bytes=1, atomic=True)
        routed = runner.exchange(flow.then(route, table.schema), count)
        flow = Flow("partitions", lambda: _tasks(routed, task_bytes, cpus), table.schema, kept=(routed,))
        return flow.then(runner.operator("write", work, schema=PACKED, call_bytes=1, atomic=True), PACKED)
    return flow.then(runner.operator("write", work, schema=PACKED, call_bytes=task_bytes, atomic=True), PACKED)


def _tasks(kept: Kept, size: int, cpus: int) -> Fed:
    """Yield the blocks of each partition together, those of a large one in several parts."""
    for share in shares_of_partitions({"rows": [kept]}, ["rows"], cpus, size):
        if share["rows"]:  # there may be none at all
            yield Stored(grouped(kept.schema, share["rows"]))


def _partitions(kept: Kept) -> Fed:
    """Yield the blocks of each partition together."""
    for part in range(kept.partitions):
        if part in kept.blocks:
            yield Stored(grouped(kept.schema, kept.blocks[part]))
