"""One function a command: a few public words between the arguments and the output."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

import iceblink as ib
from iceblink.cli.rows import print_rows, save_rows
from iceblink.errors import ConfigError
from iceblink.interop import optional
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset
    from iceblink.lakehouse import Lake
    from iceblink.run.write import Mode


def sql(args: Namespace) -> None:
    """Run a SQL statement and print its rows."""
    query = sys.stdin.read() if args.query == "-" else args.query
    with connected(args) as lake:
        answer = lake.sql(query)
        if args.explain or args.analyze:
            print(answer.explain(analyze=args.analyze))
        else:
            show(answer, args)


def tables(args: Namespace) -> None:
    """List the tables of the lake."""
    with connected(args) as lake:
        show(lake.from_arrow(pa.table({"table": pa.array(lake.tables(args.namespace), pa.string())})), args)


def describe(args: Namespace) -> None:
    """Show the columns of a table and their types."""
    with connected(args) as lake:
        schema = lake.table(args.table).schema
        columns = {
            "column": schema.names,
            "type": [show_type(field.type) for field in schema],
            "nullable": [field.nullable for field in schema],
        }
        show(lake.from_arrow(pa.table(columns)), args)


def history(args: Namespace) -> None:
    """Show the snapshots of a table, as they were committed."""
    with connected(args) as lake:
        snapshots = lake.history(args.table)
        show(snapshots.select(*(name for name in snapshots.columns if name != "parent_id"), "parent_id"), args)


def import_(args: Namespace) -> None:
    """Write Parquet, CSV or JSON lines files into a table in one commit."""
    with connected(args) as lake, ib.watching():
        rows = reduce(lambda one, other: one.union(other), [read(lake, file) for file in args.files])
        mode: Mode = args.mode or ("append" if args.table in lake.tables() else "create")
        rows.write(args.table, mode, on=args.on, partition_by=args.partition_by, sort_by=args.sort_by)


def export(args: Namespace) -> None:
    """Save a table or a query's rows as one Parquet, CSV, JSON lines or Arrow file."""
    with connected(args) as lake, ib.watching():
        is_query = any(character.isspace() for character in args.source)
        save_rows(lake.sql(args.source) if is_query else lake.table(args.source), Path(args.file))


def demo(args: Namespace) -> None:
    """Carry a year of New York's flights through the main job."""
    # By name, so that the other commands do not wait for what the demo imports.
    importlib.import_module("iceblink.demo.main").run_demo(Path(args.output))


def serve(args: Namespace) -> None:
    """Serve the lake as an Iceberg REST catalog until it is stopped; other engines share its tables that way."""
    for package in ("fastapi", "uvicorn"):
        optional(package, extra="serve")
    if args.path is not None:
        args.lake = args.path
    with connected(args) as lake:
        where = args.catalog or str(Path(args.lake).absolute())
        server = importlib.import_module("iceblink.rest.server")
        server.serve(lake.session.catalog, args.host, args.port, args.token_file, where)


def connected(args: Namespace) -> Lake:
    """Open the lake that the arguments name; only `import` and `serve` make one that is not there."""
    if args.catalog:
        return ib.connect(catalog=args.catalog)
    if args.run not in (import_, serve) and not Path(args.lake).is_dir():
        raise ConfigError(f"no lake in {args.lake!r}", "--lake", "name another, or begin with: iceblink import")
    return ib.connect(args.lake)


def show(rows: Dataset, args: Namespace) -> None:
    """Print `rows` as asked for: a table in a terminal, CSV in a pipe, unless --format says otherwise."""
    form = args.format or ("table" if sys.stdout.isatty() else "csv")
    print_rows(rows, form, args.rows)


def read(lake: Lake, path: str) -> Dataset:
    """Return the rows of the files at `path`, a pattern perhaps, read as what its ending says."""
    endings = Path(path).suffixes
    if ".parquet" in endings:
        return lake.read_parquet(path)
    if ".csv" in endings:
        return lake.read_csv(path)
    if {".json", ".jsonl", ".ndjson"}.intersection(endings):
        return lake.read_json(path)
    raise ConfigError(f"cannot tell what {path!r} holds", "import", "name it .parquet, .csv, .json, .jsonl or .ndjson")
