"""Write and scan columns as they are stored where no codec is named, and all by ZSTD: ``python -m bench.codecs``.

Four kinds of columns: measurements (normal floats), embeddings (lists of 64 floats), ids that count on, and sentences
of common words. The size of the files stands below.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.report import MIB, comparison, table

TITLE = "Codecs"
NAME = "bench.columns"
ROWS, COLUMNS, WIDTH, WORDS = 4_000_000, 16, 64, 2_000
NAMED = {"write.parquet.compression-codec": "zstd"}
AS_STORED, ZSTD = "as stored by default", "all ZSTD"
KINDS = ("measurements", "embeddings", "ids", "sentences")


def rows_of(kind: str, rows: int) -> pa.Table:
    """Return rows with columns of a kind."""
    draw = np.random.default_rng(7)
    if kind == "measurements":
        return pa.table({f"x{at}": draw.standard_normal(rows, np.float32) for at in range(COLUMNS)})
    if kind == "embeddings":
        few = max(rows // 4, 1)
        values = pa.array(draw.standard_normal(few * WIDTH, np.float32))
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(values, WIDTH)})
    if kind == "ids":
        return pa.table({f"id{at}": np.arange(rows) + at for at in range(COLUMNS)})
    words = np.array([f"word{number}" for number in range(WORDS)])
    chosen = words[np.minimum(draw.zipf(1.3, (rows // 10 + 1, 12)) - 1, WORDS - 1)]
    return pa.table({"text": [" ".join(one) for one in chosen]})


def ensure_table(kind: str, rows: int, name: str) -> Path:
    """Return a lake with such rows."""
    import iceblink as ib

    folder = DATA / f"codecs-{kind}-{rows}-{name.replace(' ', '-')}"
    with ib.connect(folder) as lake:
        if NAME not in lake.tables():
            lake.write(NAME, rows_of(kind, rows), "create", properties=NAMED if name == ZSTD else {})
    return folder


def writing(kind: str, rows: int, name: str, cpus: int) -> Job:
    """Write the rows into a new table."""
    import iceblink as ib

    folder = DATA / "codecs-written"
    shutil.rmtree(folder, ignore_errors=True)
    lake, made = ib.connect(folder, engine=ib.LocalEngine(threads=cpus)), rows_of(kind, rows)

    def job() -> Generator[int, None, None]:
        lake.write(NAME, made, "create", properties=NAMED if name == ZSTD else {})
        yield made.num_rows

    return job


def scanning(kind: str, rows: int, name: str, cpus: int) -> Job:
    """Scan the table that was written before."""
    import iceblink as ib

    lake = ib.connect(ensure_table(kind, rows, name), engine=ib.LocalEngine(threads=cpus))

    def job() -> Generator[int, None, None]:
        yield sum(batch.num_rows for batch in lake.table(NAME).to_batches())

    return job


def write_default(kind: str, rows: int, cpus: int) -> Job:
    """No codec is named."""
    return writing(kind, rows, AS_STORED, cpus)


def write_zstd(kind: str, rows: int, cpus: int) -> Job:
    """ZSTD is named."""
    return writing(kind, rows, ZSTD, cpus)


def scan_default(kind: str, rows: int, cpus: int) -> Job:
    """No codec was named."""
    return scanning(kind, rows, AS_STORED, cpus)


def scan_zstd(kind: str, rows: int, cpus: int) -> Job:
    """ZSTD was named."""
    return scanning(kind, rows, ZSTD, cpus)


WRITERS = (Contestant(AS_STORED, write_default, ("iceblink",)), Contestant(ZSTD, write_zstd, ("iceblink",)))
SCANNERS = (Contestant(AS_STORED, scan_default, ("iceblink",)), Contestant(ZSTD, scan_zstd, ("iceblink",)))


def report(options: Options) -> str:
    """Measure writing and scanning of each kind of columns, in both ways."""
    rows = 2_000 if options.small else ROWS
    parts, sizes = [heading(TITLE, options)], []
    for kind in filter(options.wants, KINDS):
        given = {"kind": kind, "rows": rows, "cpus": options.cpus}
        folders = [ensure_table(kind, rows, name) for name in (AS_STORED, ZSTD)]
        stored, packed = (sum(one.stat().st_size for one in folder.rglob("*.parquet")) for folder in folders)
        sizes.append([kind, f"{stored / MIB:,.1f}", f"{packed / MIB:,.1f}", f"{stored / packed:.2f}"])
        for what, contestants in (("written", WRITERS), ("scanned", SCANNERS)):
            results = in_turns(options.chosen(contestants), given, options.runs, options.cpus)
            parts.append(f"### {kind}, {what}\n\n{comparison(results, reference=AS_STORED)}\n")
    shutil.rmtree(DATA / "codecs-written", ignore_errors=True)
    parts.append(f"### Data files [MB]\n\n{table(['', AS_STORED, ZSTD, 'ratio'], sizes)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
