"""Whatever changes a table, killed at any step: before it or after it, never between; and what it left can be removed.

Beside each table there is a twin on which nobody is killed: what it has is what comes of the work.
``ICEBLINK_KILLED_RUNS=30 pytest tests/integration/test_killed_anywhere.py`` tries all work at as many random steps.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import iceblink as ib
import killing
from table_files import inside, on_disk, reachable, strangers

RUNS = int(os.environ.get("ICEBLINK_KILLED_RUNS", "1"))
NOW = timedelta(0)


class Killer:
    """The process that does work and is killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, name: str, work: str, step: int = 0) -> tuple[int, str]:
        """Do work on a table, up to a step or to its end; return how many steps there were, and how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\t{work}\t{step}\n")
        self._process.stdin.flush()
        steps, _, end = self._process.stdout.readline().partition("\t")
        return int(steps), end.strip()


@contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    program = [sys.executable, str(killing.__file__), str(folder)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Killer(process)


def state(lake: ib.Lake, name: str) -> Any:
    """Return all that a reader sees of a table, its branches and tags too."""
    table = lake.session.catalog.load(name)
    refs = {ref: lake.table(name, snapshot=one.snapshot_id) for ref, one in table.pyiceberg.metadata.refs.items()}
    rows = {ref: sorted(map(str, found.to_pylist())) for ref, found in {"": lake.table(name), **refs}.items()}
    return rows, table.schema, table.partition_by, table.sort_by, dict(table.properties)


def prepared(lake: ib.Lake, name: str) -> None:
    """Make a table of several small files, of which rows are deleted, and with files that nothing refers to."""
    properties = {f"write.{verb}.mode": "merge-on-read" for verb in ("delete", "update", "merge")}
    lake.create(name, {"id": "long", "g": "string", "n": "long"}, partition_by=["g"], properties=properties)
    for part in range(3):
        ids = list(range(4 * part, 4 * part + 4))
        lake.write(name, {"id": ids, "g": ["a", "b", "c ü", None], "n": ids})
    lake.delete(name, "id = 6")


@pytest.mark.parametrize("seed", range(RUNS))
def test_work_that_is_killed_is_whole_or_undone_and_can_be_done_again(tmp_path: Path, seed: int) -> None:
    chosen, whole, kills = random.Random(seed), "n.twin", 0
    with ib.connect(tmp_path) as lake, killer(tmp_path) as do:
        for name in ("n.t", whole):
            prepared(lake, name)
        before = state(lake, "n.t")
        for work in killing.WORK:
            for name in ("n.t", whole):
                Path(lake.session.catalog.load(name).location, "data", "stray.parquet").touch()
            count, twins = snapshots(lake), snapshots(lake, whole)
            steps, end = do(whole, work)
            assert (end, steps > 0) == ("done", True), work
            after = state(lake, whole)
            step = chosen.randint(1, steps)
            _steps, end = do("n.t", work, step)
            kills += end == "killed"
            told = f"{work} killed at step {step} of {steps}"
            found = state(lake, "n.t")
            assert found in (before, after), told
            if before[0] != after[0]:
                assert snapshots(lake) - count == (found == after) * (snapshots(lake, whole) - twins), told
            early = chosen.random() < 0.5  # before it is done again, or after that
            if early:
                tidied(lake, found, told)
            if found == before:
                assert do("n.t", work)[1] == "done", told
                assert state(lake, "n.t") == after, told
            if not early:
                tidied(lake, after, told)
            before = after
        assert kills > len(killing.WORK) / 2


def snapshots(lake: ib.Lake, name: str = "n.t") -> int:
    return len(lake.session.catalog.load(name).pyiceberg.metadata.snapshots)


def tidied(lake: ib.Lake, expected: Any, told: str) -> None:
    """Remove what was left, and see that nothing else went, or stayed."""
    lake.remove_orphan_files("n.t", older_than=NOW, force=True)
    table = lake.session.catalog.load("n.t").pyiceberg
    reached = reachable(table)
    assert all(Path(path).exists() for path in reached), told
    assert on_disk(table) == inside(table, reached), told
    assert strangers(table) == set(), told
    assert state(lake, "n.t") == expected, told
    assert sorted(map(str, table.scan().to_arrow().to_pylist())) == expected[0][""], "PyIceberg sees the same"
