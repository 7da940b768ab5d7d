"""Outputs of a good size: small ones are joined as long as that costs no time, large ones are cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pyarrow as pa

from iceblink.config import MIB
from iceblink.run.pipeline.backend import Output
from iceblink.run.pipeline.pieces import OPEN
from iceblink.scan.batch import Batch

SMALL_BYTES = MIB
LARGE_BYTES = 128 * MIB
PATIENCE_S = 0.02  # less than anybody notices, and more than most calls of small functions take


def sized(outputs: Iterable[Output], now: Callable[[], float] = time.monotonic) -> Iterator[Output]:
    """Yield the same rows in outputs of 1 to 128 MiB, where that is possible.

    Neighbours of one kind and file are joined until they are large enough, or until 20 ms have passed since the call
    that made the first of them began: what a slow function makes goes on at once. What a generator yields, which says
    that it has something to show, waits for its next only behind one that came within 20 ms too. An output without rows
    is yielded only at the end of a task that has no other, for its schema; the end itself says that all is dealt with.

    Nothing here looks at the time while a function is being called: where a quick call is followed by a slow one, what
    the quick one made waits for it. To see to that would take another thread.

    `consumed` grows only with the last part of an output that was cut, and never with one that is ``OPEN``: what
    was yielded since it last grew is what a task begun again from there would yield first.
    """
    waiting: list[Output] = []
    empty: Output | None = None
    nothing = True
    quick = False  # the last one came so soon that another one is worth waiting for
    nbytes = dealt = 0
    asked = since = now()
    for output in outputs:
        if not output.data.data.num_rows:
            empty = output
            if waiting:
                waiting[-1] = replace(waiting[-1], consumed=output.consumed)
            continue
        if waiting and not _go_together(waiting[-1], output):
            yield from _cut(_joined(waiting), dealt)
            dealt = max(dealt, waiting[-1].consumed)
            waiting, nbytes = [], 0
        if not waiting:
            since = asked
        nothing = False
        waiting.append(output)
        nbytes += output.data.data.nbytes
        came = now()
        shown = output.consumed == OPEN and not quick
        if shown or nbytes >= SMALL_BYTES or came - since >= PATIENCE_S:
            yield from _cut(_joined(waiting), dealt)
            dealt = max(dealt, waiting[-1].consumed)
            waiting, nbytes = [], 0
        quick = came - asked < PATIENCE_S
        asked = now()
    if waiting:
        yield from _cut(_joined(waiting), dealt)
    elif empty is not None and nothing:
        yield empty


def _go_together(one: Output, other: Output) -> bool:
    return (
        one.kind == other.kind
        and one.data.path == other.data.path
        and bool(one.data.data.schema.equals(other.data.data.schema))
    )


def _joined(outputs: list[Output]) -> Output:
    if len(outputs) == 1:
        return outputs[0]
    first, last = outputs[0], outputs[-1]
    data = pa.concat_batches([output.data.data for output in outputs])
    return Output(first.kind, Batch(data, first.data.path, first.data.first_row, exact=False), last.consumed)


def _cut(output: Output, dealt: int) -> Iterator[Output]:
    """Halve until it fits, as rows may differ much in size; only the last half deals with more than `dealt`."""
    batch = output.data
    rows = batch.data.num_rows
    if rows < 2 or batch.data.nbytes <= LARGE_BYTES:
        yield replace(output, consumed=max(dealt, output.consumed))
        return
    yield from _cut(Output(output.kind, batch.slice(0, rows // 2), dealt), dealt)
    yield from _cut(Output(output.kind, batch.slice(rows // 2), output.consumed), dealt)
