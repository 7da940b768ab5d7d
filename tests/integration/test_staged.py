"""Datasets of several kinds in stages over the threads of this process: the same rows, in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from contract.simulated_backend import SimulatedBackend
from contract.staged import divide_everything, staged_engine
from iceblink import _
from iceblink.config import Settings
from iceblink.run.distributed import kept, stage_work, tables
from iceblink.run.distributed.engine import DistributedEngine
from iceblink.run.distributed.flow import Flow
from iceblink.run.distributed.kept import Kept
from iceblink.run.distributed.runner import Runner
from iceblink.run.pipeline.backend import Slots
from iceblink.scan.read import read_split

ROWS = 4_000
DATA = pa.table({"id": list(range(ROWS)), "g": [n % 7 for n in range(ROWS)], "x": [n * 0.5 for n in range(ROWS)]})


@pytest.fixture(params=[1, 2], ids=["in one round", "in two rounds"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ib.Lake]:
    divide_everything(monkeypatch, request.param)
    with ib.connect(tmp_path / "lake", engine=staged_engine()) as opened:
        properties = {"write.parquet.row-group-limit": "300"}
        opened.write("n.t", DATA, mode="create", properties=properties)
        yield opened


def plus(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.append_column("y", pa.compute.add(batch["x"], 1.0))


def test_rows_that_are_looked_at_one_by_one_keep_their_order(lake: ib.Lake) -> None:
    odd = lake.table("n.t").select("id", "x").filter(_.id % 2 == 1).mutate(z=_.x * 2).map_batches(plus)
    found = odd.filter(_.id > 10).select("id", "y").to_arrow()
    assert found["id"].to_pylist() == list(range(11, ROWS, 2))
    assert found["y"].to_pylist() == [n * 0.5 + 1 for n in range(11, ROWS, 2)]


def test_a_function_between_statements_that_gather_rows(lake: ib.Lake) -> None:
    grouped = lake.table("n.t").group_by("g").agg(x=_.x.sum()).map_batches(plus).order_by(_.g.desc())
    assert grouped.to_pylist() == [
        {"g": g, "x": sum(n * 0.5 for n in range(g, ROWS, 7)), "y": sum(n * 0.5 for n in range(g, ROWS, 7)) + 1}
        for g in reversed(range(7))
    ]


def test_rows_in_memory_meet_rows_of_a_table(lake: ib.Lake) -> None:
    names = lake.from_arrow(pa.table({"g": [0, 3], "name": ["null", "drei"]}))
    found = lake.table("n.t").join(names, on="g").filter(_.id < 20).order_by("id").to_pylist()
    assert [(row["id"], row["name"]) for row in found] == [
        (0, "null"), (3, "drei"), (7, "null"), (10, "drei"), (14, "null"), (17, "drei")
    ]  # fmt: skip


@pytest.mark.parametrize("by", [None, "g"])
def test_repartition_gives_each_row_to_one_part_and_each_part_a_file(lake: ib.Lake, by: str | None) -> None:
    lake.table("n.t").repartition(5, by=by).write("n.r", mode="create")
    assert lake.table("n.r").order_by("id").to_arrow() == lake.table("n.t").to_arrow()
    files = lake.sql("SELECT file_path FROM n.r.files").to_pylist()
    assert len(files) == 5 if by is None else 1 < len(files) <= 5


def test_a_partitioned_table_gets_few_files_a_partition_and_all_rows(lake: ib.Lake) -> None:
    lake.create("n.p", DATA.schema, partition_by=["g"])
    lake.table("n.t").write("n.p")
    assert lake.table("n.p").order_by("id").to_arrow() == lake.table("n.t").to_arrow()


def test_a_sorted_table_gets_files_of_disjoint_ranges(lake: ib.Lake) -> None:
    lake.create("n.s", DATA.schema, sort_by=["x desc"])
    lake.table("n.t").write("n.s")
    assert [row["x"] for row in lake.table("n.s").to_pylist()] == [n * 0.5 for n in reversed(range(ROWS))]


def test_refused_rows_of_a_function_in_the_middle_go_to_quarantine_once(lake: ib.Lake) -> None:
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if any(n % 1000 == 7 for n in batch["id"].to_pylist()):
            raise ValueError("seven")
        return batch

    mapped = lake.table("n.t").map_batches(
        picky, schema=DATA.schema, batch_size=64, on_error="quarantine", quarantine="n.bad"
    )
    assert mapped.group_by("g").agg(n=_.count()).to_arrow()["n"].to_pylist() != []
    assert sorted(row["id"] for row in lake.table("n.bad").to_pylist()) == [7, 1007, 2007, 3007]


def test_an_empty_table_and_a_filter_that_keeps_nothing_answer_like_any_other(lake: ib.Lake) -> None:
    lake.create("n.e", DATA.schema)
    assert lake.sql("SELECT count(*) AS n, sum(x) AS s FROM n.e").to_pylist() == [{"n": 0, "s": None}]
    assert lake.table("n.t").filter(_.id < 0).group_by("g").agg(n=_.count()).to_pylist() == []
    lake.table("n.t").filter(_.id < 0).write("n.e")
    assert lake.table("n.e").count() == 0


def halved(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.slice(0, batch.num_rows // 2)


SOURCES: dict[str, Callable[[ib.Lake], ib.Dataset]] = {
    "a table": lambda lake: lake.table("n.t"),
    "rows of a table": lambda lake: lake.table("n.t").filter(_.id % 3 > 0).mutate(y=_.x * 2),
    "rows in memory": lambda lake: lake.from_arrow(DATA),
    "a function": lambda lake: lake.table("n.t").map_batches(halved, batch_size=100, schema=DATA.schema),
    "an order": lambda lake: lake.table("n.t").group_by("g", h=_.id % 50).agg(x=_.x.sum()).order_by("g", "h"),
}
CHANCE: dict[str, Callable[[ib.Dataset], ib.Dataset]] = {
    "shuffle": lambda rows: rows.shuffle(3),
    "sample": lambda rows: rows.sample(0.3, seed=3),
    "n": lambda rows: rows.sample(n=50, seed=3),
    "both": lambda rows: rows.sample(0.5, seed=3).shuffle(3).filter(_.x > 9.0).select("x"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("verb", CHANCE)
def test_chance_gives_the_same_rows_in_the_same_order_as_in_one_process(lake: ib.Lake, source: str, verb: str) -> None:
    with ib.connect(lake.session.catalog.folder) as local:
        expected = CHANCE[verb](SOURCES[source](local)).to_arrow()
    assert expected.num_rows > 0
    assert CHANCE[verb](SOURCES[source](lake)).to_arrow() == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_worker_that_dies_changes_neither_a_shuffle_nor_a_sample(
    lake: ib.Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "PIECE_BYTES", 1 << 20)  # a task of many pieces would die each time
    backend = SimulatedBackend(Slots(3, 0, 4 << 30), seed, 0.03)
    engine = DistributedEngine(Settings.from_environment(), lambda: backend, False, 0, 0)
    with ib.connect(lake.session.catalog.folder, engine=engine) as deadly:
        for verb in CHANCE.values():
            assert verb(deadly.table("n.t")).to_arrow() == verb(lake.table("n.t")).to_arrow()
    assert backend.deaths
    assert not backend.alive


def test_a_shuffle_is_divided_by_ranges_and_a_sample_streams(lake: ib.Lake) -> None:
    rows = lake.table("n.t").filter(_.id > 5)
    shuffled = rows.shuffle(3).explain()
    assert "to ranges of iceblink chance 3" in shuffled
    assert "result, in order" in shuffled
    assert "in one stage: each task runs it over some of the splits" in rows.sample(0.1).explain()
    assert "first rows of each task" in rows.sample(n=9).explain()
    assert "numbered" in rows.group_by("g").agg(n=_.count()).shuffle().explain()


def test_closing_in_the_middle_ends_the_work(lake: ib.Lake) -> None:
    batches = lake.table("n.t").map_batches(plus, batch_size=10).to_batches()
    next(batches)
    batches.close()
    assert lake.table("n.t").count() == ROWS


def test_explain_tells_the_stages_and_why(lake: ib.Lake) -> None:
    text = lake.table("n.t").group_by("g").agg(s=_.x.sum()).order_by("g").explain()
    assert "in stages:" in text
    assert "to hash of" in text
    assert "result, in order" in text
    whole = lake.sql("SELECT random() AS r FROM n.t").explain()
    assert "one task runs the statement: rand" in whole
    assert "shared out among workers" in text
    assert "in one stage" in lake.table("n.t").filter(_.id > 5).explain()
    undivided = ib.connect(lake.session.catalog.folder, engine=staged_engine(small_bytes=1 << 40))
    told = undivided.table("n.t").group_by("g").agg(s=_.x.sum()).explain()
    assert "stage" not in told
    assert "read by the kernel itself" in told


def test_the_first_rows_of_a_task_are_there_before_its_last(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LEAST_BYTES", 1 << 30)  # all row groups are one task
    rows = 3_000_000
    large = pa.table({"id": np.arange(rows)})
    lake.write("n.large", large, mode="create", properties={"write.parquet.row-group-limit": "100000"})
    arrived = threading.Event()

    def stalled(split: Any, *others: Any) -> Iterator[Any]:
        """Read one row group after the other; from 16 MB on not before a row has arrived."""
        begun = 0
        for batch in read_split(split, *others):
            assert begun < 2_000_000 or arrived.wait(30), "no row came before the task was whole"
            begun += batch.data.num_rows
            yield batch

    def seen(batch: pa.RecordBatch) -> pa.RecordBatch:
        arrived.set()
        return batch

    monkeypatch.setattr(stage_work, "read_split", stalled)
    mapped = lake.table("n.large").filter(_.id >= 0).map_batches(seen, schema=large.schema)
    assert mapped.to_arrow()["id"].equals(large["id"])


def test_the_clock_stands_still_and_chance_is_one_task(lake: ib.Lake) -> None:
    assert len(lake.sql("SELECT id, now() AS t FROM n.t WHERE id >= 0").to_arrow()["t"].unique()) == 1
    mapped = lake.table("n.t").map_batches(plus, batch_size=100)
    assert len(mapped.sql("SELECT now() AS t FROM this").to_arrow()["t"].unique()) == 1
    assert "one task runs the statement: rand" in lake.sql("SELECT id FROM n.t WHERE random() < 0.5").explain()


def test_rows_are_divided_in_two_rounds_where_pieces_would_be_too_many(
    lake: ib.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, pieces = Runner.exchange, {}

    def counted(self: Runner, flow: Flow, partitions: int = 1) -> Kept:
        made = exchange(self, flow, partitions)
        pieces[flow.label] = len(made.blocks), partitions
        return made

    monkeypatch.setattr(Runner, "exchange", counted)
    for rounds in (1, 2):
        divide_everything(monkeypatch, rounds)
        pieces.clear()
        lake.sql("SELECT id, count(*) OVER (PARTITION BY id) AS n FROM n.t").to_arrow()
        (first, *again) = pieces.values()
        assert len(again) == rounds - 1
        if again:
            assert again[0][0] == again[0][1] > 9
            assert first[0] == first[1] < again[0][1] / 2
