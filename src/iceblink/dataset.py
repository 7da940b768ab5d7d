"""Dataset: one typed, lazy table of rows, wherever they come from and wherever they go."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

import pyarrow as pa

from iceblink.errors import ConfigError, PlanError
from iceblink.events import Observer
from iceblink.interop import to_pandas, to_polars
from iceblink.loading import Loading
from iceblink.neighbours.late import dask_frames, needs_dask, needs_ray, ray_data
from iceblink.plan.describe_function import described, promised
from iceblink.plan.function import BatchFormat, Function, OnError
from iceblink.plan.nodes import MapBatches, Scan
from iceblink.preview import html_preview, text_preview
from iceblink.run.explain import explained, outline
from iceblink.run.export import write_parquet
from iceblink.run.pipeline.stats import PipelineStats
from iceblink.run.write import Mode, WriteOptions, write_table
from iceblink.types import show_field
from iceblink.verbs import GroupBy

__all__ = ["Dataset", "GroupBy", "Observer"]

PREVIEW_ROWS = 10


class Dataset(Loading):
    """A lazy, immutable, typed table.

    Made by `Lake.table`, `Lake.sql`, `Lake.from_arrow` and others; every verb returns a new one. Nothing is read
    until a method that says so: `to_arrow`, `to_batches`, `show`, `count`, `write` and their like.
    """

    @property
    def schema(self) -> pa.Schema:
        """Names, types and nullability; known without reading, except after a function that declares no schema."""
        return self.plan.schema

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return list(self.schema.names)

    def map_batches(
        self,
        function: Callable[..., Any],
        *,
        schema: pa.Schema | Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        batch_format: BatchFormat = "arrow",
        workers: int | tuple[int, int] | None = None,
        processes: bool | None = None,
        cpus: float | None = None,
        gpus: float = 0.0,
        memory: int | str | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        on_error: OnError = "raise",
        quarantine: str | None = None,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
        retries: int = 3,
        timeout_s: float | None = None,
        ordered: bool = True,
    ) -> Dataset:
        """Apply a Python function to batches of rows, in a pool of workers, streaming.

        Lazy. It runs side by side with what comes before and after it, inside the memory budget of the engine.

        Parameters
        ----------
        function : callable, class, or functools.partial of one
            Takes a batch and returns one: RecordBatch, Table, dict of arrays, pandas or polars frame, of any number
            of rows. A class is built once in each worker and its instances are called, so that a model is loaded
            once; its ``close()``, if it has one, is called at the end. A generator function yields any number of
            batches. An ``async def`` function is awaited, several calls at the same time.
        schema : Schema or mapping of name to type, optional
            What it returns, in the words of `Lake.create`; every batch is held to it. Without it the return
            annotation is used (a TypedDict or dataclass), else what ``function.output_schema(input_schema)`` says, if
            the object given has that method, else the first batch: asking for `schema` then runs the plan until
            there is one.
        batch_size : int, optional
            Exactly this many rows a call, but for the last. Default: batches as they come.
        batch_format : {"arrow", "numpy", "numpy_masked", "pandas", "polars"}
            What the function gets. ``numpy`` is a dict of arrays; nulls end the run whatever `on_error` says, for
            NumPy has none and no row is at fault. ``numpy_masked`` masks them.
        workers : int or (int, int), optional
            How many, or the fewest and the most: more are started while batches pile up, and let go when they have
            nothing to do. Default: one for a class, up to one for each CPU for a function. Of an ``async def``
            function: calls awaited at the same time, 16 by default.
        processes : bool, optional
            Whether workers are processes of their own instead of threads: for pure Python that computes, and for
            code that may crash or hang. Rows go there and back through shared memory. Default: where `gpus` is set,
            and for what was declared `iceblink.pure_python`.
        cpus, gpus : float
            What a worker at work occupies; a worker process sees only its own GPUs. Default: ``function.cpus`` if the
            object given says it, none for a function that awaits or has a GPU, else 1 CPU or its share of what there
            is.
        memory : int or str, optional
            What a worker takes for itself, a model for example [bytes, or a text such as ``"2GiB"``].
        resources, labels : mapping, optional
            What else a worker takes of its node, by the cluster's names (``{"licence": 1}``), and labels that the node
            must have (``{"zone": "a"}``; of Ray's selectors also ``"!a"`` and ``"in(a, b)"``). Each worker is then a
            process of its own. Only a cluster has them: in one process the run is refused.
        on_error : {"raise", "skip", "quarantine"}
            When a call fails, ``skip`` and ``quarantine`` find the rows at fault by halving the batch; they are left
            out, or kept in `quarantine`.
        quarantine : str, optional
            Table (made when first needed), or folder if it has a slash, for the rows refused, with error, traceback,
            file and row of each (behind another function the row is null: it is not known); committed when the run has
            ended well.
        retry_on : exception class or tuple of them
            Failures after which the same call is made again, up to `retries` times, waiting longer each time.
        timeout_s : float, optional
            A call that takes longer ends its worker; its rows are tried once more. A thread cannot be ended: it is
            left behind. An awaited call is cancelled [s].
        ordered : bool
            Whether the rows keep their order; without it no batch waits for a slower one before it.

        Raises
        ------
        ConfigError
            An argument that cannot be. When it runs: FunctionError, BatchContractBroken, OutOfMemoryBudget.
        """
        return self._apply(
            described(
                function, verb="map_batches", threads=self.session.engine.settings.threads, schema=schema,
                batch_size=batch_size, batch_format=batch_format, workers=workers, processes=processes, cpus=cpus,
                gpus=gpus, memory=memory, resources=resources, labels=labels, on_error=on_error, quarantine=quarantine,
                retry_on=retry_on, retries=retries, timeout_s=timeout_s, ordered=ordered,
            )
        )  # fmt: skip

    def map(self, function: Callable[[dict[str, Any]], Any], *, schema: Any = None, **options: Any) -> Dataset:
        """Apply a Python function to each row, a dict, returning a dict: convenient, and slow.

        Options are those of `map_batches`, but for its batches. Like there, workers are threads by default.
        """
        unknown = next((name for name in options if name in ("batch_size", "batch_format")), None)
        if unknown is not None:
            raise ConfigError(f"map has no {unknown}: it takes single rows", "map", "use map_batches")
        threads = self.session.engine.settings.threads
        return self._apply(described(function, verb="map", threads=threads, schema=schema, **options))

    def _apply(self, function: Function) -> Dataset:
        function = promised(function, lambda: self.plan.schema)
        target = function.policy.quarantine
        reject = None if target is None else self.session.quarantine(target)
        return Dataset(self.session.engine.map_batches(self.plan, function, reject), self.session)

    def stats(self) -> PipelineStats:
        """Return what the functions of this dataset did when it last ran: rows, busy and idle time, memory.

        Raises
        ------
        PlanError
            It has not run, or has no function.
        """
        found = self.session.engine.stats(self.plan)
        if found is None:
            raise PlanError("no function of this dataset has run", "stats", "run it first, with this same dataset")
        return found

    def to_batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Run, and yield the rows in order; memory is bounded however large the result.

        What functions make comes as they make it, through filters and computed columns too. Closing the iterator stops
        the work.
        """
        return self._batches(prompt=True)

    def _batches(self, prompt: bool = False) -> Generator[pa.RecordBatch, None, None]:
        with closing(self.session.engine.batches(self.plan, prompt)) as batches:
            for batch in batches:
                yield batch.data

    def to_reader(self) -> pa.RecordBatchReader:
        """Run as a stream for other Arrow libraries; nothing is read before they do."""
        return pa.RecordBatchReader.from_batches(self.schema, self.to_batches())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pa.Table:
        """Run, and return all rows in memory."""
        batches = list(self._batches())
        return pa.Table.from_batches(batches, batches[0].schema if batches else self.schema)

    def to_pandas(self) -> Any:
        """Run, and return a pandas DataFrame with Arrow-backed columns: integers with nulls stay integers."""
        return to_pandas(self.to_arrow())

    def to_polars(self) -> Any:
        """Run, and return a polars DataFrame."""
        return to_polars(self.to_arrow())

    def to_ray(self, tasks: int | None = None, **options: Any) -> Any:
        """Return a ``ray.data.Dataset`` of the rows; Ray is joined, or started here, if it was not yet.

        A table, and what looks at one row at a time (`select`, `filter`, `mutate`), is only planned: the read tasks are
        splits of about one decoded size, each read and computed in one thread, and columns and filters that Ray pushes
        down prune as ours do. Anything else is run now by the engine, and its rows pass through this process into
        Ray's object store, of which Ray spills what does not fit; the rows that this process holds at a time are few.

        Parameters
        ----------
        tasks : int, optional
            Read tasks. Default: by size, and at least two for each CPU of the cluster where there is enough to read.
        **options
            Of ``ray.data.read_datasource``, for read tasks: ``num_cpus``, ``memory``, ``concurrency``...

        Raises
        ------
        ConfigError
            Ray Data is not installed, or no Ray can be joined or started.
        """
        needs_ray()
        return ray_data.to_ray(self.plan, self.session.engine, tasks, options)

    def to_dask(self, partitions: int | None = None, *, index: str | None = None) -> Any:
        """Return a ``dask.dataframe.DataFrame`` of a table, or of what looks at one of its rows at a time; lazy.

        Partitions are splits of about one decoded size; columns are Arrow's own, as in `to_pandas`.

        Parameters
        ----------
        partitions : int, optional
            How many, at most. Default: by size.
        index : str, optional
            Column to be the index, each partition sorted by it. The divisions are known for an integer column of a
            table whose files' statistics say that its splits follow each other.

        Raises
        ------
        PlanError
            It looks at several rows at a time.
        ConfigError
            Dask is not installed.
        """
        needs_dask()
        return dask_frames.to_dask(self.plan, self.session.engine, partitions, index)

    def to_pylist(self) -> list[dict[str, Any]]:
        """Run, and return the rows as dicts."""
        rows: list[dict[str, Any]] = self.to_arrow().to_pylist()
        return rows

    def head(self, n: int = 5) -> pa.Table:
        """Run until there are `n` rows, and return them."""
        return self.limit(n).to_arrow()

    def count(self) -> int:
        """Run, and return the number of rows; for a whole table without deletes it is in the metadata."""
        if isinstance(self.plan, Scan) and self.plan.table.row_count is not None:
            return self.plan.table.row_count
        (row,) = self.sql("SELECT count(*) AS n FROM this").to_pylist()
        return int(row["n"])

    def show(self, n: int = PREVIEW_ROWS) -> None:
        """Run until there are `n` rows, and print them."""
        print(text_preview(self.limit(n + 1).to_arrow(), n))

    def explain(self, analyze: bool = False) -> str:
        """Say how this will run: stages, SQL, files and splits kept, pushed filters, estimates.

        Reads metadata and footers, no data; with `analyze` it runs the plan and adds what happened.
        """
        return explained(self.plan, self.session.engine, analyze)

    def write(
        self,
        name: str,
        mode: Mode = "append",
        *,
        on: str | Sequence[str] | None = None,
        where: Any = None,
        partitions: Literal["static", "dynamic"] = "static",
        partition_by: Sequence[str] = (),
        sort_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        evolve: bool = False,
        branch: str = "main",
        token: str | None = None,
        checkpoint: str | None = None,
    ) -> Dataset:
        """Run, and write the rows to a table in one commit: all of them, or nothing.

        Parameters
        ----------
        name : str
            ``namespace.table``.
        mode : {"append", "create", "overwrite", "upsert", "replace"}
            ``create`` makes the table (an error if it exists). ``replace`` makes it, or puts these rows, this schema,
            partitioning and sort order in its place, its history kept. ``overwrite`` replaces all rows, those that
            `where` matches, or, with ``partitions="dynamic"``, those in the partitions that the data has. ``upsert``
            replaces rows with the same key `on` and adds the others.
        on : str or sequence of str
            Key columns for ``upsert``: unique in the data, never null.
        where : boolean expression, or str, optional
            Rows to overwrite: ``_.day == "2026-01-31"``, or SQL text; with ``write.delete.mode`` ``merge-on-read`` they
            are marked as deleted, with ``write.merge.mode`` those that an upsert replaces.
        partition_by, sort_by, properties
            For ``create`` and ``replace``, as in `Lake.create`.
        evolve : bool
            Whether new columns and wider types are added to the table, in the same commit.
        branch : str
            Where to commit.
        token : str, optional
            Names this write; a token that the table has seen is not committed again, so that a retry is safe.
        checkpoint : str, optional
            Names this job, once and for all: what it has done is recorded beside the tables, so that after a crash the
            same call goes on from there and still makes one commit. Functions get a shorter batch at the end of each
            recorded part, of about two splits. Not for ``upsert``.

        Returns
        -------
        Dataset
            The table at the new snapshot.

        Raises
        ------
        TableNotFound, TableExists, SchemaMismatch, NullInRequired, CommitConflict, CommitUnknown, WriteError
        CheckpointMismatch, CheckpointBusy
            The job was begun with another plan; it is running.
        """
        options = WriteOptions(
            mode, (on,) if isinstance(on, str) else tuple(on or ()), where, partitions == "dynamic",
            tuple(partition_by), tuple(sort_by), dict(properties or {}), evolve, branch, token, checkpoint,
        )  # fmt: skip
        return Dataset(write_table(self.session, self.plan, name, options), self.session)

    def write_parquet(self, folder: str) -> list[str]:
        """Run, and write Parquet files into a local folder; returns their paths.

        One file for each part of `repartition`, else files of about ``Settings.file_bytes``. The folder must be
        empty or absent.
        """
        return write_parquet(self.plan, self.session.engine, folder)

    def __repr__(self) -> str:
        known = self.plan.known_schema if isinstance(self.plan, MapBatches) else self.plan.schema
        fields = (
            "  (schema: found on the first batch)"
            if known is None
            else "\n".join(f"  {field.name}: {show_field(field)}" for field in known)
        )
        return f"Dataset\n{fields}\n{outline(self.plan)}"

    def _repr_html_(self) -> str:
        return html_preview(self.limit(PREVIEW_ROWS + 1).to_arrow(), PREVIEW_ROWS)
