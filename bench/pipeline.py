"""Python stages side by side: a device kept busy, and a stage that inflates its data: ``python -m bench.pipeline``.

The device is simulated: one worker that holds it for a fixed time per batch, behind a stage that computes for 80 % of
that time per batch. What counts is the part of the time, from its first batch to its last, in which it was busy.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, Result, in_turns
from bench.numbers_table import NAME, ensure_numbers
from bench.report import comparison, middle, problem_of, table

TITLE = "Stages side by side"
DEMAND = 0.8
INFLATION = 50
PAYLOAD = 20_000  # bytes a row, before it is inflated
BUDGET = 1 << 30


def computed(seconds: float) -> None:
    """Compute for so long, as preprocessing in native code does: mostly without the interpreter's lock."""
    end = time.thread_time() + seconds
    block = bytes(1 << 16)
    while time.thread_time() < end:
        hashlib.sha256(block)


class Prepare:
    """The stage before the device."""

    def __init__(self, device_s: float) -> None:
        self.seconds = DEMAND * device_s

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        computed(self.seconds)
        return {"id": batch["id"], "x": batch["x"]}


class Device:
    """Held for a fixed time per batch; each row tells when."""

    def __init__(self, device_s: float) -> None:
        self.seconds = device_s

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        begin = time.time()
        time.sleep(self.seconds)
        rows = len(batch["id"])
        return {"begin": np.full(rows, begin), "end": np.full(rows, time.time())}


def busy_part(spans: Iterable[tuple[float, float]]) -> float:
    """Return the part of the time from the first begin to the last end that lies in some span."""
    known = sorted(set(spans))
    return sum(end - begin for begin, end in known) / (known[-1][1] - known[0][0])


def ours(folder: str, rows: int, batch_rows: int, device_s: float) -> Job:
    """Threads, one worker at the device, up to one a CPU before it."""
    return _ours(folder, rows, batch_rows, device_s, processes=False)


def ours_processes(folder: str, rows: int, batch_rows: int, device_s: float) -> Job:
    """The stage before the device in processes."""
    return _ours(folder, rows, batch_rows, device_s, processes=True)


def _ours(folder: str, rows: int, batch_rows: int, device_s: float, processes: bool) -> Job:
    from functools import partial

    import iceblink as ib

    source = ib.connect(folder).table(NAME).limit(rows)
    prepared = source.map_batches(
        partial(Prepare, device_s),
        batch_size=batch_rows,
        batch_format="numpy",
        workers=(1, 2),
        processes=processes,
        schema={"id": "long", "x": "double"},
    )
    done = prepared.map_batches(
        partial(Device, device_s),
        batch_size=batch_rows,
        batch_format="numpy",
        cpus=0,
        schema={"begin": "double", "end": "double"},
    )

    def job() -> Generator[int, None, float]:
        spans = []
        for batch in done.to_batches():
            spans += list(zip(batch["begin"].to_pylist(), batch["end"].to_pylist(), strict=True))
            yield batch.num_rows
        return busy_part(spans)

    return job


