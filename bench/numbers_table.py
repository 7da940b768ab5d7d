"""A table of numbers, five million rows in ten files, written once by PyIceberg."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.command import DATA
from bench.mixed import open_catalog

NAME = "bench.numbers"
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.float64())])
FILES = 10


def ensure_numbers(rows: int) -> Path:
    """Return the lake folder of the table, written if it is not there or was left half done."""
    folder = DATA / f"numbers-{rows}"
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        catalog = open_catalog(folder)
        catalog.create_namespace("bench")
        made = catalog.create_table(NAME, SCHEMA)
        rng = np.random.default_rng(3)
        with made.transaction() as transaction:
            for number in range(FILES):
                ids = np.arange(number * rows // FILES, (number + 1) * rows // FILES)
                values = [pa.array(ids), pa.array(rng.random(len(ids))), pa.array(rng.random(len(ids)))]
                transaction.append(pa.table(values, schema=SCHEMA))
        done.touch()
    return folder
