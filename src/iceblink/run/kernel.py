"""DuckDB behind four methods: bind, evaluate, stream, close. SQL text and Arrow in, Arrow out."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.config import Settings
from iceblink.errors import (
    AmbiguousColumn,
    ColumnNotFound,
    DataCorrupt,
    DuplicateColumn,
    IceblinkError,
    OutOfMemoryBudget,
    QueryError,
    SqlError,
    TypeMismatch,
)
from iceblink.run.beside import PATIENCE_S, beside
from iceblink.run.kernel_types import arrow_type, quoted
from iceblink.run.late import feeding
from iceblink.run.progress import progress_told
from iceblink.run.source import Source
from iceblink.run.stop import Stop, cancelled
from iceblink.types import conform

Input: TypeAlias = pa.Table | Source | str
"""What a name in a statement stands for: rows in memory, batches to come, or SQL the kernel reads itself."""


ALL_ROWS = 2**62


class Kernel:
    """One embedded database: no tables of its own, a memory limit, a place to spill.

    A connection costs tens of milliseconds and a cursor one: the kernel lives as long as its engine.

    Parameters
    ----------
    settings : Settings
    as_written : bool
        Joins are made in the order in which they stand, and keep their right side in memory.
    """

    def __init__(self, settings: Settings, as_written: bool = False) -> None:
        self._settings = settings
        self._disabled = "join_order,build_side_probe_side" if as_written else ""
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._streams: weakref.WeakSet[_Running] = weakref.WeakSet()
        self._describing = threading.Lock()
        self._bound: tuple[duckdb.DuckDBPyConnection, dict[str, pa.Schema]] | None = None

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                spill = Path(self._settings.spill_dir, "kernel")
                with suppress(OSError):  # the kernel makes its own folder when it needs it, but not those around it
                    spill.parent.mkdir(parents=True, exist_ok=True)
                self._connection = duckdb.connect(
                    config={
                        "threads": self._settings.threads,
                        # the rest is for queues, batches in Python and writers
                        "memory_limit": f"{int(self._settings.memory_bytes * 0.75 / 2**20)}MiB",
                        "temp_directory": str(spill),
                        "preserve_insertion_order": True,
                        "parquet_metadata_cache": True,
                        "python_enable_replacements": False,  # a Python variable is never a table
                        "autoinstall_known_extensions": False,
                        "TimeZone": "UTC",
                        "disabled_optimizers": self._disabled,
                    }
                )
                # closed at exit at the latest: the kernel complains of connections that outlive the interpreter
                weakref.finalize(self, self._connection.close)
            return self._connection.cursor()

    def bind(self, sql: str, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
        """Return the schema of a statement; nothing is read.

        Raises
        ------
        ColumnNotFound, AmbiguousColumn, DuplicateColumn, TypeMismatch, SqlError
        """
        return self.describe(sql, inputs)[0]

    def describe(self, sql: str, inputs: Mapping[str, pa.Schema]) -> tuple[pa.Schema, tuple[str, ...]]:
        """Return the schema of a statement and the kernel's own words for its types: HUGEINT where Arrow has long.

        Raises
        ------
        ColumnNotFound, AmbiguousColumn, DuplicateColumn, TypeMismatch, SqlError
        """
        with self._describing, said_plainly(sql, inputs):
            relation = self._binder(inputs).sql(sql)
            names = list(relation.columns)
            kinds = tuple(str(kind) for kind in relation.types)
            types = [arrow_type(kind, name) for name, kind in zip(names, relation.types, strict=True)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DuplicateColumn(
                f"two output columns are named {twice!r}", "query", f"give one an alias: {twice} AS ..."
            )
        schema = pa.schema([pa.field(name, dtype) for name, dtype in zip(names, types, strict=True)])
        return schema, kinds

    def _binder(self, inputs: Mapping[str, pa.Schema]) -> duckdb.DuckDBPyConnection:
        """Return the cursor that describes, with empty tables of these schemas and no others.

        To register one takes as long as to bind a statement, and the next statement often reads the same.
        """
        if self._bound is None:
            self._bound = self._cursor(), {}
        cursor, known = self._bound
        for name in [name for name in known if name not in inputs]:
            cursor.unregister(name)
            del known[name]
        for name, schema in inputs.items():
            if name not in known or not known[name].equals(schema, check_metadata=True):
                cursor.register(name, pa.Table.from_batches([], schema))
                known[name] = schema
        return cursor

    def evaluate(self, sql: str) -> object:
        """Return the value of a constant expression.

        Raises
        ------
        ValueError
            It has none.
        """
        with self._cursor() as cursor:
            try:
                return cursor.sql(f"SELECT {sql} AS value").to_arrow_table().column(0)[0].as_py()
            except duckdb.Error as error:
                raise ValueError(str(error)) from error

    def stream(
        self, sql: str, inputs: Mapping[str, Input], schema: pa.Schema, batch_rows: int, prompt: bool = False
    ) -> Generator[pa.RecordBatch, None, None]:
        """Run a statement and yield its rows in `schema`; memory is bounded however large the result.

        Closing the generator stops the query, and so does Ctrl-C at any time. With `prompt` a row that needs no others
        comes as soon as its inputs do; one thread then computes what else several would.

        Raises
        ------
        QueryError
            A value that cannot be cast, divided or added.
        OutOfMemoryBudget
            It does not fit, even spilling.
        IceblinkError
            Whatever an input stream raised.
        """
        running = _Running(self._cursor())
        with self._lock:
            self._streams.add(running)
        if prompt:
            sql = running.made_prompt(sql)
        yield from beside(running.rows(sql, inputs, schema, batch_rows), running.interrupt)

    def close(self) -> None:
        """End what runs, and free the database and what it spilled; the next call opens it anew."""
        with self._describing, self._lock:
            connection, self._connection = self._connection, None
            self._bound = None
            streams = list(self._streams)
        if connection is None:
            return
        patient_until = time.monotonic() + PATIENCE_S
        while time.monotonic() < patient_until:  # else it goes with its last stream
            for running in streams:
                running.interrupt()
            try:
                connection.close()
                return
            except duckdb.ResourceInUseException:  # a stream that was left early is making its next batch
                time.sleep(0.01)


class _Running:
    """A statement on a cursor of its own, which another thread may interrupt."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._stop = Stop()
        self._failed: list[BaseException] = []
        self._opened: list[Generator[pa.RecordBatch, None, None]] = []
        self._closing = threading.Lock()

    def rows(
        self, sql: str, inputs: Mapping[str, Input], schema: pa.Schema, batch_rows: int
    ) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows; the cursor is closed when the generator is."""
        try:
            with said_plainly(sql, {}, self._failed):
                self._register(inputs)
            with progress_told(self._cursor):
                with said_plainly(sql, {}, self._failed):
                    result = self._cursor.sql(sql).to_arrow_reader(batch_rows)
                with result:  # an error that is kept keeps this frame, and must keep nothing running
                    while True:
                        with said_plainly(sql, {}, self._failed):
                            try:
                                batch = result.read_next_batch()
                            except StopIteration:
                                return
                        if self._failed:
                            raise self._failed[0]
                        if self._stop.asked:  # between two batches there was nothing to interrupt
                            raise cancelled()
                        if batch.num_rows:
                            yield conform(_narrowed(batch, schema), schema, "query result")
        finally:
            self.interrupt()
            with self._closing, suppress(duckdb.Error):  # the engine may have been closed before its last stream was
                self._cursor.close()
            for batches in self._opened:
                _close(batches)

    def made_prompt(self, sql: str) -> str:
        """Return the statement that yields the rows of `sql` one by one; else the kernel first fills a buffer.

        Threads that work side by side hold two batches each before the first one goes on. A limit, which counts, lets
        it use one.
        """
        self._cursor.execute("SET streaming_buffer_size = '1B'")
        return f"FROM ({sql}) LIMIT {ALL_ROWS}"

    def interrupt(self) -> None:
        """End what is under way, in the kernel and in what feeds it; from any thread."""
        self._stop.ask()
        with self._closing, suppress(duckdb.Error):
            self._cursor.interrupt()

    def _register(self, inputs: Mapping[str, Input]) -> None:
        context = self._stop.context()
        for name, source in inputs.items():
            if isinstance(source, str):
                self._cursor.execute(f"CREATE TEMP VIEW {quoted(name)} AS {source}")
            elif isinstance(source, pa.Table):
                self._cursor.register(name, source)
            else:
                self._cursor.register(name, feeding.Feed(source, self._failed, self._opened, context))


def _close(batches: Generator[pa.RecordBatch, None, None]) -> None:
    """End what fed the kernel, one of whose threads may still be on its way out of it."""
    while True:
        try:
            batches.close()
            return
        except ValueError:  # it is being executed
            time.sleep(0.01)


def _narrowed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Bring 128-bit integers, which the kernel hands over as decimals, to long."""
    for index, field in enumerate(schema):
        column = batch.column(index)
        if pa.types.is_decimal(column.type) and pa.types.is_integer(field.type):
            try:
                batch = batch.set_column(index, field, pc.cast(column, field.type))
            except pa.ArrowInvalid as error:
                raise QueryError(
                    f"column {field.name!r} has an integer beyond 64 bits", "query result", "cast it to DOUBLE first"
                ) from error
    return batch


