"""Pipelines as metrics of Prometheus and OpenTelemetry: totals and present states of each operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

from iceblink.events import Event, Observer, OperatorProgress, PipelineProgress
from iceblink.interop import optional

Add = Callable[[str, float], None]
"""Takes the operator's name and by how much it changed."""


@dataclass(frozen=True)
class Measure:
    """One metric of operators: a field of `OperatorProgress`, and what it is called outside.

    Parameters
    ----------
    field : str
    name : str
        With dots, as OpenTelemetry has it; Prometheus gets underscores.
    unit : str
        In the words of UCUM, as OpenTelemetry has it.
    about : str
    falls : bool
        Whether it is a state, which may fall; else a total.
    """

    field: str
    name: str
    unit: str
    about: str
    falls: bool = False


MEASURES = (
    Measure("rows_out", "iceblink.rows", "{row}", "Rows that an operator made"),
    Measure("bytes_out", "iceblink.bytes", "By", "Bytes that an operator made, in Arrow's layout"),
    Measure("rows_refused", "iceblink.rows.refused", "{row}", "Rows that failed, and were left out or quarantined"),
    Measure("busy_s", "iceblink.busy", "s", "Time that an operator's workers were at work, all together"),
    Measure("deaths", "iceblink.worker.deaths", "{worker}", "Workers that died"),
    Measure("rows_waiting", "iceblink.queue.rows", "{row}", "Rows that wait for an operator", falls=True),
    Measure("workers", "iceblink.workers", "{worker}", "Workers of an operator", falls=True),
)
RESIDENT = Measure("", "iceblink.resident", "By", "Memory of the process and its workers", falls=True)


def prometheus(registry: Any = None) -> Observer:
    """Return the observer that counts in a registry of prometheus-client; the same one each time it is asked for.

    Parameters
    ----------
    registry : prometheus_client.CollectorRegistry, optional
        Default: the one that ``prometheus_client.start_http_server`` serves.

    Raises
    ------
    ConfigError
        prometheus-client is not installed.
    """
    return _prometheus(optional("prometheus_client", "metrics").REGISTRY if registry is None else registry)


@cache
def _prometheus(registry: Any) -> Observer:
    client = optional("prometheus_client", "metrics")
    units = {"{row}": "", "{worker}": "", "By": "bytes", "s": "seconds"}

    def metric(measure: Measure, labels: tuple[str, ...]) -> Any:
        kind = client.Gauge if measure.falls else client.Counter
        words = [*measure.name.split("."), units[measure.unit]]
        name = "_".join(dict.fromkeys(filter(None, words)))  # "iceblink_bytes" has its unit already
        return kind(name, measure.about, labels, registry=registry)

    def add(measure: Measure) -> Add:
        found = metric(measure, ("operator",))
        return lambda operator, change: found.labels(operator).inc(change)

    return _Changes({measure.field: add(measure) for measure in MEASURES}, metric(RESIDENT, ()).set)


def opentelemetry(meter_provider: Any = None) -> Observer:
    """Return the observer that counts with OpenTelemetry's metrics; the attribute ``operator`` tells whose they are.

    Parameters
    ----------
    meter_provider : opentelemetry.metrics.MeterProvider, optional
        Default: the one of the process.

    Raises
    ------
    ConfigError
        opentelemetry-api is not installed.
    """
    found = optional("opentelemetry.metrics", "metrics").get_meter_provider()
    return _opentelemetry(found if meter_provider is None else meter_provider)


@cache
def _opentelemetry(meter_provider: Any) -> Observer:
    meter = meter_provider.get_meter("iceblink")

    def add(measure: Measure) -> Add:
        make = meter.create_up_down_counter if measure.falls else meter.create_counter
        found = make(measure.name, measure.unit, measure.about)
        return lambda operator, change: found.add(change, {"operator": operator})

    resident = meter.create_gauge(RESIDENT.name, RESIDENT.unit, RESIDENT.about)
    return _Changes({measure.field: add(measure) for measure in MEASURES}, resident.set)


class _Changes:
    """An observer that tells by how much each field of each operator changed; states fall to 0 at the end.

    Several pipelines may run at the same time, with operators of the same name: changes add up.
    """

    def __init__(self, adds: dict[str, Add], resident: Callable[[float], None]) -> None:
        self._adds, self._resident = adds, resident
        self._lock = Lock()
        self._known: dict[int, tuple[OperatorProgress, ...]] = {}

    def __call__(self, event: Event) -> None:
        """Take note of one event; from any thread."""
        if not isinstance(event, PipelineProgress):
            return
        with self._lock:
            news = event.operators
            if event.ended:
                news = tuple(replace(new, rows_waiting=0, workers=0) for new in news)
            olds = self._known.pop(event.pipeline, tuple(OperatorProgress(new.operator) for new in news))
            if not event.ended:
                self._known[event.pipeline] = news
            for old, new in zip(olds, news, strict=True):
                for field, add in self._adds.items():  # a change of 0 too: what never happened shows as 0
                    add(new.operator, getattr(new, field) - getattr(old, field))
            self._resident(event.resident_bytes)
