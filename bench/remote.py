"""Scan a table in an S3 store that answers 20 ms late, and the same on the local disk: ``python -m bench.remote``.

Both have the same data files: the store serves the folder of the local lake. A short table shows what it takes to
begin, a long one (links to the same files) the rate; the two are printed apart.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, Result, in_turns
from bench.mixed import SMALL, MixedSize, ensure_mixed, open_catalog, open_mixed
from bench.report import comparison, middle, problem_of, ratio, seconds, table
from bench.slow_store import answered, running

TITLE = "Scan of a table in a store 20 ms away, and on the local disk"
LATENCY_MS = 20.0
BUCKET = "lake"
LOCAL = "the local disk"
FULL = MixedSize(files_per_region=2, rows_per_file=60_000, rows_per_group=15_000)
COPIES = 6
QUESTIONS: dict[str, tuple[str, ...]] = {"all columns": (), "three columns": ("id", "price", "category")}
LENGTHS = {"short": 1, "long": COPIES}


def properties(folder: str, endpoint: str) -> dict[str, Any]:
    """Return what PyIceberg and iceblink take to reach the table in the store; its catalog is a local file."""
    return {
        "uri": f"sqlite:///{folder}/remote.db",
        "warehouse": f"s3://{BUCKET}/remote",
        "s3.endpoint": endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": "reader",
        "s3.secret-access-key": "of the benchmark",
    }


def share(folder: Path, endpoint: str) -> None:
    """Make tables of the data files that the mixed table has, and of several links to each: here, and in the store."""
    given = list(open_mixed(str(folder)).scan().plan_files())
    shutil.rmtree(folder / "links", ignore_errors=True)
    (folder / "links").mkdir()
    remote = SqlCatalog("remote", **properties(str(folder), endpoint))
    for catalog, root in ((open_catalog(folder), str(folder)), (remote, f"s3://{BUCKET}")):
        catalog.create_namespace_if_not_exists("bench")
        for length, copies in LENGTHS.items():
            if catalog.table_exists(f"bench.{length}"):
                catalog.drop_table(f"bench.{length}")
            like = open_mixed(str(folder))
            table = catalog.create_table(f"bench.{length}", like.schema(), partition_spec=like.spec())
            with table.transaction() as transaction, transaction.update_snapshot().fast_append() as producer:
                for again, (number, task) in itertools.product(range(copies), enumerate(given)):
                    producer.append_data_file(linked(task.file, folder, root, f"links/{again}-{number}.parquet"))


def linked(given: DataFile, folder: Path, root: str, name: str) -> DataFile:
    """Return a data file under another name below `root`, which `folder` is."""
    original = Path(given.file_path.removeprefix("file://"))
    if not (folder / name).exists():
        os.link(original, folder / name)
    file = copy(given)
    file._data = [*given._data]
    file._data[1] = f"{root}/{name}"  # PyIceberg's records have no way to change one value
    return file


def iceblink_reader(folder: str, endpoint: str, name: str, columns: list[str], remote: bool) -> Job:
    """``Dataset.to_batches`` of an open table; the detail is what that took of the store."""
    import iceblink as ib

    lake = ib.connect(name="remote", **properties(folder, endpoint)) if remote else ib.connect(folder)
    dataset = lake.table(name)

    def job() -> Generator[int, None, dict[str, Any]]:
        requests, store_s = answered(endpoint)
        for batch in (dataset.select(*columns) if columns else dataset).to_batches():
            yield batch.num_rows
        return since(endpoint, requests, store_s)

    return job


def since(endpoint: str, requests: int, store_s: float) -> dict[str, Any]:
    """Return what the store has done since then."""
    requests_now, store_now_s = answered(endpoint)
    return {"requests": requests_now - requests, "store_s": store_now_s - store_s}


def local(folder: str, endpoint: str, name: str, columns: list[str]) -> Job:
    """From the local disk."""
    return iceblink_reader(folder, endpoint, name, columns, remote=False)


def remote(folder: str, endpoint: str, name: str, columns: list[str]) -> Job:
    """From the store."""
    return iceblink_reader(folder, endpoint, name, columns, remote=True)


def pyiceberg_remote(folder: str, endpoint: str, name: str, columns: list[str]) -> Job:
    """``Table.scan().to_arrow_batch_reader()`` from the store."""
    found = SqlCatalog("remote", **properties(folder, endpoint)).load_table(name)

    def job() -> Generator[int, None, dict[str, Any]]:
        requests, store_s = answered(endpoint)
        for batch in found.scan(selected_fields=tuple(columns) or ("*",)).to_arrow_batch_reader():
            yield batch.num_rows
        return since(endpoint, requests, store_s)

    return job


READERS = (
    Contestant("iceblink", remote),
    Contestant(LOCAL, local),
    Contestant("PyIceberg", pyiceberg_remote),
)


def report(options: Options) -> str:
    """Measure each reader on all columns and on three."""
    folder = ensure_mixed(SMALL if options.small else FULL)
    parts = [heading(TITLE, options)]
    served = folder.parent / f"{folder.name}-served"
    shutil.rmtree(served, ignore_errors=True)
    served.mkdir()
    (served / BUCKET).symlink_to(folder)
    (folder / "remote.db").unlink(missing_ok=True)
    shutil.rmtree(folder / "remote", ignore_errors=True)
    asked_of = list(itertools.product(QUESTIONS.items(), LENGTHS))[: 1 if options.small else None]
    with running(served, LATENCY_MS) as endpoint:
        share(folder, endpoint)
        for (asked, columns), length in asked_of:
            if not options.wants(f"{length}, {asked}"):
                continue
            arguments = {
                "folder": str(folder),
                "endpoint": endpoint,
                "name": f"bench.{length}",
                "columns": list(columns),
            }
            results = in_turns(options.chosen(READERS), arguments, options.runs, options.cpus)
            parts.append(f"### {length}, {asked}\n\n{comparison(results)}\n\n{apart(results)}\n")
    return "\n".join(parts)


def apart(results: Mapping[str, Sequence[Result]]) -> str:
    """Return what it takes to begin, the rate after the first batch beside that of the local disk, and requests."""
    ours = {name: runs for name, runs in results.items() if not problem_of(runs)}
    rows = []
    for name, runs in ours.items():
        detail = runs[-1].detail
        rows.append(
            [
                name,
                seconds(middle(runs, lambda one: one.first_s)),
                f"{middle(runs, rate) / 1e6:.2f}",
                ratio(runs, ours.get(LOCAL, ()), rate),
                f"{detail['requests']:,}",
                seconds(middle(runs, lambda one: float(one.detail["store_s"]))),
            ]
        )
    return table(
        ["", "start s", "million rows/s after it", "of the local rate", "requests", "CPU s of the store"], rows
    )


def rate(one: Result) -> float:
    """Return rows per second after the first batch."""
    return one.rows / max(1e-9, one.wall_s - one.first_s)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
