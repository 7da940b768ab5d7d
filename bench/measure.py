"""Run contestants in turns, each measurement in a fresh process, and bring back what each one cost.

A contestant is a function that imports what it needs, opens its table and returns a `Job`. Only the job is
measured: wall and CPU time, the memory it added to the process (and its children), and the time to the first batch.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 1200  # a contestant that hangs is a result, too
TICKS = os.sysconf("SC_CLK_TCK")
MARK = "RESULT "
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of what is measured: as of an installed package, modules are compiled once, not by each process."""

Job = Callable[[], Generator[int, None, Any]]
"""A generator: it yields the number of rows of each batch it lets go of, and may return a JSON detail."""


@dataclass(frozen=True)
class Contestant:
    """A name in the table, and the module-level function that sets it up.

    Parameters
    ----------
    name : str
        As printed.
    setup : callable
        Called in the fresh process with the arguments of the measurement; returns the `Job`.
    requires : tuple of str
        Packages without which the contestant is reported as not installed.
    python : str
        The interpreter of an environment that has them; empty for this one.
    """

    name: str
    setup: Callable[..., Job]
    requires: tuple[str, ...] = ()
    python: str = ""


@dataclass(frozen=True)
class Result:
    """What one measurement cost; with a `problem` the numbers mean nothing.

    Parameters
    ----------
    wall_s, cpu_s, first_s : float
        Wall time, user and system time of the process and its children, time to the first batch [s].
    added_bytes : int
        Peak resident memory over what was resident after set-up [bytes].
    rows : int
        Rows delivered.
    detail : object
        What the job returned.
    problem : str
        Why there is no measurement: a missing package, or the last line of the error.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    first_s: float = 0.0
    added_bytes: int = 0
    rows: int = 0
    detail: Any = field(default=None)
    problem: str = ""


def in_turns(
    contestants: Sequence[Contestant], arguments: Mapping[str, Any], runs: int, cpus: int, limit_s: int = LIMIT_S
) -> dict[str, list[Result]]:
    """Measure A B C, A B C, ... so that a slow minute of the machine hits everyone; problems are not tried again."""
    results: dict[str, list[Result]] = {contestant.name: [] for contestant in contestants}
    for turn in range(runs):
        for contestant in contestants:
            so_far = results[contestant.name]
            if so_far and so_far[-1].problem:
                continue
            print(f"  {turn + 1}/{runs} {contestant.name}", file=sys.stderr, flush=True)
            so_far.append(measure(contestant, arguments, cpus, limit_s))
    return results


def measure(contestant: Contestant, arguments: Mapping[str, Any], cpus: int, limit_s: int = LIMIT_S) -> Result:
    """Run `contestant` once in a fresh process that may use `cpus` processors, and end it after `limit_s`."""
    for package in contestant.requires:
        if not contestant.python and importlib.util.find_spec(package) is None:
            return Result(problem=f"not installed ({package})")
    order = json.dumps({"setup": address(contestant.setup), "arguments": dict(arguments), "cpus": cpus})
    command = [contestant.python or sys.executable, "-m", "bench.measure", order]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=COMPILED, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            stdout, stderr = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            end_family(process.pid)
            stdout, stderr = process.communicate()
            said = stderr.strip().splitlines() or ["nothing"]
            return Result(problem=f"not done in {limit_s} s: last said {said[-1]}")
        except BaseException:
            end_family(process.pid)
            raise
    lines = [line for line in stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        said = stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        return Result(problem=f"failed: {said[-1]}")
    return Result(**json.loads(lines[-1].removeprefix(MARK)))


def end_family(root: int) -> None:
    """Kill a process and all that descend from it, such as a Ray of its own; those first that could start others."""
    for pid in family(root):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def address(function: Callable[..., Any]) -> str:
    """Return ``module:name``, also when the module was started as a script by ``python -m``."""
    module = function.__module__
    spec = sys.modules["__main__"].__spec__
    if module == "__main__" and spec is not None:
        module = spec.name
    return f"{module}:{function.__name__}"


def measured(job: Job) -> Result:
    """Run `job` in this process to its end, dropping its batches."""
    gc.collect()
    before_bytes, before_cpu_s = family_peak_bytes(reset=True), family_cpu_s()
    start = time.perf_counter()
    rows, first_s, detail = 0, 0.0, None
    batches = job()
    while True:
        try:
            rows += next(batches)
        except StopIteration as end:
            detail = end.value
            break
        first_s = first_s or time.perf_counter() - start
    wall_s = time.perf_counter() - start
    return Result(
        wall_s=wall_s,
        cpu_s=family_cpu_s() - before_cpu_s,
        first_s=first_s or wall_s,
        added_bytes=family_peak_bytes() - before_bytes,
        rows=rows,
        detail=detail,
    )


def family(root: int = 0) -> list[int]:
    """Return the ids of a process, 0 for this one, and of all that descend from it (a JVM, worker processes)."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(int(entry))):
            parents[int(entry)] = int(fields[1])
    members = [root or os.getpid()]
    for member in members:  # grows while it is walked
        members.extend(pid for pid, parent in parents.items() if parent == member)
    return members


def stat_fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the state on, or nothing when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def family_cpu_s() -> float:
    """Return the user and system time of this process, of its ended children and of those that live [s]."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    for pid in family()[1:]:
        total += sum(int(ticks) for ticks in stat_fields(pid)[11:15]) / TICKS
    return total


def family_peak_bytes(reset: bool = False) -> int:
    """Return the sum of the peak resident sizes [bytes]; `reset` first brings each peak down to what is resident now.

    The kernel keeps the peak exactly, so no thread has to sample it (proc(5), ``clear_refs`` and ``VmHWM``).
    """
    total = 0
    for pid in family():
        try:
            if reset:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # ended meanwhile
            continue
        total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return total


def main(order: str) -> None:
    """Carry out one measurement ordered by `measure` and print its result as one line."""
    wanted = json.loads(order)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: wanted["cpus"]])
    module, _, name = wanted["setup"].partition(":")
    try:
        setup: Callable[..., Job] = getattr(importlib.import_module(module), name)
        result = measured(setup(**wanted["arguments"]))
    except Exception as error:  # any failure of a peer is a result, not a reason to stop
        traceback.print_exc()
        result = Result(problem=f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    print(MARK + json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
