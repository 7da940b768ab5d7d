"""The mixed table: numbers, times, short and long text and embeddings, written once by PyIceberg.

Iceblink's own writer is not on trial here, so that every reader meets the same files.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from bench.command import DATA

NAME = "bench.mixed"
REGIONS = ("amer", "apac", "emea", "anz", "mena")
CATEGORIES = [f"category-{number:02d}" for number in range(40)]
DIMENSIONS = 64

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("visits", pa.int32()),
        ("seen_at", pa.timestamp("us")),
        ("day", pa.date32()),
        ("price", pa.float64()),
        ("score", pa.float64()),
        ("stock", pa.int32()),
        ("region", pa.string()),
        ("category", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class MixedSize:
    """How big: ``len(REGIONS) * files_per_region`` files of `rows_per_file`; a row decodes to about 0.7 kB."""

    files_per_region: int = 6
    rows_per_file: int = 125_000
    rows_per_group: int = 25_000

    @property
    def folder(self) -> Path:
        return DATA / f"mixed-{self.files_per_region}x{self.rows_per_file}"


FULL = MixedSize()
SMALL = MixedSize(files_per_region=1, rows_per_file=2_000, rows_per_group=500)


def ensure_mixed(size: MixedSize) -> Path:
    """Return the folder of the table, written if it is not there or was left half done."""
    done = size.folder / "done"
    if not done.exists():
        shutil.rmtree(size.folder, ignore_errors=True)
        size.folder.mkdir(parents=True)
        write_mixed(size)
        done.touch()
    return size.folder


def write_mixed(size: MixedSize) -> None:
    """Write one file a region and round, each with its own range of ids."""
    catalog = open_catalog(size.folder)
    catalog.create_namespace("bench")
    table = catalog.create_table(NAME, SCHEMA, properties={"write.parquet.row-group-limit": str(size.rows_per_group)})
    with table.update_spec() as spec:
        spec.add_identity("region")
    rng = np.random.default_rng(7)
    with table.transaction() as transaction:
        for number in range(size.files_per_region * len(REGIONS)):
            print(f"  writing mixed file {number + 1}", file=sys.stderr)
            region = REGIONS[number % len(REGIONS)]
            transaction.append(mixed_rows(rng, number * size.rows_per_file, size.rows_per_file, region))


def open_catalog(folder: Path) -> SqlCatalog:
    """Open the catalog in `folder` with PyIceberg, as iceblink's embedded lake names and places it."""
    return SqlCatalog("default", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder))


def open_mixed(folder: str) -> Table:
    """Open the table with PyIceberg."""
    return open_catalog(Path(folder)).load_table(NAME)


def mixed_rows(rng: np.random.Generator, first_id: int, rows: int, region: str) -> pa.Table:
    """Return `rows` rows of one region with consecutive ids."""
    ids = np.arange(first_id, first_id + rows)
    seen_us = 1_735_689_600_000_000 + ids * 10_000_000 + rng.integers(0, 10_000_000, rows)
    vectors = rng.standard_normal(rows * DIMENSIONS, dtype=np.float32)
    columns: dict[str, Any] = {
        "id": pa.array(ids),
        "visits": pa.array(rng.poisson(40, rows).astype(np.int32)),
        "seen_at": pa.array(seen_us, pa.timestamp("us")),
        "day": pa.array((seen_us // 86_400_000_000).astype(np.int32), pa.date32()),
        "price": pa.array(np.round(rng.exponential(93.0, rows), 2)),
        "score": pa.array(rng.standard_normal(rows)),
        "stock": pa.array(rng.integers(0, 1000, rows, dtype=np.int32), mask=rng.random(rows) < 0.05),
        "region": pa.array([region] * rows),
        "category": pa.array(CATEGORIES).take(pa.array(rng.integers(0, len(CATEGORIES), rows))),
        "title": text_column(rng, rng.integers(20, 60, rows)),
        "text": text_column(rng, np.clip(rng.normal(300, 90, rows), 20, 900).astype(np.int64)),
        "embedding": pa.ListArray.from_arrays(
            pa.array(np.arange(0, rows * DIMENSIONS + 1, DIMENSIONS, dtype=np.int32)), pa.array(vectors)
        ),
    }
    return pa.table(columns, schema=SCHEMA)


def text_column(rng: np.random.Generator, lengths: np.ndarray[Any, Any]) -> pa.Array:
    """Return one stream of random words cut into strings of these lengths: fast, and no two alike."""
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgk", np.uint8)
    vocabulary = [bytes(rng.choice(letters, size)).decode() for size in rng.integers(2, 11, 5_000)]
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    words = rng.choice(np.array(vocabulary, object), int(offsets[-1]) // 5 + 10)
    stream = " ".join(words).encode()
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(stream))
