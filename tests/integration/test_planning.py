"""Scans planned by workers: the very plan that one process makes, of tables of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import DoubleType, LongType

import iceblink as ib
from contract.staged import staged_engine
from iceblink import _
from iceblink.config import MIB, Settings
from iceblink.errors import DataCorrupt
from iceblink.lake.catalog import Catalog
from iceblink.lake.manifest_files import forget
from iceblink.lake.table import Table
from iceblink.predicate import And, Compare, Everything, IsIn, Nothing, Predicate
from iceblink.run.distributed import planning
from iceblink.run.distributed.engine import DistributedEngine
from iceblink.run.distributed.planning import OverWorkers, chunked
from iceblink.run.distributed.runner import Runner
from iceblink.run.pipeline.local_backend import local_backend
from iceblink.run.pipeline.stats import Recorder
from iceblink.scan.plan import ScanPlan, plan_scan

FILES = 6
SETTINGS = Settings(threads=2, memory_bytes=512 * MIB, split_bytes=2_000)
PREDICATES: list[Predicate] = [
    Everything(),
    Compare("id", ">=", 250),
    And(Compare("id", "<", 420), IsIn("g", frozenset({"a", "c"}))),
    Compare("id", ">", 10_000),
    Nothing(),
]
Planners = tuple[Runner, list[Recorder]]


@pytest.fixture(scope="module", params=["threads", "processes"])
def planners(request: pytest.FixtureRequest) -> Iterator[Planners]:
    """Return what runs chains in workers of both kinds, and what was run."""
    recorders: list[Recorder] = []
    with closing(local_backend(SETTINGS)) as backend:
        yield Runner(backend, SETTINGS, recorders.append, request.param == "processes"), recorders


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few files be worth the way to the workers, in several tasks."""
    monkeypatch.setattr(planning, "WORTH_S", 0)
    monkeypatch.setattr(planning, "LEAST_S", 0)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Return one of several files, manifests, partitions and row groups, renamed and widened on the way."""
    catalog = Catalog.embedded(tmp_path)
    with ib.connect(tmp_path) as lake:
        schema = {"id": "int", "g": "string", "s": "string"}
        lake.create("n.t", schema, partition_by=["g"], properties={"write.parquet.row-group-limit": "16"})
        for number in range(FILES):
            if number == FILES // 2:
                with catalog.load("n.t").pyiceberg.update_schema() as update:
                    update.rename_column("s", "text")
                    update.update_column("id", field_type=LongType())
                    update.add_column("added", DoubleType())
            ids = range(100 * number, 100 * number + 40)
            rows = {
                "id": ids,
                "g": ["abc"[n % 3] for n in ids],
                catalog.load("n.t").schema.names[2]: [str(n) for n in ids],
            }
            lake.write("n.t", pa.table(rows))
    return catalog.load("n.t")


def planned(table: Table, predicate: Predicate, runner: Runner | None = None) -> ScanPlan:
    """Plan with nothing remembered, in this process or in workers."""
    forget()
    if runner is None:
        return plan_scan(table, None, predicate, SETTINGS)
    return plan_scan(table, None, predicate, SETTINGS, OverWorkers(runner, table.name))


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("footers_read", [256, 4])
def test_workers_make_the_plan_that_one_process_makes(
    table: Table, planners: Planners, monkeypatch: pytest.MonkeyPatch, footers_read: int
) -> None:
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_READ", footers_read)
    runner, recorders = planners
    for predicate in PREDICATES[1:2] if runner.processes else PREDICATES:  # a process takes a second to start
        recorders.clear()
        alone, together = planned(table, predicate), planned(table, predicate, runner)
        assert together == alone
        assert together.schema.equals(alone.schema, check_metadata=True)
        assert together.first(30) == alone.first(30)
        labels = [operator.label for made in recorders for operator in made.stats().operators[1:]]
        asked = ["manifests of n.t", "footers of n.t"] if alone.files > 1 or predicate == Everything() else labels
        assert labels == asked


@pytest.mark.usefixtures("everything")
def test_an_empty_table_is_planned_by_nobody(tmp_path: Path, planners: Planners) -> None:
    empty = Catalog.embedded(tmp_path).create("n.e", {"id": "long"})
    runner, recorders = planners
    recorders.clear()
    assert planned(empty, Everything(), runner) == planned(empty, Everything())
    assert recorders == []


def test_what_is_little_is_read_here(table: Table, planners: Planners) -> None:
    runner, recorders = planners
    recorders.clear()
    assert planned(table, Everything(), runner).files == 3 * FILES
    assert recorders == []


@pytest.mark.usefixtures("everything")
def test_a_damaged_manifest_is_told_as_if_it_were_read_here(table: Table, planners: Planners) -> None:
    assert table.snapshot is not None
    manifest = Path(table.snapshot.manifests(table.pyiceberg.io)[2].manifest_path)
    manifest.write_bytes(manifest.read_bytes()[:-20])
    told = []
    for runner in (None, planners[0]):
        with pytest.raises(DataCorrupt) as caught:
            planned(table, Everything(), runner)
        told.append((caught.value.what, caught.value.where, caught.value.hint))
    assert told[0] == told[1]


@pytest.mark.usefixtures("everything")
def test_a_statement_over_processes_is_planned_and_read_without_anybody_asking_the_catalog(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DistributedEngine(SETTINGS, lambda: local_backend(SETTINGS), True, small_bytes=0)
    with ib.connect(table.catalog.folder, engine=engine) as lake:
        asked = lake.table("n.t").filter(_.id >= 100).select("id")  # the catalog is asked now, and here

        def refuse(_catalog: Catalog) -> None:
            raise AssertionError("a catalog is on its way to a worker")

        monkeypatch.setattr(Catalog, "__reduce__", refuse)
        expected = [n for k in range(1, FILES) for n in range(100 * k, 100 * k + 40)]
        assert sorted(asked.to_arrow()["id"].to_pylist()) == expected


def test_a_limit_and_a_filter_give_the_same_rows_when_workers_plan(table: Table, everything: None) -> None:
    with ib.connect(table.catalog.folder) as alone, ib.connect(table.catalog.folder, engine=staged_engine()) as staged:
        rows = [lake.table("n.t").filter(_.id % 2 == 0).limit(50).to_pylist() for lake in (alone, staged)]
        assert rows[0] == rows[1]
        assert len(rows[0]) == 50


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_worker_of_so_many_cpus_decodes_on_as_many(tmp_path: Path, cpus: int) -> None:
    def asked(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"cpus": [pa.cpu_count()] * batch.num_rows})

    here = pa.cpu_count()
    engine = DistributedEngine(SETTINGS, lambda: local_backend(SETTINGS), True)
    with ib.connect(tmp_path, engine=engine) as lake:
        found = lake.from_arrow(pa.table({"x": [1, 2]})).map_batches(asked, schema={"cpus": "long"}, cpus=cpus)
        assert found.to_arrow()["cpus"].to_pylist() == [cpus, cpus]
    assert pa.cpu_count() == here


@given(costs=st.lists(st.floats(0, 10), max_size=50), most=st.floats(0.1, 20))
def test_chunks_are_in_order_and_of_about_one_size(costs: list[float], most: float) -> None:
    chunks = chunked(costs, lambda cost: cost, most)
    assert [cost for chunk in chunks for cost in chunk] == costs
    assert all(chunks)
    assert all(sum(chunk) - chunk[-1] / 2 <= most * (1 + 1e-9) for chunk in chunks if len(chunk) > 1)
