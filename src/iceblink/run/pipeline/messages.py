"""What a parent says to a worker process; the process answers with the backend's signals and `Raised`."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

import pyarrow as pa

from iceblink.run.pipeline.backend import Calling
from iceblink.run.pipeline.shared_rows import anonymous_file


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: what to be. Its descriptor is the slate's.

    Parameters
    ----------
    worker : int
    label : str
    build : bytes
        Pickled: the modules it needs can be found only once `path` is set.
    path : list of str
        The parent's ``sys.path``.
    python_path : str or None
        The parent's ``PYTHONPATH``, for processes that the function may start.
    spill_dir : str
    """

    worker: int
    label: str
    build: bytes
    path: list[str]
    python_path: str | None
    spill_dir: str


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of the rows in one of a message's descriptors."""

    descriptor: int
    start: int
    rows: int
    path: str
    first_row: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Given:
    """A task."""

    task: int
    parts: tuple[Part, ...]
    batch_rows: int | None
    schema: pa.Schema | None
    skip: int
    credit: int


@dataclass(frozen=True, slots=True)
class Allow:
    """Credit for one more output of a task."""

    task: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End after the tasks that were given."""


@dataclass(frozen=True, slots=True)
class Raised:
    """The answer that is no signal: a `Failed` whose error is pickled, because its class may be the user's own."""

    task: int | None
    error: bytes


OUT_OF_MEMORY = 120
"""Exit status after a `MemoryError`: what the function left behind would make the next calls fail too."""

UNHEARD = 121
"""Exit status when nothing can be said to the parent any more: it is gone, or the function closed the socket."""

GPU_LOST = 122
"""Exit status after a `GpuLost`: another process has a device that answers."""


class Slate:
    """A page on which a process notes what it is calling; its parent reads it even when the process is stuck or dead.

    Parameters
    ----------
    descriptor : int
        Of a file made by `new`; stays the caller's.
    """

    _FORM = struct.Struct("=dqq")  # when the call began, 0 between calls; its task; rows consumed before

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, self._FORM.size)

    @classmethod
    def new(cls, folder: str) -> int:
        """Return the descriptor of an empty slate."""
        descriptor = anonymous_file(folder)
        os.truncate(descriptor, cls._FORM.size)
        return descriptor

    def note(self, calling: Calling | None) -> None:
        """Write down what is called now."""
        now = (0.0, 0, 0) if calling is None else (calling.began_s, calling.task, calling.consumed)
        self._FORM.pack_into(self._page, 0, *now)

    def read(self) -> Calling | None:
        """Return what is called now, or was when the process died."""
        began_s, task, consumed = self._FORM.unpack_from(self._page)
        return Calling(task, consumed, began_s) if began_s else None
