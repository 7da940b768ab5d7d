"""Embeddings as lists and as bytes, decoded by iceblink: ``python -m bench.layout``.

One reader, one thread, several layouts of the same rows: what is compared is the CPU that each layout costs. A table
is read once before, and then again and again, as training does.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import iceblink as ib
from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, Result, in_turns
from bench.mixed import open_catalog
from bench.report import comparison, middle, problem_of, table

TITLE = "Embeddings by layout, decoded to Arrow"
WIDTH = 384
AS_USUAL = "list, PyIceberg"
GROUP_ROWS = 8192
EPOCHS = 5


def ensure_layouts(rows: int) -> Path:
    """Return the lake folder with a table for each layout, written if it is not there."""
    folder = DATA / f"layouts-{rows}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        numbers = np.random.default_rng(0).standard_normal((rows, WIDTH)).astype("f4")
        lists = pa.ListArray.from_arrays(pa.array(range(0, (rows + 1) * WIDTH, WIDTH), pa.int32()), numbers.reshape(-1))
        data = pa.table({"id": pa.array(range(rows), pa.int64()), "emb": lists})
        _by_pyiceberg(folder, data)
        lake = ib.connect(catalog_of(folder))
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(numbers)
        small = {"write.parquet.row-group-limit": str(GROUP_ROWS)}
        lake.write("bench.tensor", data.set_column(1, "emb", tensors), "create", properties=small)
        for codec in ("lz4", "zstd", "none"):
            lake.write(f"bench.{codec}", data, "create")
            lake.optimize(f"bench.{codec}", embeddings={"emb": WIDTH}, codec=codec)
        (folder / "done").touch()
    return folder


def catalog_of(folder: Path) -> Path:
    """Return where the lake is in a folder of layouts."""
    return folder / "lake"


def _by_pyiceberg(folder: Path, data: pa.Table) -> None:
    """Write the lists as PyIceberg does, and once more with their bytes split into streams."""
    catalog_of(folder).mkdir()
    catalog = open_catalog(catalog_of(folder))
    catalog.create_namespace("bench")
    small = {"write.parquet.row-group-limit": str(GROUP_ROWS)}
    catalog.create_table("bench.list", data.schema, properties=small).append(data)
    path = str(folder / "split.parquet")
    pq.write_table(
        data, path, row_group_size=GROUP_ROWS, compression="zstd", use_dictionary=False,
        use_byte_stream_split=["emb.list.element"],
    )  # fmt: skip
    catalog.create_table("bench.split", data.schema).add_files([path])


def decode(name: str, folder: str) -> Job:
    """All embeddings of one table as batches, epoch after epoch."""
    found = ib.connect(folder, engine=ib.LocalEngine(threads=1)).table(f"bench.{name}").select("emb")

    def epochs(count: int) -> Generator[int, None, None]:
        for _ in range(count):
            for batch in found.to_batches():
                yield batch.num_rows

    for _ in epochs(1):
        pass
    return partial(epochs, EPOCHS)


def list_default(folder: str) -> Job:
    """Lists of optional floats, zstd, with a dictionary tried."""
    return decode("list", folder)


def list_split(folder: str) -> Job:
    """Lists, each number's bytes in four streams, zstd."""
    return decode("split", folder)


def tensor_list(folder: str) -> Job:
    """A tensor stored as a list, as iceblink's writer does by default."""
    return decode("tensor", folder)


def fixed_lz4(folder: str) -> Job:
    """Bytes, lz4: what `optimize` does by default."""
    return decode("lz4", folder)


def fixed_zstd(folder: str) -> Job:
    """Bytes, zstd."""
    return decode("zstd", folder)


def fixed_none(folder: str) -> Job:
    """Bytes as they are."""
    return decode("none", folder)


LAYOUTS = (
    Contestant(AS_USUAL, list_default),
    Contestant("list, byte stream split", list_split),
    Contestant("tensor as list", tensor_list),
    Contestant("fixed, zstd", fixed_zstd),
    Contestant("fixed, lz4", fixed_lz4),
    Contestant("fixed, none", fixed_none),
)


def report(options: Options) -> str:
    """Measure every layout."""
    folder = catalog_of(ensure_layouts(500 if options.small else 33_334))
    results = in_turns(options.chosen(LAYOUTS), {"folder": str(folder)}, options.runs, options.cpus)
    parts = [heading(TITLE, options), f"{comparison(results, reference=AS_USUAL)}\n"]
    found = [[name, f"{cpu_us(runs):.2f}"] for name, runs in results.items() if not problem_of(runs)]
    parts.append(f"### CPU for a row of {WIDTH} floats\n\n{table(['', 'us'], found)}\n")
    return "\n".join(parts)


def cpu_us(runs: list[Result]) -> float:
    """Return the median CPU time of a row [us]."""
    return middle(runs, lambda one: one.cpu_s / max(1, one.rows) * 1e6)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
