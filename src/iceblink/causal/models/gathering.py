"""Blocks of rows brought to this process, as arrays, for libraries that train where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from iceblink.causal.models.task import Rows, Task, no_rows
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.errors import QueryError
from iceblink.run.staging import staged

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Few = NDArray[np.float32]

LARGEST = float(np.finfo(np.float32).max) / 2
"""Number for a library of float32, which also subtracts the mean of a target."""


def gathered(data: Dataset, task: Task, kind: DTypeLike, gaps: bool = False) -> Iterator[Rows]:
    """Yield the rows of a dataset block by block, in its order, those of a fold side by side in each block.

    Lazy: reads as far as it is asked.

    Parameters
    ----------
    data : Dataset
    task : Task
    kind : dtype
        Of the features: float32 or float64.
    gaps : bool
        Whether features may lack values; then they are NaN.

    Raises
    ------
    ColumnNotFound, TypeMismatch, QueryError
    """
    for batch in _blocks(data, task, kind, gaps).to_batches():
        for at in range(batch.num_rows):
            fold, *wide = (_array(column[at].values) for column in batch.columns)
            features, targets, weights, learnt = (array.reshape(-1, len(fold)) for array in wide)
            yield Rows(fold, features, targets, weights, learnt)


@dataclass(frozen=True, eq=False)
class Kept:
    """Rows that were read once, to be gone through again and again: what there is of each in memory, but for features.

    Parameters
    ----------
    fold : int64 array (n,)
        Ascending in each block.
    targets, weights : float64 array (m, n)
    learnt : bool array (m, n)
        As of `Rows`.
    features : tuple of float32 array (p, rows of a block)
        Of each block, as they lie in a file, if they came from one.
    """

    fold: Integers
    targets: Floats
    weights: Floats
    learnt: NDArray[np.bool_]
    features: tuple[Few, ...]

    @classmethod
    def of(cls, blocks: pa.Table) -> Kept:
        """Return the rows of some blocks, at least one, which keep what `blocks` lies in."""
        fold = [_array(one.values) for one in blocks["fold"]]
        features, *wide = (
            [_array(one.values).reshape(-1, len(of)) for one, of in zip(blocks[name], fold, strict=True)]
            for name in ("features", "targets", "weights", "learnt")
        )
        targets, weights, learnt = (np.concatenate(part, axis=1) for part in wide)
        return cls(np.concatenate(fold), targets, weights, learnt, tuple(features))

    def blocks(self, used: NDArray[np.bool_]) -> Iterator[Few]:
        """Yield, of each block that has any, the features (k, p) of the rows that are used (n,)."""
        begin = 0
        for block in self.features:
            mine = used[begin : begin + block.shape[1]]
            begin += len(mine)
            if mine.any():
                yield np.ascontiguousarray((block if mine.all() else block[:, mine]).T)


def kept(data: Dataset, task: Task) -> Kept:
    """Read a dataset, whose features may lack values, into a file in the engine's ``spill_dir``. Eager: one pass.

    Raises
    ------
    ColumnNotFound, TypeMismatch, QueryError
    PlanError
        There are no rows.
    WriteError
        The disk is full.
    """
    blocks = staged(data.session.engine, _blocks(data, task, np.float32, gaps=True).plan).data
    if not blocks.num_rows:
        raise no_rows(task.where)
    pa.default_memory_pool().release_unused()  # what the scan went through: the training that follows takes as much
    return Kept.of(blocks)


def check_size(rows: Rows, task: Task) -> None:
    """Refuse numbers that would be infinite as float32; here, where they are read, since of several who train together
    all who lack one would wait for the one who has it.

    Raises
    ------
    QueryError
    """
    targets = [target.name for target in task.targets]
    weights = [f"the weight of {name}" for name in targets]
    for names, values in ((task.features.names, rows.features), (targets, rows.targets), (weights, rows.weights)):
        largest = np.fmax(np.fmax.reduce(values, axis=1, initial=0), -np.fmin.reduce(values, axis=1, initial=0))
        for name, size in zip(names, largest, strict=True):
            if size > LARGEST:
                raise QueryError(f"{name} is as large as {size:g}", task.where, "float32 has no such number: divide it")


def packed_schema(kind: DTypeLike) -> pa.Schema:
    """Return the schema of blocks whose features are of a kind, float32 or float64; each row of it is a block."""
    item = pa.from_numpy_dtype(np.dtype(kind))
    return pa.schema(
        {
            "fold": pa.large_list(pa.int64()),
            "features": pa.large_list(item),
            "targets": pa.large_list(pa.float64()),
            "weights": pa.large_list(pa.float64()),
            "learnt": pa.large_list(pa.bool_()),
        }
    )


def packed(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    """Return a block of rows as one row of lists."""
    arrays = []
    for field in schema:
        values = pa.array(np.ravel(getattr(rows, field.name)), field.type.value_type)
        arrays.append(pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _blocks(data: Dataset, task: Task, kind: DTypeLike, gaps: bool) -> Dataset:
    schema = packed_schema(kind)
    return task.data(data).map_batches(_Block(task, schema, gaps), schema=schema, batch_size=BLOCK_ROWS)


def _array(values: pa.Array) -> NDArray[Any]:
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found


@dataclass(frozen=True)
class _Block:
    """The function that a worker calls: a block of rows becomes one row of lists."""

    task: Task
    schema: pa.Schema
    gaps: bool

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = self.task.rows(batch, self.gaps)
        if self.schema.field("features").type.value_type == pa.float32():
            check_size(rows, self.task)
        return packed(rows, self.schema)
