"""A lane encodes row groups in a thread of its own, into files that no other lane touches."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from iceblink.lake.files import NewFile, ParquetFile
from iceblink.lake.partition import Partition


class Lane:
    """One file at a time for each partition it serves; one row group at a time.

    Parameters
    ----------
    new_file : callable
        Makes the next file of a partition.
    file_bytes : int
        A file that has reached this size on disk is closed [bytes].
    open_files : int
        With more files open than this, the one written to longest ago is closed.
    """

    def __init__(self, new_file: Callable[[Partition], ParquetFile], file_bytes: int, open_files: int) -> None:
        self._new_file, self._file_bytes, self._open_files = new_file, file_bytes, open_files
        self._open: dict[Partition, ParquetFile] = {}  # the one written to last comes last
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="iceblink-encode")
        self._busy: Future[list[NewFile]] | None = None
        self._busy_bytes = 0

    @property
    def busy_bytes(self) -> int:
        """Arrow size of the row group that is being encoded [bytes]."""
        return 0 if self._busy is None or self._busy.done() else self._busy_bytes

    def put(self, partition: Partition, rows: pa.Table, nbytes: int) -> list[NewFile]:
        """Wait for the row group before, then start on this one; return the files that were closed meanwhile.

        Raises
        ------
        WriteError
            The row group before could not be written.
        """
        closed = self.wait()
        self._busy_bytes = nbytes
        # the context goes along, so that what observes the caller also observes this thread
        self._busy = self._thread.submit(contextvars.copy_context().run, self._encode, partition, rows)
        return closed

    def wait(self) -> list[NewFile]:
        """Wait until nothing is being encoded; return the files that were closed meanwhile."""
        busy, self._busy = self._busy, None
        return [] if busy is None else busy.result()

    def finish(self) -> list[NewFile]:
        """Close every file and end the thread."""
        closed = self.wait()
        self._busy = self._thread.submit(self._close_down_to, 0)
        closed += self.wait()
        self._thread.shutdown()
        return closed

    def abort(self) -> None:
        """End the thread and let go of the open files."""
        self._thread.shutdown(cancel_futures=True)
        self._busy = None
        for file in self._open.values():
            file.abort()
        self._open.clear()

    def _encode(self, partition: Partition, rows: pa.Table) -> list[NewFile]:
        file = self._open.pop(partition, None) or self._new_file(partition)
        self._open[partition] = file
        file.write(rows)
        closed = []
        if file.file_bytes >= self._file_bytes:
            closed.append(file.close())
            del self._open[partition]
        return closed + self._close_down_to(self._open_files)

    def _close_down_to(self, limit: int) -> list[NewFile]:
        closed = []
        while len(self._open) > limit:
            oldest = next(iter(self._open))
            closed.append(self._open[oldest].close())  # stays listed until closed, so that abort finds it
            del self._open[oldest]
        return closed
