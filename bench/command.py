"""The command line that every benchmark has: how often, how big, on how many processors."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from bench.measure import LIMIT_S, Contestant

T = TypeVar("T")

DATA = Path(os.environ.get("ICEBLINK_BENCH_DATA", Path(__file__).resolve().parent / "data"))


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Parameters
    ----------
    runs : int
        Measurements of each contestant.
    small : bool
        Tiny data: does it work, not how fast is it.
    cpus : int
        Processors each contestant may use.
    gb : float
        Size of what is written, where a benchmark writes [decoded GB].
    rows : int
        Of the table that loaders read.
    files : int
        Of a table that has very many.
    limit_s : int
        What is not done by then is ended, and told so [s].
    only : tuple of str
        Contestants whose names begin so, in any case; all if empty.
    parts : tuple of str
        Parts of a benchmark that has several, by the beginnings of their names; all if empty.
    """

    runs: int = 3
    small: bool = False
    cpus: int = 2
    gb: float = 5.0
    rows: int = 1_000_000
    files: int = 10_000
    limit_s: int = LIMIT_S
    only: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def chosen(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        """Return the contestants that were asked for."""
        starts = tuple(start.lower() for start in self.only) or ("",)
        return [one for one in contestants if one.name.lower().startswith(starts)]

    def wants(self, part: str) -> bool:
        """Whether this part of a benchmark was asked for."""
        return part.startswith(self.parts or ("",))

    def some(self, variants: Sequence[T]) -> Sequence[T]:
        """Return what is varied; of a small run the first variant is enough."""
        return variants[:1] if self.small else variants


def read_options(title: str) -> Options:
    """Parse the command line ; `title` is the help text."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--runs", type=int, default=3, help="measurements of each contestant (3)")
    parser.add_argument("--small", action="store_true", help="tiny data: shows that it runs, not how fast")
    parser.add_argument("--cpus", type=int, default=min(2, os.cpu_count() or 1), help="processors each may use (2)")
    parser.add_argument("--gb", type=float, default=5.0, help="decoded size of the stream that is written (5)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table that loaders read (1000000)")
    parser.add_argument("--files", type=int, default=10_000, help="files of a table that has very many (10000)")
    parser.add_argument("--limit-s", type=int, default=LIMIT_S, help=f"most seconds of a measurement ({LIMIT_S})")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="contestants whose names begin so")
    parser.add_argument("--parts", nargs="+", default=(), metavar="PART", help="parts whose names begin so")
    given = vars(parser.parse_args())
    return Options(**{**given, "only": tuple(given["only"]), "parts": tuple(given["parts"])})


def heading(title: str, options: Options) -> str:
    """Return the title of a benchmark with the conditions of this run."""
    size = "small data, no conclusions" if options.small else "full size"
    return f"## {title}\n\n{options.runs} runs in turns, {options.cpus} CPUs, {size}; {machine()}; {versions()}.\n"


def machine() -> str:
    """Return what the numbers were taken on."""
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def versions() -> str:
    """Return the installed versions of the contestants."""
    names = ("pyarrow", "pyiceberg", "duckdb", "polars", "daft", "pyspark")
    return ", ".join(f"{name} {installed(name)}" for name in names)


def installed(name: str) -> str:
    """Return the version of a package, or a dash."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
