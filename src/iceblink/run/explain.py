"""A plan as a person reads it: its stages from the first to the last, and what each will read."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from iceblink.events import BatchDone, Event, SplitRead, observing
from iceblink.plan.function import Function, Policy
from iceblink.plan.nodes import Drawn, MapBatches, Memory, Plan, Query, Repartition, Scan, Stream
from iceblink.plan.selectivity import rows_kept
from iceblink.predicate import Everything
from iceblink.run.formats import describe
from iceblink.run.local_engine import LocalEngine
from iceblink.run.lower import PreparedScan, plan_of, prepare
from iceblink.scan.plan import ScanPlan


def explained(plan: Plan, engine: LocalEngine, analyze: bool) -> str:
    """Return the stages of `plan`; with `analyze` it runs first, and what happened follows."""
    lines: list[str] = []
    for number, stage in enumerate(_stages(plan), 1):
        head, *rest = _described(stage, engine)
        lines += [f"{number}. {head}", *(f"   {line}" for line in rest)]
    if analyze:
        lines += ["", *_measured(plan, engine)]
    return "\n".join(lines)


def outline(plan: Plan) -> str:
    """Return the shape of a plan on one line, without reading even metadata."""
    return "plan: " + " -> ".join(_label(stage) for stage in _stages(plan))


def _stages(plan: Plan) -> list[Plan]:
    """Return the nodes that run as a stage of their own, inputs before what reads them."""
    ordered: list[Plan] = []

    def visit(node: Plan, inside_query: bool) -> None:
        if node in ordered:
            return
        for source in node.inputs:
            visit(source, isinstance(node, Query))
        fused = inside_query and isinstance(node, Query | Scan | Memory)
        if not fused:
            ordered.append(node)

    visit(plan, False)
    return ordered


def _label(node: Plan) -> str:
    match node:
        case Scan(table=table):
            return f"scan {table.name}"
        case Query():
            tables = sorted({source.table.name for source in _leaves(node) if isinstance(source, Scan)})
            return f"SQL over {', '.join(tables)}" if tables else "SQL"
        case MapBatches(function=function):
            return f"{'map' if function.per_row else 'map_batches'}({function.label})"
        case Memory(data=data, label=label):
            return f"{label}: {data.num_rows:,} rows in memory"
        case Stream():
            return "a stream, read once"
        case Drawn():
            return "the rows are numbered, and chance is drawn by number"
        case Repartition(partitions=n):
            return f"repartition in {n}"
    return type(node).__name__


def _leaves(query: Query) -> Iterator[Plan]:
    for source in query.inputs:
        if isinstance(source, Query):
            yield from _leaves(source)
        else:
            yield source


def _described(node: Plan, engine: LocalEngine) -> list[str]:
    match node:
        case Scan():
            planned = plan_of(node, None, Everything(), engine.job)
            return [_label(node), *_scan_lines(planned, "read by iceblink, row group by row group")]
        case Query():
            prepared = prepare(node, engine.job)
            lines = [_label(node), *(f"  {line}" for line in prepared.sql.splitlines())]
            spread = engine.spread(node, prepared)
            for scan in prepared.scans:
                lines += _reference_lines(scan, divided=bool(spread))
            return lines + spread + [f"note: {note}" for note in prepared.statement.notes]
        case MapBatches(function=function, known_schema=schema):
            size = f"batches of {function.batch_rows:,}" if function.batch_rows else "batches as they come"
            returns = "found on the first batch" if schema is None else describe(schema)
            lines = [_label(node), f"{function.batch_format}, {size}, {_pool(function)}", f"returns {returns}"]
            return lines + ([f"on error {_policy(function)}"] if function.policy != Policy() else [])
    return [_label(node)]


def _pool(function: Function) -> str:
    """Say who calls a function: how many, of which kind, with what."""
    pool = function.pool
    kind = "process" if pool.processes else "thread"
    kinds = {"process": "processes", "thread": "threads"}[kind]
    if function.awaits:
        return f"1 {kind} awaiting {function.calls} calls"
    many = f"1 {kind}" if pool.most == 1 else f"{pool.fewest} to {pool.most} {kinds}"
    if pool.most == pool.fewest > 1:
        many = f"{pool.most} {kinds}"
    if pool.processes and function.pure_python:
        many += " for pure Python"
    needs = [f"{pool.gpus:g} GPU each"] if pool.gpus else []
    needs += [f"{_bytes(pool.memory_bytes)} each"] if pool.memory_bytes else []
    needs += [f"{amount:g} {name} each" for name, amount in pool.resources.items()]
    needs += [f"where {key} is {value}" for key, value in pool.labels.items()]
    return ", ".join([many, *needs])


def _policy(function: Function) -> str:
    policy = function.policy
    words: list[str] = [policy.on_error]
    if policy.quarantine is not None:
        words.append(f"in {policy.quarantine}")
    if policy.retry_on:
        kinds = " or ".join(kind.__name__ for kind in policy.retry_on)
        words.append(f"after {policy.retries} more tries of {kinds}")
    if policy.timeout_s is not None:
        words.append(f"calls end after {policy.timeout_s:g} s")
    return ", ".join(words)


def _reference_lines(scan: PreparedScan, divided: bool) -> list[str]:
    how = "read by the kernel itself" if not isinstance(scan.native, str) else f"read by iceblink: {scan.native}"
    if divided:
        how = "its splits are shared out among workers"
    version = f"{scan.plan.table_name} at snapshot {scan.plan.snapshot_id}"
    pushed = str(scan.reference.predicate) if not isinstance(scan.reference.predicate, Everything) else "nothing"
    lines = [f"reads {scan.reference.name}: {version}", f"  pushed     {pushed}", *_scan_lines(scan.plan, how)]
    if isinstance(scan.reference.plan, Scan):
        kept = rows_kept(scan.reference.plan.table, scan.reference.predicate, scan.plan.rows)
        if kept < scan.plan.rows:
            lines.insert(-1, f"  kept       about {math.ceil(kept):,} rows, by statistics of its columns")
    return lines


def _scan_lines(planned: ScanPlan, how: str) -> list[str]:
    splits = "1 split" if len(planned.splits) == 1 else f"{len(planned.splits):,} splits"
    return [
        f"  files      {planned.files:,} of {planned.files_total:,}, {splits}",
        f"  columns    {', '.join(planned.schema.names)}",
        f"  estimated  {planned.rows:,} rows, {_bytes(planned.decoded_bytes)} decoded",
        f"  {how}",
    ]


@dataclass
class _Tally:
    count: int = 0
    rows: int = 0
    seconds: float = 0.0
    nbytes: int = 0


def _measured(plan: Plan, engine: LocalEngine) -> list[str]:
    """Run the plan, drop its rows, and say what happened."""
    functions: dict[str, _Tally] = defaultdict(_Tally)
    scans: dict[str, _Tally] = defaultdict(_Tally)
    lock = threading.Lock()

    def observe(event: Event) -> None:
        with lock:
            match event:
                case BatchDone(operator, rows, nbytes, seconds):
                    tally, took = functions[operator], seconds
                case SplitRead(table, rows, nbytes):
                    tally, took = scans[table], 0.0
                case _:
                    return
            tally.count += 1
            tally.rows += rows
            tally.nbytes += nbytes
            tally.seconds += took

    started, cpu = time.perf_counter(), time.process_time()
    first: float | None = None
    batches = rows = nbytes = 0
    with observing(observe):
        for batch in engine.batches(plan):
            first = time.perf_counter() - started if first is None else first
            batches, rows, nbytes = batches + 1, rows + batch.data.num_rows, nbytes + batch.data.nbytes
    wall = time.perf_counter() - started
    lines = [
        f"ran in {wall:.2f} s ({time.process_time() - cpu:.2f} CPU s): {rows:,} rows, {_bytes(nbytes)}, "
        f"{batches:,} batches" + (f", the first after {first:.2f} s" if first is not None else "")
    ]
    lines += [f"  scan {name}: {t.count:,} splits, {t.rows:,} rows, {_bytes(t.nbytes)}" for name, t in scans.items()]
    lines += [f"  {name}: {t.count:,} tasks, {t.rows:,} rows out, {t.seconds:.2f} s" for name, t in functions.items()]
    return lines


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return ""
