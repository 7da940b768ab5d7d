"""The `iceblink` command: its options, its exit status, and how it tells errors."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import iceblink as ib
from iceblink.cli import commands
from iceblink.cli.rows import FORMATS
from iceblink.errors import IceblinkError

DONE, BUG, MISTAKE, STOPPED = 0, 1, 2, 130

MODES = ("create", "append", "overwrite", "replace", "upsert")

EPILOG = """\
exit status:
  0  done
  1  a bug of iceblink: please report it with what --debug shows
  2  something is wrong with the command, the data or the lake; the message says what to do
  130  stopped with Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the only place that turns an error into one."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.run is None:
        parser.print_help()
        return DONE
    try:
        args.run(args)
        sys.stdout.flush()
        return DONE
    except IceblinkError as error:  # a user mistake: the message is the answer, not a traceback
        return tell(f"{error.code}: {error}", MISTAKE, args.debug)
    except KeyboardInterrupt:
        return tell("stopped", STOPPED, args.debug)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush is quiet
        return DONE
    except Exception as error:
        hint = "run it again with --debug for the traceback, and report that"
        return tell(f"this is a bug: {type(error).__name__}: {error}\n  hint  {hint}", BUG, args.debug)


def tell(message: str, status: int, debug: bool) -> int:
    """Print `message`, and with --debug the traceback before it, on stderr; return `status`."""
    if debug:
        traceback.print_exc()
    print(f"iceblink: {message}", file=sys.stderr)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command; a command's docstring is its help."""
    parser = argparse.ArgumentParser(
        prog="iceblink",
        description="One typed, lazy dataset over an Iceberg lakehouse.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"iceblink {ib.__version__}")
    parser.set_defaults(run=None)
    add_lake(parser, os.environ.get("ICEBLINK_LAKE", "lakehouse"), None, False)
    group = parser.add_subparsers(metavar="COMMAND", title="commands")

    sql = add_command(group, commands.sql)
    sql.add_argument("query", metavar="QUERY", help="one SQL statement; - reads it from standard input")
    sql.add_argument("--explain", action="store_true", help="print the plan instead of running it")
    sql.add_argument("--analyze", action="store_true", help="run it, and print the plan with what really happened")
    add_output(sql)

    tables = add_command(group, commands.tables)
    tables.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="only the tables of this namespace")
    add_output(tables)

    describe = add_command(group, commands.describe)
    describe.add_argument("table", metavar="TABLE")
    add_output(describe)

    history = add_command(group, commands.history)
    history.add_argument("table", metavar="TABLE")
    add_output(history)

    load = add_command(group, commands.import_)
    load.add_argument("table", metavar="TABLE", help="namespace.table")
    load.add_argument("files", nargs="+", metavar="FILE", help="one or more paths or quoted patterns")
    load.add_argument("--mode", choices=MODES, help="default: append, or create if there is no such table")
    load.add_argument("--on", action="append", metavar="COLUMN", help="a key column of --mode upsert; may be repeated")
    for option, example in (("--partition-by", "month(ts)"), ("--sort-by", "ts")):
        load.add_argument(option, action="append", default=[], metavar="TERM", help=f"of a new table, like '{example}'")

    export = add_command(group, commands.export)
    export.add_argument("source", metavar="SOURCE", help="a table, or a query in quotes")
    export.add_argument("file", metavar="FILE", help="ends with .parquet, .csv, .jsonl or .arrow")

    catalog = group.add_parser("catalog", help="share the lake with other engines", description="Share the lake.")
    serve = add_command(catalog.add_subparsers(metavar="COMMAND", title="commands", required=True), commands.serve)
    serve.add_argument("path", nargs="?", metavar="PATH", help="folder of the lake, made if absent (default: --lake)")
    serve.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; others need --token-file")
    serve.add_argument("--port", type=int, default=8181, help="default: 8181; 0 takes one that is free")
    serve.add_argument("--token-file", metavar="FILE", help="bearer tokens, one a line; 'read-only' behind one")

    demo = add_command(group, commands.demo)
    demo.add_argument("--output", metavar="FOLDER", default="demo-output", help="default: ./demo-output")
    return parser


Group = argparse._SubParsersAction  # argparse has no public name for what add_subparsers() returns


def add_command(group: Group[argparse.ArgumentParser], run: Callable[..., None]) -> argparse.ArgumentParser:
    """Add the command `run`: named by its function, explained by its docstring."""
    text = run.__doc__ or ""
    name = run.__name__.rstrip("_")
    summary = text.partition("\n")[0].rstrip(".")
    parser = group.add_parser(name, help=summary[:1].lower() + summary[1:], description=text)
    parser.set_defaults(run=run)
    add_lake(parser, *[argparse.SUPPRESS] * 3)  # may stand before or after the command's name
    return parser


def add_lake(parser: argparse.ArgumentParser, lake: str, catalog: str | None, debug: bool | str) -> None:
    """Add the options that every command has, with these defaults."""
    parser.add_argument("--lake", metavar="PATH", default=lake, help="folder (default: $ICEBLINK_LAKE or ./lakehouse)")
    parser.add_argument("--catalog", metavar="NAME", default=catalog, help="a catalog of PyIceberg's configuration")
    parser.add_argument("--debug", action="store_true", default=debug, help="show the traceback of an error")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that prints rows."""
    parser.add_argument("--format", choices=FORMATS, help="default: table in a terminal, csv in a pipe; json is lines")
    parser.add_argument("--rows", type=int, default=40, metavar="N", help="rows shown as a table (default: 40)")
