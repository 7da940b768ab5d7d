"""Metrics as the real libraries read them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from iceblink.errors import ConfigError
from iceblink.events import OperatorProgress, PipelineProgress, ScanPlanned
from iceblink.watch import metrics

EVENTS = [
    ScanPlanned("ns.t", files=1, files_total=1, splits=2, rows=2_000, decoded_bytes=1),
    PipelineProgress(1, (OperatorProgress("f", rows_out=10, bytes_out=80, rows_waiting=6, workers=2),), 1.0, 100),
    PipelineProgress(2, (OperatorProgress("f", rows_out=1, bytes_out=8, rows_waiting=1, workers=1),), 1.0, 100),
    PipelineProgress(
        1,
        (OperatorProgress("f", 40, 30, 2, 240, 1.5, 1, rows_waiting=3, workers=2),),
        2.0,
        200,
    ),
]
OVER = PipelineProgress(1, (OperatorProgress("f", 40, 40, 2, 320, 2.0, 1, rows_waiting=3, workers=2),), 3.0, 150, True)


def test_prometheus_counts_what_pipelines_do() -> None:
    registry = CollectorRegistry()
    observer = metrics.prometheus(registry)
    for event in EVENTS:
        observer(event)

    def value(name: str) -> float | None:
        return registry.get_sample_value(name, {"operator": "f"})

    assert value("iceblink_rows_total") == 31
    assert value("iceblink_bytes_total") == 248
    assert value("iceblink_rows_refused_total") == 2
    assert value("iceblink_busy_seconds_total") == 1.5
    assert value("iceblink_worker_deaths_total") == 1
    assert value("iceblink_queue_rows") == 4
    assert value("iceblink_workers") == 3
    assert registry.get_sample_value("iceblink_resident_bytes") == 200
    observer(OVER)
    assert value("iceblink_rows_total") == 41
    assert value("iceblink_queue_rows") == 1
    assert value("iceblink_workers") == 1


def test_prometheus_is_asked_twice_for_the_same_registry() -> None:
    registry = CollectorRegistry()
    assert metrics.prometheus(registry) is metrics.prometheus(registry)
    assert metrics.prometheus() is metrics.prometheus()
    assert b"# HELP iceblink_busy_seconds_total Time that" in generate_latest(registry)


def test_opentelemetry_counts_what_pipelines_do() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    observer = metrics.opentelemetry(provider)
    for event in [*EVENTS, OVER]:
        observer(event)
    found: dict[str, Any] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        (point,) = metric.data.data_points
        found[metric.name] = (metric.unit, dict(point.attributes or {}), getattr(point, "value", None))
    provider.shutdown()
    assert found == {
        "iceblink.rows": ("{row}", {"operator": "f"}, 41),
        "iceblink.bytes": ("By", {"operator": "f"}, 328),
        "iceblink.rows.refused": ("{row}", {"operator": "f"}, 2),
        "iceblink.busy": ("s", {"operator": "f"}, 2.0),
        "iceblink.worker.deaths": ("{worker}", {"operator": "f"}, 1),
        "iceblink.queue.rows": ("{row}", {"operator": "f"}, 1),
        "iceblink.workers": ("{worker}", {"operator": "f"}, 1),
        "iceblink.resident": ("By", {}, 150),
    }


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"iceblink\[metrics\]"):
        metrics.prometheus(CollectorRegistry())
