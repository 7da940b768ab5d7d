"""Tables of Delta Lake: their rows as a stream, or their files for a table of ours.

References
----------
.. [1] Delta Transaction Log Protocol, "Add File and Remove File", "Deletion Vectors", "Column Mapping".
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

from iceblink.errors import DataCorrupt, IceblinkError, PlanError
from iceblink.run.adoption import folder_values

Version = int | str | datetime
"""A number, or a time: ISO text or a datetime."""
MAPPING = "delta.columnMapping.mode"
COPY = "copy its rows instead: lake.write(name, lake.read_delta(path), 'create')"


@dataclass(frozen=True)
class Delta:
    """A Delta table at one version.

    Parameters
    ----------
    table : DeltaTable
    path : str
        As it was asked for.
    """

    table: DeltaTable
    path: str

    @classmethod
    def at(cls, path: str, version: Version | None, where: str) -> Delta:
        """Open one; its log is read, no data.

        Raises
        ------
        PlanError
            There is none, or no such version, or it wants a reader that can more.
        """
        place = f"{where}({path!r})"
        with _speaking(place):
            try:
                table = DeltaTable(path)
            except TableNotFoundError:
                raise PlanError("there is no Delta table", place, "the folder must have a _delta_log") from None
            if version is not None:
                table.load_as_version(version)
        return cls(table, path)

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns, in Arrow's plain types."""
        with _speaking(self.path):
            found = pa.schema(self.table.schema().to_arrow())
        return pa.schema([pa.field(one.name, one.type, one.nullable) for one in found])

    def rows(self) -> pa.RecordBatchReader:
        """Return its rows as a stream, in no particular order, without those that deletion vectors take out."""
        schema = self.schema

        def batches() -> Generator[pa.RecordBatch, None, None]:
            with _speaking(self.path, reading=True):
                for batch in pa.RecordBatchReader.from_stream(self.table.scan()):
                    yield batch.select(schema.names).cast(schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns that it is partitioned by."""
        return tuple(self.table.metadata().partition_columns)

    def files(self, where: str) -> list[str]:
        """Return its data files, which are what a table of ours may have as they are.

        Raises
        ------
        PlanError
            Rows of them are deleted, or columns have other names in them than in the table, or the partition that a
            file is of is not told by its folders; or there is none.
        """
        place = f"{where}({self.path!r})"
        with _speaking(place):
            mode = self.table.metadata().configuration.get(MAPPING) or "none"
            if mode != "none":
                raise PlanError(f"its columns have other names in the files (column mapping by {mode})", place, COPY)
            if any(len(batch) for batch in pa.RecordBatchReader.from_stream(self.table.deletion_vectors())):
                raise PlanError("rows of its files are deleted by deletion vectors", place, COPY)
            found = []
            for added in pa.table(self.table.get_add_actions()).to_pylist():
                file = self._located(unquote(added["path"]))
                if not self._told(file, added.get("partition") or {}):
                    raise PlanError("the folders of a file do not tell its partition", f"{place}, file {file}", COPY)
                if added.get("num_records") != 0:
                    found.append(file)
        if not found:
            raise PlanError("it has no rows", place, COPY)
        return found

    def _located(self, file: str) -> str:
        """Return where a file is that the log names: in the table's folder, or anywhere."""
        root = self.path if "://" in self.path else str(Path(self.path).absolute())
        whole = file if "://" in file or file.startswith("/") else f"{root.rstrip('/')}/{file}"
        return whole.removeprefix("file://")

    def _told(self, file: str, partition: Mapping[str, Any]) -> bool:
        """Whether the folders of a file say what the log says."""
        folders = folder_values(file)
        for name, value in partition.items():
            if name not in folders:
                return False
            try:
                told = pa.array([folders[name]], pa.string()).cast(self.schema.field(name).type)[0].as_py()
            except pa.ArrowException:
                return False
            if told != value:
                return False
        return True


@contextmanager
def _speaking(place: str, reading: bool = False) -> Generator[None, None, None]:
    """Turn what the reader of Delta raises into our words."""
    try:
        yield
    except (IceblinkError, GeneratorExit):
        raise
    except DeltaProtocolError as error:
        raise PlanError(f"the Delta table wants a reader that can more: {error}", place) from error
    except (DeltaError, OSError, ValueError) as error:
        kind = DataCorrupt if reading else PlanError
        raise kind(f"the Delta table cannot be read: {error}", place) from error
    except Exception as error:  # the engine beneath has no base class of its own
        if not reading:
            raise
        raise DataCorrupt(f"the Delta table cannot be read: {error}", place) from error
