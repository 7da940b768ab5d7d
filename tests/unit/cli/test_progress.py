"""The progress bar follows the events, and stays away from what is short or not a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from iceblink.cli.progress import ProgressBar, progress_bar
from iceblink.events import Event, FileWritten, QueryProgress, ScanPlanned, SplitRead, emit

PLANNED = ScanPlanned("ns.t", files=1, files_total=1, splits=2, rows=2_000, decoded_bytes=1)
HALF = SplitRead("ns.t", rows=1_000, decoded_bytes=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(*events: Event, shown: bool = True) -> str:
    out = Terminal()
    bar = ProgressBar(Console(file=out, force_terminal=True, width=120))
    for event in events:
        bar(event)
    if shown:
        bar.show()
    bar.stop()
    return out.getvalue()


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


def test_a_bar_that_was_stopped_stays_away() -> None:
    out = Terminal()
    bar = ProgressBar(Console(file=out, force_terminal=True))
    bar.stop()
    bar.show()
    assert out.getvalue() == ""


def test_a_pipe_hears_nothing() -> None:
    out = io.StringIO()
    with progress_bar(out):
        emit(PLANNED)
    assert out.getvalue() == ""
