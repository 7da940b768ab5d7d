"""How iceblink and each peer reads the mixed table: every one as its own users would, into batches that are dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.measure import Contestant, Job
from bench.mixed import NAME, open_mixed


@dataclass(frozen=True)
class Question:
    """What is asked, in plain words; no columns means all, no condition means every row."""

    columns: tuple[str, ...] = ()
    region: str = ""
    above_price: float = 0.0
    ids: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """The condition as SQL, or nothing."""
        if self.ids:
            return f"id IN ({', '.join(map(str, self.ids))})"
        return f"region = '{self.region}' AND price > {self.above_price}" if self.region else ""

    @property
    def arrow(self) -> pc.Expression | None:
        """The condition as an Arrow expression."""
        if self.ids:
            return pc.field("id").isin(pa.array(self.ids))
        return (pc.field("region") == self.region) & (pc.field("price") > self.above_price) if self.region else None


def iceblink_reader(folder: str, cpus: int, **question: Any) -> Job:
    """``Dataset.to_batches``."""
    import iceblink as ib
    from iceblink import _

    asked = Question(**question)
    lake = ib.connect(folder)

    def job() -> Generator[int, None, None]:
        dataset = lake.table(NAME)
        if asked.ids:
            dataset = dataset.filter(_.id.isin(asked.ids))
        if asked.region:
            dataset = dataset.filter((_.region == asked.region) & (_.price > asked.above_price))
        if asked.columns:
            dataset = dataset.select(*asked.columns)
        for batch in dataset.to_batches():
            yield batch.num_rows

    return job


def pyarrow_reader(folder: str, cpus: int, **question: Any) -> Job:
    """The twenty lines one writes oneself: PyIceberg's plan, then row groups in a few threads, in order."""
    from pyarrow.parquet import FileMetaData, ParquetFile, read_metadata

    asked = Question(**question)
    table = open_mixed(folder)

    def row_groups() -> Iterator[tuple[str, FileMetaData, int]]:
        for task in scan_of(table, asked).plan_files():
            path = task.file.file_path.removeprefix("file://")
            metadata = read_metadata(path)
            yield from ((path, metadata, group) for group in range(metadata.num_row_groups))

    def read(path: str, metadata: FileMetaData, group: int) -> pa.Table:
        file = ParquetFile(path, metadata=metadata)  # one for each thread: they must not share a reader
        data = file.read_row_group(group, columns=list(asked.columns) or None, use_threads=False)
        return data if asked.arrow is None else data.filter(asked.arrow)

    def job() -> Generator[int, None, None]:
        pending: deque[Future[pa.Table]] = deque()
        with ThreadPoolExecutor(cpus) as pool:
            for place in row_groups():
                pending.append(pool.submit(read, *place))
                if len(pending) > cpus:
                    yield pending.popleft().result().num_rows
            while pending:
                yield pending.popleft().result().num_rows

    return job


def duckdb_reader(folder: str, cpus: int, **question: Any) -> Job:
    """``read_parquet`` over the files that PyIceberg planned."""
    import duckdb

    asked = Question(**question)
    table = open_mixed(folder)
    connected = duckdb.connect(config={"threads": cpus})

    def job() -> Generator[int, None, None]:
        files = [task.file.file_path.removeprefix("file://") for task in scan_of(table, asked).plan_files()]
        query = f"SELECT {', '.join(asked.columns) or '*'} FROM read_parquet(?) WHERE {asked.where or 'true'}"
        for batch in connected.execute(query, [files]).to_arrow_reader(50_000):
            yield batch.num_rows

    return job


def polars_reader(folder: str, cpus: int, **question: Any) -> Job:
    """``scan_iceberg`` and its own reader, collected in batches."""
    import polars as pl

    asked = Question(**question)
    table = open_mixed(folder)

    def job() -> Generator[int, None, None]:
        frame = pl.scan_iceberg(table, reader_override="native")
        if asked.where:
            frame = frame.filter(pl.sql_expr(asked.where))
        if asked.columns:
            frame = frame.select(asked.columns)
        for batch in frame.collect_batches(maintain_order=False):
            yield batch.height

    return job


def daft_reader(folder: str, cpus: int, **question: Any) -> Job:
    """``read_iceberg`` on the native runner."""
    import daft

    asked = Question(**question)
    table = open_mixed(folder)

    def job() -> Generator[int, None, None]:
        frame = daft.read_iceberg(table)
        if asked.where:
            frame = frame.where(asked.where)
        if asked.columns:
            frame = frame.select(*asked.columns)
        for batch in frame.to_arrow_iter():
            yield batch.num_rows

    return job


def pyiceberg_reader(folder: str, cpus: int, **question: Any) -> Job:
    """``to_arrow_batch_reader``."""
    asked = Question(**question)
    table = open_mixed(folder)

    def job() -> Generator[int, None, None]:
        for batch in scan_of(table, asked).to_arrow_batch_reader():
            yield batch.num_rows

    return job


def scan_of(table: Any, asked: Question) -> Any:
    """Return PyIceberg's scan for the question."""
    return table.scan(row_filter=asked.where or "true", selected_fields=asked.columns or ("*",))


READERS = (
    Contestant("iceblink", iceblink_reader, ("iceblink",)),
    Contestant("pyarrow by row group", pyarrow_reader, ("pyarrow",)),
    Contestant("DuckDB read_parquet", duckdb_reader, ("duckdb",)),
    Contestant("Polars scan_iceberg", polars_reader, ("polars",)),
    Contestant("Daft read_iceberg", daft_reader, ("daft",)),
    Contestant("PyIceberg batch reader", pyiceberg_reader, ("pyiceberg",)),
)
