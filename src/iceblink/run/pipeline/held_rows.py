"""What the `ref` of a local block is: rows in this process, in a shared file, or first the one and then the other."""

from __future__ import annotations

import os
import threading
from typing import Any

import pyarrow as pa

from iceblink.run.pipeline.backend import Block, Call, Slice, Task
from iceblink.run.pipeline.shared_rows import SharedRows
from iceblink.scan.batch import Batch


class HeldRows:
    """The rows of one block; any thread may ask for them.

    Parameters
    ----------
    batch : pa.RecordBatch, optional
        As a thread made it.
    shared : SharedRows, optional
        As a process made it.
    """

    __slots__ = ("_batch", "_lock", "_shared")

    def __init__(self, batch: pa.RecordBatch | None = None, shared: SharedRows | None = None) -> None:
        self._batch, self._shared = batch, shared
        self._lock = threading.Lock()

    def batch(self) -> pa.RecordBatch:
        """Return the rows, without copying them."""
        with self._lock:
            if self._batch is None:
                self._batch = self._held().map()
            return self._batch

    def descriptor(self, folder: str) -> int:
        """Return a descriptor of the rows in a shared file, written at the first call; the caller closes it."""
        with self._lock:
            if self._shared is None:
                if self._batch is None:
                    raise ValueError("these rows were freed")
                self._shared = SharedRows.write(self._batch, folder)
                self._batch = None  # so that they are in memory once
            return os.dup(self._shared.descriptor)  # another thread may free them before this one has sent them

    def small_part(self, part: Slice) -> pa.RecordBatch | None:
        """Return the rows of `part` if they are few of many that lie in the heap only, so that writing all is waste."""
        with self._lock:
            if self._batch is None or self._shared is not None or part.rows * 2 >= part.block.rows:
                return None
            return self._batch.slice(part.start, part.rows)

    def free(self) -> None:
        """Let go of the rows; batches that were handed out stay good."""
        with self._lock:
            if self._shared is not None:
                self._shared.close()
            self._batch = self._shared = None

    def _held(self) -> SharedRows:
        if self._shared is None:
            raise ValueError("these rows were freed")
        return self._shared


def in_heap(batch: Batch) -> Block:
    """Return a block of rows that stay as they are."""
    return block_of(batch, HeldRows(batch.data))


def block_of(batch: Batch, ref: Any) -> Block:
    """Return what a block tells of a batch."""
    data = batch.data
    return Block(ref, data.num_rows, data.nbytes, data.schema, batch.path, batch.first_row, exact=batch.exact)


def fetched(block: Block) -> Batch:
    """Return the rows of a block, without copying them."""
    return Batch(block.ref.batch(), block.path, block.first_row, block.exact)


def call_of(task: Task) -> Call:
    """Return a task's rows, without copying them."""
    parts = [fetched(part.block).slice(part.start, part.rows) for part in task.slices]
    return Call(parts, task.batch_rows, task.schema, task.skip)
