"""The functions that the contract's workers run; a module of its own, which worker processes can import too."""

from __future__ import annotations

import ctypes
import itertools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from iceblink.errors import SchemaMismatch
from iceblink.plan.function import Function
from iceblink.run.pipeline.backend import PAUSED, Call, Order, Output, Work
from iceblink.run.pipeline.worker import MapWork
from iceblink.scan.batch import Batch


def order(work: Work, *, processes: bool, label: str = "op", timeout_s: float | None = None, gpus: float = 0) -> Order:
    """Return an order for workers that need no building."""
    return Order(label, partial(_built, work), processes, gpus, timeout_s)


def _built(work: Work) -> Work:
    return work


def numbers(rows: int, first: int = 0) -> Batch:
    """Return the integers from `first` on."""
    return Batch(pa.record_batch({"n": pa.array(range(first, first + rows), pa.int64())}), "numbers.parquet", first)


def value(data: Any) -> Batch:
    """Return one value as a batch."""
    return Batch(pa.record_batch({"value": pa.array([data])}), "", 0)


def same(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Give back each part."""
    done = 0
    for part in call.parts:
        begun(done)
        begun(PAUSED)
        done += part.data.num_rows
        yield Output("rows", part, done)


def count_builds(folder: str) -> Work:
    """Build a work that tells its process, after leaving a trace of having been built."""
    (Path(folder) / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return told_process


def told_process(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    yield Output("rows", value(os.getpid()))


def cannot_build() -> Work:
    raise SchemaMismatch("no such model", "op", "find one")


def endless(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Give numbers until stopped; leave one file per output begun in the folder that the input names."""
    folder = Path(call.parts[0].data.column(0)[0].as_py())
    for n in itertools.count():
        (folder / str(n)).touch()
        yield Output("rows", value(n))


def until_a_file(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Give one output, and another one once the file exists that the input names."""
    yield Output("rows", value(1))
    named = Path(call.parts[0].data.column(0)[0].as_py())
    while not named.exists():
        time.sleep(0.001)
    yield Output("rows", value(2))


def fails_on_odd(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    for part in call.parts:
        if part.data.column(0)[0].as_py() % 2:
            raise SchemaMismatch("it is odd", "op, row 1", "give even ones")
        yield Output("rows", part, part.data.num_rows)


class Strange(Exception):
    """An error that pickles and cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fails_strangely(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    raise Strange(1, 2)


def leaves_python(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    sys.exit(3)


def sleeps(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Never come back."""
    yield Output("rows", call.parts[0], 1)
    begun(1)
    time.sleep(3600)


def holds_the_lock(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Never come back, and let no other thread of the process run."""
    yield Output("rows", call.parts[0], 1)
    ctypes.PyDLL(None).sleep(3600)


def ten_million(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Give ten million rows at once."""
    yield Output("rows", Batch(pa.record_batch({"n": np.arange(10_000_000)}), "", 0))


def dies(how: str, call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
    """Give one output and take the process along."""
    yield Output("rows", call.parts[0], 1)
    begun(1)
    DEATHS[how]()


class Aside:
    """Calls that may be made ahead: the rows of the first can be looked at once a file has a name.

    Each call, and the end, leaves a file that says in which thread it was; the one with row 1 then does `second`.
    """

    def __init__(self, folder: str, shown: str = "called 1", second: str = "goes on") -> None:
        self.folder, self.shown, self.second = Path(folder), shown, second
        self.noted("built")

    def noted(self, what: str) -> None:
        part = self.folder / "part"
        part.write_text(str(threading.get_ident()))
        part.rename(self.folder / what)

    def __call__(self, batch: pa.RecordBatch) -> dict[str, Any]:
        row = batch["n"][0].as_py()
        time.sleep(0.3 if row == 0 else 0.002)  # a short call is not made ahead; by then the next task has come
        self.noted(f"called {row}")
        if row == 1 and self.second == "waits":
            seen(self.folder / "go on")
        elif row == 1 and self.second in DEATHS:
            DEATHS[self.second]()
        columns = {"n": batch["n"]}
        return Late(self.folder / self.shown, columns) if row == 0 else columns

    def close(self) -> None:
        self.noted("closed")


class Late(dict[str, Any]):
    """Columns that can be looked at once a file exists."""

    def __init__(self, file: Path, columns: dict[str, Any]) -> None:
        super().__init__(columns)
        self.file = file

    def items(self) -> Any:
        seen(self.file)
        return super().items()


def seen(file: Path) -> None:
    """Wait until a file exists; or until whoever waits for us has given up."""
    end = time.monotonic() + 90
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.001)


def aside(*how: str) -> Callable[[], Work]:
    """Return what builds workers that call an `Aside`."""
    return MapWork((Function(partial(Aside, *how)),))


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _crash() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def _exhaust() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(4 << 30)


def _close_everything() -> None:
    os.closerange(3, 1000)


def _orphan() -> None:
    """Die while a forked child still has all of our descriptors."""
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
    os._exit(7)


DEATHS: dict[str, Callable[[], Any]] = {
    "exits 0": lambda: os._exit(0),
    "exits 1": lambda: os._exit(1),
    "is killed": _kill,
    "crashes": _crash,
    "exhausts its memory": _exhaust,
    "leaves a child": _orphan,
    "closes everything": _close_everything,
}
