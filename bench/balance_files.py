"""A table of mixed compression: files of text that decodes to far more than it weighs, and of numbers that do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.command import DATA
from bench.mixed import open_catalog

NAME = "bench.balance"
GROUP_ROWS = 8_000
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), *((f"x{number}", pa.float64()) for number in range(8))])
KINDS = ("repeated", "random", "both")
"""Of files, in turn: few long strings and numbers all zero; no strings and random numbers; both."""


def ensure_balance(files: int, groups: int) -> Path:
    """Return the lake folder of the table, written by PyIceberg if it is not there or was left half done.

    Parameters
    ----------
    files : int
        Of each kind one after the other.
    groups : int
        Row groups of a file, at least one; the last files have fewer, as files of the real world differ.
    """
    folder = DATA / f"balance-{files}x{groups}"
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        catalog = open_catalog(folder)
        catalog.create_namespace("bench")
        made = catalog.create_table(NAME, SCHEMA, properties={"write.parquet.row-group-limit": str(GROUP_ROWS)})
        rng = np.random.default_rng(17)
        with made.transaction() as transaction:
            for number in range(files):
                rows = GROUP_ROWS * max(1, groups - number % groups)
                transaction.append(rows_of(rng, KINDS[number % len(KINDS)], rows))
        done.touch()
    return folder


def rows_of(rng: np.random.Generator, kind: str, rows: int) -> pa.Table:
    """Return the rows of one file."""
    few = pa.array([f"{number:04d} " * 200 for number in range(20)])  # a kilobyte each
    texts = pa.array([""] * rows) if kind == "random" else few.take(pa.array(rng.integers(0, len(few), rows)))
    numbers = [pa.array(np.zeros(rows) if kind == "repeated" else rng.random(rows)) for _ in range(8)]
    return pa.table([pa.array(np.arange(rows)), texts, *numbers], schema=SCHEMA)
