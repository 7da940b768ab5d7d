"""Planning by workers: they read manifests and footers in chunks, and what they found comes back packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from iceblink.mapped import Each, Item, Result, here, in_threads
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.packed import PACKED, packed, unpacked
from iceblink.run.distributed.runner import Runner
from iceblink.run.pipeline.backend import Call, Output, Work
from iceblink.run.pipeline.chain import Fed

WORTH_S = 0.5
"""Less work than this is done here [s], some 7,000 files: a chain of tasks takes a twentieth of a second itself where
workers wait for it, and one that does not takes a second or more to start."""
TASKS = 4
"""For each CPU: the last ones then end at about the same time."""
LEAST_S = 0.05
"""A task has at least so much to do [s]: it costs some milliseconds itself."""


@dataclass(frozen=True)
class MappedWork:
    """Builds workers that do chunk after chunk of some work; picklable.

    Parameters
    ----------
    build : callable
        Of the `Each`.
    threads : int
    """

    build: Callable[[], Callable[[Any], Any]]
    threads: int

    def __call__(self) -> Work:
        function = self.build()

        def run(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
            begun(0)
            found = in_threads(function, unpacked(call.parts[0]), self.threads, "iceblink-planning")
            yield Output("rows", packed(list(found)))

        return run


@dataclass(frozen=True)
class OverWorkers:
    """Has workers do what is worth it, and does the rest here; a `Mapped`.

    Parameters
    ----------
    runner : Runner
    title : str
        What is planned, for people.
    """

    runner: Runner
    title: str

    def __call__(self, each: Each[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
        total_s = sum(map(each.cost_s, items))
        if len(items) < 2 or total_s < WORTH_S:
            yield from here(each, items)
            return
        chunks = chunked(items, each.cost_s, max(LEAST_S, total_s / (TASKS * self.runner.slots.cpus)))
        label = f"{each.label} of {self.title}"
        work = MappedWork(each.build, each.threads)
        operator = self.runner.operator(label, work, call_bytes=1, atomic=True)
        flow = Flow(label, lambda: _fed(chunks), PACKED).then(operator, PACKED)
        with closing(self.runner.stream(flow)) as found:
            for batch in found:
                yield from unpacked(batch)


def chunked(items: Sequence[Item], cost_s: Callable[[Item], float], most_s: float) -> list[Sequence[Item]]:
    """Return consecutive items in chunks of about so much work [s]; none is empty."""
    chunks: list[list[Item]] = []
    filled = 0.0
    for item in items:
        cost = cost_s(item)
        if not chunks or filled + cost / 2 > most_s:
            chunks.append([])
            filled = 0.0
        chunks[-1].append(item)
        filled += cost
    return list(chunks)


def _fed(chunks: Sequence[Sequence[Any]]) -> Fed:
    for chunk in chunks:
        yield Output("rows", packed(chunk))
