"""Rows that a function refused go to a table or to a folder, all at once when the run has ended well."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from iceblink.config import Settings
from iceblink.errors import SchemaMismatch, TableExists, TableNotFound, WriteError
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.leftovers import remove_uncommitted, remove_unused
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.run.pipeline.pieces import no_rows
from iceblink.types import conform, storable


class Refusals(Protocol):
    """Takes refused rows and puts them into files that nobody sees yet."""

    token: str
    """Names these files."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Keep some more."""
        ...

    def finish(self) -> Sequence[Any]:
        """Close the files, and return what `Quarantine.commit` needs to know of them: plain data."""
        ...

    def abort(self) -> None:
        """Remove the files."""
        ...


class Quarantine(Protocol):
    """A place for refused rows."""

    def check(self, schemas: Sequence[pa.Schema]) -> None:
        """See whether rows of all these schemas could go there. Raises SchemaMismatch or WriteError."""
        ...

    def open(self, schema: pa.Schema, job: str = "") -> Refusals:
        """Begin; `job` is the journal in which the files will be found if this process dies."""
        ...

    def commit(self, files: Sequence[Any], token: str | None = None, again: bool = False) -> None:
        """Let finished files be seen; a second time with one token does nothing.

        `again` says that a process which is dead may have tried it.
        """
        ...

    def remove(self, token: str) -> None:
        """Remove the files that a dead process left."""
        ...


def quarantine(catalog: Catalog, settings: Settings, target: str) -> Quarantine:
    """Return the quarantine `target`: a folder if it has a slash, else a table, made when first needed."""
    if "/" in target or os.sep in target:
        return FolderQuarantine(target)
    return TableQuarantine(catalog, settings, target)


@dataclass(frozen=True)
class TableQuarantine:
    """An Iceberg table, appended to in one snapshot."""

    catalog: Catalog
    settings: Settings
    name: str

    def check(self, schemas: Sequence[pa.Schema]) -> None:
        """Compare with the columns of the table, or with those that it will be made with."""
        try:
            columns = self.catalog.load(self.name).schema
        except TableNotFound:
            columns = storable(schemas[0])
        for schema in schemas:
            self._compare(storable(schema), columns)

    def open(self, schema: pa.Schema, job: str = "") -> Refusals:
        """Begin data files that are in no snapshot yet."""
        schema = storable(schema)
        try:
            table = self.catalog.load(self.name)
        except TableNotFound:
            with suppress(TableExists):  # of several ranks another one was faster
                self.catalog.create(self.name, schema)
            table = self.catalog.load(self.name)
        self._compare(schema, table.schema)
        return _TableRefusals(table, TableWriter(table, self.settings, job=job), self._where)

    def commit(self, files: Sequence[Any], token: str | None = None, again: bool = False) -> None:
        """Append the files, and remove what an earlier try left."""
        table = Commit(self.catalog.load(self.name), token, keep_files=token is not None).append(files).run()
        if again:
            remove_unused(table, [file.token for file in files])

    def remove(self, token: str) -> None:
        """Remove data files that are in no snapshot."""
        with suppress(TableNotFound):
            remove_uncommitted(self.catalog.load(self.name), [token])

    @property
    def _where(self) -> str:
        return f"quarantine {self.name}"

    def _compare(self, schema: pa.Schema, columns: pa.Schema) -> None:
        try:
            conform(no_rows(schema), columns, self._where)
            required = (field.name for field in columns if not field.nullable and schema.field(field.name).nullable)
            if (name := next(required, None)) is not None:
                raise SchemaMismatch(f"column {name!r} is required, and may be null in refused rows")
        except SchemaMismatch as error:
            what = f"table {self.name} cannot take the refused rows: {error.what}"
            raise SchemaMismatch(what, self._where, "name another table: it is made with the right columns") from None


class _TableRefusals:
    def __init__(self, table: Table, writer: TableWriter, where: str) -> None:
        self.token = writer.token
        self._table, self._writer, self._where = table, writer, where

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write(conform(rows, self._table.schema, self._where))

    def finish(self) -> Sequence[Any]:
        return self._writer.finish()

    def abort(self) -> None:
        self._writer.abort()


@dataclass(frozen=True)
class FolderQuarantine:
    """A folder of Parquet files; one that is not committed yet has another ending."""

    folder: str

    def check(self, schemas: Sequence[pa.Schema]) -> None:
        """See whether it is a folder, or can become one; each file has columns of its own."""
        if Path(self.folder).exists() and not Path(self.folder).is_dir():
            raise WriteError("it is a file", f"quarantine {self.folder}", "name a folder")

    def open(self, schema: pa.Schema, job: str = "") -> Refusals:
        """Begin a file that does not have its name yet."""
        token = uuid.uuid4().hex
        with _explained(self.folder):
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            return _FolderRefusals(self._unfinished(token), token, schema)

    def commit(self, files: Sequence[Any], token: str | None = None, again: bool = False) -> None:
        """Give the files their names."""
        for file in files:
            with suppress(FileNotFoundError):  # it has it already
                self._unfinished(file).rename(self._unfinished(file).with_suffix(".parquet"))

    def remove(self, token: str) -> None:
        """Remove a file that never got its name."""
        self._unfinished(token).unlink(missing_ok=True)

    def _unfinished(self, token: str) -> Path:
        return Path(self.folder, f"refused-{token}.unfinished")


class _FolderRefusals:
    def __init__(self, path: Path, token: str, schema: pa.Schema) -> None:
        self.token = token
        self._path = path
        self._writer = pq.ParquetWriter(path, schema)

    def write(self, rows: pa.RecordBatch) -> None:
        with _explained(self._path.parent):
            self._writer.write_batch(rows)

    def finish(self) -> Sequence[Any]:
        with _explained(self._path.parent):
            self._writer.close()
        return [self.token]

    def abort(self) -> None:
        with suppress(OSError):  # what could not be written cannot be closed either
            self._writer.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _explained(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(str(error), f"quarantine {folder}", "free space, or another folder") from error
