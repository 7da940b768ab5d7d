"""Row groups as tensors, for worker processes of PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import IterableDataset, get_worker_info


class RowGroups(IterableDataset[Any]):  # type: ignore[misc]
    """Batches of the columns ``x`` and ``label``; each worker has every so manyth row group of a random order.

    Parameters
    ----------
    paths : list of str
    batch_rows : int
    width : int
        Values of ``x`` in a row.
    dtype : str
        Of these; bytes are those of a fixed binary.
    """

    def __init__(self, paths: list[str], batch_rows: int, width: int, dtype: str) -> None:
        self.paths, self.batch_rows, self.width, self.dtype = paths, batch_rows, width, dtype
        self.groups = [(path, group) for path in paths for group in range(pq.ParquetFile(path).num_row_groups)]
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        """Yield batches; a short one at the end of a row group is left out."""
        worker = get_worker_info()
        order = np.random.default_rng(self.epoch).permutation(len(self.groups))
        self.epoch += 1
        for place in order[worker.id :: worker.num_workers]:
            path, group = self.groups[place]
            rows = pq.ParquetFile(path).read_row_group(group, columns=["x", "label"], use_threads=False)
            column = rows["x"].combine_chunks()
            values = column.buffers()[1] if self.dtype == "u1" else column.flatten().buffers()[1]
            x = torch.from_numpy(
                np.frombuffer(values, self.dtype, rows.num_rows * self.width).reshape(-1, self.width).copy()
            )
            label = torch.from_numpy(rows["label"].to_numpy().copy())
            mixed = torch.randperm(rows.num_rows)
            for first in range(0, rows.num_rows - self.batch_rows + 1, self.batch_rows):
                chosen = mixed[first : first + self.batch_rows]
                yield x[chosen], label[chosen]
