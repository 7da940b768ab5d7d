"""Numbers of a job in the words that a terminal and a notebook show."""

from __future__ import annotations

from dataclasses import dataclass

from iceblink.config import MIB
from iceblink.watch.job import JobSeen, LoaderSeen, OperatorSeen, PipelineSeen

HEADINGS = ("operator", "rows", "rows/s", "MiB/s", "waiting", "tasks", "workers", "waits for")
LOADER_HEADINGS = ("loader", "epoch", "step", "of", "rows/s", "waits", "cache hits", "left", "bottleneck")


@dataclass(frozen=True)
class Picture:
    """A table for people: headings, rows of cells, a line under it. The first and the last column hold words."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    line: str = ""


def pictures(job: JobSeen) -> list[Picture]:
    """Return a table for each pipeline, and one for all loaders; none if there are neither."""
    found = [Picture(HEADINGS, tuple(map(cells, one.operators)), summary(one, job)) for one in job.pipelines]
    if job.loaders:
        found.append(Picture(LOADER_HEADINGS, tuple(map(loader_cells, job.loaders))))
    return found


def loader_cells(loader: LoaderSeen) -> tuple[str, ...]:
    """Return one loader under `LOADER_HEADINGS`."""
    now = loader.now
    asked = now.cache_hits + now.cache_misses
    troubles = f"rows replaced: {now.replaced_rows:,}" if now.replaced_rows else ""
    return (
        now.loader,
        f"{now.epoch:,}",
        f"{now.step:,}",
        f"{now.steps:,}",
        f"{loader.rows_s:,.0f}",
        f"{loader.waiting:.0%}",
        f"{now.cache_hits / asked:.0%}" if asked else "",
        "" if loader.left_s is None else duration(loader.left_s),
        ", ".join(filter(None, [now.bottleneck, troubles])),
    )


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
