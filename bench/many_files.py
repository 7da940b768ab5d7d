"""A table of very many data files: one small real file under many names, with statistics made up for each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import LongType

from bench.command import DATA
from bench.mixed import open_catalog

NAME = "bench.many"
COLUMNS = [f"c{number:02d}" for number in range(20)]
FILE_ROWS = 100
MANIFESTS = 10


def ensure_many(files: int) -> Path:
    """Return the lake folder of the table, written if it is not there or was left half done."""
    folder = DATA / f"many-{files}"
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "files").mkdir(parents=True)
        catalog = open_catalog(folder)
        catalog.create_namespace("bench")
        made = catalog.create_table(NAME, pa.schema([(name, pa.int64()) for name in COLUMNS]))
        original = folder / "files" / "00000.parquet"
        rng = np.random.default_rng(5)
        rows = [pa.array(rng.integers(0, 1 << 30, FILE_ROWS)) for _ in COLUMNS]
        pq.write_table(pa.table(rows, schema=schema_to_pyarrow(made.schema())), original, compression="zstd")
        step = max(1, files // MANIFESTS)
        for first in range(0, files, step):
            append(made, original, range(first, min(first + step, files)))
        done.touch()
    return folder


def append(made: Table, original: Path, numbers: range) -> None:
    """Commit links of the original as one manifest; ``c00`` of file n is said to hold n * 100 to n * 100 + 99."""
    size = original.stat().st_size
    with made.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        for number in numbers:
            path = original.with_name(f"{number:05d}.parquet")
            if path != original:
                os.link(original, path)
            snapshot.append_data_file(entry(made.schema(), str(path), size, number * FILE_ROWS))


def entry(schema: Schema, path: str, file_bytes: int, first: int) -> DataFile:
    """Return the metadata of one file."""
    ids = [field.field_id for field in schema.fields]
    bounds = dict.fromkeys(ids, (0, 1 << 30)) | {ids[0]: (first, first + FILE_ROWS - 1)}
    made = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=FILE_ROWS,
        file_size_in_bytes=file_bytes,
        column_sizes=dict.fromkeys(ids, 800),
        value_counts=dict.fromkeys(ids, FILE_ROWS),
        null_value_counts=dict.fromkeys(ids, 0),
        nan_value_counts={},
        lower_bounds={field_id: to_bytes(LongType(), low) for field_id, (low, _) in bounds.items()},
        upper_bounds={field_id: to_bytes(LongType(), high) for field_id, (_, high) in bounds.items()},
        split_offsets=[4],
        equality_ids=None,
        sort_order_id=None,
    )
    made.spec_id = 0
    return made
