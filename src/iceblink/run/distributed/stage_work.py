"""The work of a stage: one statement over what a task reads, its rows sent on as they are or by partition."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa

from iceblink.config import Settings
from iceblink.lake.storage import Storage
from iceblink.run.checked import checked
from iceblink.run.distributed.exchange import PART, SAMPLED_ROWS, divided
from iceblink.run.distributed.share import Share
from iceblink.run.kernel import Input, Kernel
from iceblink.run.native_sql import native_sql
from iceblink.run.pipeline.backend import Call, Output
from iceblink.run.pipeline.outputs import sized
from iceblink.run.source import Source
from iceblink.scan.batch import Batch
from iceblink.scan.native import NativeScan, native_splits
from iceblink.scan.place import is_placed, with_placed
from iceblink.scan.plan import ScanPlan, projected
from iceblink.scan.read import read_split
from iceblink.scan.split import Split

SAMPLE = -1
"""The partition of rows that only tell how to divide the others."""

Sent = Literal["as it is", "by partition", "with samples"]
Begun = Callable[[int], None]


@dataclass(frozen=True)
class Scanned:
    """What all splits of a scan have in common; it travels once, with the work."""

    schema: pa.Schema
    storage: Storage
    owner: str
    name: str

    @classmethod
    def of(cls, plan: ScanPlan) -> Scanned:
        return cls(plan.table_schema, plan.storage, plan.owner, plan.table_name)


@dataclass(frozen=True)
class ReadSpec:
    """One input of a statement.

    Parameters
    ----------
    schema : pa.Schema
        What the statement may name.
    scan : Scanned or None
        Where its splits come from; None for rows in blocks.
    expected : tuple of str
        Columns that will be needed as far as planning knows.
    """

    schema: pa.Schema
    scan: Scanned | None = None
    expected: tuple[str, ...] = ()

    def narrowed(self, names: Container[str] | None) -> ReadSpec:
        """Return the input with no more columns than have one of these names, in lower case, and at least one."""
        if names is None:
            return self
        kept = [field for field in self.schema if field.name.lower() in names] or [self.schema.field(0)]
        return replace(self, schema=pa.schema(kept))


@dataclass(frozen=True)
class StageWork:
    """Builds workers that run one statement; picklable.

    Parameters
    ----------
    sql : str
        In the kernel's dialect; its last column is a partition number where `sent` says so, or a sort key.
    reads : mapping of str to ReadSpec
        Every table of the statement.
    schema : pa.Schema
        Of its rows, without a partition number.
    sent : {"as it is", "by partition", "with samples"}
    settings : Settings
        Of one worker: its threads and its share of the memory.
    streamed : str or None
        The one read whose rows come as they are made, without a `Share`.
    planned : bool
        Whether its joins stand in an order to keep, where the kernel cannot know of a better one.
    direct : bool
        Whether the kernel may read files itself. It decodes less, and fills a buffer before it hands on a row.
    """

    sql: str
    reads: Mapping[str, ReadSpec]
    schema: pa.Schema
    sent: Sent
    settings: Settings
    streamed: str | None = None
    planned: bool = False
    direct: bool = False

    def __call__(self) -> StageWorker:
        return StageWorker(self)


class StageWorker:
    """Runs the statement, task after task, in a kernel that this process keeps."""

    def __init__(self, work: StageWork) -> None:
        self._work = work

    def __call__(self, call: Call, begun: Begun) -> Iterator[Output]:
        """Yield the rows of the statement; all of the task is dealt with at its end.

        Raises
        ------
        IceblinkError
            Whatever the statement or a read raised.
        """
        work = self._work
        begun(0)
        inputs, checks = self._inputs(call.parts)
        fed = any(isinstance(given, Source) for given in inputs.values())
        kernel = kernel_of(work.settings, as_written=work.planned and len(inputs) > 1 and fed)
        first = call.parts[0] if work.streamed else Batch(call.parts[0].data, "", 0)
        found = kernel.stream(work.sql, inputs, self._full_schema(), work.settings.batch_rows)
        with closing(checked(found, checks)) as rows:
            match work.sent:
                case "by partition":
                    yield from (
                        Output("rows", Batch(one.data, "", 0), part=one.part)
                        for one in divided(rows, work.settings.memory_bytes)
                    )
                case "with samples":
                    yield from sampled(rows)
                case _:
                    outputs = (Output("rows", Batch(batch, first.path, first.first_row)) for batch in rows)
                    yield from after(call.skip, sized(outputs))

    def _full_schema(self) -> pa.Schema:
        schema = self._work.schema
        return schema.append(pa.field(PART, pa.uint16())) if self._work.sent == "by partition" else schema

    def _inputs(self, parts: Sequence[Batch]) -> tuple[dict[str, Input], list[Callable[[], None]]]:
        """Return what the statement reads, and what has to be checked of it."""
        work = self._work
        if work.streamed is not None:
            data = pa.Table.from_batches([part.data for part in parts], work.reads[work.streamed].schema)
            return {work.streamed: data}, []
        share = Share.unpacked(parts[0])
        inputs: dict[str, Input] = {}
        checks: list[Callable[[], None]] = []
        for name, spec in work.reads.items():
            if spec.scan is not None:
                splits = share.splits.get(name, ())
                native = self._native(spec, spec.scan, splits)
                if native is not None:
                    inputs[name] = native_sql(native)
                    checks += native.checks(threads=1)
                    continue
                source = self._scan(spec, spec.scan, splits)
            else:
                source = _blocks(spec, parts, [place for place, of in enumerate(share.blocks, 1) if of == name])
            inputs[name] = _held(source) if name in share.held else source
        return inputs, checks

    def _native(self, spec: ReadSpec, scan: Scanned, splits: Sequence[Split]) -> NativeScan | None:
        """Return how the kernel reads splits itself; None where it must not, or rows are to come as they are read."""
        if not self._work.direct:
            return None
        found = native_splits(splits, scan.storage, scan.owner, scan.schema, spec.schema.names)
        return found if isinstance(found, NativeScan) else None

    def _scan(self, spec: ReadSpec, scan: Scanned, splits: Sequence[Split]) -> Source:
        def batches(columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
            schema = projected(scan.schema, columns, scan.name)
            for split in splits:
                narrow = replace_columns(split, columns)
                for batch in read_split(narrow, schema, scan.storage, self._work.settings, scan.owner):
                    yield batch.data

        return Source(spec.schema, batches, spec.expected or tuple(spec.schema.names))


def _held(source: Source) -> pa.Table:
    """Return all rows of an input."""
    names = source.schema.names
    with closing(source.open(names)) as batches:
        return pa.Table.from_batches((batch.select(names) for batch in batches), source.schema)


def _blocks(spec: ReadSpec, parts: Sequence[Batch], places: Sequence[int]) -> Source:
    """Return an input whose rows are fetched one block after the other, each time they are read."""

    def batches(columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        for part in (parts[place] for place in places):
            drawn = [name for name in columns if is_placed(name) and name not in part.data.schema.names]
            yield with_placed(part.data, drawn, part.path, part.first_row)

    return Source(spec.schema, batches, tuple(spec.schema.names))


def replace_columns(split: Split, columns: Sequence[str]) -> Split:
    """Return a split that gives just these columns."""
    return Split(split.table, split.snapshot_id, split.schema_id, tuple(columns), split.residual, split.pieces)


def sampled(rows: Iterable[pa.RecordBatch]) -> Iterator[Output]:
    """Yield rows with their sort keys, and last some of the keys, evenly chosen, with how many each stands for."""
    keys: list[bytes] = []
    step = seen = 0
    for batch in rows:
        yield Output("rows", Batch(batch, "", 0))
        step = max(1, step)
        column = batch.column(batch.num_columns - 1)
        chosen = np.arange(-seen % step, len(column), step)
        keys += column.take(pa.array(chosen)).to_pylist()
        seen += len(column)
        while len(keys) > 2 * SAMPLED_ROWS:  # every other one, and half as often from now on
            keys, step = keys[::2], step * 2
    if keys:
        weights = pa.array([seen / len(keys)] * len(keys), pa.float64())
        yield Output(
            "rows", Batch(pa.record_batch({"key": pa.array(keys, pa.binary()), "weight": weights}), "", 0), part=SAMPLE
        )


def after(skip: int, outputs: Iterable[Output]) -> Iterator[Output]:
    """Leave out the first rows: another worker made them, and died later."""
    for output in outputs:
        known = min(skip, output.data.data.num_rows)
        skip -= known
        if known < output.data.data.num_rows:
            yield Output(output.kind, Batch(output.data.data.slice(known), output.data.path, output.data.first_row))


@cache
def kernel_of(settings: Settings, as_written: bool = False) -> Kernel:
    """Return this process's kernel: one costs tens of milliseconds, and its memory limit is its own."""
    return Kernel(settings, as_written)
