"""How iceblink and each peer answers the 22 TPC-H queries: once to warm up, once measured, the answers kept.

On Ray every engine has one local cluster of the same CPUs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.measure import Contestant, Job, family_cpu_s
from bench.mixed import open_catalog
from bench.tpch_data import QUERIES, TABLES, qualified

Answer = Callable[[Any], pa.Table]
NOT_EXPRESSED = "not expressed"


def iceblink_engine(folder: str, answers: str, cpus: int) -> Job:
    """SQL over the Iceberg tables."""
    import iceblink as ib

    lake = ib.connect(Path(folder) / "lake")
    return each_query(lambda sql: lake.sql(qualified(sql)).to_arrow(), Path(answers) / "iceblink")


def duckdb_engine(folder: str, answers: str, cpus: int) -> Job:
    """SQL over the raw Parquet files."""
    import duckdb

    connected = duckdb.connect(config={"threads": cpus})
    for name in TABLES:
        connected.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{folder}/raw/{name}.parquet')")
    return each_query(lambda sql: connected.sql(sql).to_arrow_table(), Path(answers) / "DuckDB")


def daft_engine(folder: str, answers: str, cpus: int) -> Job:
    """SQL over the Iceberg tables, on the native runner."""
    return _daft("Daft", folder, answers)


def _daft(name: str, folder: str, answers: str) -> Job:
    import daft

    catalog = open_catalog(Path(folder) / "lake")
    frames: dict[str, Any] = {name: daft.read_iceberg(catalog.load_table(f"tpch.{name}")) for name in TABLES}
    return each_query(lambda sql: daft.sql(sql, **frames).to_arrow(), Path(answers) / name)


def pyspark_engine(folder: str, answers: str, cpus: int) -> Job:
    """SQL over the raw Parquet files (the Iceberg jar is not on PyPI), ``local[cpus]``."""
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder
    settings = {"spark.driver.memory": "4g", "spark.ui.enabled": "false", "spark.log.level": "OFF"}
    settings["spark.sql.shuffle.partitions"] = str(2 * cpus)  # 200 by default, which one machine only suffers from
    session = builder.master(f"local[{cpus}]").config(map=settings).getOrCreate()
    for name in TABLES:
        session.read.parquet(f"{folder}/raw/{name}.parquet").createOrReplaceTempView(name)
    return each_query(lambda sql: session.sql(sql).toArrow(), Path(answers) / "PySpark")


def each_query(answer: Answer, answers: Path, queries: Mapping[str, Any] = QUERIES) -> Job:
    """Return a job whose detail is what each query cost, or why it failed; its answers lie in `answers`.

    `answer` is called with SQL, or with what `queries` has for the name: nothing for those that are not expressed.
    """

    def job() -> Generator[int, None, dict[str, dict[str, Any]]]:
        answers.mkdir(parents=True, exist_ok=True)
        costs: dict[str, dict[str, Any]] = {name: {"problem": NOT_EXPRESSED} for name in QUERIES}
        for name, query in queries.items():
            print(name, file=sys.stderr, flush=True)  # should it hang, `measure` tells where
            try:
                table = answer(query)
                keep(table, answers / f"{name}.arrow")
                wall_s, cpu_s = time.perf_counter(), family_cpu_s()
                answer(query)
                costs[name] = {"wall_s": time.perf_counter() - wall_s, "cpu_s": family_cpu_s() - cpu_s}
                yield table.num_rows
            except Exception as error:  # a query a peer cannot run is a result
                costs[name] = {"problem": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
        return costs

    return job


def keep(table: pa.Table, path: Path) -> None:
    """Write one answer as an Arrow file."""
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def iceblink_on_ray(folder: str, answers: str, cpus: int) -> Job:
    """SQL over the Iceberg tables; a query that reads less than 256 MiB is one task."""
    return _iceblink_on_ray("iceblink on Ray", folder, answers, cpus, 256 << 20)


def iceblink_in_stages(folder: str, answers: str, cpus: int) -> Job:
    """The same, every query in stages, however little it reads."""
    return _iceblink_on_ray("iceblink in stages", folder, answers, cpus, 0)


def _iceblink_on_ray(name: str, folder: str, answers: str, cpus: int, small_bytes: int) -> Job:
    import iceblink as ib

    lake = ib.connect(Path(folder) / "lake", engine=ib.RayEngine(threads=cpus, small_bytes=small_bytes))
    assert lake.sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]  # Ray is started
    return each_query(lambda sql: lake.sql(qualified(sql)).to_arrow(), Path(answers) / name)


def daft_on_ray(folder: str, answers: str, cpus: int) -> Job:
    """SQL over the Iceberg tables, on the Ray runner."""
    import daft

    start_ray(cpus)
    daft.set_runner_ray(noop_if_initialized=True)
    return _daft("Daft on Ray", folder, answers)


def ray_data_engine(folder: str, answers: str, cpus: int) -> Job:
    """Ray Data over the files of the Iceberg tables: the queries that its words can express."""
    start_ray(cpus)
    import ray.data

    from bench.tpch_ray_data import EXPRESSED, Tables

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.default_hash_shuffle_parallelism = 2 * cpus  # 200 by default, as with PySpark
    tables = Tables(Path(folder) / "lake" / "tpch", 2 * cpus)
    return each_query(lambda query: query(tables), Path(answers) / "Ray Data", EXPRESSED)


def start_ray(cpus: int, **settings: Any) -> None:
    """Start Ray here, as quietly as it can."""
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False, **settings)


ENGINES = (
    Contestant("iceblink", iceblink_engine, ("iceblink",)),
    Contestant("DuckDB", duckdb_engine, ("duckdb",)),
    Contestant("Daft", daft_engine, ("daft",)),
    Contestant("PySpark", pyspark_engine, ("pyspark",)),
)

RAY_ENGINES = (
    Contestant("iceblink on Ray", iceblink_on_ray, ("iceblink", "ray")),
    Contestant("iceblink in stages", iceblink_in_stages, ("iceblink", "ray")),
    Contestant("iceblink", iceblink_engine, ("iceblink",)),
    Contestant("Ray Data", ray_data_engine, ("ray",)),
    Contestant("Daft on Ray", daft_on_ray, ("daft", "ray")),
    Contestant("PySpark", pyspark_engine, ("pyspark",)),
)
