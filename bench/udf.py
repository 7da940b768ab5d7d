"""What a Python function in the middle of a scan costs: ``python -m bench.udf``."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.mixed import open_catalog
from bench.numbers_table import NAME, ensure_numbers
from bench.report import comparison

TITLE = "A Python function over batches"
BARE = "bare scan"


def bare_scan(folder: str) -> Job:
    """The table read and dropped."""
    return counted(folder, lambda dataset: dataset)


def identity(folder: str) -> Job:
    """A function that returns its Arrow batch."""
    return counted(folder, lambda dataset: dataset.map_batches(unchanged))


def identity_numpy(folder: str) -> Job:
    """A function that returns its dict of NumPy arrays."""
    return counted(folder, lambda dataset: dataset.map_batches(same_arrays, batch_format="numpy"))


def stateful_tanh(folder: str) -> Job:
    """A class built once per worker that computes two columns with NumPy."""
    return counted(folder, lambda dataset: dataset.map_batches(Tanh, batch_format="numpy"))


def polars_tanh(folder: str) -> Job:
    """The same function in Polars' ``map_batches``."""
    import polars as pl

    table = open_catalog(Path(folder)).load_table(NAME)

    def tanh(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            x=pl.Series(np.tanh(frame["x"].to_numpy())), y=pl.Series(np.tanh(frame["y"].to_numpy()))
        )

    def job() -> Generator[int, None, None]:
        for batch in pl.scan_iceberg(table).map_batches(tanh, streamable=True).collect_batches():
            yield batch.height

    return job


def unchanged(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def same_arrays(batch: dict[str, Any]) -> dict[str, Any]:
    return batch


class Tanh:
    """A stand-in for a model."""

    def __init__(self) -> None:
        self.function = np.tanh

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "x": self.function(batch["x"]), "y": self.function(batch["y"])}


def counted(folder: str, shape: Any) -> Job:
    """Return a job that takes the batches of what `shape` makes of the table."""
    import iceblink as ib

    lake = ib.connect(folder)

    def job() -> Generator[int, None, None]:
        for batch in shape(lake.table(NAME)).to_batches():
            yield batch.num_rows

    return job


FUNCTIONS = (
    Contestant(BARE, bare_scan, ("iceblink",)),
    Contestant("map_batches identity", identity, ("iceblink",)),
    Contestant("map_batches identity, numpy", identity_numpy, ("iceblink",)),
    Contestant("map_batches tanh class, numpy", stateful_tanh, ("iceblink",)),
    Contestant("Polars map_batches tanh", polars_tanh, ("polars",)),
)


def report(options: Options) -> str:
    """Measure every function over the same table."""
    folder = ensure_numbers(50_000 if options.small else 5_000_000)
    results = in_turns(options.chosen(FUNCTIONS), {"folder": str(folder)}, options.runs, options.cpus)
    return f"{heading(TITLE, options)}\n{comparison(results, reference=BARE)}\n"


if __name__ == "__main__":
    print(report(read_options(TITLE)))
