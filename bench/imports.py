"""How long iceblink takes to be imported, and to answer for the first time: ``python -m bench.imports``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.report import middle, problem_of, problems, seconds, table
from bench.tpch_data import ensure_lake

TITLE = "Start-up"
NATION = "tpch.nation"
FIT = (
    "from iceblink import causal as ci; ci.LinearPLR('c_acctbal', 'c_nationkey', ['c_custkey'], key='c_custkey')"
    ".fit(lake.table('tpch.customer'))"
)
SCALE = 0.01


def starting(*command: str) -> Job:
    """Return a job that runs one command to its end."""

    def job() -> Generator[int, None, None]:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
        yield 1

    return job


def bare() -> Job:
    return starting(sys.executable, "-c", "pass")


def import_iceblink() -> Job:
    return starting(sys.executable, "-c", "import iceblink")


def iceblink_help() -> Job:
    return starting(str(Path(sys.executable).with_name("iceblink")), "--help")


def used(folder: str, words: str) -> Job:
    """Return a job that opens the TPC-H lake and says `words` to it."""
    opened = f"import iceblink as ib; lake = ib.connect({folder!r}); "
    return starting(sys.executable, "-c", opened + words)


def list_tables(folder: str) -> Job:
    return used(folder, "lake.tables()")


def scan_table(folder: str) -> Job:
    return used(folder, f"lake.table({NATION!r}).to_arrow()")


def run_sql(folder: str) -> Job:
    return used(folder, f"lake.sql('SELECT count(*) FROM {NATION} WHERE n_nationkey < 5').to_arrow()")


def run_verb(folder: str) -> Job:
    return used(folder, f"lake.table({NATION!r}).filter(ib._.n_nationkey < 5).to_arrow()")


def import_causal() -> Job:
    return starting(sys.executable, "-c", "from iceblink import causal")


def fit(folder: str) -> Job:
    return used(folder, FIT)


def summarize(folder: str) -> Job:
    return used(folder, f"{FIT}.summary()")


def import_pyarrow() -> Job:
    return starting(sys.executable, "-c", "import pyarrow")


def import_duckdb() -> Job:
    return starting(sys.executable, "-c", "import duckdb")


def import_pyiceberg() -> Job:
    return starting(sys.executable, "-c", "import pyiceberg.catalog.sql")


def import_ibis() -> Job:
    return starting(sys.executable, "-c", "import ibis")


def import_polars() -> Job:
    return starting(sys.executable, "-c", "import polars")


def import_daft() -> Job:
    return starting(sys.executable, "-c", "import daft")


STARTS = (
    Contestant("python -c pass", bare),
    Contestant("import iceblink", import_iceblink, ("iceblink",)),
    Contestant("iceblink --help", iceblink_help, ("iceblink",)),
    Contestant("import iceblink.causal", import_causal, ("iceblink", "scipy")),
    Contestant("import pyarrow", import_pyarrow, ("pyarrow",)),
    Contestant("import duckdb", import_duckdb, ("duckdb",)),
    Contestant("import pyiceberg.catalog.sql", import_pyiceberg, ("pyiceberg",)),
    Contestant("import ibis", import_ibis, ("ibis",)),
    Contestant("import polars", import_polars, ("polars",)),
    Contestant("import daft", import_daft, ("daft",)),
)
FIRST_ANSWERS = (
    Contestant("list the tables", list_tables, ("iceblink",)),
    Contestant("scan a table", scan_table, ("iceblink",)),
    Contestant("a SQL query", run_sql, ("iceblink",)),
    Contestant("a verb", run_verb, ("iceblink",)),
    Contestant("an effect", fit, ("iceblink", "scipy")),
    Contestant("its summary", summarize, ("iceblink", "scipy")),
)


def report(options: Options) -> str:
    """Measure each start three times as often as asked: it is short, and its noise is not."""
    options = replace(options, runs=1 if options.small else 3 * options.runs)
    results = in_turns(options.chosen(STARTS), {}, options.runs, options.cpus)
    if answers := options.chosen(FIRST_ANSWERS):
        results |= in_turns(answers, {"folder": str(ensure_lake(SCALE))}, options.runs, options.cpus)
    rows = []
    for name, measured in results.items():
        if problem := problem_of(measured):
            rows.append([name, problem.partition(":")[0], "", ""])
            continue
        wall_s, cpu_s = middle(measured, lambda one: one.wall_s), middle(measured, lambda one: one.cpu_s)
        none_yet = results.get(STARTS[0].name, ())
        over = f"{wall_s - middle(none_yet, lambda one: one.wall_s):.3f}" if none_yet else "-"
        rows.append([name, seconds(wall_s), over, seconds(cpu_s)])
    return f"{heading(TITLE, options)}\n{table(['', 'wall s', 'over bare s', 'CPU s'], rows)}{problems(results)}\n"


if __name__ == "__main__":
    print(report(read_options(TITLE)))
