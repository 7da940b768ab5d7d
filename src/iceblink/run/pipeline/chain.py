"""A source of batches and the functions over it become operators; neighbours with the same needs become one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from iceblink.plan.function import Function
from iceblink.run.pipeline.backend import Call, Order, Output, Stored, Work
from iceblink.run.pipeline.cpus import bounded
from iceblink.run.pipeline.operator import Operator
from iceblink.run.pipeline.worker import MapWork
from iceblink.run.stop import Stop

Outputs: TypeAlias = Generator[Output, None, None]
Fed: TypeAlias = Generator[Output | Stored, None, None]
"""What a source gives: rows, marks, or blocks that lie there already."""


@dataclass(frozen=True)
class SourceWork:
    """Builds the one worker of a source: it yields what `open` yields."""

    open: Callable[[], Fed]

    def __call__(self) -> Work:
        return _Reading(self.open)


class _Reading:
    """The worker of a source; what it waits for can be stopped."""

    def __init__(self, open: Callable[[], Fed]) -> None:
        self._open = open
        self._stop = Stop()
        self.stop = self._stop.ask

    def __call__(self, call: Call, begun: Callable[[int], None]) -> Iterator[Output | Stored]:
        context = self._stop.context()
        with closing(context.run(self._open)) as outputs:
            while (output := context.run(next, outputs, None)) is not None:
                yield output
                del output


def source(label: str, open: Callable[[], Fed]) -> Operator:
    """Return the operator that reads, rows and marks between them; its threads are its own, so it counts for no CPU."""
    return Operator(label, Order(label, SourceWork(open)), cpus=0.0)


def mapped(functions: Sequence[Function], schema: pa.Schema | None, processes: bool = False) -> Operator:
    """Return the operator whose workers call functions one after the other; `schema` is of the last, if known.

    Where `processes` is set, they are processes of their own, on no more CPUs than the functions have.
    """
    first = functions[0]
    label = " > ".join(function.label for function in functions)
    pool = first.pool
    # an awaited call is cancelled where it is awaited
    timeout_s = None if first.awaits else first.policy.timeout_s
    memory_bytes = pool.memory_bytes or 0
    work = MapWork(tuple(functions))
    apart = pool.processes or processes
    order = Order(label, work, apart, pool.gpus, timeout_s, memory_bytes, pool.resources, pool.labels)
    return Operator(
        label,
        bounded(order, pool.cpus) if processes else order,
        batch_rows=first.batch_rows,
        schema=schema,
        fewest=pool.fewest,
        most=pool.most,
        cpus=pool.cpus,
        memory_bytes=memory_bytes,
        ordered=first.ordered,
        on_error=first.policy.on_error,
        calls=4 * first.calls if first.awaits else 1,
    )


def fused(functions: Sequence[Function]) -> list[list[Function]]:
    """Return which functions share a worker: rows then go from one to the next without a queue between them."""
    groups: list[list[Function]] = []
    for function in functions:
        if groups and _together(groups[-1][-1], function):
            groups[-1].append(function)
        else:
            groups.append([function])
    return groups


def _together(first: Function, second: Function) -> bool:
    """Whether nothing is lost: neither an exact batch size, nor a schema held across workers, nor a policy."""
    return (
        first.pool == second.pool
        and first.policy == second.policy
        and first.policy.on_error == "raise"
        and first.ordered == second.ordered
        and first.declared is not None
        and second.batch_rows is None
        and not first.awaits
        and not second.awaits
    )
