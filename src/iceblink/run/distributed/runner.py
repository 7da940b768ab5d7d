"""Chains run on one backend: to whoever takes the rows, or to blocks that the next chain reads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from iceblink.config import MIB, Settings
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.kept import Kept
from iceblink.run.pipeline.backend import Backend, Order, Slots, Work
from iceblink.run.pipeline.chain import source
from iceblink.run.pipeline.cpus import bounded
from iceblink.run.pipeline.operator import Operator
from iceblink.run.pipeline.scheduler import Scheduler
from iceblink.run.pipeline.stage import Item
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.pipeline.stream import Refused
from iceblink.scan.batch import Batch

Batches = Generator[Batch, None, None]

WORKERS_SHARE = 0.7
"""Of the memory budget; the rest is for rows between workers, which lie in an object store on a cluster."""
DRIVER_BYTES = 64 * MIB
"""By so much this process grows with its part of a run."""
PROCESS_BYTES = 224 * MIB
"""What a worker's process has besides: Python, Arrow, rows on their way in and out, the kernel's beyond its limit."""
LEAST_BYTES = 96 * MIB
"""With less a worker would do nothing but spill: then there are fewer of them."""


class Runner:
    """Runs the chains of one job, one after the other.

    Parameters
    ----------
    backend : Backend
        Stays open.
    settings : Settings
    record : callable
        Given the recorder of each chain before it begins.
    processes : bool
        Whether statements run in processes of their own.
    """

    def __init__(
        self, backend: Backend, settings: Settings, record: Callable[[Recorder], None], processes: bool
    ) -> None:
        self.backend, self.settings, self._record = backend, settings, record
        self.processes = processes
        self._recorders: list[Recorder] = []

    @property
    def slots(self) -> Slots:
        """What there is now."""
        return self.backend.slots()

    def worker_settings(self, alone: bool = False) -> Settings:
        """Return the settings of a worker: one CPU and its share of the memory, or those of a whole machine."""
        cpus = self.slots.cpus
        threads = max(1, min(self.settings.threads, int(cpus))) if alone else 1
        share = threads / max(1.0, cpus) if alone else 1 / self._room(1.0)
        memory = self._workers_bytes * share - PROCESS_BYTES
        return replace(self.settings, threads=threads, memory_bytes=int(max(LEAST_BYTES, memory)))

    @property
    def _workers_bytes(self) -> float:
        return self.slots.memory_bytes * WORKERS_SHARE - DRIVER_BYTES

    def _room(self, cpus: float) -> int:
        """Return how many workers may be at work, each of which keeps so many CPUs busy."""
        with_memory = self._workers_bytes // (PROCESS_BYTES + LEAST_BYTES)
        return max(1, int(min(self.slots.cpus // cpus, with_memory)))

    def operator(self, label: str, work: Callable[[], Work], cpus: float = 1.0, **options: Any) -> Operator:
        """Return an operator with as many workers as there is room for.

        Parameters
        ----------
        label : str
        work : callable
            Builds the work; picklable.
        cpus : float
            That one worker keeps busy.
        **options
            Of the `Operator`.
        """
        order = bounded(Order(label, work, processes=self.processes), cpus)
        return Operator(label, order, most=self._room(cpus), cpus=cpus, **options)

    @property
    def deaths(self) -> int:
        """Workers that died in any chain so far."""
        return sum(operator.deaths for recorder in self._recorders for operator in recorder.stats().operators)

    def stream(self, flow: Flow) -> Batches:
        """Yield the rows of a chain in order; refused rows are committed at its end."""
        refused = Refused(flow.nodes)
        try:
            scheduler = self._scheduler(flow)
            with closing(scheduler.run()) as found:
                for place, kind, batch in found:
                    if kind == "rejected":
                        refused.take(flow.node_at(place), batch)
                    elif kind == "rows":
                        yield batch
                    del batch
            refused.commit()
        finally:
            refused.abort()
            self._free(flow)

    def exchange(self, flow: Flow, partitions: int = 1) -> Kept:
        """Run a chain and keep its rows in blocks, by partition; its last operator says where each belongs."""
        if flow.operators:
            last = replace(flow.operators[-1], exchanged=True)
            flow = replace(flow, operators=(*flow.operators[:-1], last))
        if flow.schema is None:
            raise AssertionError("what follows functions was bound to their schema")
        kept = Kept(flow.schema, partitions)
        refused = Refused(flow.nodes)
        try:
            with closing(self._scheduler(flow).taken()) as found:
                for place, item, _ in found:
                    self._take(kept, refused, flow.node_at(place), item)
            refused.commit()
        except BaseException:
            kept.free(self.backend)
            raise
        finally:
            refused.abort()
            self._free(flow)
        return kept

    def _take(self, kept: Kept, refused: Refused, node: int, item: Item) -> None:
        if item.kind == "rows":
            kept.add(item.part, item.block)
            return
        batch = self.backend.fetch(item.block)
        self.backend.free(item.block)
        refused.take(node, replace(batch, first_row=0))  # there is one unit

    def _scheduler(self, flow: Flow) -> Scheduler:
        operators: Sequence[Operator] = [source(flow.label, flow.open), *flow.operators]
        recorder = Recorder([operator.label for operator in operators])
        self._record(recorder)
        self._recorders.append(recorder)
        return Scheduler(operators, self.backend, recorder, lent=True)

    def _free(self, flow: Flow) -> None:
        for kept in flow.kept:
            kept.free(self.backend)
