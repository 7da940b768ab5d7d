"""The engine in this process: binds plans when they are written, runs them when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

import pyarrow as pa

from iceblink.config import MIB, Settings
from iceblink.errors import ConfigError
from iceblink.lake.files import NewFile
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.mapped import Each, Item, Result, here
from iceblink.plan.function import Function
from iceblink.plan.lineage import restored
from iceblink.plan.nodes import MapBatches, Plan, Query, Tree
from iceblink.plan.query import sql_of
from iceblink.run.gang import Gang
from iceblink.run.kernel import Kernel
from iceblink.run.lower import Batches, Job, Prepared, run
from iceblink.run.pipeline.backend import Backend
from iceblink.run.pipeline.local_backend import local_backend
from iceblink.run.pipeline.stats import PipelineStats
from iceblink.run.pipeline.worker import first_schema
from iceblink.run.quarantine import Quarantine

WRITER_GROUPS = 8
"""A writer's memory is so many row groups: with less it makes smaller ones."""


class LocalEngine:
    """Run everything in this process: DuckDB for SQL, threads for reading and for Python functions.

    Parameters
    ----------
    **settings
        Any of `Settings`, for example ``threads=4``, ``memory_bytes="2GiB"``, ``spill_dir="/fast/disk"``.

    Raises
    ------
    ConfigError
        An unknown or impossible setting.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings.from_environment(**settings)
        self.kernel = Kernel(self.settings)
        self.job = Job(self.settings, self.kernel)
        self.processes = False
        """Whether all functions run in processes of their own, also those that do not ask for one."""

    def query(self, tree: Tree, sources: Mapping[str, Plan], expression: Any = None) -> Query:
        """Return a query node, its names and types checked by the kernel; nothing is read.

        Raises
        ------
        PlanError
            Any of its kinds.
        """
        schemas = {name: plan.schema for name, plan in sources.items()}
        bound = self.kernel.bind(sql_of(tree), schemas)
        return Query(restored(bound, tree, schemas), tree, sources, expression)

    def evaluate(self, constant: Any) -> object:
        """Return the value of a constant SQL expression, a sqlglot node. Raises ValueError when it has none."""
        return self.kernel.evaluate(sql_of(constant))

    def map_batches(self, source: Plan, function: Function, reject: Quarantine | None = None) -> MapBatches:
        """Return a node that applies `function`; without a declared schema the first batch tells it."""
        return MapBatches(source, function, self._find_schema, reject)

    def _find_schema(self, node: MapBatches) -> pa.Schema:
        # what is built for this is not kept for the run: that may never come, then nobody would close it; it lives in
        # another thread, where connections and loops cannot follow; and the first batch would have been seen twice
        if node.function.pool.processes:  # what needs a process of its own is not called in this one
            with closing(run(node, self.job)) as outputs:
                for output in outputs:
                    return output.data.schema
        with closing(run(node.source, self.job)) as batches:
            return first_schema(node.function, batches, node.source.schema)

    def stats(self, plan: Plan) -> PipelineStats | None:
        """Return what the last run of the functions of `plan` did, those nearest its end first; None before a run."""
        if (recorder := self.job.recorders.get(plan)) is not None:
            return recorder.stats()
        return next((found for below in plan.inputs if (found := self.stats(below)) is not None), None)

    def batches(self, plan: Plan, prompt: bool = False) -> Batches:
        """Yield the rows of `plan` in order; closing the generator stops the work.

        With `prompt` statements hand on what functions make as it comes; otherwise they are as fast as they can.
        """
        return run(plan, replace(self.job, prompt=prompt))

    def spread(self, query: Query, prepared: Prepared) -> list[str]:
        """Say how a statement is divided among workers; nothing where it is not."""
        return []

    def backend(self) -> Backend:
        """Open what runs Python functions."""
        return local_backend(self.settings)

    def files(
        self,
        plan: Plan,
        table: Table,
        sorted: bool,
        begun: Callable[[str], None] | None,
        job: str,
        group_rows: int | None = None,
    ) -> list[NewFile]:
        """Write the rows of `plan` to data files of `table` that nothing refers to; see `run.data_files.written`."""
        with (
            closing(self.batches(plan)) as batches,
            TableWriter(table, self.settings, sorted=sorted, job=job, group_rows=group_rows) as writer,
        ):
            if begun is not None:
                begun(writer.token)
            for batch in batches:
                writer.write(batch.data)
            return writer.finish()

    def each(
        self,
        label: str,
        work: Callable[[Settings, Callable[[], bool]], Callable[[Item], Result]],
        items: Sequence[Item],
        cost_s: Callable[[Item], float],
        died: Callable[[], None],
    ) -> Generator[Result, None, None]:
        """Do for each of many things what takes a writer's memory, as many at once as there is room for.

        Parameters
        ----------
        label : str
            Of the work, for people.
        work : callable
            Given settings to work under and what tells that nobody waits any more, makes the function; picklable.
        items : sequence
        cost_s : callable
            About the CPU time that one takes [s].
        died : callable
            Called if workers died: they may have left something.

        Returns
        -------
        generator
            The results, in the order of the items; closing it ends the work.
        """
        settings, stopped = self.settings, Event()
        with_memory = settings.memory_bytes // (WRITER_GROUPS * settings.row_group_bytes)
        width = max(1, min(settings.threads, with_memory, len(items)))
        share = settings.override(
            threads=max(1, settings.threads // width), memory_bytes=max(64 * MIB, settings.memory_bytes // width)
        )
        yield from here(Each(label, partial(work, share, stopped.is_set), cost_s, width, stopped.set), items)

    def gang(self, label: str, count: int, cpus: int, build: Callable[[int], Any]) -> Gang:
        """Begin workers that are there together, or not at all.

        Parameters
        ----------
        label : str
            What they are for.
        count : int
        cpus : int
            Of each.
        build : callable
            Given its number, makes what a member is; picklable.

        Raises
        ------
        ConfigError
            There is no room for them; in this engine there never is.
        """
        raise ConfigError(f"{count} workers are asked for, and this engine is one process", label, "RayEngine has them")

    def close(self) -> None:
        """Free what the engine holds; it opens again when next used."""
        self.kernel.close()

    def __repr__(self) -> str:
        return f"LocalEngine(threads={self.settings.threads}, memory_bytes={self.settings.memory_bytes:,})"
