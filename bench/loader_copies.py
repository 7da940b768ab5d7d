"""How those read that first want a copy of the table in a format of their own, each as its documentation advises."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.consumer import Batch
from bench.loader_peers import BATCH_ROWS, COLUMNS, WORKERS, loop_of
from bench.measure import Job
from bench.wiki_table import WIDTH, files_of

OUR_MEMORY_BYTES = 320 << 20  # what a loader of iceblink takes by default
ROW_BYTES = 4 * WIDTH + 650  # decoded
CHUNK_BYTES = "64MB"  # LitData's default where none is given to its writer


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
    """Its shards, shuffled as by default, two worker processes; it goes to a step by its state."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    clean_stale_shared_memory()
    first = loop.pop("first", 0)

    def batches() -> Iterator[Batch]:
        stream = StreamingDataset(local=str(Path(folder) / "mosaic"), shuffle=True, batch_size=BATCH_ROWS)
        if first:
            stream.load_state_dict({**stream.state_dict(first * BATCH_ROWS, from_beginning=True), "epoch": 0})
        for batch in DataLoader(stream, batch_size=BATCH_ROWS, num_workers=WORKERS):
            yield batch["emb"], batch["text"]

    return loop_of(batches, loop)


def lit_copy(folder: str) -> Job:
    """LitData's chunks, by two processes."""
    from litdata import optimize

    from bench.loader_rows import samples_of

    out = _fresh(folder, "litdata")
    groups = [(path, group) for path in files_of(folder) for group in range(pq.ParquetFile(path).num_row_groups)]

    def job() -> Generator[int, None, None]:
        optimize(
            samples_of,
            groups,
            output_dir=str(out),
            chunk_bytes=CHUNK_BYTES,
            num_workers=WORKERS,
            reorder_files=False,  # it would take the paths in the inputs for files to fetch
            verbose=False,
        )
        yield sum(pq.ParquetFile(path).metadata.num_rows for path in files_of(folder))

    return job


def lit_stream(folder: str, **loop: Any) -> Job:
    """Its chunks in a random order, each shuffled inside as by default, two worker processes; it goes to a step by
    its state.
    """
    from litdata import StreamingDataLoader, StreamingDataset

    def opened() -> Any:
        stream = StreamingDataset(str(Path(folder) / "litdata"), shuffle=True)
        return StreamingDataLoader(stream, batch_size=BATCH_ROWS, num_workers=WORKERS)

    first, state = loop.pop("first", 0), None
    if first:
        before = opened()
        for _ in zip(range(first), before, strict=False):
            state = before.state_dict()

    def batches() -> Iterator[Batch]:
        loader = opened()
        if state is not None:
            loader.load_state_dict(state)
        for batch in loader:
            yield batch["emb"], batch["text"]

    return loop_of(batches, loop)


def tf_copy(folder: str) -> Job:
    """TFRecord files, one for each of the table's."""
    import tensorflow as tf

    out = _fresh(folder, "tfrecord")

    def job() -> Generator[int, None, None]:
        out.mkdir()
        for number, path in enumerate(files_of(folder)):
            with tf.io.TFRecordWriter(str(out / f"{number:05d}.tfrecord")) as writer:
                for rows in _row_groups_of(path):
                    values = rows["emb"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
                    for text, value in zip(rows["text"].to_pylist(), values, strict=True):
                        features = {"text": _bytes(tf, text.encode()), "emb": _bytes(tf, value.tobytes())}
                        example = tf.train.Example(features=tf.train.Features(feature=features))
                        writer.write(example.SerializeToString())
                    yield rows.num_rows

    return job


def _bytes(tf: Any, value: bytes) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def tf_stream(folder: str, **loop: Any) -> Job:
    """TFRecord files in a random order, two at a time, a shuffled buffer of as many bytes as iceblink's memory."""
    import tensorflow as tf

    wanted = {name: tf.io.FixedLenFeature([], tf.string) for name in COLUMNS}

    def parsed(examples: Any) -> Any:
        rows = tf.io.parse_example(examples, wanted)
        return tf.reshape(tf.io.decode_raw(rows["emb"], tf.float32), [-1, WIDTH]), rows["text"]

    def batches() -> Iterator[Batch]:
        paths = sorted(map(str, (Path(folder) / "tfrecord").glob("*.tfrecord")))
        stream = (
            tf.data.Dataset.from_tensor_slices(paths)
            .shuffle(len(paths), seed=0)
            .interleave(tf.data.TFRecordDataset, cycle_length=WORKERS, num_parallel_calls=tf.data.AUTOTUNE)
            .shuffle(OUR_MEMORY_BYTES // ROW_BYTES, seed=0)
            .batch(BATCH_ROWS)
            .map(parsed, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )
        for tensor, texts in stream:
            yield tensor, [text.decode() for text in texts.numpy()]

    return loop_of(batches, loop)


def _fresh(folder: str, name: str) -> Path:
    out = Path(folder) / name
    shutil.rmtree(out, ignore_errors=True)
    return out


def _row_groups(folder: str) -> Iterator[pa.Table]:
    for path in files_of(folder):
        yield from _row_groups_of(path)


def _row_groups_of(path: str) -> Iterator[pa.Table]:
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns=COLUMNS)
