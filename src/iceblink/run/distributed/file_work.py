"""The work of a distributed write: rows go to the tasks of their partition, and each task writes data files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import crc32

from iceblink.config import Settings
from iceblink.lake.files import NewFile
from iceblink.lake.partition import Partitioner
from iceblink.lake.portable import PortableTable
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.run.distributed.exchange import Piece, gathered
from iceblink.run.distributed.packed import packed, unpacked
from iceblink.run.pipeline.backend import Call, Output, Work
from iceblink.scan.batch import Batch
from iceblink.types import conform


@dataclass(frozen=True)
class RouteWork:
    """Builds workers that say to which task each row goes: those of one partition of the table to one.

    Parameters
    ----------
    table : PortableTable
    tasks : int
    """

    table: PortableTable
    tasks: int

    def __call__(self) -> Work:
        return self._run

    def _run(self, call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        begun(0)
        for piece in gathered(self._numbered(call, self.table.table())):
            yield Output("rows", Batch(piece.data, "", 0), part=piece.part)

    def _numbered(self, call: Call, table: Table) -> Iterator[Piece]:
        partitioner = Partitioner(table.iceberg_schema, table.pyiceberg.spec())
        for part in call.parts:
            for partition, rows in partitioner.split(conform(part.data, table.schema, table.name)):
                yield Piece(crc32(repr(partition).encode()) % self.tasks, rows)


@dataclass(frozen=True)
class WriteWork:
    """Builds workers that write a task's rows to data files of their own, and tell which.

    Parameters
    ----------
    table : PortableTable
    settings : Settings
        Of the worker.
    token : str
        Of the write that all workers share.
    sorted : bool
        The rows of each task come in the table's sort order.
    group_rows : int or None
        As of `TableWriter`.
    """

    table: PortableTable
    settings: Settings
    token: str
    sorted: bool
    group_rows: int | None = None

    def __call__(self) -> Work:
        return self._run

    def _run(self, call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        begun(0)
        table, limit = self.table.table(), self.group_rows
        with TableWriter(table, self.settings, self.sorted, share_of=self.token, group_rows=limit) as writer:
            for part in call.parts:
                writer.write(part.data)
            files = writer.finish()
        yield Output("rows", packed(files))


def files_of(batch: Batch) -> list[NewFile]:
    """Return the files that a task wrote."""
    files: list[NewFile] = unpacked(batch)
    return files
