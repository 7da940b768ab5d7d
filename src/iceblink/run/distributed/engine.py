"""An engine whose work is spread over the workers of a backend: the same plans, bound in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from uuid import uuid4

import pyarrow as pa

from iceblink.config import Settings
from iceblink.events import FileWritten, emit
from iceblink.lake.files import NewFile
from iceblink.lake.leftovers import end_writes, mark_write, remove_strays, remove_uncommitted
from iceblink.lake.table import Table
from iceblink.mapped import Each, Item, Result
from iceblink.plan.nodes import MapBatches, Memory, Plan, Query, Scan
from iceblink.plan.optimize import Reference
from iceblink.plan.stage import Leaf, described
from iceblink.plan.stages import stages
from iceblink.run.distributed.file_flow import written_flow
from iceblink.run.distributed.file_work import files_of
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.lowering import BROADCAST_BYTES, SMALL_BYTES, Lowering, is_small, row_wise_leaf
from iceblink.run.distributed.planning import OverWorkers
from iceblink.run.distributed.runner import Runner
from iceblink.run.distributed.staged import FEW_BYTES
from iceblink.run.distributed.tables import kept_part
from iceblink.run.local_engine import LocalEngine
from iceblink.run.lower import Batches, Prepared, PreparedScan
from iceblink.run.pipeline.backend import Backend


class DistributedEngine(LocalEngine):
    """Binds plans here and runs them on a backend.

    Parameters
    ----------
    settings : Settings
    backend : callable
        Opens the backend of one run.
    processes : bool
        Whether its workers are processes of their own.
    small_bytes, broadcast_bytes : int
        A statement that reads no more is one task; the smaller side of a join goes to every task up to this [bytes].
    """

    def __init__(
        self,
        settings: Settings,
        backend: Callable[[], Backend],
        processes: bool,
        small_bytes: int = SMALL_BYTES,
        broadcast_bytes: int = BROADCAST_BYTES,
    ) -> None:
        super().__init__(**vars(settings))
        self._open, self.processes = backend, processes
        self._small_bytes, self._broadcast_bytes = small_bytes, broadcast_bytes

    def spread(self, query: Query, prepared: Prepared) -> list[str]:
        """Say how a statement is divided among workers, by estimates: sizes that are seen may change it."""
        scans = {scan.reference.name: scan for scan in prepared.scans}
        scanned = sum(scan.plan.decoded_bytes for scan in prepared.scans)
        leaf = row_wise_leaf(query, prepared.statement)
        row_wise = leaf is not None
        if len(scans) == len(prepared.statement.references) and is_small(row_wise, scanned, self._small_bytes):
            return []
        if row_wise:
            shared = "splits" if isinstance(leaf, Scan) else "rows"
            return [f"in one stage: each task runs it over some of the {shared}, and the rows keep their order"]
        leaves = [_leaf(reference, scans.get(reference.name)) for reference in prepared.statement.references]
        plan = stages(
            prepared.statement.tree,
            leaves,
            self.kernel.describe,
            small_bytes=self._small_bytes,
            broadcast_bytes=self._broadcast_bytes,
            few_bytes=FEW_BYTES,
        )
        return ["in stages:", *(f"  {line}" if line else "" for line in described(list(plan)).splitlines())]

    def backend(self) -> Backend:
        """Open the backend of one run."""
        return self._open()

    def batches(self, plan: Plan, prompt: bool = False) -> Batches:
        """Yield the rows of `plan`, in order where it has one, as they come; closing the generator stops the work."""
        with closing(self.backend()) as backend:
            runner = self._runner(backend, plan)
            with closing(runner.stream(self._flow(runner, plan))) as rows:
                yield from rows

    def files(
        self,
        plan: Plan,
        table: Table,
        sorted: bool,
        begun: Callable[[str], None] | None,
        job: str,
        group_rows: int | None = None,
    ) -> list[NewFile]:
        """Write the rows of `plan` to data files of `table`, in the workers; nothing refers to the files yet."""
        token = uuid4().hex
        mark_write(table.pyiceberg, token, job)
        try:
            if begun is not None:
                begun(token)
            found: list[NewFile] = []
            with closing(self.backend()) as backend:
                runner = self._runner(backend, plan)
                with closing(
                    runner.stream(written_flow(self._lowering(runner), plan, table, token, sorted, group_rows))
                ) as written:
                    for batch in written:
                        for file in files_of(batch):
                            emit(FileWritten(table.name, file.path, file.rows, file.file_bytes))
                            found.append(file)
                if runner.deaths:
                    remove_strays(table, token, {file.path for file in found})
            if not found:
                end_writes(table.pyiceberg, [token])
            return found
        except BaseException:
            remove_uncommitted(table, [token])
            raise

    def each(
        self,
        label: str,
        work: Callable[[Settings, Callable[[], bool]], Callable[[Item], Result]],
        items: Sequence[Item],
        cost_s: Callable[[Item], float],
        died: Callable[[], None],
    ) -> Generator[Result, None, None]:
        """Do for each of many things what takes a writer's memory, in the workers, one at a time in each."""
        with closing(self.backend()) as backend:
            runner = Runner(backend, self.settings, lambda made: None, self.processes)
            done = Each(label, partial(work, runner.worker_settings(), _never), cost_s, 1)
            yield from OverWorkers(runner, label)(done, items)
            if runner.deaths:
                died()

    def _runner(self, backend: Backend, plan: Plan) -> Runner:
        return Runner(backend, self.settings, lambda made: self.job.recorders.__setitem__(plan, made), self.processes)

    def _flow(self, runner: Runner, plan: Plan) -> Flow:
        return self._lowering(runner).flow(plan)

    def _lowering(self, runner: Runner) -> Lowering:
        return Lowering(runner, self.job, self._small_bytes, self._broadcast_bytes)

    def _find_schema(self, node: MapBatches) -> pa.Schema:
        with closing(self.batches(node)) as outputs:
            for output in outputs:
                return output.data.schema
        return super()._find_schema(node)


def _never() -> bool:
    return False


def _leaf(reference: Reference, scan: PreparedScan | None) -> Leaf:
    """Return what is known before a run of what a statement reads; of what a function makes, nothing."""
    schema = pa.schema([reference.plan.schema.field(name) for name in reference.named])
    if scan is not None:
        kept = kept_part(scan.plan, reference)
        return Leaf(reference.name, schema, scan.plan.rows, scan.plan.decoded_bytes, kept)
    if isinstance(reference.plan, Memory):
        return Leaf(reference.name, schema, reference.plan.data.num_rows, reference.plan.data.nbytes)
    return Leaf(reference.name, schema, math.inf, math.inf)
