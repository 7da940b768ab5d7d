"""A plan becomes a stream of Arrow batches: one function for each kind of node."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import singledispatch
from weakref import WeakKeyDictionary

import pyarrow as pa

from iceblink.config import Settings
from iceblink.errors import PlanError
from iceblink.lake.storage import Storage
from iceblink.mapped import Mapped, here
from iceblink.plan.nodes import Drawn, MapBatches, Memory, Plan, Query, Repartition, Scan, Stream
from iceblink.plan.optimize import Reference, Statement, statement
from iceblink.plan.query import sql_of
from iceblink.plan.rowwise import leaf_of
from iceblink.predicate import Everything, Predicate
from iceblink.run.checked import checked
from iceblink.run.kernel import Input, Kernel
from iceblink.run.native_sql import native_sql
from iceblink.run.pipeline.local_backend import local_backend
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.pipeline.stream import stream
from iceblink.run.source import Source
from iceblink.scan.batch import Batch
from iceblink.scan.native import NativeScan, native_scan
from iceblink.scan.place import with_placed
from iceblink.scan.plan import ScanPlan, plan_scan, projected
from iceblink.scan.read import read_scan


@dataclass(frozen=True)
class Job:
    """What every node needs to run."""

    settings: Settings
    kernel: Kernel
    recorders: WeakKeyDictionary[Plan, Recorder] = field(default_factory=WeakKeyDictionary)
    """Of each pipeline's last run, by its last node."""
    prompt: bool = False
    """Whether what Python makes, perhaps slowly, is wanted row by row: a statement is then not spread over threads."""


Batches = Generator[Batch, None, None]


@singledispatch
def run(plan: Plan, job: Job) -> Batches:
    """Yield the rows of `plan` in order, as batches in its schema; closing the generator stops the work."""
    raise PlanError(f"cannot run {type(plan).__name__}")


@run.register
def _(plan: Scan, job: Job) -> Batches:
    planned = plan_of(plan, None, Everything(), job)
    yield from read_scan(planned, plan.table.storage, job.settings)


@run.register
def _(plan: Memory, job: Job) -> Batches:
    return _numbered(plan.data.to_batches(max_chunksize=job.settings.batch_rows))


@run.register
def _(plan: Stream, job: Job) -> Batches:
    return _numbered(iter(plan.open()))


@run.register
def _(plan: Query, job: Job) -> Batches:
    prepared = prepare(plan, job)
    prompt = job.prompt and isinstance(leaf_of(plan), MapBatches | Stream)
    rows = job.kernel.stream(prepared.sql, prepared.inputs, plan.schema, job.settings.batch_rows, prompt)
    yield from _numbered(checked(rows, prepared.checks))


@run.register
def _(plan: MapBatches, job: Job) -> Batches:
    nodes, below = chain_of(plan)
    return stream(
        nodes,
        titled(below),
        lambda: run(below, job),
        lambda: local_backend(job.settings),
        lambda made: job.recorders.__setitem__(plan, made),
    )


@run.register
def _(plan: Repartition, job: Job) -> Batches:
    return run(plan.source, job)  # in one process the parts matter only to whoever writes a file for each


@run.register
def _(plan: Drawn, job: Job) -> Batches:
    first = 0
    with closing(run(plan.source, job)) as batches:
        for batch in batches:
            yield Batch(with_placed(batch.data, plan.chances, "", first), "", first)
            first += batch.data.num_rows
            del batch


def chain_of(plan: MapBatches) -> tuple[list[MapBatches], Plan]:
    """Return the functions that follow each other up to `plan`, the first one first, and what that one reads."""
    nodes, below = [plan], plan.source
    while isinstance(below, MapBatches):
        nodes.insert(0, below)
        below = below.source
    return nodes, below


def titled(plan: Plan) -> str:
    """Return a node's name for people."""
    match plan:
        case Scan(table=table):
            return f"scan {table.name}"
        case Query():
            return "query"
        case Memory(label=label):
            return label
    return type(plan).__name__.lower()


def _numbered(batches: Iterator[pa.RecordBatch]) -> Batches:
    """Give batches that come from no file their place in the stream as origin."""
    first = 0
    try:
        for data in batches:
            if data.num_rows:
                yield Batch(data, "", first)
                first += data.num_rows
    finally:
        if isinstance(batches, Generator):
            batches.close()


@dataclass(frozen=True)
class PreparedScan:
    """A scan of a statement, planned: what is kept, and how it will be read."""

    reference: Reference
    plan: ScanPlan
    native: NativeScan | str


@dataclass(frozen=True)
class Prepared:
    """One statement ready for the kernel."""

    statement: Statement
    sql: str
    inputs: Mapping[str, Input]
    scans: tuple[PreparedScan, ...]
    checks: tuple[Callable[[], None], ...]


def prepare(query: Query, job: Job) -> Prepared:
    """Plan the scans of a query; metadata and footers are read, no data."""
    fused = statement(query, lambda constant: job.kernel.evaluate(sql_of(constant)))
    inputs: dict[str, Input] = {}
    scans: list[PreparedScan] = []
    checks: list[Callable[[], None]] = []
    for reference in fused.references:
        match reference.plan:
            case Scan(table=table) as scan:
                planned = plan_of(scan, reference.columns, reference.predicate, job)
                if reference.rows is not None and not planned.deletes:
                    planned = planned.first(reference.rows)
                    native: NativeScan | str = f"only {reference.rows:,} rows matter"
                elif scan.part is not None:
                    native = "only some row groups are read"
                else:
                    native = native_scan(planned, reference.unneeded)
                if isinstance(native, NativeScan):
                    inputs[reference.name] = native_sql(native)
                    checks += native.checks()
                else:
                    inputs[reference.name] = _scan_source(reference, planned, table.storage, job)
                scans.append(PreparedScan(reference, planned, native))
            case Memory(data=data):
                inputs[reference.name] = data
            case other:
                inputs[reference.name] = _source(other, job)
    return Prepared(fused, sql_of(fused.tree), inputs, tuple(scans), tuple(checks))


def plan_of(
    scan: Scan,
    columns: tuple[str, ...] | None,
    predicate: Predicate,
    job: Job,
    mapped: Mapped = here,
    footers_read: float | None = None,
) -> ScanPlan:
    """Plan a scan, metadata being read by `mapped`; of just some files or row groups when the node says so."""
    names = scan.schema.names if columns is None else columns
    if scan.part is not None:
        return scan.part.with_columns(names)
    return plan_scan(scan.table, names, predicate, job.settings, mapped, footers_read, scan.files)


def _scan_source(reference: Reference, planned: ScanPlan, storage: Storage, job: Job) -> Source:
    """Return a scan that we decode: the statement may name columns that the kernel then does not ask for."""

    def batches(columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        return (batch.data for batch in read_scan(planned.with_columns(columns), storage, job.settings))

    return Source(projected(planned.table_schema, reference.named, planned.table_name), batches, reference.columns)


def _source(plan: Plan, job: Job) -> Source:
    def batches(columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        with closing(run(plan, job)) as found:
            for batch in found:
                yield batch.data
                del batch

    return Source(plan.schema, batches, tuple(plan.schema.names))
