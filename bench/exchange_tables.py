"""Tables whose rows have to meet: two that are large, one of many groups, and one that is joined evenly or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.command import DATA

WIDE = pa.schema([("id", pa.int64()), *((f"x{number}", pa.float64()) for number in range(7))])
FACTS = pa.schema([("k", pa.int64()), ("v", pa.float64())])
DIMENSION = pa.schema([("k", pa.int64()), ("w", pa.float64())])
ROW_BYTES = 64
HOT = 0.4  # of all rows, those of one key
ROWS = 1 << 18  # of one batch


def wide_rows(rows: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield ids from 0 on, each once, in an order that scatters them, beside numbers that do not compress."""
    rng = np.random.default_rng(seed)
    step = 0x9E3779B1 | 1
    while np.gcd(step, rows) != 1:
        step += 2
    for start in range(0, rows, ROWS):
        ids = np.arange(start, min(start + ROWS, rows), dtype=np.int64) * step % rows
        yield pa.record_batch([pa.array(ids), *(pa.array(rng.random(len(ids))) for _ in range(7))], schema=WIDE)


def facts(rows: int, keys: int, hot: float) -> Iterator[pa.RecordBatch]:
    """Yield rows of random keys; a part of them have one and the same."""
    rng = np.random.default_rng(11)
    for start in range(0, rows, ROWS):
        size = min(ROWS, rows - start)
        found = np.where(rng.random(size) < hot, keys // 2, rng.integers(0, keys, size))
        yield pa.record_batch([pa.array(found), pa.array(rng.random(size))], schema=FACTS)


def dimension(keys: int) -> Iterator[pa.RecordBatch]:
    """Yield each key once."""
    rng = np.random.default_rng(12)
    for start in range(0, keys, ROWS):
        ids = np.arange(start, min(start + ROWS, keys), dtype=np.int64)
        yield pa.record_batch([pa.array(ids), pa.array(rng.random(len(ids)))], schema=DIMENSION)


def ensure_exchange(wide_bytes: int, rows: int) -> Path:
    """Return the folder of the Iceberg tables ``bench.*``, written by iceblink if absent or left half done.

    Parameters
    ----------
    wide_bytes : int
        Decoded size of each of ``left_side`` and ``right_side`` [bytes].
    rows : int
        Of ``even`` and ``skewed``, each with half as many keys, and twice those of ``dimension``, half as many again.
    """
    import iceblink as ib

    folder = DATA / f"exchange-{wide_bytes}-{rows}"
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        lake = ib.connect(folder)
        made: dict[str, tuple[pa.Schema, Callable[[], Iterator[pa.RecordBatch]]]] = {
            "left_side": (WIDE, lambda: wide_rows(wide_bytes // ROW_BYTES, 1)),
            "right_side": (WIDE, lambda: wide_rows(wide_bytes // ROW_BYTES, 2)),
            "groups": (FACTS, lambda: facts(rows, rows // 2, 0)),
            "even": (FACTS, lambda: facts(rows, rows // 4, 0)),
            "skewed": (FACTS, lambda: facts(rows, rows // 4, HOT)),
            "dimension": (DIMENSION, lambda: dimension(rows // 4)),
        }
        for name, (schema, batches) in made.items():
            lake.write(f"bench.{name}", pa.RecordBatchReader.from_batches(schema, batches()), "create")
        done.touch()
    return folder


def data_files(folder: str, name: str) -> list[str]:
    """Return the Parquet files of a table, for peers that read no Iceberg."""
    return sorted(map(str, (Path(folder) / "bench" / name / "data").glob("*.parquet")))