def ray_data(folder: str, rows: int, batch_rows: int, device_s: float) -> Job:
    """Ray Data: two pools of actors."""
    import ray
    import ray.data

    numbers = _numbers(folder, rows)
    ray.init(num_cpus=3, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def job() -> Generator[int, None, float]:
        prepared = ray.data.from_arrow([numbers.slice(start, 4096) for start in range(0, rows, 4096)]).map_batches(
            Prepare, fn_constructor_args=(device_s,), batch_size=batch_rows, batch_format="numpy", concurrency=2
        )
        done = prepared.map_batches(
            Device,
            fn_constructor_args=(device_s,),
            batch_size=batch_rows,
            batch_format="numpy",
            concurrency=1,
            num_cpus=0.5,
        )
        spans = []
        for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
            spans += list(zip(batch["begin"].tolist(), batch["end"].tolist(), strict=True))
            yield len(batch["begin"])
        return busy_part(spans)

    return job


def daft_native(folder: str, rows: int, batch_rows: int, device_s: float) -> Job:
    """Daft: two classes with their own processes."""
    import daft

    numbers = _numbers(folder, rows)
    span = daft.DataType.struct({"begin": daft.DataType.float64(), "end": daft.DataType.float64()})

    @daft.cls(max_concurrency=2, use_process=True)
    class Preparing:
        def __init__(self, device_s: float) -> None:
            self.work = Prepare(device_s)

        @daft.method.batch(return_dtype=daft.DataType.int64(), batch_size=batch_rows)  # type: ignore[untyped-decorator]
        def prepare(self, ids: daft.Series) -> Any:
            return pa.array(self.work({"id": np.asarray(ids.to_arrow()), "x": None})["id"])

    @daft.cls(max_concurrency=1, use_process=True)
    class Holding:
        def __init__(self, device_s: float) -> None:
            self.work = Device(device_s)

        @daft.method.batch(return_dtype=span, batch_size=batch_rows)  # type: ignore[untyped-decorator]
        def hold(self, ids: daft.Series) -> Any:
            made = self.work({"id": np.asarray(ids.to_arrow())})
            return pa.StructArray.from_arrays([pa.array(made["begin"]), pa.array(made["end"])], ["begin", "end"])

    def job() -> Generator[int, None, float]:
        prepare, hold = Preparing(device_s), Holding(device_s)
        frame = daft.from_arrow(numbers).into_batches(batch_rows)
        frame = frame.select(prepare.prepare(daft.col("id")).alias("id")).select(hold.hold(daft.col("id")).alias("s"))
        spans = []
        for batch in frame.to_arrow_iter():
            found = batch["s"].to_pylist()
            spans += [(one["begin"], one["end"]) for one in found]
            yield len(found)
        return busy_part(spans)

    return job


def _numbers(folder: str, rows: int) -> pa.Table:
    """Return the same rows in memory: peers are spared the reading."""
    from bench.mixed import open_catalog

    return open_catalog(Path(folder)).load_table(NAME).scan(limit=rows, selected_fields=("id", "x")).to_arrow()


def inflate(batch: pa.RecordBatch | pa.Table) -> pa.RecordBatch:
    """Make a megabyte of each row."""
    size = PAYLOAD * INFLATION
    data = np.full((batch.num_rows, size), 7, np.uint8)
    offsets = pa.array(np.arange(batch.num_rows + 1) * size, pa.int64())
    large = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), batch.num_rows, [None, offsets.buffers()[1], pa.py_buffer(data)]
    )
    ids = batch["id"].combine_chunks() if isinstance(batch, pa.Table) else batch["id"]
    return pa.record_batch({"id": ids, "large": large})


