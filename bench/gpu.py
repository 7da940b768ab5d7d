"""Batches for a model on a GPU of NVIDIA's, by iceblink and by PyTorch's DataLoader: ``python -m bench.gpu``.

A step is forward and backward through three dense layers. Of numbers, a row has 64 floats and a batch 4,096 rows; of
pictures, a row has 3 x 64 x 64 bytes and a batch 256 rows. All read the same Parquet files but for who has them in
memory before. The GPU is busy while a step computes; what is copied is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from bench.command import DATA, Options, heading, installed, read_options
from bench.measure import Contestant, Job, Result, in_turns
from bench.report import middle, problem_of, problems, ratio, table

TITLE = "Batches on a GPU"
REFERENCE = "iceblink, copied beside"
NAME = "bench.fed"
EPOCHS = 4
HIDDEN, CLASSES = 1024, 10
GROUP_BYTES = 16 << 20

Batch: TypeAlias = "tuple[Any, Any]"


@dataclass(frozen=True)
class Feed:
    """What a model is fed with."""

    rows: int
    batch_rows: int
    width: int
    dtype: str
    small: bool = False


FEEDS = {
    "numbers": Feed(1_000_000, 4_096, 64, "f4"),
    "pictures": Feed(100_000, 256, 3 * 64 * 64, "u1"),
    "few": Feed(20_000, 512, 64, "f4", small=True),
}


def ensure_table(name: str, feed: Feed) -> Path:
    """Return the folder of a lake with the table, written if it is not there."""
    import iceblink as ib

    folder = DATA / f"gpu-{name}-{feed.rows}"
    if (folder / "done").exists():
        return folder
    group_rows = GROUP_BYTES // (feed.width * np.dtype(feed.dtype).itemsize)

    def parts() -> Iterator[pa.RecordBatch]:
        for first in range(0, feed.rows, group_rows):
            rng, rows = np.random.default_rng([3, first]), min(group_rows, feed.rows - first)
            if feed.dtype == "u1":
                values = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(feed.width), rows, [None, pa.py_buffer(rng.bytes(rows * feed.width))]
                )
            else:
                drawn = rng.standard_normal(rows * feed.width, dtype="f4")
                values = pa.FixedSizeListArray.from_arrays(pa.array(drawn), feed.width)
            yield pa.record_batch({"x": values, "label": rng.integers(0, CLASSES, rows)})

    batches = parts()
    first = next(batches)
    reader = pa.RecordBatchReader.from_batches(first.schema, _behind(first, batches))
    with ib.connect(folder) as lake:
        limit = {"write.parquet.row-group-limit": str(group_rows)}
        lake.from_arrow(reader).write(NAME, "create", properties=limit)
    (folder / "done").touch()
    return folder


def _behind(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def beside(name: str, folder: str, **loop: Any) -> Job:
    """Copied from pinned memory by a stream of the loader's own, while the GPU computes; rows of all the table."""
    return _trained(name, partial(_ours, name, folder, device="cuda"), **loop)


def in_the_loop(name: str, folder: str, **loop: Any) -> Job:
    """The same batches, which the training loop copies with ``tensor.cuda()``."""

    def batches() -> Iterator[Batch]:
        for x, label in _ours(name, folder):
            yield x.cuda(), label.cuda()

    return _trained(name, batches, **loop)


def _ours(name: str, folder: str, **options: Any) -> Iterator[Batch]:
    import iceblink as ib

    feed = FEEDS[name]
    loader = ib.connect(folder).table(NAME).to_torch(feed.batch_rows, shuffle=True, drop_last=True, **options)
    for _epoch in range(EPOCHS):
        for batch in loader:
            yield batch["x"], batch["label"]


def over_files(name: str, folder: str, workers: int, **loop: Any) -> Job:
    """DataLoader with ``pin_memory``, copied with ``non_blocking``: row groups in a random order, each shuffled inside,
    in as many spawned processes as there are CPUs, which stay for all epochs.
    """
    from torch.utils.data import DataLoader

    from bench.gpu_rows import RowGroups

    feed = FEEDS[name]
    paths = sorted(map(str, Path(folder).glob("**/*.parquet")))
    rows = RowGroups(paths, feed.batch_rows, feed.width, feed.dtype)
    return _trained(
        name,
        lambda: _copied(
            DataLoader(
                rows,
                batch_size=None,
                num_workers=workers,
                multiprocessing_context="spawn",
                persistent_workers=True,
                prefetch_factor=8,
                pin_memory=True,
            )
        ),
        workers=workers,
        **loop,
    )


