"""A table like an encyclopedia's: titles, texts of about 650 characters and embeddings, written once by PyIceberg.

With PyIceberg's defaults but for row groups of 8,192 rows: zstd, lists of optional floats, a dictionary tried and given
up. The rows of a row group are alike, so that the order in which they are read matters.
"""

from __future__ import annotations

import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyiceberg.table import Table

from bench.command import DATA
from bench.mixed import open_catalog

NAME, TRAINING = "bench.wiki", "bench.training"
WIDTH = 384
WORDS, WORDS_A_TEXT = 20_000, 98  # texts of about 650 characters
LANGUAGES = ("ca", "cs", "da", "de", "en", "eo", "es", "fi", "fr", "hu")

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("lang", pa.string()),
        ("score", pa.float32()),
        ("emb", pa.list_(pa.float32())),
    ]
)


def ensure_wiki(rows: int, files: int, group_rows: int) -> Path:
    """Return the folder of the table, written if it is not there or was left half done."""
    folder = DATA / f"wiki-{rows}-{files}x{group_rows}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(folder, rows, files, group_rows)
        (folder / "done").touch()
    return folder


def _write(folder: Path, rows: int, files: int, group_rows: int) -> None:
    catalog = open_catalog(folder)
    catalog.create_namespace("bench")
    table = catalog.create_table(NAME, SCHEMA, properties={"write.parquet.row-group-limit": str(group_rows)})
    bounds = np.linspace(0, rows, files + 1).astype(int)
    with table.transaction() as transaction:
        for number, (begin, end) in enumerate(pairwise(bounds)):
            print(f"  writing wiki file {number + 1}", file=sys.stderr)
            groups = [wiki_rows(first, min(group_rows, int(end) - first)) for first in range(begin, end, group_rows)]
            transaction.append(pa.concat_tables(groups).combine_chunks())


def wiki_rows(first_id: int, rows: int) -> pa.Table:
    """Return the rows of one row group: one language, embeddings around one place."""
    rng = np.random.default_rng([11, first_id])
    embeddings = rng.standard_normal((rows, WIDTH), dtype="f4") + rng.standard_normal(WIDTH, dtype="f4")
    columns: dict[str, Any] = {
        "id": pa.array(np.arange(first_id, first_id + rows)),
        "title": texts(rng, rng.integers(1, 6, rows)),
        "text": texts(rng, rng.poisson(WORDS_A_TEXT, rows)),
        "lang": pa.array([LANGUAGES[rng.integers(len(LANGUAGES))]] * rows),
        "score": pa.array(rng.random(rows, dtype="f4")),
        "emb": pa.ListArray.from_arrays(
            pa.array(np.arange(0, rows * WIDTH + 1, WIDTH, dtype="i4")), pa.array(embeddings.reshape(-1))
        ),
    }
    return pa.table(columns, schema=SCHEMA)


def texts(rng: np.random.Generator, words: NDArray[Any]) -> pa.Array:
    """Return a text for each number of words, which are drawn by Zipf's law."""
    ends = np.concatenate([[0], np.cumsum(words)])
    drawn = np.searchsorted(_SHARES, rng.random(int(ends[-1])))
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), _VOCABULARY.take(pa.array(drawn)))
    return pc.binary_join(lists, " ")


def _vocabulary() -> pa.Array:
    rng = np.random.default_rng(5)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgk", np.uint8)
    return pa.array([bytes(rng.choice(letters, size)).decode() for size in rng.integers(2, 10, WORDS)])


_VOCABULARY = _vocabulary()
_SHARES = np.cumsum(1 / np.arange(1, WORDS + 1)) / np.sum(1 / np.arange(1, WORDS + 1))


def files_of(folder: str) -> list[str]:
    """Return the paths of the table's Parquet files, for those who know no tables."""
    tasks = open_wiki(folder).scan().plan_files()
    return sorted(task.file.file_path.removeprefix("file://") for task in tasks)


def open_wiki(folder: str) -> Table:
    """Open the table with PyIceberg."""
    return open_catalog(Path(folder)).load_table(NAME)
