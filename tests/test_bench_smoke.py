"""Each benchmark runs end to end on tiny data; nothing is said about how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import benching

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `bench` is no installed package

from bench.answers import difference
from bench.measure import Contestant, Result, measure
from bench.report import comparison
from bench.tpch_data import QUERIES, TABLES, qualified

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[str, str]]]:
    """Run benchmarks in one process, and return what each reports and how it failed."""
    environment = {**os.environ, "ICEBLINK_BENCH_DATA": str(tmp_path_factory.mktemp("data"))}
    with subprocess.Popen(
        [sys.executable, benching.__file__],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def ran(name: str, parts: list[str], only: list[str]) -> tuple[str, str]:
            print(json.dumps([name, parts, only]), file=asked, flush=True)
            report, problem = json.loads(told.readline())
            return report, problem

        yield ran
        asked.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "contestant"),
    [
        ("estimate", "iceblink, SizeStatistics"),
        ("udf", "map_batches identity"),
        ("pipeline", "iceblink"),
        ("scan", "iceblink"),
        ("remote", "iceblink"),
        ("write", "iceblink"),
        ("changes --parts merge", "iceblink, merge-on-read"),
        ("compaction", "iceblink"),
        ("layout", "fixed, lz4"),
        ("loaders", "iceblink, unshuffled"),
        ("transform", "processes"),
        ("driver", "scheduler, behind"),
        ("codecs --parts measurements", "as stored by default"),
        ("distinct", "join with statistics"),
        ("experiments", "iceblink"),
    ],
)
def test_a_benchmark_runs_small_without_a_failure(
    benches: Callable[..., tuple[str, str]], name: str, contestant: str
) -> None:
    module, *parts = name.split(" --parts ")
    report, problem = benches(module, parts, [contestant])
    assert problem == ""
    assert_says(report, contestant)


def assert_says(report: str, contestant: str) -> None:
    assert "failed" not in report
    assert "not the same rows" not in report
    assert f"| {contestant} " in report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "contestant"),
    [
        ("imports", "iceblink --help"),
        pytest.param("exchange --parts join", "iceblink", marks=pytest.mark.by_hand),  # these start a Ray
        pytest.param("planning", "iceblink plan_scan", marks=pytest.mark.by_hand),
        pytest.param("balance", "iceblink", marks=pytest.mark.by_hand),
        pytest.param("splits --parts map", "iceblink, a file a task", marks=pytest.mark.by_hand),
        pytest.param("learners", "iceblink", marks=pytest.mark.by_hand),
        pytest.param("forests", "iceblink", marks=pytest.mark.by_hand),
        pytest.param("dml", "iceblink", marks=pytest.mark.by_hand),
        pytest.param("gpu", "iceblink, copied beside", marks=pytest.mark.gpu),
    ],
)
def test_a_command_measures_in_fresh_processes(name: str, contestant: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", *f"bench.{name}".split(), "--small", "--runs", "1", "--only", contestant]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ICEBLINK_BENCH_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_says(done.stdout, contestant)


def test_what_is_not_done_in_time_is_ended_with_all_that_it_started() -> None:
    run: Any = subprocess.run
    seconds = f"600.{os.getpid()}"  # says whose it is
    result = measure(Contestant("sleeper", run), {"args": ["sleep", seconds]}, 1, limit_s=3)
    assert result.problem.startswith("not done in 3 s")
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if seconds in read(path)]


def read(path: Path) -> str:
    """Return a file of a process that may be gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_ratios_are_medians_over_the_same_turn() -> None:
    ours = [Result(wall_s=2, cpu_s=1, first_s=1, added_bytes=1), Result(wall_s=9, cpu_s=1, first_s=1, added_bytes=1)]
    theirs = [Result(wall_s=1, cpu_s=1, first_s=1, added_bytes=4), Result(wall_s=9, cpu_s=1, first_s=1, added_bytes=4)]
    row = comparison({"iceblink": ours, "peer": theirs}).splitlines()[3]
    assert [cell.strip() for cell in row.split("|")][7:11] == ["1.50", "1.00", "0.25", "1.00"]


def test_a_peer_that_is_missing_is_a_line_of_the_table() -> None:
    row = comparison({"peer": [Result(problem="not installed (peer)")]}).splitlines()[2]
    assert "not installed (peer)" in row


def test_different_row_counts_are_pointed_out() -> None:
    assert "not the same rows" in comparison({"iceblink": [Result(rows=1)], "peer": [Result(rows=2)]})


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [(1.0, 1.0 + 1e-12, True), (1.0, 1.001, False), ("a", "a", True), ("a", "b", False), (None, 0, False)],
)
def test_answers_are_equal_but_for_the_rounding_of_floats(
    value: object, expected: object, same: bool, tmp_path: Path
) -> None:
    for name, single in (("got", value), ("wanted", expected)):
        rows = pa.table({"v": [single]})
        with pa.ipc.new_file(tmp_path / name, rows.schema) as writer:
            writer.write_table(rows)
    assert (difference(tmp_path / "got", tmp_path / "wanted", 1e-9) == "") is same


def test_every_tpch_query_names_only_tables_of_tpch() -> None:
    assert len(QUERIES) == 22
    for sql in QUERIES.values():
        assert any(f"tpch.{name}" in qualified(sql) for name in TABLES)
