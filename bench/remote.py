"""Scan a table in an S3 store that answers 20 ms late, and the same on the local disk: ``python -m bench.remote``.

Both have the same data files: the store serves the folder of the local lake.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from bench.command import Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.mixed import NAME, SMALL, MixedSize, ensure_mixed, open_mixed
from bench.report import comparison
from bench.slow_store import answered, running

TITLE = "Scan of a table in a store 20 ms away, and on the local disk"
LATENCY_MS = 20.0
BUCKET = "lake"
FULL = MixedSize(files_per_region=2, rows_per_file=60_000, rows_per_group=15_000)
QUESTIONS: dict[str, tuple[str, ...]] = {"full": (), "projected": ("id", "price", "category")}


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
    """Make a table in the store of the data files that the local table has."""
    local, bucket = open_mixed(str(folder)), str(folder)
    catalog = SqlCatalog("remote", **properties(str(folder), endpoint))
    catalog.create_namespace("bench")
    table = catalog.create_table(NAME, local.schema(), partition_spec=local.spec())
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as producer:
        for task in local.scan().plan_files():
            producer.append_data_file(moved(task.file, bucket))


def moved(file: DataFile, bucket: str) -> DataFile:
    """Return a data file under the name that the store has for it."""
    inside = file.file_path.removeprefix("file://").removeprefix(bucket).lstrip("/")
    file._data[1] = f"s3://{BUCKET}/{inside}"  # PyIceberg's records have no way to change one value
    return file


def iceblink_reader(folder: str, endpoint: str, cpus: int, columns: list[str], remote: bool) -> Job:
    """``Dataset.to_batches`` of an open table; the detail is how many requests that took."""
    import iceblink as ib

    lake = ib.connect(name="remote", **properties(folder, endpoint)) if remote else ib.connect(folder)
    dataset = lake.table(NAME)

    def job() -> Generator[int, None, dict[str, Any]]:
        before = answered(endpoint)
        for batch in (dataset.select(*columns) if columns else dataset).to_batches():
            yield batch.num_rows
        return {"requests": answered(endpoint) - before}

    return job


def local(folder: str, endpoint: str, cpus: int, columns: list[str]) -> Job:
    """From the local disk."""
    return iceblink_reader(folder, endpoint, cpus, columns, remote=False)


def remote(folder: str, endpoint: str, cpus: int, columns: list[str]) -> Job:
    """From the store."""
    return iceblink_reader(folder, endpoint, cpus, columns, remote=True)


def pyiceberg_remote(folder: str, endpoint: str, cpus: int, columns: list[str]) -> Job:
    """``Table.scan().to_arrow_batch_reader()`` from the store."""
    table: Table = SqlCatalog("remote", **properties(folder, endpoint)).load_table(NAME)

    def job() -> Generator[int, None, dict[str, Any]]:
        before = answered(endpoint)
        for batch in table.scan(selected_fields=tuple(columns) or ("*",)).to_arrow_batch_reader():
            yield batch.num_rows
        return {"requests": answered(endpoint) - before}

    return job


READERS = (
    Contestant("iceblink", remote),
    Contestant("the local disk", local),
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
    with running(served, LATENCY_MS) as endpoint:
        share(folder, endpoint)
        for name, columns in list(QUESTIONS.items())[: 1 if options.small else None]:
            arguments = {"folder": str(folder), "endpoint": endpoint, "cpus": options.cpus, "columns": list(columns)}
            results = in_turns(options.chosen(READERS), arguments, options.runs, options.cpus)
            requests = {one: runs[-1].detail["requests"] for one, runs in results.items() if runs[-1].detail}
            told = ", ".join(f"{one} {count:,}" for one, count in requests.items())
            parts.append(f"### {name}\n\n{comparison(results)}\n\nRequests: {told}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
