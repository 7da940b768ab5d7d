"""Twelve files of two row groups for each kind of column, their lengths drifting from file to file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.command import DATA

FILES = 12
GROUPS = 2
SIGMA = 0.6  # of the lognormal drift

Make = Callable[[np.random.Generator, int, float], pa.Array]
"""(generator, rows, drift) to a column; what has a length is `drift` times as long."""


def words(rng: np.random.Generator, rows: int, mean: float) -> pa.Array:
    """Return strings of random letters, `mean` long in the mean."""
    lengths = np.maximum(1, rng.poisson(mean, rows))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    letters = rng.choice(np.frombuffer(b"etaoinshrdlu ", np.uint8), int(offsets[-1]))
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(letters))


def floats(rng: np.random.Generator, rows: int, mean: float) -> pa.Array:
    """Return lists of floats, `mean` long in the mean."""
    lengths = rng.poisson(mean, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rng.standard_normal(int(offsets[-1]), np.float32)))


def mostly_null(rng: np.random.Generator, values: pa.Array) -> pa.Array:
    """Return the values, 99 of 100 null."""
    keep = pa.array(rng.random(len(values)) < 0.01)
    return pc.if_else(keep, values, pa.scalar(None, values.type))


def mapping(rng: np.random.Generator, rows: int, drift: float) -> pa.Array:
    """Return maps from a few keys to doubles, about four entries long."""
    lengths = rng.poisson(4 * drift, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    count = int(offsets[-1])
    keys = pa.array([f"key-{number}" for number in range(20)]).take(pa.array(rng.integers(0, 20, count)))
    return pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(rng.random(count)))


def nested(rng: np.random.Generator, rows: int, drift: float) -> pa.Array:
    """Return structs of a number, a category and a text."""
    category = pa.array(["new", "used", "broken"]).take(pa.array(rng.integers(0, 3, rows)))
    fields = [pa.array(rng.random(rows)), category, words(rng, rows, 12 * drift)]
    return pa.StructArray.from_arrays(fields, ["weight", "state", "note"])


def category(rng: np.random.Generator, rows: int, drift: float) -> pa.Array:
    """Return one of fifty names, the same in every file: that is what makes it a category."""
    names = words(np.random.default_rng(1), 50, 20)
    return names.take(pa.array(rng.integers(0, 50, rows)))


def few_documents(rng: np.random.Generator, rows: int, drift: float) -> pa.Array:
    """Return five JSON documents of about 2 kB, repeated."""
    documents = [json.dumps({"text": words(rng, 1, 2_000 * drift)[0].as_py()}) for _ in range(5)]
    return pa.array(documents).take(pa.array(rng.integers(0, 5, rows)))


KINDS: dict[str, tuple[int, Make]] = {
    "random long": (40_000, lambda rng, rows, _: pa.array(rng.integers(0, 1 << 62, rows))),
    "few longs": (40_000, lambda rng, rows, _: pa.array(rng.integers(0, 10, rows))),
    "sequence": (40_000, lambda rng, rows, _: pa.array(np.arange(rows) + int(rng.integers(0, 1 << 40)))),
    "double": (40_000, lambda rng, rows, _: pa.array(rng.random(rows))),
    "category": (40_000, category),
    "uuid text": (20_000, lambda rng, rows, _: pa.array([f"{value:036x}" for value in rng.integers(0, 1 << 62, rows)])),
    "long text": (4_000, lambda rng, rows, drift: words(rng, rows, 300 * drift)),
    "float list": (4_000, lambda rng, rows, drift: floats(rng, rows, 64 * drift)),
    "struct": (10_000, nested),
    "map": (10_000, mapping),
    "sparse text": (40_000, lambda rng, rows, drift: mostly_null(rng, words(rng, rows, 30 * drift))),
    "sparse long": (40_000, lambda rng, rows, _: mostly_null(rng, pa.array(rng.integers(0, 1 << 62, rows)))),
    "repeated document": (4_000, few_documents),
    "image": (200, lambda rng, rows, drift: words(rng, rows, 20_000 * drift).cast(pa.binary())),
}
"""Kind of column to its rows a row group and its maker."""


def ensure_drift(small: bool) -> Path:
    """Return the folder of ``KIND/NN.parquet`` and the Arrow sizes of their row groups, written if absent."""
    folder = DATA / ("drift-small" if small else "drift")
    if not (folder / "sizes.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        rng = np.random.default_rng(13)
        divisor = 10 if small else 1
        sizes = {kind: write_kind(folder / kind, rng, rows // divisor, make) for kind, (rows, make) in KINDS.items()}
        (folder / "sizes.json").write_text(json.dumps(sizes))
    return folder


def write_kind(folder: Path, rng: np.random.Generator, rows: int, make: Make) -> list[list[int]]:
    """Write the files of one kind and return what each row group decodes to, read back [bytes]."""
    folder.mkdir(parents=True)
    sizes = []
    for number in range(FILES):
        drift = float(rng.lognormal(0.0, SIGMA))
        path = folder / f"{number:02d}.parquet"
        column = make(rng, rows * GROUPS, drift)
        pq.write_table(pa.table({"value": column}), path, row_group_size=rows, compression="zstd")
        file = pq.ParquetFile(path)
        sizes.append([file.read_row_group(group).nbytes for group in range(GROUPS)])
    return sizes
