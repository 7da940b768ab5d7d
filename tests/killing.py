"""A process that runs what it is told in children, and has each killed at a step: ``python killing.py FOLDER``.

A line on standard input is the name of a table, of something in `WORK` and of a step: a child does it, and is killed at
that step of those that it makes in storage and catalog; 0 for never. The answer is a line: how many steps were made,
and how it ended. This process only imports, and starts no thread: its children are forks of it, for an import in each
of them would take most of the time.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - what is opened when first used, and slow: before the forks
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 - what is opened when first used, and slow: before the forks
import ibis.expr.api  # noqa: F401
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet as pq
import pyiceberg.io.pyarrow  # noqa: F401
import sqlglot.dialects.duckdb
import sqlglot.optimizer.qualify  # noqa: F401

import iceblink as ib
import iceblink.lakehouse
from iceblink import _
from iceblink.lake import storage_io
from iceblink.lake.embedded import EmbeddedCatalog
from iceblink.lake.storage import Storage

NOW = timedelta(0)
NEW = {"id": [3, 4, 90, 91], "g": ["a", "b", "c ü", None], "n": [0, 0, 0, 0]}


def add_file(lake: ib.Lake, name: str) -> None:
    """Add a file that is there already, the next time too."""
    path = Path(sys.argv[1], f"{name} of others.parquet")
    if not path.exists():
        pq.write_table(pa.table({"id": [50], "g": ["a"], "n": [None]}, pa.schema(TYPES)), path)
    lake.add_files(name, str(path))


def roll_back(lake: ib.Lake, name: str) -> None:
    """Go back by one snapshot."""
    snapshot = lake.session.catalog.load(name).snapshot
    assert snapshot is not None
    lake.rollback(name, snapshot=snapshot.parent_snapshot_id)


TYPES = {"id": pa.int64(), "g": pa.string(), "n": pa.int64()}
WORK: dict[str, Callable[[ib.Lake, str], Any]] = {
    "append": lambda lake, name: lake.write(name, NEW),
    "insert": lambda lake, name: lake.sql(f"INSERT INTO {name} SELECT id + 100 AS id, g, n FROM {name} WHERE id < 5"),
    "insert overwrite": lambda lake, name: lake.sql(f"INSERT OVERWRITE {name} SELECT * FROM {name} WHERE id <> 7"),
    "overwrite where": lambda lake, name: lake.write(name, NEW, "overwrite", where=_.g == "a"),
    "overwrite partitions": lambda lake, name: lake.write(name, NEW, "overwrite", partitions="dynamic"),
    "upsert": lambda lake, name: lake.write(name, NEW, "upsert", on="id"),
    "delete": lambda lake, name: lake.sql(f"DELETE FROM {name} WHERE id % 5 = 1"),
    "delete of files": lambda lake, name: lake.delete(name, "g = 'b'"),
    "update": lambda lake, name: lake.sql(f"UPDATE {name} SET n = id + 1 WHERE id % 3 = 0"),
    "merge": lambda lake, name: lake.merge(
        name, NEW, "id", ib.when_matched().update_all(), ib.when_not_matched().insert_all()
    ),
    "add column": lambda lake, name: lake.sql(f'ALTER TABLE {name} ADD COLUMN IF NOT EXISTS "x ü" STRING'),
    "partition": lambda lake, name: lake.alter(name, partition_by=["g", "bucket(2, id)"]),
    "sort": lambda lake, name: lake.alter(name, sort_by=["-id"]),
    "properties": lambda lake, name: lake.alter(name, properties={"a": "b"}),
    "evolve": lambda lake, name: lake.write(name, {**NEW, "y": [1, 2, 3, 4]}, evolve=True),
    "tag": lambda lake, name: lake.tag(name, "t", replace=True),
    "branch": lambda lake, name: lake.branch(name, "b", replace=True),
    "append to branch": lambda lake, name: lake.write(name, NEW, branch="b"),
    "fast forward": lambda lake, name: lake.set_current(name, "b"),
    "roll back": roll_back,
    "add files": add_file,
    "compact": lambda lake, name: lake.compact(name, rewrite_all=True),
    "compact in parts": lambda lake, name: lake.compact(
        name, rewrite_all=True, partial_progress=True, target_size=1500
    ),
    "compact sorted": lambda lake, name: lake.sql(
        f"CALL system.rewrite_data_files(table => '{name}', sort_order => 'id DESC')"
    ),
    "compact in z-order": lambda lake, name: lake.compact(name, zorder=["g", "id"]),
    "rewrite manifests": lambda lake, name: lake.rewrite_manifests(name, target_size=1),
    "expire": lambda lake, name: lake.expire_snapshots(name, older_than=NOW),
    "remove orphans": lambda lake, name: lake.remove_orphan_files(name, older_than=NOW, force=True),
    "optimize": lambda lake, name: lake.optimize(name, shuffle=False),
    "replace": lambda lake, name: lake.write(name, NEW, "replace", partition_by=["g"]),
    "truncate": lambda lake, name: lake.sql(f"TRUNCATE TABLE {name}"),
}
"""Everything that changes a table."""


def main(folder: str) -> None:
    """Do what is asked, line by line."""
    for line in sys.stdin:
        name, work, last = line.rstrip("\n").split("\t")
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _work(folder, name, work, int(last), writer)
        os.close(writer)
        _child, status = os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as steps:
            taken = len(steps.read())
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(taken, "killed" if killed else "done" if status == 0 else "failed", sep="\t", flush=True)


def _work(folder: str, name: str, work: str, last: int, told: int) -> None:
    """Do it, tell of each step, and die at the last one."""
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        os.write(told, b".")
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(owner: Any, method: str) -> None:
        really = getattr(owner, method)

        def patched(*given: Any, **named: Any) -> Any:
            step()
            done = really(*given, **named)
            step()
            return done

        setattr(owner, method, patched)

    try:
        lake = ib.connect(folder)
        for owner, method in (
            (Storage, "open_output"),
            (Storage, "delete"),
            (storage_io.StoredFile, "create"),
            (EmbeddedCatalog, "_swap"),
        ):
            stepping(owner, method)
        WORK[work](lake, name)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
