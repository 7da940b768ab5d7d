"""What the worker processes of a DataLoader run: they import this module and little else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from torch.utils.data import IterableDataset, get_worker_info

WIDTH, BATCH_ROWS = 384, 64
COLUMNS = ["text", "emb"]


class RowGroups(IterableDataset[Any]):  # type: ignore[misc]
    """Batches of the row groups of some files, each shuffled inside, of one worker's part of them."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[Any]:
        import torch

        worker = get_worker_info()
        files = [pq.ParquetFile(path) for path in self.paths]
        groups = [(file, group) for file in files for group in range(file.num_row_groups)]
        rng = np.random.default_rng(0)  # the same in all workers
        for place in rng.permutation(len(groups))[worker.id :: worker.num_workers]:
            file, group = groups[place]
            rows = file.read_row_group(group, columns=COLUMNS, use_threads=False)
            order = rng.permutation(rows.num_rows)
            values = rows["emb"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
            texts = rows["text"].take(order)
            for begin in range(0, len(order), BATCH_ROWS):
                some = order[begin : begin + BATCH_ROWS]
                yield torch.from_numpy(values[some]), texts[begin : begin + BATCH_ROWS].to_pylist()
