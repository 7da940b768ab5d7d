"""The terminal shows pipelines as tables and other work as a line, and stays away from what is short or no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from iceblink.events import (
    Event,
    FileWritten,
    OperatorProgress,
    PipelineProgress,
    QueryProgress,
    ScanPlanned,
    SplitRead,
    emit,
)
from iceblink.watch.terminal import TerminalView, shown_in_terminal

MIB = 1 << 20
PLANNED = ScanPlanned("ns.t", files=1, files_total=1, splits=2, rows=2_000, decoded_bytes=1)
HALF = SplitRead("ns.t", rows=1_000, decoded_bytes=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(*events: Event, shown: bool = True) -> str:
    out = Terminal()
    view = TerminalView(Console(file=out, force_terminal=True, width=120, color_system=None))
    for event in events:
        view(event)
    if shown:
        view.show()
    view.stop()
    return out.getvalue()


def pipeline(seconds: float, read: int, through: int) -> PipelineProgress:
    source = OperatorProgress("scan ns.t", rows_out=read, bytes_out=read * MIB, tasks=1, workers=1, waits_for="output")
    model = OperatorProgress(
        "Model", rows_in=through, rows_out=through, rows_refused=3, deaths=1, rows_waiting=read - through, workers=2
    )
    return PipelineProgress(1, (source, model), seconds, 512 * MIB)


def test_a_pipeline_has_a_line_for_each_operator() -> None:
    picture = drawn(PLANNED, pipeline(10, 1000, 500), pipeline(15, 1500, 1000))
    lines = [line.split() for line in picture.splitlines()]
    assert ["scan", "ns.t", "1,500", "100", "100.0", "0", "1", "1", "output"] in lines
    assert ["Model", "1,000", "100", "0.0", "500", "0", "2", "rows", "refused:", "3,", "workers", "died:", "1"] in lines
    assert "15 s, 512 MiB resident, about 10 s left" in picture


def test_names_in_brackets_are_no_markup() -> None:
    odd = PipelineProgress(1, (OperatorProgress("[red]f"),), 1, 0)
    assert "[red]f" in drawn(odd)


def test_it_counts_the_rows_read_of_those_planned() -> None:
    assert "1,000 of 2,000 rows read" in drawn(PLANNED, HALF)


def test_it_says_what_will_be_read_before_any_split_was() -> None:
    assert "reading 2,000 rows" in drawn(PLANNED)


def test_it_says_how_far_a_statement_is_that_the_kernel_reads_for() -> None:
    assert "reading 2,000 rows, 40% done" in drawn(PLANNED, QueryProgress(0.4))


def test_it_counts_the_rows_written() -> None:
    assert "2,000 rows read, 10 written" in drawn(PLANNED, HALF, FileWritten("ns.t", "f.parquet", 10, 100))


def test_short_work_shows_nothing() -> None:
    assert drawn(PLANNED, HALF, shown=False) == ""


def test_a_view_that_was_stopped_stays_away() -> None:
    out = Terminal()
    view = TerminalView(Console(file=out, force_terminal=True))
    view.stop()
    view.show()
    assert out.getvalue() == ""


def test_a_pipe_hears_nothing() -> None:
    out = io.StringIO()
    with shown_in_terminal(out):
        emit(PLANNED)
    assert out.getvalue() == ""
