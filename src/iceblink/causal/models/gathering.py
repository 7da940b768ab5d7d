"""Blocks of rows brought to this process, as arrays, for libraries that train where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from iceblink.causal.models.task import Rows, Task
from iceblink.causal.passes import BLOCK_ROWS

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


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
    item = pa.from_numpy_dtype(np.dtype(kind))
    schema = pa.schema(
        {
            "fold": pa.large_list(pa.int64()),
            "features": pa.large_list(item),
            "targets": pa.large_list(pa.float64()),
            "weights": pa.large_list(pa.float64()),
            "learnt": pa.large_list(pa.bool_()),
        }
    )
    blocks = task.data(data).map_batches(_Block(task, schema, gaps), schema=schema, batch_size=BLOCK_ROWS)
    for batch in blocks.to_batches():
        for at in range(batch.num_rows):
            fold, *wide = (_array(column[at].values) for column in batch.columns)
            features, targets, weights, learnt = (array.reshape(-1, len(fold)) for array in wide)
            yield Rows(fold, features, targets, weights, learnt)


def without_targets(task: Task) -> Task:
    """Return a task that reads the features, and nothing else."""
    return replace(task, targets=())


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
        arrays = []
        for field in self.schema:
            values = pa.array(np.ravel(getattr(rows, field.name)), field.type.value_type)
            arrays.append(pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)
