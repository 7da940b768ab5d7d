"""The words of the public API on real Ray: the same rows as in one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray as ray_itself

import iceblink as ib
from contract.row_lineage import check_lineage_of_changes
from iceblink import _
from iceblink.errors import ConfigError
from iceblink.mapped import here
from iceblink.predicate import Compare
from iceblink.run.distributed import planning
from iceblink.run.distributed.planning import OverWorkers
from iceblink.run.distributed.runner import Runner
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.ray.session import Session
from iceblink.scan.plan import plan_scan

ROWS = 60_000
DATA = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "g": pa.array([None if n % 11 == 0 else n % 7 for n in range(ROWS)], pa.int64()),
        "x": pa.array([n * 0.5 for n in range(ROWS)], pa.float64()),
        "s": pa.array([f"wört {n % 100}" for n in range(ROWS)], pa.string()),
    }
)


@pytest.fixture(scope="module")
def engine(ray_session: Session) -> Iterator[ib.RayEngine]:
    """One that exchanges rows however few there are; it joins the Ray of the test session."""
    engine = ib.RayEngine(small_bytes=0, broadcast_bytes=0, memory_bytes=2 << 30)
    yield engine
    engine.close()


@pytest.fixture
def lakes(engine: ib.RayEngine, tmp_path: Path) -> Iterator[tuple[ib.Lake, ib.Lake]]:
    """The same tables in one process and on Ray."""
    with ib.connect(tmp_path / "lake") as local:
        local.write("n.t", DATA.slice(0, ROWS // 2), mode="create")
        local.write("n.t", DATA.slice(ROWS // 2))
        yield local, ib.connect(tmp_path / "lake", engine=engine)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT g, count(*) AS n, sum(x) AS s, avg(id) AS a FROM n.t GROUP BY g ORDER BY g",
        "SELECT a.id, b.s FROM n.t AS a JOIN n.t AS b ON a.id = b.id AND b.g = 3 ORDER BY a.id LIMIT 20",
        "SELECT id, x FROM n.t ORDER BY x DESC, id LIMIT 5",
        "SELECT DISTINCT s FROM n.t ORDER BY s",
        "SELECT id, sum(x) OVER (PARTITION BY g ORDER BY id) AS total FROM n.t ORDER BY id LIMIT 50",
        "SELECT count(*) AS n FROM n.t WHERE x > (SELECT avg(x) FROM n.t)",
        "SELECT s, median(x) AS m FROM n.t GROUP BY s ORDER BY s",
    ],
)
def test_a_statement_gives_the_same_rows_on_ray(lakes: tuple[ib.Lake, ib.Lake], sql: str) -> None:
    local, ray = lakes
    assert ray.sql(sql).to_pylist() == local.sql(sql).to_pylist()  # sums of halves are exact


def test_statements_that_write_run_on_ray(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    local, ray = lakes
    ray.sql("CREATE TABLE n.u PARTITIONED BY (g) AS SELECT id, g FROM n.t WHERE g < 3")
    (told,) = ray.sql("INSERT INTO n.u (id) SELECT id FROM n.t WHERE g IS NULL").to_pylist()
    ray.sql("INSERT OVERWRITE n.u PARTITION (g = 2) SELECT id FROM n.t WHERE id < 10")
    expected = {g: DATA.column("g").to_pylist().count(g) for g in (0, 1, None)} | {2: 10}
    found = local.sql("SELECT g, count(*) AS n FROM n.u GROUP BY g").to_pylist()
    assert {row["g"]: row["n"] for row in found} == expected
    assert told["rows_inserted"] == expected[None]


@pytest.mark.parametrize("source", ["a table", "a function"])
def test_chance_gives_the_same_rows_in_the_same_order_on_ray(lakes: tuple[ib.Lake, ib.Lake], source: str) -> None:
    def drawn(lake: ib.Lake) -> list[pa.Table]:
        rows = lake.table("n.t").filter(_.g != 3)
        if source == "a function":
            rows = rows.map_batches(lambda batch: batch.slice(0, 900), batch_size=1_000, schema=DATA.schema)
        return [rows.shuffle(5).to_arrow(), rows.sample(0.1, seed=5).to_arrow(), rows.sample(n=100, seed=5).to_arrow()]

    local, ray = lakes
    assert drawn(ray) == drawn(local)


def test_a_small_statement_is_one_task_of_the_cluster(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    local, _ray = lakes
    with ib.connect(local.session.catalog.folder, engine=ib.RayEngine(memory_bytes=2 << 30)) as small:
        grouped = small.table("n.t").group_by("g").agg(n=_.count()).order_by("g")
        assert grouped.to_pylist() == local.table("n.t").group_by("g").agg(n=_.count()).order_by("g").to_pylist()


def test_workers_of_a_cluster_make_the_plan_that_one_process_makes(
    engine: ib.RayEngine, lakes: tuple[ib.Lake, ib.Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "WORTH_S", 0)
    table = lakes[0].session.catalog.load("n.t")
    recorders: list[Recorder] = []
    with closing(engine.backend()) as backend:
        over_workers = OverWorkers(Runner(backend, engine.settings, recorders.append, processes=True), "n.t")
        plans = [plan_scan(table, None, Compare("id", ">", 5), engine.settings, one) for one in (here, over_workers)]
    assert plans[0] == plans[1]
    assert [made.stats().operators[1].tasks > 0 for made in recorders] == [True, True]  # manifests, then footers


class Plus:
    """Knows which process it is in."""

    def __init__(self) -> None:
        self.process = os.getpid()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "y": batch["x"] + 1, "process": batch["id"] * 0 + self.process}


def test_functions_run_in_actors_between_statements_and_rows_keep_their_order(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    local, ray = lakes
    schema = {"id": "long", "y": "double", "process": "long"}
    even = ray.table("n.t").select("id", "x").filter(_.id % 2 == 0)
    mapped = even.map_batches(Plus, schema=schema, batch_format="numpy", workers=2)
    found = mapped.filter(_.id % 4 == 0).to_arrow()
    assert found["id"] == local.table("n.t").filter(_.id % 4 == 0).to_arrow()["id"]
    assert found["y"].to_pylist() == [n * 0.5 + 1 for n in found["id"].to_pylist()]
    assert os.getpid() not in found["process"].to_pylist()


def test_a_write_on_ray_is_one_commit_of_files_written_by_the_workers(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    local, ray = lakes
    ray.table("n.t").mutate(y=_.x * 2).write("n.u", mode="create")
    assert local.table("n.u").order_by("id").to_arrow()["y"].to_pylist() == [float(n) for n in range(ROWS)]
    assert len(local.sql("SELECT * FROM n.u.snapshots").to_pylist()) == 1


def test_a_partitioned_write_gives_each_partition_few_files(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    local, ray = lakes
    local.create("n.p", DATA.schema, partition_by=["g"])
    ray.table("n.t").write("n.p")
    assert local.table("n.p").count() == ROWS
    assert len(local.sql("SELECT * FROM n.p.files").to_pylist()) == 8  # of seven values and null


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_rows_are_changed_on_ray(lakes: tuple[ib.Lake, ib.Lake], mode: str) -> None:
    local, ray = lakes
    properties = {f"write.{verb}.mode": mode for verb in ("update", "merge")}
    ray.write("n.u", ray.table("n.t").drop("s"), mode="create", properties=properties)
    news = ray.table("n.t").filter(_.id % 100 == 3).select(key=_.id + ROWS - 100, y=_.x)
    (done,) = ray.merge(
        "n.u",
        news,
        "target.id = source.key",
        ib.when_matched().update(x="source.y"),
        ib.when_not_matched().insert(id=_.key, x=_.y),
        ib.when_not_matched_by_source("g = 5").delete(),
    ).to_pylist()
    old = {n: (None if n % 11 == 0 else n % 7, n * 0.5) for n in range(ROWS)}
    new = {n: (n + ROWS - 100, n * 0.5) for n in range(3, ROWS, 100)}
    updated = {key: (old[key][0], y) for key, y in new.values() if key in old}
    inserted = {key: (None, y) for key, y in new.values() if key not in old}
    deleted = {key for key, (g, _x) in old.items() if g == 5 and key not in updated}
    assert (done["rows_updated"], done["rows_inserted"]) == (len(updated), len(inserted))
    assert done["rows_deleted"] == len(deleted)
    expected = {key: row for key, row in {**old, **updated, **inserted}.items() if key not in deleted}
    (done,) = ray.sql("UPDATE n.u SET x = x + 1 WHERE g IN (SELECT max(g) FROM n.t)").to_pylist()
    expected = {key: (g, x + 1 if g == 6 else x) for key, (g, x) in expected.items()}
    assert done["rows_updated"] == sum(g == 6 for g, _x in expected.values())
    assert {row["id"]: (row["g"], row["x"]) for row in local.table("n.u").to_pylist()} == expected
    assert local.table("n.u").count() == len(expected)


def test_a_killed_worker_costs_no_row_and_leaves_no_file(lakes: tuple[ib.Lake, ib.Lake], tmp_path: Path) -> None:
    local, ray = lakes
    killed = tmp_path / "killed"

    def deadly(batch: pa.RecordBatch) -> pa.RecordBatch:
        if not killed.exists() and 30_000 in batch["id"].to_pylist():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    ray.table("n.t").map_batches(deadly, batch_size=1000, schema=DATA.schema).write("n.v", mode="create")
    assert killed.exists()
    assert local.table("n.v").order_by("id").to_arrow() == DATA
    files = {path.name for path in (tmp_path / "lake" / "n" / "v" / "data").glob("*.parquet")}
    assert files == {row["file_path"].rpartition("/")[2] for row in local.sql("SELECT * FROM n.v.files").to_pylist()}


def test_a_failed_write_leaves_the_table_as_it_was(lakes: tuple[ib.Lake, ib.Lake], tmp_path: Path) -> None:
    local, ray = lakes
    local.write("n.w", DATA.slice(0, 10), mode="create")

    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError("no")

    with pytest.raises(ib.IceblinkError, match="ValueError: no"):
        ray.table("n.t").map_batches(wrong, schema=DATA.schema).write("n.w")
    assert local.table("n.w").count() == 10
    assert len(list((tmp_path / "lake" / "n" / "w" / "data").glob("*.parquet"))) == 1


def test_a_gpu_that_no_node_has_is_told_at_once(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    _local, ray = lakes
    with pytest.raises(ib.IceblinkError, match="GPU"):
        ray.table("n.t").map_batches(Plus, schema={"id": "long"}, gpus=1).to_arrow()


def test_a_function_runs_on_a_node_with_its_resources_and_labels(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    local, ray = lakes
    (node,) = ray_itself.nodes()
    placed = (
        ray.table("n.t")
        .select("id", "x")
        .map_batches(
            Plus,
            schema={"id": "long", "y": "double", "process": "long"},
            batch_format="numpy",
            batch_size=1_000,
            workers=3,  # there is room for two
            resources={"node:__internal_head__": 0.5},
            labels={"ray.io/node-id": node["NodeID"], "zone": "!in(a, b)"},
        )
    )
    assert "0.5 node:__internal_head__ each" in placed.explain()
    assert placed.to_arrow()["id"] == local.table("n.t").to_arrow()["id"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"resources": {"licence": 1}},
        {"labels": {"zone": "a"}},
        {"labels": {"zone": "in(a, b)"}},
        {"labels": {"zone": "!!"}},
        {"labels": {"ray.io/node-id": "!nothing"}, "resources": {"node:__internal_head__": 2}},
    ],
    ids=str,
)
def test_what_no_node_has_is_told_before_anything_runs(lakes: tuple[ib.Lake, ib.Lake], wanted: dict[str, Any]) -> None:
    _local, ray = lakes
    with pytest.raises(ConfigError) as caught:
        ray.table("n.t").map_batches(Plus, schema={"id": "long"}, **wanted).to_arrow()
    assert caught.value.where == "Plus"


def test_a_job_with_a_checkpoint_that_failed_is_one_commit_when_it_is_run_again(
    lakes: tuple[ib.Lake, ib.Lake], tmp_path: Path
) -> None:
    local, ray = lakes
    broken, seen = tmp_path / "broken", tmp_path / "seen"
    broken.touch()
    seen.mkdir()

    def fails_late(batch: pa.RecordBatch) -> pa.RecordBatch:
        (seen / str(os.getpid())).touch()
        if broken.exists() and batch["id"][0].as_py() >= ROWS // 2:
            raise ValueError("not yet")
        return batch

    def job() -> None:
        mapped = ray.table("n.t").map_batches(fails_late, batch_size=10_000, schema=DATA.schema)
        mapped.write("n.c", mode="create", checkpoint="job-1")

    with pytest.raises(ib.IceblinkError, match="not yet"):
        job()
    broken.unlink()
    job()
    assert not (seen / str(os.getpid())).exists(), "functions run in workers"
    assert local.table("n.c").order_by("id").to_arrow() == DATA
    assert len(local.sql("SELECT * FROM n.c.snapshots").to_pylist()) == 1
    files = {path.name for path in (tmp_path / "lake" / "n" / "c" / "data").glob("*.parquet")}
    assert files == {row["file_path"].rpartition("/")[2] for row in local.sql("SELECT * FROM n.c.files").to_pylist()}


@pytest.mark.parametrize("on_read", [False, True])
def test_changes_over_workers_keep_row_lineage(engine: ib.RayEngine, tmp_path: Path, on_read: bool) -> None:
    check_lineage_of_changes(ib.connect(tmp_path / "lake ü", engine=engine), on_read)
