"""Rows that a function refused go to a table or to a folder, all at once when the run has ended well."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from iceblink.config import Settings
from iceblink.errors import SchemaMismatch, TableNotFound, WriteError
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.types import conform, storable


class Quarantine(Protocol):
    """Takes refused rows: none of them is there before `commit`, and none after `abort`."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Keep some more."""
        ...

    def commit(self) -> None:
        """Let them be seen."""
        ...

    def abort(self) -> None:
        """Remove them."""
        ...


def quarantine(catalog: Catalog, settings: Settings, target: str) -> Callable[[pa.Schema], Quarantine]:
    """Return what opens the quarantine `target`: a folder if it has a slash, else a table, made when first needed."""
    if "/" in target or os.sep in target:
        return lambda schema: FolderQuarantine(target, schema)
    return lambda schema: TableQuarantine(catalog, settings, target, schema)


class TableQuarantine:
    """An Iceberg table, appended to."""

    def __init__(self, catalog: Catalog, settings: Settings, name: str, schema: pa.Schema) -> None:
        self._where = f"quarantine {name}"
        self._table = _table(catalog, name, storable(schema), self._where)
        self._writer = TableWriter(self._table, settings)

    def write(self, rows: pa.RecordBatch) -> None:
        """Write them to data files that are in no snapshot yet."""
        self._writer.write(conform(rows, self._table.schema, self._where))

    def commit(self) -> None:
        """Append them in one snapshot."""
        commit = Commit(self._table)
        commit.append(self._writer.finish())
        commit.run()

    def abort(self) -> None:
        """Remove the data files."""
        self._writer.abort()


def _table(catalog: Catalog, name: str, schema: pa.Schema, where: str) -> Table:
    try:
        table = catalog.load(name)
    except TableNotFound:
        return catalog.create(name, schema)
    if table.schema.names != schema.names:
        raise SchemaMismatch(
            f"table {name} has other columns than the refused rows",
            where,
            "name another table: it is made with the right columns",
        )
    return table


class FolderQuarantine:
    """A folder of Parquet files, one for each run."""

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self._final = path / f"refused-{uuid.uuid4().hex}.parquet"
        self._unfinished = self._final.with_suffix(".unfinished")
        self._writer = pq.ParquetWriter(self._unfinished, schema)

    def write(self, rows: pa.RecordBatch) -> None:
        """Write them to a file that does not have its name yet."""
        try:
            self._writer.write_batch(rows)
        except OSError as error:
            raise WriteError(str(error), f"quarantine {self._final.parent}", "free space, or another disk") from error

    def commit(self) -> None:
        """Give the file its name."""
        self._writer.close()
        self._unfinished.rename(self._final)

    def abort(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # what could not be written cannot be closed either
            self._writer.close()
        self._unfinished.unlink(missing_ok=True)
