"""A table to batches for PyTorch, shuffled, by iceblink and by its peers: ``python -m bench.loaders``.

Everybody reads texts of about 650 characters and lists of 384 floats, and gives batches of 64 rows: a tensor of shape
``[64, 384]`` and a list of strings, in an order as random as it can be had without a copy in memory; what is not equal
stands below the table of epochs. One process and two CPUs each; who needs a copy of his own is told what the copy cost.
The loop that takes the batches measures all alike. Peers that are missing are reported so: Hugging Face datasets come
with the extra ``bench``; Grain, MosaicML Streaming and LitData bind old versions of packages, or PyTorch with CUDA, and
are put into a folder of their own, without what they bind::

    pip install --target DIR --no-deps grain array-record etils absl-py importlib_resources zipp portpicker \
        mosaicml-streaming boto3 botocore s3transfer jmespath zstd brotli python-snappy cramjam catalogue xxhash \
        litdata tifffile obstore
    PYTHONPATH=DIR python -m bench.loaders

MosaicML Streaming also imports torchvision, for pictures only: the one that goes with the PyTorch that is installed.
``--parts`` copies, epochs, stalls, resume: some of them; copies that are missing are then made, and not measured.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.command import Options, heading, installed, read_options
from bench.consumer import Batch, consumed
from bench.loader_copies import lit_copy, lit_stream, mosaic_copy, mosaic_stream, tf_copy, tf_stream
from bench.loader_peers import (
    BATCH_ROWS,
    daft_arrow,
    data_loader,
    grain_windows,
    hf_datasets,
    made_before,
    pyiceberg_reader,
    ray_torch,
    stateful_loader,
)
from bench.measure import Contestant, Job, Result, in_turns
from bench.report import MIB, middle, problem_of, problems, ratio, seconds, table
from bench.wiki_table import NAME, TRAINING, WIDTH, ensure_wiki

TITLE = "Loaders of batches for training"
REFERENCE = "iceblink, shuffled"
STEP_S = 0.005
RESUMED_STEP = 10_000
PEERS = (
    "torch",
    "torchdata",
    "datasets",
    "mosaicml-streaming",
    "litdata",
    "grain",
    "tensorflow",
    "tensorflow-cpu",
    "daft",
    "ray",
)


def ours(folder: str, **loop: Any) -> Job:
    """The table as it is, shuffled within 320 MiB: row groups in a random order, rows of as many as fit."""
    return _ours(folder, NAME, loop, shuffle=True)


def ours_unshuffled(folder: str, **loop: Any) -> Job:
    """In the order of the table."""
    return _ours(folder, NAME, loop)


def ours_training(folder: str, **loop: Any) -> Job:
    """The table as `Lake.optimize` lays it out, shuffled."""
    return _ours(folder, TRAINING, loop, shuffle=True)


def ours_filling(folder: str, **loop: Any) -> Job:
    """A first epoch that keeps what it decodes."""
    kept = Path(folder) / "cache-of-first-epoch"
    shutil.rmtree(kept, ignore_errors=True)
    return _ours(folder, NAME, loop, shuffle=True, cache=kept)


def ours_kept(folder: str, **loop: Any) -> Job:
    """A later epoch, whose rows have been kept."""
    return _kept(folder, loop)


def ours_global(folder: str, **loop: Any) -> Job:
    """A later epoch in the order of a permutation of all rows, which a cache makes possible."""
    return _kept(folder, loop, quality="global")


def _kept(folder: str, loop: dict[str, Any], **options: Any) -> Job:
    kept = Path(folder) / "cache"
    for _ in _batches(folder, NAME, 0, cache=kept):
        pass
    return _ours(folder, NAME, loop, shuffle=True, cache=kept, **options)


def _ours(folder: str, name: str, loop: dict[str, Any], **options: Any) -> Job:
    import iceblink.load.torch_loader  # noqa: F401 - imports are nobody's loading

    first = loop.pop("first")
    return partial(consumed, partial(_batches, folder, name, first, **options), WIDTH, **loop)


def _batches(folder: str, name: str, first: int, **options: Any) -> Iterator[Batch]:
    import iceblink as ib

    loader = ib.connect(folder).table(name).to_torch(BATCH_ROWS, columns=("text", "emb"), **options)
    if first:
        loader.load_state_dict({**loader.state_dict(), "step": first})
    for batch in loader:
        yield batch["emb"], batch["text"]


def ours_optimize(folder: str) -> Job:
    """The layout for training, which stays a table."""
    import iceblink as ib

    lake = ib.connect(folder)
    lake.table(NAME).write(TRAINING, "replace", properties={"write.parquet.row-group-limit": "8192"})

    def job() -> Generator[int, None, None]:
        yield lake.optimize(TRAINING, embeddings={"emb": WIDTH}).count()

    return job


ICEBLINK = (
    Contestant(REFERENCE, ours, ("iceblink", "torch")),
    Contestant("iceblink, unshuffled", ours_unshuffled, ("iceblink", "torch")),
    Contestant("iceblink, training layout", ours_training, ("iceblink", "torch")),
    Contestant("iceblink, first epoch fills a cache", ours_filling, ("iceblink", "torch")),
    Contestant("iceblink, second epoch from cache", ours_kept, ("iceblink", "torch")),
    Contestant("iceblink, second epoch, all rows permuted", ours_global, ("iceblink", "torch")),
)
MOSAIC = Contestant("MosaicML Streaming", mosaic_stream, ("streaming", "torch"))
LITDATA = Contestant("LitData", lit_stream, ("litdata", "torch"))
TF_DATA = Contestant("tf.data", tf_stream, ("tensorflow",))
GRAIN = Contestant("Grain", grain_windows, ("grain", "torch"))
READERS = (
    Contestant("PyIceberg reader, unshuffled", pyiceberg_reader, ("pyiceberg", "torch")),
    Contestant("DataLoader over pyarrow", data_loader, ("torch",)),
    Contestant("Hugging Face datasets", hf_datasets, ("datasets", "torch")),
)
STREAMS = (
    *ICEBLINK,
    *READERS,
    MOSAIC,
    LITDATA,
    TF_DATA,
    GRAIN,
    Contestant("Daft, unshuffled", daft_arrow, ("daft", "torch")),
    Contestant("Ray Data", ray_torch, ("ray", "torch")),
)
COPIES = (
    Contestant("iceblink, training layout", ours_optimize, ("iceblink",)),
    Contestant("MosaicML Streaming", mosaic_copy, ("streaming",)),
    Contestant("LitData", lit_copy, ("litdata", "torch")),
    Contestant("tf.data", tf_copy, ("tensorflow",)),
)
MADE_BEFORE = Contestant("batches made before the loop", made_before, ("torch",))
STALLING = (*ICEBLINK[:3], *READERS, MOSAIC, LITDATA, TF_DATA, MADE_BEFORE)
STATEFUL = Contestant("StatefulDataLoader over pyarrow", stateful_loader, ("torchdata", "torch"))
RESUMING = (ICEBLINK[0], ICEBLINK[2], *READERS, STATEFUL, MOSAIC, LITDATA, GRAIN)


def report(options: Options) -> str:
    """Measure copies, epochs, a model of 5 ms a step, and a resume."""
    rows, files, group_rows = (3_000, 3, 256) if options.small else (options.rows, 30, 8192)
    folder = str(ensure_wiki(rows, files, group_rows))
    steps = rows // BATCH_ROWS
    resumed = min(RESUMED_STEP, steps * 2 // 3)
    parts = [
        heading(TITLE, options),
        f"{rows:,} rows, {files} files; {', '.join(f'{name} {installed(name)}' for name in PEERS)}.\n",
    ]

    def measured(contestants: Sequence[Contestant], runs: int, **arguments: Any) -> dict[str, list[Result]]:
        return in_turns(contestants, {"folder": folder, **arguments}, runs, options.cpus, options.limit_s)

    copying = options.chosen(COPIES)
    if options.wants("copies"):
        copies = measured(copying, options.runs)
        parts.append(f"### Copies that some need\n\n{copied(copies)}\n")
    else:
        copies = measured([one for one in copying if not marker(folder, one.name).exists()], 1)
    for name, runs in copies.items():
        if not problem_of(runs):
            marker(folder, name).touch()
    if options.wants("epochs"):
        chosen = options.chosen(STREAMS)
        epochs = measured(chosen, options.runs, first=0)
        parts.append(f"### An epoch\n\n{consumption(epochs, copies)}\n\n{notes(chosen)}\n")
    if options.wants("stalls"):
        slow = measured(options.chosen(STALLING), options.runs, first=0, step_s=STEP_S, steps=min(steps, 2_000))
        parts.append(f"### A model that takes {STEP_S * 1e3:g} ms a step\n\n{stalls(slow)}\n")
    if options.wants("resume"):
        chosen = options.chosen(RESUMING)
        late = measured(chosen, options.runs, first=resumed, steps=1)
        parts.append(f"### The first batch after step {resumed:,}\n\n{resumption(late)}\n\n{notes(chosen)}\n")
    return "\n".join(parts)


def marker(folder: str, name: str) -> Path:
    """Return the empty file that says that the copy of this contestant has been made."""
    return Path(folder) / f"copied for {name}"


def notes(contestants: Sequence[Contestant]) -> str:
    """Return a line for each contestant: what it does, so that what is not equal can be seen."""
    return "\n".join(f"- {one.name}: {' '.join((inspect.getdoc(one.setup) or '').split())}" for one in contestants)


def cpu_us(result: Result) -> float:
    """Return the CPU time of a row [us]."""
    return result.cpu_s / max(1, result.rows) * 1e6


def consumption(results: dict[str, list[Result]], copies: dict[str, list[Result]]) -> str:
    """Return one row a contestant: its CPU, speed, waits and memory; a copy's CPU is put on one epoch."""

    def with_copy(name: str, runs: list[Result]) -> str:
        once = copies.get(name, ())
        return f"{middle(runs, cpu_us) + (middle(once, cpu_us) if once and not problem_of(once) else 0):.1f}"

    def cells(name: str, runs: list[Result]) -> dict[str, str]:
        return {
            "rows / CPU s": f"{1e6 / middle(runs, cpu_us):,.0f}",
            "CPU us": f"{middle(runs, cpu_us):.1f}",
            "with copy": with_copy(name, runs),
            "rows / s": f"{middle(runs, lambda one: one.rows / one.wall_s):,.0f}",
            "first s": seconds(middle(runs, lambda one: one.first_s)),
            **waits(runs),
            **memory(runs),
            "rows": f"{runs[-1].rows:,}",
            "ours / it: CPU": ratio(results.get(REFERENCE, ()), runs, cpu_us),
            "ours / it: PSS": ratio(results.get(REFERENCE, ()), runs, lambda one: one.detail["pss_bytes"]),
        }

    return shown(results, cells)


