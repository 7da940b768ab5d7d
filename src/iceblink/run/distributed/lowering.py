"""A plan becomes chains: scans as tasks over splits, statements as stages, functions as operators behind them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pyarrow as pa

from iceblink.plan.cut.functions import changing
from iceblink.plan.nodes import Drawn, MapBatches, Plan, Query, Repartition, Scan
from iceblink.plan.optimize import Reference, Statement, statement
from iceblink.plan.query import sql_of
from iceblink.plan.rowwise import leaf_of
from iceblink.predicate import Everything, Predicate
from iceblink.run.distributed.exchange import by_hash, by_turns
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.kept import Kept
from iceblink.run.distributed.planning import OverWorkers
from iceblink.run.distributed.runner import Batches, Runner
from iceblink.run.distributed.share import Share
from iceblink.run.distributed.small import PlanWork, travels
from iceblink.run.distributed.stage_work import ReadSpec, StageWork
from iceblink.run.distributed.staged import Staged
from iceblink.run.distributed.tables import ScanTable, Table, split_bytes
from iceblink.run.kernel_types import quoted
from iceblink.run.lower import Job, chain_of, plan_of, run, titled
from iceblink.run.pipeline.backend import Output
from iceblink.run.pipeline.chain import Fed
from iceblink.scan.plan import ScanPlan

SMALL_BYTES = 256 << 20
"""A statement that reads no more than this, decoded, is one task: exchanging rows would cost more than it gains."""

PIECES_BYTES = 32 << 20
"""Rows that are divided together, where nobody else says how many: more of them make larger pieces."""

BROADCAST_BYTES = 64 << 20
"""The smaller side of a join goes to every task up to this size."""


class Lowering:
    """Makes the chains of one job, running those that others wait for.

    Parameters
    ----------
    runner : Runner
    job : Job
        Kernel and settings of this process.
    small_bytes, broadcast_bytes : int
        See `SMALL_BYTES` and `BROADCAST_BYTES`.
    """

    def __init__(
        self, runner: Runner, job: Job, small_bytes: int = SMALL_BYTES, broadcast_bytes: int = BROADCAST_BYTES
    ) -> None:
        self.runner, self.job = runner, job
        self.small_bytes, self.broadcast_bytes = small_bytes, broadcast_bytes

    def flow(self, plan: Plan) -> Flow:
        """Return the chain that gives the rows of a plan."""
        match plan:
            case Scan():
                return self._scan(plan)
            case Query():
                return self._query(plan)
            case MapBatches():
                nodes, below = chain_of(plan)
                return self.flow(below).mapped(nodes, self.runner.processes)
            case Repartition():
                kept = self.repartitioned(plan)
                return Flow("partitions", kept.handed_on, plan.schema, kept=(kept,))
        return Flow(titled(plan), lambda: _rows(run(plan, self.job)), plan.schema)

    def _scan(self, scan: Scan) -> Flow:
        planned = self._planned(scan, None, Everything())
        name = titled(scan)
        reference = Reference(name, scan, tuple(planned.schema.names))
        columns = ", ".join(map(quoted, planned.schema.names))
        table = ScanTable.of(planned, reference)
        return self._staged({name: table}).rows_of(name, f"SELECT {columns} FROM {quoted(name)}", scan.schema)

    def _query(self, query: Query) -> Flow:
        found = statement(query, lambda constant: self.job.kernel.evaluate(sql_of(constant)))
        leaf = row_wise_leaf(query, found)
        if leaf is not None and not isinstance(leaf, Scan | Drawn):
            return self._behind(self.flow(leaf), found, query.schema)
        tables: dict[str, Table] = {}
        scanned = 0.0
        for reference in found.references:
            if isinstance(reference.plan, Scan):
                planned = self._planned(reference.plan, reference.columns, reference.predicate)
                if reference.rows is not None and not planned.deletes:
                    planned = planned.first(reference.rows)
                tables[reference.name] = ScanTable.of(planned, reference)
                scanned += planned.decoded_bytes
        row_wise = leaf is not None
        small = is_small(row_wise, scanned, self.small_bytes)
        if len(tables) == len(found.references) and small and travels(query):
            return self._whole(query, scanned, row_wise)
        for reference in found.references:
            if reference.name not in tables:
                tables[reference.name] = self._rows_kept(reference.plan)
        if row_wise:
            (reference,) = found.references
            return self._staged(tables).rows_of(reference.name, sql_of(found.tree), query.schema)
        return self._staged(tables).statement(found.tree, query.schema)

    def _rows_kept(self, plan: Plan) -> Kept:
        """Return the rows of a plan in blocks; whoever reads those that chance is drawn for makes its columns."""
        if isinstance(plan, Drawn):
            return self.runner.exchange(self.flow(plan.source)).numbered(plan.schema)
        return self.runner.exchange(self.flow(plan))

    def _behind(self, flow: Flow, found: Statement, schema: pa.Schema) -> Flow:
        """Return a chain in which a statement follows what it reads, and looks at one row at a time."""
        (reference,) = found.references
        reads = {reference.name: ReadSpec(reference.plan.schema)}
        settings = self.runner.worker_settings()
        work = StageWork(sql_of(found.tree), reads, schema, "as it is", settings, reference.name)
        return flow.then(self.runner.operator("query", work), schema)

    def repartitioned(self, plan: Repartition) -> Kept:
        """Return the rows of a plan in as many partitions as it says."""
        name, count = "rows", plan.partitions
        sql = by_hash(f"SELECT * FROM {name}", plan.by, count) if plan.by else by_turns(f"SELECT * FROM {name}", count)
        work = StageWork(
            sql, {name: ReadSpec(plan.schema)}, plan.schema, "by partition", self.runner.worker_settings(), name
        )
        operator = self.runner.operator("repartition", work, call_bytes=PIECES_BYTES, atomic=True)
        return self.runner.exchange(self.flow(plan.source).then(operator, plan.schema), count)

    def _whole(self, query: Query, nbytes: float, row_wise: bool) -> Flow:
        """Return the chain that is one task: the engine of one process, in a worker."""
        settings = self.runner.worker_settings(alone=True)
        work = PlanWork(query, settings)
        operator = self.runner.operator("query", work, settings.threads, call_bytes=1, atomic=not row_wise)
        return Flow("query", lambda: _rows(_one_row()), query.schema, nbytes=nbytes).then(operator, query.schema)

    def _staged(self, tables: dict[str, Table]) -> Staged:
        return Staged(self.runner, self.job.kernel, tables, self.small_bytes, self.broadcast_bytes)

    def _planned(self, scan: Scan, columns: tuple[str, ...] | None, predicate: Predicate) -> ScanPlan:
        """Plan a scan; workers read its metadata when there is much."""
        fine = replace(self.job, settings=split_bytes(self.job.settings))
        return plan_of(scan, columns, predicate, fine, OverWorkers(self.runner, scan.table.name))


def row_wise_leaf(query: Query, found: Statement) -> Plan | None:
    """Return what a statement reads whose rows may be looked at one by one, in any task; None for any other.

    Rows that depend on chance or on the clock differ from task to task, and when a task is done again.
    """
    leaf = leaf_of(query)
    return leaf if not isinstance(leaf, Query) and changing(found.tree) is None else None


def is_small(row_wise: bool, scanned: float, small_bytes: int) -> bool:
    """Whether a statement that reads so many bytes is one task; sharing out rows looked at one by one costs less."""
    return scanned < small_bytes / (16 if row_wise else 1)


def _rows(batches: Batches) -> Fed:
    with closing(batches):
        for batch in batches:
            yield Output("rows", batch)


def _one_row() -> Batches:
    """Give the one task of a plan something to begin with."""
    yield Share().packed()
