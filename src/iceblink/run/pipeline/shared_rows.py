"""Rows in an anonymous shared file: written once, mapped without a copy, gone when nobody holds them."""

from __future__ import annotations

import os
import tempfile
import threading
from typing import ClassVar

import pyarrow as pa


class SharedRows:
    """One batch as an Arrow IPC stream in a file without a name.

    The file is memory, kept until its last descriptor is closed and the last buffer that maps it is gone; a kill of
    every process that holds it frees it as well.

    Parameters
    ----------
    descriptor : int
        Of the file; owned from now on.
    """

    __slots__ = ("descriptor", "nbytes")

    held_bytes: ClassVar[int] = 0
    """Size of all shared rows that are open in this process [bytes]."""
    _counting: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.nbytes = os.fstat(descriptor).st_size
        self._count(self.nbytes)

    @classmethod
    def write(cls, batch: pa.RecordBatch, folder: str) -> SharedRows:
        """Copy a batch, or just the rows that a slice shows, into a new file.

        Parameters
        ----------
        batch : pa.RecordBatch
        folder : str
            Where the file lies on systems that have no anonymous memory.

        Raises
        ------
        OSError
            There is no room for it.
        """
        descriptor = anonymous_file(folder)
        try:
            with pa.OSFile(_path(descriptor), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def map(self) -> pa.RecordBatch:
        """Return the rows where they lie; the batch stays good when `close` was called."""
        # Arrow closes its own descriptor here, and unmaps when the last of the batch's buffers is gone
        with pa.memory_map(_path(self.descriptor)) as source, pa.ipc.open_stream(source) as reader:
            return reader.read_next_batch()

    def detach(self) -> int:
        """Return the descriptor, the caller's from now on."""
        descriptor, self.descriptor = self.descriptor, -1
        self._count(-self.nbytes)
        return descriptor

    def close(self) -> None:
        """Let go of the file; it may be mapped still."""
        if self.descriptor >= 0:
            os.close(self.detach())

    def __del__(self) -> None:
        if hasattr(self, "nbytes"):  # it came to be
            self.close()

    @classmethod
    def _count(cls, nbytes: int) -> None:
        with cls._counting:
            SharedRows.held_bytes += nbytes


def anonymous_file(folder: str) -> int:
    """Return the descriptor of a new file that has no name; in memory where the system can, else in `folder`."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("iceblink")
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())


def _path(descriptor: int) -> str:
    """A path under which Arrow, which takes no descriptors, opens the same file once more."""
    return f"/dev/fd/{descriptor}"
