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
    """Batches of the row groups of some files, each shuffled inside, of one worker's part of them.

    Its state is the place of the next batch, which torchdata's loader asks for after each.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.turn, self.begin = 0, 0

    def state_dict(self) -> dict[str, int]:
        """Return where the next batch begins: of this worker's row groups the so manyth, and the row."""
        return {"turn": self.turn, "begin": self.begin}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass there."""
        self.turn, self.begin = state["turn"], state["begin"]

    def __iter__(self) -> Iterator[Any]:
        import torch

        worker = get_worker_info()
        files = [pq.ParquetFile(path) for path in self.paths]
        groups = [(file, group) for file in files for group in range(file.num_row_groups)]
        places = np.random.default_rng(0).permutation(len(groups))  # the same in all workers
        for place in places[worker.id :: worker.num_workers][self.turn :]:
            file, group = groups[place]
            rows = file.read_row_group(group, columns=COLUMNS, use_threads=False)
            order = np.random.default_rng([0, place]).permutation(rows.num_rows)
            values = rows["emb"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
            texts = rows["text"].take(order)
            for begin in range(self.begin, len(order), BATCH_ROWS):
                some = order[begin : begin + BATCH_ROWS]
                self.begin = begin + BATCH_ROWS
                yield torch.from_numpy(values[some]), texts[begin : begin + BATCH_ROWS].to_pylist()
            self.turn, self.begin = self.turn + 1, 0
        self.turn = 0


def samples_of(place: tuple[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one row group, as LitData's writer takes them."""
    import torch

    path, group = place
    rows = pq.ParquetFile(path).read_row_group(group, columns=COLUMNS)
    values = rows["emb"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
    for text, value in zip(rows["text"].to_pylist(), values, strict=True):
        yield {"text": text, "emb": torch.from_numpy(value.copy())}