def stalls(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant: the share of the time that the model waited, and how."""

    def cells(_: str, runs: list[Result]) -> dict[str, str]:
        return {
            "waited": f"{told(runs, 'stalled'):.1%}",
            **waits(runs),
            "max ms": f"{told(runs, 'max_s') * 1e3:.1f}",
            "rows / s": f"{middle(runs, lambda one: one.rows / one.wall_s):,.0f}",
            "CPU us": f"{middle(runs, cpu_us):.1f}",
            **memory(runs),
        }

    return shown(results, cells)


def copied(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant: what it costs to make the copy."""

    def cells(_: str, runs: list[Result]) -> dict[str, str]:
        return {**times(runs), "CPU us": f"{middle(runs, cpu_us):.1f}"}

    return shown(results, cells)


def resumption(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant: what it took to open the dataset, go there and get a batch."""

    def cells(_: str, runs: list[Result]) -> dict[str, str]:
        first_s, cpu_s = (
            seconds(middle(runs, measure)) for measure in (lambda one: one.first_s, lambda one: one.cpu_s)
        )
        ours = results.get(REFERENCE, ())
        return {"first s": first_s, "CPU s": cpu_s, "ours / it: first": ratio(ours, runs, lambda one: one.first_s)}

    return shown(results, cells)


def told(runs: list[Result], name: str) -> float:
    """Return the median of what the loops returned by this name."""
    return middle(runs, lambda one: one.detail[name])


def waits(runs: list[Result]) -> dict[str, str]:
    """Return how long the loop waited for a batch behind the first."""
    return {"p50 ms": f"{told(runs, 'p50_s') * 1e3:.2f}", "p99 ms": f"{told(runs, 'p99_s') * 1e3:.2f}"}


def memory(runs: list[Result]) -> dict[str, str]:
    """Return the added memory of the process and its workers, and how much of it belongs to no file."""
    return {"PSS MB": f"{told(runs, 'pss_bytes') / MIB:,.0f}", "own MB": f"{told(runs, 'own_bytes') / MIB:,.0f}"}


def times(runs: list[Result]) -> dict[str, str]:
    """Return how long it took, and the CPU time."""
    return {
        "wall s": seconds(middle(runs, lambda one: one.wall_s)),
        "CPU s": seconds(middle(runs, lambda one: one.cpu_s)),
    }


def shown(results: dict[str, list[Result]], cells: Callable[[str, list[Result]], dict[str, str]]) -> str:
    """Return a table of one row a contestant, or its problem."""
    good = {name: cells(name, runs) for name, runs in results.items() if not problem_of(runs)}
    columns = list(next(iter(good.values()), {"": ""}))
    lines = [
        [name, *good[name].values()]
        if name in good
        else [name, problem_of(runs).partition(":")[0], *[""] * (len(columns) - 1)]
        for name, runs in results.items()
    ]
    return table(["", *columns], lines) + problems(results)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
