"""How others make batches for PyTorch of the wiki table, each as its documentation advises.

Peers that make batches of Arrow tables are read so: it is the fastest way through each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from bench.consumer import Batch, Batches, consumed
from bench.measure import Job
from bench.wiki_table import WIDTH, files_of, open_wiki

BATCH_ROWS = 64
WORKERS = 2
BUFFER_ROWS = 10_000  # that are shuffled at a time
COLUMNS = ["text", "emb"]


def loop_of(batches: Batches, loop: dict[str, Any]) -> Job:
    """Return the loop over batches; who cannot go to a step goes there batch by batch."""
    first = loop.pop("first", 0)
    return partial(consumed, partial(_behind, batches, first) if first else batches, WIDTH, **loop)


def _behind(batches: Batches, first: int) -> Iterator[Batch]:
    for number, batch in enumerate(batches()):
        if number >= first:
            yield batch


def batch_of(rows: pa.Table | pa.RecordBatch) -> Batch:
    """Return rows as a tensor, without a copy, and strings."""
    import torch

    texts, lists = rows["text"], rows["emb"]
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0) if lists.num_chunks == 1 else lists.combine_chunks()
    return torch.from_numpy(lists.flatten().to_numpy().reshape(-1, WIDTH)), texts.to_pylist()


def slices_of(rows: pa.Table | pa.RecordBatch) -> Iterator[Batch]:
    """Return many rows as batches; the last one may be short."""
    import torch

    texts, values = rows["text"], rows["emb"].flatten().to_numpy().reshape(-1, WIDTH)
    for begin in range(0, rows.num_rows, BATCH_ROWS):
        yield torch.from_numpy(values[begin : begin + BATCH_ROWS]), texts[begin : begin + BATCH_ROWS].to_pylist()


def made_before(folder: str, **loop: Any) -> Job:
    """No loader: the shortest wait that this loop can measure."""
    import torch

    made = [
        (torch.zeros(BATCH_ROWS, WIDTH), [f"{row:0650d}" for row in range(BATCH_ROWS)]) for _ in range(loop["steps"])
    ]

    def batches() -> Iterator[Batch]:
        while made:
            yield made.pop()

    return loop_of(batches, loop)


def pyiceberg_reader(folder: str, **loop: Any) -> Job:
    """Not shuffled: record batches, cut, the last part of each may be short; it goes to a step batch by batch."""
    import torch  # noqa: F401

    def batches() -> Iterator[Batch]:
        for rows in open_wiki(folder).scan(selected_fields=("text", "emb")).to_arrow_batch_reader():
            yield from slices_of(rows)

    return loop_of(batches, loop)


def data_loader(folder: str, **loop: Any) -> Job:
    """Row groups in a random order, each shuffled inside, two spawned processes; it goes to a step batch by batch."""
    from torch.utils.data import DataLoader

    return loop_of(lambda: iter(_over_row_groups(DataLoader, folder)), loop)


def stateful_loader(folder: str, **loop: Any) -> Job:
    """The same with torchdata's loader, which keeps a state of every worker, and goes to a step by them."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    first, state = loop.pop("first", 0), None
    if first:
        before = _over_row_groups(StatefulDataLoader, folder)
        for _ in zip(range(first), before, strict=False):
            pass
        state = before.state_dict()

    def batches() -> Iterator[Batch]:
        loader = _over_row_groups(StatefulDataLoader, folder)
        if state is not None:
            loader.load_state_dict(state)
        return iter(loader)

    return loop_of(batches, loop)


def _over_row_groups(kind: Any, folder: str) -> Any:
    from bench.loader_rows import RowGroups

    return kind(
        RowGroups(files_of(folder)),
        batch_size=None,
        num_workers=WORKERS,
        multiprocessing_context="spawn",
        prefetch_factor=8,
    )


def hf_datasets(folder: str, **loop: Any) -> Job:
    """Files in a random order, a shuffled buffer of 10,000 rows; its state forgets what was in the buffer."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # or opening files that lie here waits for the hub
    import datasets
    import torch  # noqa: F401

    def opened() -> Any:
        found = datasets.load_dataset(
            "parquet", data_files=files_of(folder), split="train", streaming=True, columns=COLUMNS
        )
        return found.shuffle(seed=0, buffer_size=BUFFER_ROWS).with_format("arrow")

    first, state = loop.pop("first", 0), None
    if first:
        before = opened()
        for _ in zip(range(first), before.iter(BATCH_ROWS), strict=False):
            state = before.state_dict()

    def batches() -> Iterator[Batch]:
        stream = opened()
        if state is not None:
            stream.load_state_dict(state)
        return map(batch_of, stream.iter(BATCH_ROWS))

    return loop_of(batches, loop)


def grain_windows(folder: str, **loop: Any) -> Job:
    """Files interleaved, a shuffled window of 10,000 rows; all columns are read; it goes to a step by its state."""
    import torch
    from grain import experimental

    def stacked(rows: Any) -> Batch:
        return torch.from_numpy(np.stack([row["emb"] for row in rows])), [row["text"] for row in rows]

    def opened() -> Any:
        rows = experimental.ParquetIterDataset(files_of(folder))
        mixed = experimental.WindowShuffleIterDataset(rows, window_size=BUFFER_ROWS, seed=0)
        return iter(mixed.batch(BATCH_ROWS, batch_fn=stacked))

    first, state = loop.pop("first", 0), None
    if first:
        before = opened()
        for _ in zip(range(first), before, strict=False):
            pass
        state = before.get_state()

    def batches() -> Iterator[Batch]:
        stream = opened()
        if state is not None:
            stream.set_state(state)
        yield from stream

    return loop_of(batches, loop)


def daft_arrow(folder: str, **loop: Any) -> Job:
    """Not shuffled, for that would hold the table: its batches, cut; its own dataset for PyTorch gives single rows."""
    import daft
    import torch  # noqa: F401

    def batches() -> Iterator[Batch]:
        for rows in daft.read_parquet(files_of(folder)).select(*COLUMNS).to_arrow_iter():
            yield from slices_of(rows)

    return loop_of(batches, loop)


def ray_torch(folder: str, **loop: Any) -> Job:
    """Files in their order, a shuffled buffer of 10,000 rows, collated from Arrow."""
    import ray
    import ray.data
    from ray.data.collate_fn import ArrowBatchCollateFn

    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Collated(ArrowBatchCollateFn):  # type: ignore[misc]
        def __call__(self, batch: pa.Table) -> Any:
            return batch_of(batch)

    def batches() -> Iterator[Batch]:
        found = ray.data.read_parquet(files_of(folder), columns=COLUMNS)
        return iter(
            found.iter_torch_batches(
                batch_size=BATCH_ROWS, local_shuffle_buffer_size=BUFFER_ROWS, collate_fn=Collated()
            )
        )

    return loop_of(batches, loop)
