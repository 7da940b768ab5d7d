"""The command line that every benchmark has: how often, how big, on how many processors."""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"


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
    """

    runs: int = 3
    small: bool = False
    cpus: int = 2
    gb: float = 5.0


def read_options(title: str) -> Options:
    """Parse the command line ; `title` is the help text."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--runs", type=int, default=3, help="measurements of each contestant (3)")
    parser.add_argument("--small", action="store_true", help="tiny data: shows that it runs, not how fast")
    parser.add_argument("--cpus", type=int, default=min(2, os.cpu_count() or 1), help="processors each may use (2)")
    parser.add_argument("--gb", type=float, default=5.0, help="decoded size of the stream that is written (5)")
    return Options(**vars(parser.parse_args()))


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
