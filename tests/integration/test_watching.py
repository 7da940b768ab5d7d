"""Real pipelines, watched: the events add up, and an observer is never in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

import iceblink as ib
from iceblink.events import Committed, Event, FileWritten, PipelineProgress, ScanPlanned
from iceblink.watch.job import Job
from iceblink.watch.metrics import prometheus

ROWS = 1000


@pytest.fixture
def table(lake: ib.Lake) -> ib.Dataset:
    return lake.write("d.t", {"id": range(ROWS)}, "create")


def unchanged(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def fragile(batch: dict[str, Any]) -> dict[str, Any]:
    if (batch["id"] % 100 == 3).any():
        raise ValueError("a three")
    return batch


def test_a_write_is_told_from_its_plan_to_its_commit(table: ib.Dataset) -> None:
    heard: list[Event] = []
    with ib.watching(heard.append):
        table.map_batches(unchanged, batch_size=100).write("d.u", "create")
    looks = [event for event in heard if isinstance(event, PipelineProgress)]
    assert [look.ended for look in looks][-1]
    assert [(item.operator, item.rows_in, item.rows_out) for item in looks[-1].operators] == [
        ("scan d.t", 0, ROWS),
        ("unchanged", ROWS, ROWS),
    ]
    kinds = [type(event) for event in heard]
    assert kinds.index(ScanPlanned) < kinds.index(FileWritten) < kinds.index(Committed)


def test_a_function_below_a_statement_is_heard_of_too(table: ib.Dataset) -> None:
    heard: list[Event] = []
    with ib.watching(heard.append):
        assert table.filter(ib._.id < 500).map_batches(unchanged).count() == 500
    assert any(isinstance(event, ScanPlanned) for event in heard)
    last = [event for event in heard if isinstance(event, PipelineProgress)][-1]
    assert [(item.operator, item.rows_out) for item in last.operators] == [("query", 500), ("unchanged", 500)]


@pytest.mark.parametrize("way", [{}, {"processes": True}], ids=["threads", "processes"])
@pytest.mark.parametrize("policy", ["skip", "quarantine"])
def test_refused_rows_are_counted_whatever_becomes_of_them(
    table: ib.Dataset, policy: Any, way: dict[str, Any], tmp_path: Path
) -> None:
    refused: dict[str, Any] = {"quarantine": f"{tmp_path}/refused"} if policy == "quarantine" else {}
    dataset = table.map_batches(fragile, batch_size=50, batch_format="numpy", on_error=policy, **refused, **way)
    registry = CollectorRegistry()
    job = Job()
    with ib.watching(prometheus(registry)), ib.watching(job):
        assert dataset.to_arrow().num_rows == ROWS - 10
    source, item = dataset.stats().operators
    assert (source.rows_refused, item.rows_refused) == (0, 10)
    assert (item.rows_in, item.rows_out) == (ROWS, ROWS - 10)
    assert item.busy_s > 0
    assert 0 < item.utilisation <= 1
    (pipeline,) = job.seen().pipelines
    assert [operator.now.rows_refused for operator in pipeline.operators] == [0, 10]
    name = pipeline.operators[1].now.operator
    assert registry.get_sample_value("iceblink_rows_refused_total", {"operator": name}) == 10
    assert registry.get_sample_value("iceblink_rows_total", {"operator": name}) == ROWS - 10
    assert registry.get_sample_value("iceblink_workers", {"operator": name}) == 0


def test_the_timeline_of_a_run_has_all_its_tasks(table: ib.Dataset, tmp_path: Path) -> None:
    dataset = table.map_batches(unchanged, batch_size=10, workers=2)
    dataset.to_arrow()
    stats = dataset.stats()
    stats.trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tasks = [event for event in events if event["ph"] == "X"]
    assert len(tasks) == sum(item.tasks for item in stats.operators)
    assert sum(task["args"]["rows"] for task in tasks if task["cat"] == "unchanged") == ROWS
    assert all(task["ts"] >= 0 and task["ts"] + task["dur"] <= stats.seconds * 1e6 + 2 for task in tasks)


@pytest.mark.parametrize("kind", [ScanPlanned, PipelineProgress])
def test_what_an_observer_raises_ends_the_work(table: ib.Dataset, kind: type[Event]) -> None:
    def broken(event: Event) -> None:
        if isinstance(event, kind):
            raise RuntimeError("no such dashboard")

    with ib.watching(broken), pytest.raises(RuntimeError, match="no such dashboard"):
        table.map_batches(unchanged).to_arrow()


def test_nothing_is_written_where_there_is_no_terminal(table: ib.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    with ib.watching():
        table.map_batches(unchanged).to_arrow()
    assert capsys.readouterr() == ("", "")
