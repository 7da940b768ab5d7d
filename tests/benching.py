"""A process that runs benchmarks on tiny data, one after the other: ``python benching.py``.

A line on standard input is a JSON list of a module of ``bench``, parts of it, and the contestants that are measured;
the answer is a JSON list of the report, and of how it failed. What is measured runs in this process rather than in a
fresh one each time: imports would take most of the time.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `bench` is no installed package

import bench.measure
from bench.command import Options
from bench.measure import Contestant, Result, measured


def here(contestant: Contestant, arguments: Mapping[str, Any], cpus: int, limit_s: int = 0) -> Result:
    """Measure in this process, with what would come through to a fresh one."""
    told = json.loads(json.dumps(dict(arguments)))
    return Result(**json.loads(json.dumps(asdict(measured(contestant.setup(**told))))))


def main() -> None:
    """Run what is asked for, line by line."""
    bench.measure.measure = here
    for line in sys.stdin:
        name, parts, only = json.loads(line)
        report, problem = "", ""
        try:
            with redirect_stdout(sys.stderr):
                options = Options(runs=1, small=True, only=tuple(only), parts=tuple(parts))
                report = import_module(f"bench.{name}").report(options)
        except Exception:
            problem = traceback.format_exc()
        print(json.dumps([report, problem]), flush=True)


if __name__ == "__main__":
    main()
