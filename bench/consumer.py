"""A training loop that only takes its batches: how long it waits for each, and the memory meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from bench.measure import family

SAMPLE_S = 0.5
LIMIT_S = 60.0  # of batches: whoever is not done by then is judged by the rows it gave

Batch: TypeAlias = "tuple[Any, list[str]]"
Batches: TypeAlias = "Callable[[], Iterator[Batch]]"


def consumed(batches: Batches, width: int, step_s: float = 0.0, steps: int = 0) -> Generator[int, None, dict[str, Any]]:
    """Take batches of a float tensor, shape (rows, width), and as many strings; each step takes `step_s`.

    Parameters
    ----------
    batches : callable
        Opens the dataset and returns its batches; what it does is measured, too.
    width : int
    step_s : float
        The time that a model would need [s].
    steps : int
        Stop after so many; 0 for all.

    Returns
    -------
    generator of int
        The rows of each batch; it returns the waits but for the first one [s], and the memory [bytes].
    """
    waits: list[float] = []
    begin = time.perf_counter()
    with peak_memory() as peak:
        found = batches()
        asked = begin
        for tensor, texts in found:
            waits.append(time.perf_counter() - asked)
            check(tensor, texts, width)
            yield len(texts)
            if step_s:
                time.sleep(step_s)
            asked = time.perf_counter()
            if len(waits) == steps or asked - begin > LIMIT_S:
                break
        after_first_s = time.perf_counter() - begin - waits[0]
        if isinstance(found, Generator):
            found.close()
        del found
    later = sorted(waits[1:]) or [0.0]
    p50, p99, most = (later[int(share * (len(later) - 1))] for share in (0.5, 0.99, 1.0))
    stalled = sum(later) / after_first_s if len(waits) > 1 else 0.0
    return {"p50_s": p50, "p99_s": p99, "max_s": most, "stalled": stalled, "steps": len(waits), **peak}


def check(tensor: Any, texts: list[str], width: int) -> None:
    """Refuse a batch that is not what was asked of all: a tensor of PyTorch or TensorFlow, and strings."""
    framework = type(tensor).__module__.partition(".")[0]
    shaped = framework in ("torch", "tensorflow") and tuple(tensor.shape) == (len(texts), width)
    if not shaped or "float32" not in str(tensor.dtype):
        raise TypeError(f"no float tensor of {len(texts)} rows: {type(tensor)}, {getattr(tensor, 'shape', '')}")
    if not isinstance(texts, list) or not isinstance(texts[0], str):
        raise TypeError(f"no list of strings: {type(texts)} of {type(texts[0])}")


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Watch the process and its children: added pages, shared ones in parts, and without those of mapped files."""
    before = memory()
    peak = {"pss_bytes": 0, "own_bytes": 0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            now = memory()
            for name in peak:
                peak[name] = max(peak[name], now[name] - before[name])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def memory() -> dict[str, int]:
    """Return the sizes of all pages and of those that belong to no file (proc(5), ``smaps_rollup``) [bytes]."""
    found = {"pss_bytes": 0, "own_bytes": 0}
    for pid in family():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except OSError:  # ended meanwhile
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        found["pss_bytes"] += sizes["Pss"]
        found["own_bytes"] += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
    return found
