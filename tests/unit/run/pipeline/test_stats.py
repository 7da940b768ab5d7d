"""What a run did: time between tasks, rows refused, and how it reads as text, HTML and a timeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from iceblink.config import MIB
from iceblink.events import Event, PipelineProgress, observing
from iceblink.run.pipeline.stats import OperatorStats, PipelineStats, Recorder
from iceblink.run.pipeline.timeline import Span


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_is_idle_between_its_tasks_and_while_it_waits_in_one() -> None:
    clock = Clock()
    recorder = Recorder(["f"], clock)
    clock.now = 103.0  # built at 101, and nothing to do before the first task
    recorder.begun(0, 1, idle_since=101.0)
    clock.now = 105.0
    recorder.task(0, 1, busy_s=1.5, rows_in=10, rows=10)  # half a second for room for its output
    clock.now = 106.0
    recorder.begun(0, 1, idle_since=105.0)
    clock.now = 107.0
    recorder.task(0, 1, busy_s=1.0, rows_in=10, rows=10)
    recorder.task(0, 1, busy_s=0.0, rows_in=10, rows=10)  # lay there already: no time in between
    (item,) = recorder.stats().operators
    assert (item.busy_s, item.idle_s, item.tasks, item.rows_in) == (2.5, 1.5, 3, 30)
    assert item.utilisation == 2.5 / 4.0
    assert [(span.begun_s, span.length_s) for span in recorder.stats().spans] == [(3.0, 2.0), (6.0, 1.0), (7.0, 0.0)]


def test_a_worker_that_came_late_is_idle_from_then_on_and_one_without_any_task_in_sight_never() -> None:
    clock = Clock()
    recorder = Recorder(["f", "g"], clock)
    recorder.begun(0, 1, idle_since=100.0)
    clock.now = 110.0
    recorder.idle(0, since=104.0)  # was let go without a task
    recorder.idle(1, since=104.0)
    assert [item.idle_s for item in recorder.stats().operators] == [6.0, 0.0]


def test_outputs_count_before_their_task_ends_and_refused_rows_are_dealt_with() -> None:
    recorder = Recorder(["f"])
    recorder.produced(0, rows_in=4, rows_out=8, bytes_out=64)
    recorder.refused(0, rows_in=1, rows=1)
    (item,) = recorder.stats().operators
    assert (item.rows_in, item.rows_out, item.rows_refused, item.bytes_out, item.tasks) == (5, 8, 1, 64, 0)


def test_the_end_is_told_with_nothing_left_at_work() -> None:
    heard: list[Event] = []
    recorder = Recorder(["f"])
    with observing(heard.append):
        recorder.stalled(0, "memory")
        recorder.look(5 * MIB, 0, [(7, 1, 2)])
        recorder.end()
    (last,) = heard
    assert isinstance(last, PipelineProgress)
    assert last.ended
    (item,) = last.operators
    assert (item.rows_waiting, item.tasks, item.workers, item.waits_for) == (0, 0, 0, "")
    assert last.resident_bytes == 5 * MIB


def test_two_runs_have_two_numbers() -> None:
    heard: list[Event] = []
    with observing(heard.append):
        Recorder([]).end()
        Recorder([]).end()
    first, second = (event.pipeline for event in heard if isinstance(event, PipelineProgress))
    assert first != second


STATS = PipelineStats(
    (
        OperatorStats("scan demo.t", 0, 1_000_000, 0, 8 * MIB, 1, 0.5, 3.5, 0, 1, 0, {"output": 2.04, "memory": 0.01}),
        OperatorStats("<lambda>", 1_000_000, 999_997, 3, 8 * MIB, 64, 3.9, 0.1, 0, 4, 1),
    ),
    4.0,
    300 * MIB,
    64 * MIB,
    (Span(0, 1, 0.0, 4.0, 0.5, 1_000_000), Span(1, 2, 1.0, 0.5, 0.5, 100), Span(1, 3, 1.0, 0.25, 0.2, 100)),
)

PRINTED = """\
operator      rows out  MiB out  tasks  busy s  idle s  used  workers  remarks
scan demo.t  1,000,000      8.0      1    0.50    3.50   12%        1  waited for output 2.0 s
<lambda>       999,997      8.0     64    3.90    0.10   98%        4  rows refused: 3; workers died: 1
4.00 s; at most 300 MiB resident, 64 MiB of blocks"""


def test_stats_print_as_a_table() -> None:
    assert str(STATS) == repr(STATS) == PRINTED


def test_stats_are_a_table_in_a_notebook() -> None:
    page = STATS._repr_html_()
    assert page.count("<tr>") == 3
    assert "<td>&lt;lambda&gt;</td><td>999,997</td>" in page


def test_the_scarcest_operator_is_the_one_whose_workers_were_at_work_longest() -> None:
    assert STATS.scarcest.label == "<lambda>"
    short = OperatorStats("short", busy_s=0.1, idle_s=0.0, most_workers=1)
    assert replace(STATS, operators=(short, *STATS.operators)).scarcest.label == "<lambda>"


def test_a_timeline_has_operators_as_processes_and_workers_as_threads(tmp_path: Path) -> None:
    STATS.trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if "name" in event["args"]
    }
    assert names == {
        ("process_name", 1, 0): "scan demo.t",
        ("process_name", 2, 0): "<lambda>",
        ("thread_name", 1, 1): "worker 1",
        ("thread_name", 2, 2): "worker 2",
        ("thread_name", 2, 3): "worker 3",
    }
    tasks = [event for event in events if event["ph"] == "X"]
    assert [(task["cat"], task["pid"], task["tid"], task["ts"], task["dur"]) for task in tasks] == [
        ("scan demo.t", 1, 1, 0, 4_000_000),
        ("<lambda>", 2, 2, 1_000_000, 500_000),
        ("<lambda>", 2, 3, 1_000_000, 250_000),
    ]
    assert tasks[0]["args"] == {"rows": 1_000_000, "busy_s": 0.5}
