"""A transform in slow Python, called by threads, processes, or workers of a DataLoader: ``python -m bench.transform``.

Everybody gives batches of 64 rows, a tensor ``[64, 384]`` and a list of strings, on each of which Python counts for
about 2 ms without giving up its lock. The first batch tells what it takes to start; the rate is of the batches behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, Result, in_turns
from bench.report import middle, problem_of, problems, seconds, table
from bench.wiki_table import NAME, ensure_wiki

TITLE = "A transform in slow Python"
BATCH_ROWS = 64
COUNTED = 40_000
WORKERS = 2


def counting(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch as it is, later."""
    total = 0
    for number in range(COUNTED):
        total += number & 3
    return batch


def threads(folder: str) -> Job:
    """As many threads as there are processes in the others."""
    return passed(folder, lambda loader: loader, workers=WORKERS)


def processes(folder: str) -> Job:
    """Processes that only call the transform."""
    return passed(folder, lambda loader: loader, workers=WORKERS, processes=True)


def data_loader(folder: str) -> Job:
    """Processes each of which reads the table, and makes every so manyth batch."""
    from torch.utils.data import DataLoader

    return passed(
        folder,
        lambda loader: DataLoader(loader, batch_size=None, num_workers=WORKERS, multiprocessing_context="spawn"),
    )


def passed(folder: str, wrapped: Callable[[Any], Iterable[Any]], **options: Any) -> Job:
    """Return one epoch of a loader; it returns how many batches a second there were behind the first."""
    import iceblink as ib

    loader = (
        ib.connect(folder)
        .table(NAME)
        .to_torch(BATCH_ROWS, columns=("text", "emb"), shuffle=True, transform=counting, **options)
    )

    def job() -> Generator[int, None, float]:
        first_s = 0.0
        for batch in wrapped(loader):
            first_s = first_s or time.perf_counter()
            yield len(batch["text"])
        return (len(loader) - 1) / (time.perf_counter() - first_s)

    return job


CONTESTANTS = (
    Contestant("threads", threads, ("iceblink", "torch")),
    Contestant("processes", processes, ("iceblink", "torch")),
    Contestant("DataLoader", data_loader, ("iceblink", "torch")),
)


def report(options: Options) -> str:
    """Measure an epoch of each."""
    rows, files, group_rows = (3_000, 3, 256) if options.small else (min(options.rows, 100_000), 10, 8192)
    folder = str(ensure_wiki(rows, files, group_rows))
    results = in_turns(options.chosen(CONTESTANTS), {"folder": folder}, options.runs, options.cpus)
    return f"{heading(TITLE, options)}\n{rates(results)}\n"


def rates(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant."""
    lines = [
        [name, problem_of(runs), "", "", ""]
        if problem_of(runs)
        else [
            name,
            f"{middle(runs, lambda one: one.detail):,.0f}",
            seconds(middle(runs, lambda one: one.first_s)),
            f"{middle(runs, lambda one: one.cpu_s / one.rows * BATCH_ROWS * 1e3):.2f}",
            f"{runs[-1].rows:,}",
        ]
        for name, runs in results.items()
    ]
    return table(["", "batches / s", "first s", "CPU ms / batch", "rows"], lines) + problems(results)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
