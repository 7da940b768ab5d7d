"""Pipelines and loaders as metrics of Prometheus and OpenTelemetry: totals of each, present states of operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

from iceblink.events import Event, LoaderProgress, Observer, OperatorProgress, PipelineProgress
from iceblink.interop import optional

Add = Callable[[str, float], None]
"""Takes the name of the operator or loader, and by how much it changed."""


@dataclass(frozen=True)
class Measure:
    """One metric: a field of `OperatorProgress` or `LoaderProgress`, and what it is called outside.

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
LOADER_MEASURES = (
    Measure("rows", "iceblink.loader.rows", "{row}", "Rows that a loader handed over"),
    Measure("batches", "iceblink.loader.batches", "{batch}", "Batches that a loader handed over"),
    Measure("waited_s", "iceblink.loader.waited", "s", "Time that the consumer of a loader waited"),
    Measure("replaced_rows", "iceblink.loader.rows.replaced", "{row}", "Rows that could not be had: others came"),
    Measure("decoded_bytes", "iceblink.loader.decoded", "By", "Bytes of rows that were decoded, in Arrow's layout"),
    Measure("cached_bytes", "iceblink.loader.cached", "By", "Bytes of rows that were in the cache"),
    Measure("cache_hits", "iceblink.loader.cache.hits", "{group}", "Row groups, about, that were in the cache"),
    Measure("cache_misses", "iceblink.loader.cache.misses", "{group}", "Row groups that were not in the cache"),
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
    units = {"By": "bytes", "s": "seconds"}

    def metric(measure: Measure, labels: tuple[str, ...]) -> Any:
        kind = client.Gauge if measure.falls else client.Counter
        words = [*measure.name.split("."), units.get(measure.unit)]
        name = "_".join(dict.fromkeys(filter(None, words)))  # "iceblink_bytes" has its unit already
        return kind(name, measure.about, labels, registry=registry)

    def add(measure: Measure, label: str) -> Add:
        found = metric(measure, (label,))
        return lambda name, change: found.labels(name).inc(change)

    return _Changes(add, metric(RESIDENT, ()).set)


def opentelemetry(meter_provider: Any = None) -> Observer:
    """Return the observer that counts with OpenTelemetry's metrics.

    The attribute ``operator``, or ``loader``, tells whose they are.

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

    def add(measure: Measure, label: str) -> Add:
        make = meter.create_up_down_counter if measure.falls else meter.create_counter
        found = make(measure.name, measure.unit, measure.about)
        return lambda name, change: found.add(change, {label: name})

    resident = meter.create_gauge(RESIDENT.name, RESIDENT.unit, RESIDENT.about)
    return _Changes(add, resident.set)


class _Changes:
    """Tells by how much each field of each operator and loader has changed; states fall to 0 at the end."""

    def __init__(self, add: Callable[[Measure, str], Add], resident: Callable[[float], None]) -> None:
        self._operators = _Totals({measure.field: add(measure, "operator") for measure in MEASURES})
        self._loaders = _Totals({measure.field: add(measure, "loader") for measure in LOADER_MEASURES})
        self._resident = resident

    def __call__(self, event: Event) -> None:
        """Take note of one event; from any thread."""
        match event:
            case PipelineProgress(pipeline=number, operators=operators, ended=ended):
                if ended:
                    operators = tuple(replace(one, rows_waiting=0, workers=0) for one in operators)
                self._operators.take(number, [(one.operator, one) for one in operators], ended)
                self._resident(event.resident_bytes)
            case LoaderProgress(number=number, loader=name, ended=ended):
                self._loaders.take(number, [(name, event)], ended)


class _Totals:
    """Tells changes of what runs, from any thread; several runs with the same names add up."""

    def __init__(self, adds: Mapping[str, Add]) -> None:
        self._adds = adds
        self._lock = Lock()
        self._known: dict[int, Sequence[tuple[str, Any]]] = {}

    def take(self, number: int, news: Sequence[tuple[str, OperatorProgress | LoaderProgress]], ended: bool) -> None:
        """Take note of how a run is: by name, what has the fields."""
        with self._lock:
            olds = self._known.pop(number, [(name, None) for name, _ in news])
            if not ended:
                self._known[number] = news
            for (_, old), (name, new) in zip(olds, news, strict=True):
                for field, add in self._adds.items():  # a change of 0 too: what never happened shows as 0
                    add(name, getattr(new, field) - getattr(old, field, 0))
