"""Rows as objects of Ray: one copy into the object store, none out of it; few rows travel in messages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import pyarrow as pa

from iceblink.config import KIB
from iceblink.run.pipeline.backend import Slice
from iceblink.run.ray.room import brought, kept
from iceblink.scan.batch import Batch

FEW_BYTES = 32 * KIB
"""Encoded rows up to this size go inside messages: an object of its own costs a millisecond."""


def encoded(batch: pa.RecordBatch) -> pa.Buffer:
    """Return a batch, or just the rows that a slice shows, as an Arrow IPC stream in the heap.

    Ray would copy each buffer of a batch whole, also those of a small slice. Writing costs a fifth of what Ray takes to
    put the bytes into its store.
    """
    size = pa.MockOutputStream()
    _write(batch, size)
    buffer = pa.allocate_buffer(size.size())
    _write(batch, pa.FixedSizeBufferWriter(buffer))
    return buffer


def _write(batch: pa.RecordBatch, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def decoded(data: pa.Buffer | bytes) -> pa.RecordBatch:
    """Return the batch, whose buffers lie where the bytes do."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()


class RayRows:
    """The `ref` of a block: encoded rows in this process, or a reference to an object; any thread may ask for them.

    Parameters
    ----------
    held : bytes or ray.ObjectRef
    nbytes : int
        Size as an object [bytes]; 0 for bytes.
    """

    __slots__ = ("_held", "nbytes")

    held_bytes: ClassVar[int] = 0
    """Size of all objects that this process refers to [bytes]."""
    _counting: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, held: Any, nbytes: int = 0) -> None:
        self._held, self.nbytes = held, nbytes
        self._count(nbytes)

    @classmethod
    def put(cls, batch: pa.RecordBatch) -> RayRows:
        """Keep rows: few of them here, more in the object store.

        Raises
        ------
        OutOfMemoryBudget
            The object store is full, the disk that it spills to too, and this does not pass.
        """
        data = encoded(batch)
        if data.size <= FEW_BYTES:
            return cls(data.to_pybytes())
        return cls(kept(data, data.size, "object store"), data.size)

    @property
    def held(self) -> Any:
        """The bytes, or the reference."""
        if self._held is None:
            raise ValueError("these rows were freed")
        return self._held

    def batch(self) -> pa.RecordBatch:
        """Return the rows; those on this node are not copied.

        Raises
        ------
        RowsLost
            The node that had them is gone.
        OutOfMemoryBudget
            There is no room to bring them here.
        """
        return found(self.held, self.nbytes, "rows", "Ray")

    def free(self) -> None:
        """Let go of the rows; batches that were handed out stay good."""
        self._held = None
        self._count(-self.nbytes)
        self.nbytes = 0

    def __del__(self) -> None:
        if hasattr(self, "nbytes"):  # it came to be
            self.free()

    @classmethod
    def _count(cls, nbytes: int) -> None:
        if nbytes:
            with cls._counting:
                RayRows.held_bytes += nbytes


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of a block as it travels: its rows as bytes, or as a reference that nobody has followed yet."""

    held: Any
    nbytes: int
    path: str
    first_row: int
    exact: bool
    start: int
    rows: int

    @classmethod
    def of(cls, part: Slice) -> Part:
        """Return what a worker needs of a slice."""
        block = part.block
        return cls(block.ref.held, block.ref.nbytes, block.path, block.first_row, block.exact, part.start, part.rows)

    def batch(self, label: str) -> Batch:
        """Fetch the rows; those on this node are not copied.

        Raises
        ------
        RowsLost
            They are gone.
        OutOfMemoryBudget
            There is no room to bring them here.
        """
        data = found(self.held, self.nbytes, f"{self.rows:,} rows" + (f" of {self.path}" if self.path else ""), label)
        return Batch(data, self.path, self.first_row, self.exact).slice(self.start, self.rows)


def found(held: Any, nbytes: int, what: str, where: str) -> pa.RecordBatch:
    """Return the batch of a `RayRows.held` of a size as an object [bytes], which is `what` to a reader.

    Raises
    ------
    RowsLost
        The node that had it is gone.
    OutOfMemoryBudget
        There is no room to bring it here.
    """
    return decoded(held if isinstance(held, bytes) else brought(held, nbytes, what, where))


class Parts(Sequence[Batch]):
    """A task's input, each part fetched when it is asked for: all of it need not fit into memory.

    Parameters
    ----------
    parts : sequence of Part
    label : str
        Of the operator, for errors.
    """

    def __init__(self, parts: Sequence[Part], label: str) -> None:
        self._parts, self._label = parts, label

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, place: int) -> Batch: ...
    @overload
    def __getitem__(self, place: slice) -> Parts: ...
    def __getitem__(self, place: int | slice) -> Batch | Parts:
        if isinstance(place, slice):
            return Parts(self._parts[place], self._label)
        return self._parts[place].batch(self._label)