def deflate(batch: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
    """Count the bytes of each row."""
    return type(batch).from_pydict({"id": batch["id"], "bytes": pa.compute.binary_length(batch["large"])})


def inflated(folder: str, rows: int) -> Job:
    """Small rows become large ones in the middle and small ones again, inside a budget of 1 GiB."""
    import iceblink as ib

    lake = ib.connect(folder, engine=ib.LocalEngine(memory_bytes=BUDGET))
    done = lake.table(NAME).limit(rows).map_batches(inflate, batch_size=16).map_batches(deflate)

    def job() -> Generator[int, None, float]:
        total = 0
        for batch in done.to_batches():
            total += pa.compute.sum(batch["bytes"]).as_py()
            yield batch.num_rows
        return total / 2**30

    return job


def ray_inflated(folder: str, rows: int) -> Job:
    """The same with Ray Data; its budget is the object store."""
    import ray
    import ray.data

    numbers = _numbers(folder, rows)
    ray.init(
        num_cpus=2, object_store_memory=BUDGET, include_dashboard=False, logging_level="ERROR", log_to_driver=False
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    def job() -> Generator[int, None, float]:
        blocks = ray.data.from_arrow([numbers.slice(start, 1024) for start in range(0, rows, 1024)])
        large = blocks.map_batches(lambda batch: pa.table(inflate(batch)), batch_size=16, batch_format="pyarrow")
        total = 0
        # other resources than before, or both become one operator, and no rows go from one to the other
        for batch in large.map_batches(deflate, batch_format="pyarrow", num_cpus=0.9).iter_batches(
            batch_size=None, batch_format="pyarrow"
        ):
            total += pa.compute.sum(batch["bytes"]).as_py()
            yield batch.num_rows
        return total / 2**30

    return job


def blocks(folder: str, rows: int, batch_rows: int) -> Job:
    """A function that returns its batch, called with few rows each time."""
    import iceblink as ib

    done = ib.connect(folder).table(NAME).limit(rows).map_batches(_same, batch_size=batch_rows)

    def job() -> Generator[int, None, None]:
        for batch in done.to_batches():
            yield batch.num_rows

    return job


def ray_blocks(folder: str, rows: int, batch_rows: int) -> Job:
    """The same with Ray Data, whose blocks are as small."""
    import ray
    import ray.data

    numbers = _numbers(folder, rows)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def job() -> Generator[int, None, None]:
        small = ray.data.from_arrow([numbers.slice(start, batch_rows) for start in range(0, rows, batch_rows)])
        done = small.map_batches(_same, batch_size=batch_rows, batch_format="pyarrow")
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield batch.num_rows

    return job


def _same(batch: Any) -> Any:
    return batch


DEVICES = (
    Contestant("iceblink", ours, ("iceblink",)),
    Contestant("iceblink, processes", ours_processes, ("iceblink",)),
    Contestant("Ray Data", ray_data, ("ray",)),
    Contestant("Daft", daft_native, ("daft",)),
)
INFLATED = (Contestant("iceblink", inflated, ("iceblink",)), Contestant("Ray Data", ray_inflated, ("ray",)))
BLOCKS = (Contestant("iceblink", blocks, ("iceblink",)), Contestant("Ray Data", ray_blocks, ("ray",)))


def report(options: Options) -> str:
    """Measure the device with batches of 64 and 1,024 rows, and the inflation."""
    folder = str(ensure_numbers(50_000 if options.small else 5_000_000))
    parts = [heading(TITLE, options)]
    for batch_rows, device_s in options.some(((64, 0.02), (1024, 0.1))):
        batches = 8 if options.small else 200
        arguments = {"folder": folder, "rows": batches * batch_rows, "batch_rows": batch_rows, "device_s": device_s}
        results = in_turns(options.chosen(DEVICES), arguments, options.runs, options.cpus)
        parts.append(f"### A device held {device_s * 1e3:g} ms for each batch of {batch_rows}\n\n{busy(results)}\n")
    rows = 200 if options.small else 20 * 2**30 // (PAYLOAD * INFLATION)
    results = in_turns(options.chosen(INFLATED), {"folder": folder, "rows": rows}, options.runs, options.cpus)
    gib = rows * PAYLOAD * INFLATION / 2**30
    parts.append(f"### {gib:.1f} GiB between two functions, in a budget of 1 GiB\n\n{comparison(results)}\n")
    count = 20 if options.small else 2000
    arguments = {"folder": folder, "rows": 64 * count, "batch_rows": 64}
    results = in_turns(options.chosen(BLOCKS), arguments, options.runs, options.cpus)
    parts.append(f"### {count:,} batches of 64 rows through a function\n\n{comparison(results)}\n")
    return "\n".join(parts)


def busy(results: dict[str, list[Result]]) -> str:
    """Return one row a contestant: the device's busy part, and what the run cost."""
    rows = []
    for name, runs in results.items():
        if problem := problem_of(runs):
            rows.append([name, problem, "", "", ""])
            continue
        rows.append(
            [
                name,
                f"{middle(runs, lambda one: one.detail):.1%}",
                f"{middle(runs, lambda one: one.wall_s):.1f}",
                f"{middle(runs, lambda one: one.cpu_s):.1f}",
                f"{middle(runs, lambda one: one.added_bytes) / 2**20:,.0f}",
            ]
        )
    return table(["", "device busy", "wall s", "CPU s", "peak MB"], rows)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
