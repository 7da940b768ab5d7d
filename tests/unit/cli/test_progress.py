"""The progress bar follows the events, and stays away from what is short or not a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from iceblink.cli.progress import ProgressBar, progress_bar
from iceblink.events import FileWritten, ScanPlanned, SplitRead, emit

PLANNED = ScanPlanned("ns.t", files=1, files_total=1, splits=2, rows=2_000, decoded_bytes=1)
HALF = SplitRead("ns.t", rows=1_000, decoded_bytes=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(patience_s: float, *events: object) -> str:
    out = Terminal()
    bar = ProgressBar(Console(file=out, force_terminal=True, width=100), patience_s)
    for event in events:
        bar(event)  # type: ignore[arg-type]
    bar.stop()
    return out.getvalue()


def test_it_counts_the_rows_read_of_those_planned() -> None:
    assert "1,000 of 2,000 rows" in drawn(0, PLANNED, HALF)


def test_it_counts_files_written() -> None:
    assert "1 files written" in drawn(0, PLANNED, FileWritten("ns.t", "f.parquet", 10, 100))


def test_short_work_shows_nothing() -> None:
    assert drawn(60, PLANNED, HALF) == ""


def test_a_pipe_hears_nothing() -> None:
    out = io.StringIO()
    with progress_bar(out):
        emit(PLANNED)
    assert out.getvalue() == ""
