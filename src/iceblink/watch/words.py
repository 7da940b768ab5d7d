"""Numbers of a job in the words that a terminal and a notebook show."""

from __future__ import annotations

from iceblink.config import MIB
from iceblink.watch.job import JobSeen, OperatorSeen, PipelineSeen

HEADINGS = ("operator", "rows", "rows/s", "MiB/s", "waiting", "tasks", "workers", "waits for")
WORDS = {0, len(HEADINGS) - 1}  # the columns that hold words; the others are numbers


def cells(operator: OperatorSeen) -> tuple[str, ...]:
    """Return one operator under `HEADINGS`."""
    now = operator.now
    troubles = [
        f"rows refused: {now.rows_refused:,}" if now.rows_refused else "",
        f"workers died: {now.deaths:,}" if now.deaths else "",
    ]
    return (
        now.operator,
        f"{now.rows_out:,}",
        f"{operator.rows_s:,.0f}",
        f"{operator.bytes_s / MIB:,.1f}",
        f"{now.rows_waiting:,}",
        f"{now.tasks:,}",
        f"{now.workers:,}",
        ", ".join(filter(None, [now.waits_for, *troubles])),
    )


def summary(pipeline: PipelineSeen, job: JobSeen) -> str:
    """Say how long a pipeline runs, in how much memory, and what is left."""
    parts = [duration(pipeline.seconds), f"{pipeline.resident_bytes / MIB:,.0f} MiB resident"]
    if job.rows_written:
        parts.append(f"{job.rows_written:,} rows written")
    if pipeline.ended:
        parts.append("done")
    elif pipeline.left_s is not None:
        parts.append(f"about {duration(pipeline.left_s)} left")
    return ", ".join(parts)


def reading(job: JobSeen) -> tuple[str, float | None]:
    """Say in a line what is read and written; and which part is done, from 0 to 1, None while nobody says."""
    words = f"reading {job.rows_planned:,} rows" if job.rows_planned else "reading"
    done: float | None = None
    if job.rows_read:
        words = f"{job.rows_read:,} of {job.rows_planned:,} rows read"
        done = min(1.0, job.rows_read / job.rows_planned) if job.rows_planned else None
    elif job.fraction:  # the kernel reads by itself, and counts no rows
        words, done = f"{words}, {job.fraction:.0%} done", job.fraction
    return words + (f", {job.rows_written:,} written" if job.rows_written else ""), done


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(7.4), duration(80), duration(7300)
    ('7 s', '1 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
