"""How others make batches for PyTorch of the wiki table, each as its documentation advises.

Peers that make batches of Arrow tables are read so: it is the fastest way through each of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


def pyiceberg_reader(folder: str, **loop: Any) -> Job:
    """PyIceberg's reader, whose batches are cut."""
    import torch  # noqa: F401

    def batches() -> Iterator[Batch]:
        for rows in open_wiki(folder).scan(selected_fields=("text", "emb")).to_arrow_batch_reader():
            yield from slices_of(rows)

    return loop_of(batches, loop)


def data_loader(folder: str, **loop: Any) -> Job:
    """A DataLoader whose two worker processes read row groups in a random order, each shuffled inside."""
    from torch.utils.data import DataLoader

    from bench.loader_rows import RowGroups

    def batches() -> Iterator[Batch]:
        loader = DataLoader(
            RowGroups(files_of(folder)),
            batch_size=None,
            num_workers=WORKERS,
            multiprocessing_context="spawn",
            prefetch_factor=8,
        )
        return iter(loader)

    return loop_of(batches, loop)


def hf_datasets(folder: str, **loop: Any) -> Job:
    """Files in a random order, a buffer of 10,000 rows that is shuffled as Arrow; it goes to a step by its state."""
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


def mosaic_copy(folder: str) -> Job:
    """MosaicML's shards."""
    from streaming import MDSWriter

    out = _fresh(folder, "mosaic")

    def job() -> Generator[int, None, None]:
        with MDSWriter(out=str(out), columns={"text": "str", "emb": f"ndarray:float32:{WIDTH}"}) as writer:
            for rows in _row_groups(folder):
                values = rows["emb"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
                for text, value in zip(rows["text"].to_pylist(), values, strict=True):
                    writer.write({"text": text, "emb": value})
                yield rows.num_rows

    return job


def mosaic_stream(folder: str, **loop: Any) -> Job:
    """MosaicML Streaming, shuffled as it does by default, with two worker processes; it goes to a step by its state."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    clean_stale_shared_memory()
    first = loop.pop("first", 0)

    def batches() -> Iterator[Batch]:
        stream = StreamingDataset(local=str(Path(folder) / "mosaic"), shuffle=True, batch_size=BATCH_ROWS)
        if first:
            stream.load_state_dict(stream.state_dict(first * BATCH_ROWS, from_beginning=True))
        for batch in DataLoader(stream, batch_size=BATCH_ROWS, num_workers=WORKERS):
            yield batch["emb"], batch["text"]

    return loop_of(batches, loop)


def grain_windows(folder: str, **loop: Any) -> Job:
    """Grain: files interleaved, a window of 10,000 rows that is shuffled; it reads all columns."""
    import torch
    from grain import experimental

    def stacked(rows: Any) -> Batch:
        return torch.from_numpy(np.stack([row["emb"] for row in rows])), [row["text"] for row in rows]

    def batches() -> Iterator[Batch]:
        rows = experimental.ParquetIterDataset(files_of(folder))
        mixed = experimental.WindowShuffleIterDataset(rows, window_size=BUFFER_ROWS, seed=0)
        return iter(mixed.batch(BATCH_ROWS, batch_fn=stacked))

    return loop_of(batches, loop)


def daft_arrow(folder: str, **loop: Any) -> Job:
    """Daft's batches, cut; its shuffle would hold the table, and its dataset for PyTorch gives rows one by one."""
    import daft
    import torch  # noqa: F401

    def batches() -> Iterator[Batch]:
        for rows in daft.read_parquet(files_of(folder)).select(*COLUMNS).to_arrow_iter():
            yield from slices_of(rows)

    return loop_of(batches, loop)


def ray_torch(folder: str, **loop: Any) -> Job:
    """Ray Data with a buffer of 10,000 rows that is shuffled, collated from Arrow."""
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


def _fresh(folder: str, name: str) -> Path:
    out = Path(folder) / name
    shutil.rmtree(out, ignore_errors=True)
    return out


def _row_groups(folder: str) -> Iterator[pa.Table]:
    for path in files_of(folder):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=COLUMNS)