_MISSING = re.compile(r'column "(.+?)" not found|does not have a column named "(.+?)"|Could not find key "(.+?)"')
_SPILLED = re.compile(r"duckdb_temp_|Failed to create directory")
_AMBIGUOUS = re.compile(r'Ambiguous reference to column name "(.+?)" \(use: (.+?)\)')


@contextmanager
def said_plainly(
    sql: str, inputs: Mapping[str, pa.Schema], failed: list[BaseException] | None = None
) -> Iterator[None]:
    """Turn the kernel's errors into ours; an error of an input stream comes first."""
    try:
        yield
    except IceblinkError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as error:
        if failed:
            raise failed[0] from None
        raise translated(str(error), error, [name for schema in inputs.values() for name in schema.names]) from error


def translated(text: str, error: Exception, columns: list[str]) -> IceblinkError:
    """Return our error for a message of the kernel."""
    lines = [line for line in re.sub(r"^[\w ]+ Error: ", "", text.strip()).split("\n") if line.strip()]
    what = lines[0] if lines else type(error).__name__
    caret = next((index for index, line in enumerate(lines) if line.strip() == "^"), None)
    where = "\n".join(lines[caret - 1 : caret + 1]) if caret else ""
    hint = next((line.strip() for line in lines[1:] if line.startswith(("Did you mean", "Either"))), "")
    if what == "Interrupted!":  # where Arrow passes it on, it is no InterruptException
        return cancelled()
    if "Out of Memory" in text or isinstance(error, duckdb.OutOfMemoryException):
        return OutOfMemoryBudget(what, "query", "raise ICEBLINK_MEMORY_BYTES, or free space in spill_dir")
    if isinstance(error, duckdb.IOException) and _SPILLED.search(text):
        hint = "free space in spill_dir, set ICEBLINK_SPILL_DIR to another disk, or raise ICEBLINK_MEMORY_BYTES"
        return OutOfMemoryBudget(f"what does not fit in memory cannot be spilled: {what}", "query", hint)
    if isinstance(error, duckdb.IOException) or "magic bytes" in text:
        return DataCorrupt(what, where, "restore the file, or leave it out")
    if isinstance(error, duckdb.BinderException):
        if missing := _MISSING.search(text):
            return ColumnNotFound.of(next(part for part in missing.groups() if part), set(columns), where)
        if ambiguous := _AMBIGUOUS.search(text):
            name, choices = ambiguous.groups()
            return AmbiguousColumn(f"column {name!r} is in more than one input", where, f"write {choices}")
        if "argument types" in what:
            return TypeMismatch(what, where, "convert one side: CAST(x AS type)")
        return SqlError(what, where, hint)
    if isinstance(error, duckdb.ParserException | duckdb.CatalogException | duckdb.NotImplementedException):
        return SqlError(what, where, hint)
    return QueryError(what, where or "query", hint or "TRY_CAST gives null where a value does not convert")
