"""The tasks of a run as a timeline that chrome://tracing and Perfetto show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """One task of a worker.

    Parameters
    ----------
    place, worker : int
        The operator, counted from the source, and the worker's number in this run.
    begun_s, length_s : float
        When the worker was free for it, since the run began, and until it was done [s].
    busy_s : float
        Time at work in between; the rest it waited, for rows to reach it or for room for what it makes [s].
    rows : int
        Given, or of a source: made.
    """

    place: int
    worker: int
    begun_s: float
    length_s: float
    busy_s: float
    rows: int


def chrome_trace(labels: Sequence[str], spans: Sequence[Span]) -> str:
    """Return JSON in which each operator is a process, each of its workers a thread, and each task an event.

    The format is [1]_.

    References
    ----------
    .. [1] Trace Event Format, "JSON Object Format", "Complete Events" and "Metadata Events".
    """
    events = [*_names(labels, spans), *(_event(labels[span.place], span) for span in spans)]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _names(labels: Sequence[str], spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    for place, label in enumerate(labels):
        yield _metadata("process_name", place, 0, name=label)
        yield _metadata("process_sort_index", place, 0, sort_index=place)
    for place, worker in sorted({(span.place, span.worker) for span in spans}):
        yield _metadata("thread_name", place, worker, name=f"worker {worker}")


def _metadata(kind: str, place: int, worker: int, **args: Any) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": place + 1, "tid": worker, "args": args}


def _event(label: str, span: Span) -> dict[str, Any]:
    return {
        "name": label,
        "cat": label,
        "ph": "X",
        "pid": span.place + 1,
        "tid": span.worker,
        "ts": round(span.begun_s * 1e6),
        "dur": round(span.length_s * 1e6),
        "args": {"rows": span.rows, "busy_s": round(span.busy_s, 6)},
    }