def over_memory(name: str, folder: str, **loop: Any) -> Job:
    """DataLoader with ``pin_memory`` over tensors of the whole table, which were read before the clock began."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    import iceblink as ib

    feed = FEEDS[name]
    whole = list(ib.connect(folder).table(NAME).to_torch(feed.batch_rows))
    rows = TensorDataset(*(torch.cat([batch[column] for batch in whole]) for column in ("x", "label")))
    sampler = BatchSampler(RandomSampler(rows), feed.batch_rows, drop_last=True)
    return _trained(name, lambda: _copied(DataLoader(rows, sampler=sampler, batch_size=None, pin_memory=True)), **loop)


def _copied(loader: Any) -> Iterator[Batch]:
    for _epoch in range(EPOCHS):
        for x, label in loader:
            yield x.cuda(non_blocking=True), label.cuda(non_blocking=True)


def there_already(name: str, folder: str, **loop: Any) -> Job:
    """One batch that stays on the GPU: what this loop and this model take at least."""
    import torch

    feed = FEEDS[name]
    batch = torch.zeros(feed.batch_rows, feed.width, device="cuda"), torch.zeros(feed.batch_rows, device="cuda").long()
    return _trained(name, lambda: iter([batch] * (EPOCHS * (feed.rows // feed.batch_rows))), **loop)


def _trained(name: str, batches: Callable[[], Iterator[Batch]], **_: Any) -> Job:
    """Return a training loop over batches; the model and its kernels are warm before."""
    import torch
    from torch import nn

    feed = FEEDS[name]
    layers = [
        nn.Linear(feed.width, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, CLASSES),
    ]
    model = nn.Sequential(*layers).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)

    def step(x: Any, label: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x.float().reshape(len(x), -1)), label).backward()
        optimizer.step()

    for _warm in range(5):
        step(torch.zeros(feed.batch_rows, feed.width).cuda(), torch.zeros(feed.batch_rows).long().cuda())
    torch.cuda.synchronize()

    def job() -> Generator[int, None, dict[str, float]]:
        spans, waits = [], []
        begun = asked = time.perf_counter()
        for x, label in batches():
            waits.append(time.perf_counter() - asked)
            span = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            span[0].record()
            step(x, label)
            span[1].record()
            spans.append(span)
            yield len(x)
            del x, label
            asked = time.perf_counter()
        torch.cuda.synchronize()
        took_s = time.perf_counter() - begun
        busy_s = sum(before.elapsed_time(after) for before, after in spans) / 1e3
        return {
            "busy": busy_s / took_s,
            "step_s": busy_s / len(spans),
            "wait_s": median(waits),
            "waited": sum(waits) / took_s,
            "gpu_bytes": torch.cuda.max_memory_reserved(),
        }

    return job


CONTESTANTS = (
    Contestant(REFERENCE, beside, ("iceblink", "torch")),
    Contestant("iceblink, copied in the loop", in_the_loop, ("iceblink", "torch")),
    Contestant("DataLoader over pyarrow", over_files, ("torch",)),
    Contestant("DataLoader over tensors in memory", over_memory, ("iceblink", "torch")),
    Contestant("a batch that is there already", there_already, ("torch",)),
)


def report(options: Options) -> str:
    """Measure epochs of each feed."""
    parts = [heading(TITLE, options), f"{card()}, torch {installed('torch')}; {EPOCHS} epochs a run.\n"]
    for name, feed in FEEDS.items():
        if options.wants(name) and feed.small == options.small:
            folder = str(ensure_table(name, feed))
            arguments = {"name": name, "folder": folder, "workers": options.cpus}
            results = in_turns(options.chosen(CONTESTANTS), arguments, options.runs, options.cpus, options.limit_s)
            size = feed.width * np.dtype(feed.dtype).itemsize
            parts.append(f"### {name}: {feed.rows:,} rows of {size:,} bytes, {feed.batch_rows:,} a batch\n")
            parts.append(shown(results) + "\n")
    return "\n".join(parts)


def card() -> str:
    """Return the name of the GPU."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def shown(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant, or its problem."""
    measures: dict[str, Callable[[list[Result]], str]] = {
        "rows / s": lambda runs: f"{middle(runs, lambda one: one.rows / one.wall_s):,.0f}",
        "GPU busy": lambda runs: f"{middle(runs, lambda one: one.detail['busy']):.0%}",
        "step ms": lambda runs: f"{middle(runs, lambda one: one.detail['step_s']) * 1e3:.2f}",
        "wait ms": lambda runs: f"{middle(runs, lambda one: one.detail['wait_s']) * 1e3:.2f}",
        "waited": lambda runs: f"{middle(runs, lambda one: one.detail['waited']):.0%}",
        "first s": lambda runs: f"{middle(runs, lambda one: one.first_s):.2f}",
        "CPU us / row": lambda runs: f"{middle(runs, lambda one: one.cpu_s / one.rows) * 1e6:.2f}",
        "GPU MB": lambda runs: f"{middle(runs, lambda one: one.detail['gpu_bytes']) / 1e6:,.0f}",
        "ours / it: wall": lambda runs: ratio(results.get(REFERENCE, ()), runs, lambda one: one.wall_s),
    }
    rows = [
        [name, *(cell(runs) for cell in measures.values())]
        if not problem_of(runs)
        else [name, problem_of(runs).partition(":")[0], *[""] * (len(measures) - 1)]
        for name, runs in results.items()
    ]
    return table(["", *measures], rows) + problems(results)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
