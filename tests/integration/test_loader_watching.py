"""Loaders, watched: what a pass does is told at a bounded rate, counted in metrics, and ready for TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from rich.console import Console

import iceblink as ib
from iceblink.events import Event, LoaderProgress, observing
from iceblink.load import loader as loaders
from iceblink.load import told
from iceblink.watch import metrics
from iceblink.watch.job import Job
from iceblink.watch.notebook import page
from iceblink.watch.terminal import TerminalView

ROWS, GROUP_ROWS, BATCH = 1000, 50, 25
STEPS = ROWS // BATCH


@pytest.fixture
def table(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> ib.Dataset:
    """Twenty row groups, each a unit."""
    monkeypatch.setattr("iceblink.load.units.PACKED_ROWS", GROUP_ROWS)
    properties = {"write.parquet.row-group-limit": str(GROUP_ROWS)}
    return lake.write("n.t", {"id": np.arange(ROWS), "wide": [b"x" * 400] * ROWS}, "create", properties=properties)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event for each step."""
    monkeypatch.setattr(told, "EVERY_S", 0.0)


def heard(passing: Any) -> list[LoaderProgress]:
    """Take all batches of a pass and return what was told of it."""
    events: list[Event] = []
    with ib.watching(events.append):
        for _batch in passing:
            pass
    return [event for event in events if isinstance(event, LoaderProgress)]


@pytest.mark.usefixtures("every_step")
def test_a_pass_is_told_from_its_begin_to_its_end(table: ib.Dataset) -> None:
    loader = table.to_numpy(BATCH, shuffle=True)
    first, second = heard(loader), heard(loader)
    assert [event.step for event in first] == [*range(STEPS + 1), STEPS]
    assert [event.batches for event in first] == [*range(STEPS + 1), STEPS]
    assert [event.rows for event in first][-1] == ROWS
    assert [event.ended for event in first] == [False] * (STEPS + 1) + [True]
    assert {(event.loader, event.steps, event.epoch) for event in first} == {("to_numpy n.t", STEPS, 0)}
    assert {event.epoch for event in second} == {1}
    assert {event.number for event in first} != {event.number for event in second}
    assert second[-1].rows == ROWS, "of this pass, not of the loader"
    assert all(0 <= event.waited_s <= event.seconds for event in first)
    assert first[-1].bottleneck in {"consumer", "decode", "transform", "storage"}


def test_the_rate_is_bounded(table: ib.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "EVERY_S", 3600.0)
    assert [(event.step, event.ended) for event in heard(table.to_numpy(BATCH))] == [(0, False), (STEPS, True)]


@pytest.mark.usefixtures("every_step")
def test_a_pass_that_is_left_or_gone_on_with_is_told_as_it_is(table: ib.Dataset) -> None:
    one = table.to_numpy(BATCH)
    passing = iter(one)
    for _step in range(7):
        next(passing)
    other = table.to_numpy(BATCH)
    other.load_state_dict(one.state_dict())
    resumed = heard(other)
    assert (resumed[0].step, resumed[0].rows) == (7, 0)
    assert (resumed[-1].step, resumed[-1].batches) == (STEPS, STEPS - 7)
    events: list[Event] = []
    with ib.watching(events.append):
        for _batch in other:
            break
    last = events[-1]
    assert isinstance(last, LoaderProgress)
    assert (last.epoch, last.step, last.ended) == (1, 1, True)


@pytest.mark.usefixtures("every_step")
def test_nothing_is_made_for_nobody(table: ib.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: Any, **__: Any) -> Any:
        raise AssertionError("an event is made, and nobody listens")

    def seven(batch: dict[str, Any]) -> dict[str, Any]:
        if 7 in batch["id"]:
            raise ValueError("seven")
        return batch

    loader = table.to_numpy(BATCH, transform=seven, on_error="skip")
    monkeypatch.setattr(told, "emit", made)
    monkeypatch.setattr("iceblink.load.reading.emit", made)
    monkeypatch.setattr(loaders.Loader, "stats", made)
    assert sum(len(batch["id"]) for batch in loader) == ROWS
    with pytest.raises(AssertionError, match="nobody listens"), observing(lambda _event: None):
        next(iter(loader))


@pytest.mark.usefixtures("every_step")
def test_what_is_shown_has_a_line_for_each_loader(table: ib.Dataset, tmp_path: Path) -> None:
    def fragile(batch: dict[str, Any]) -> dict[str, Any]:
        if 7 in batch["id"]:
            raise ValueError("seven")
        return batch

    cache = ib.Cache(tmp_path / "cache")
    train = table.to_numpy(BATCH, cache=cache, transform=fragile, on_error="skip")
    list(train)
    job, out = Job(), io.StringIO()
    view = TerminalView(Console(file=out, force_terminal=True, width=140, color_system=None))
    with ib.watching(view), ib.watching(job):
        passing = iter(train)
        for _step in range(10):
            next(passing)
        list(ib.mix({"some": table}, {"some": 1}, until=4).to_numpy(BATCH))
        view.show()
        view.stop()
    lines = [line.removeprefix("\x1b[?25l").split() for line in out.getvalue().splitlines()]
    assert ["loader", "epoch", "step", "of", "rows/s", "waits", "cache", "hits", "left", "bottleneck"] in lines
    shown = [line for line in lines if line[:2] == ["to_numpy", "n.t"]][-1]  # it may be drawn several times
    assert shown[2:5] == ["1", "10", "40"]
    assert "100%" in shown, "of the cache"
    assert shown[-3:] == ["rows", "replaced:", "1"]
    mixed = [line for line in lines if line[:2] == ["to_numpy", "some"]][-1]
    assert mixed[2:5] == ["0", "4", "4"]
    assert "<td>to_numpy n.t</td><td>1</td><td>10</td><td>40</td>" in page(job.seen())
    one, other = job.seen().loaders
    assert one.rows_s > 0
    assert 0 <= one.waiting <= 1
    assert one.left_s is not None
    assert other.now.ended
    assert other.left_s is None
    with ib.watching(job):
        next(iter(table.to_numpy(BATCH)))
    assert [loader.now.loader for loader in job.seen().loaders] == ["to_numpy n.t"] * 2, "what has ended is forgotten"


def test_metrics_count_what_loaders_do(table: ib.Dataset, tmp_path: Path) -> None:
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    loader = table.to_numpy(BATCH, cache=tmp_path / "cache")
    with ib.watching(metrics.prometheus(registry)), ib.watching(metrics.opentelemetry(provider)):
        for _epoch in range(2):
            list(loader)

    def value(name: str) -> Any:
        return registry.get_sample_value(f"iceblink_loader_{name}_total", {"loader": "to_numpy n.t"})

    assert (value("rows"), value("batches"), value("rows_replaced")) == (2 * ROWS, 2 * STEPS, 0)
    stats = loader.stats()
    assert (value("cache_hits"), value("cache_misses")) == (stats.cache_hits, stats.cache_misses)
    assert (value("decoded_bytes"), value("cached_bytes")) == (stats.decoded_bytes, stats.cached_bytes)
    assert value("waited_seconds") == pytest.approx(stats.waited_s)
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        metric.name: (metric.unit, dict(point.attributes or {}), getattr(point, "value", None))
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }
    provider.shutdown()
    assert points["iceblink.loader.rows"] == ("{row}", {"loader": "to_numpy n.t"}, 2 * ROWS)
    assert points["iceblink.loader.cached"][2] == stats.cached_bytes


@pytest.mark.parametrize("quality", ["none", "window", "global"])
def test_hits_of_the_cache_are_counted(table: ib.Dataset, quality: str, tmp_path: Path) -> None:
    order: dict[str, Any] = {} if quality == "none" else {"shuffle": True, "quality": quality}
    units = ROWS // GROUP_ROWS
    plain = table.to_numpy(BATCH, **order)
    list(plain)
    stats = plain.stats()
    assert (stats.cache_hits, stats.cache_misses, stats.cached_bytes) == (0, 0, 0)
    assert "cache" not in str(stats)
    decoded = stats.decoded_bytes
    assert decoded > ROWS * 400
    first = table.to_numpy(BATCH, cache=tmp_path / "cache", **order)
    list(first)
    stats = first.stats()
    assert (stats.cache_hits, stats.cache_misses) == (1, units - 1), "one was read when the loader was made"
    assert stats.decoded_bytes + stats.cached_bytes == pytest.approx(decoded, rel=0.01)
    second = table.to_numpy(BATCH, cache=tmp_path / "cache", **order)
    list(second)
    stats = second.stats()
    assert (stats.cache_hits, stats.cache_misses) == (units, 0)
    assert stats.decoded_bytes == 0
    assert stats.cached_bytes == pytest.approx(decoded, rel=0.01)
    assert f"cache hits {units} of {units}" in str(stats)


class Recorder:
    """What TensorBoard's SummaryWriter is to those who log."""

    def __init__(self) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.curves.setdefault(tag, []).append((global_step, scalar_value))


def test_scalars_become_curves(table: ib.Dataset, tmp_path: Path) -> None:
    writer, loader = Recorder(), table.to_torch(BATCH, cache=tmp_path / "cache")
    for epoch in range(2):
        for step, _batch in enumerate(loader):
            if step % 20 == 0:
                for tag, value in loader.stats().scalars().items():
                    writer.add_scalar(tag, value, epoch * len(loader) + step)
    assert {tuple(step for step, _ in points) for points in writer.curves.values()} == {(0, 20, 40, 60)}
    assert all(isinstance(value, float) for points in writer.curves.values() for _, value in points)
    assert set(writer.curves) == {
        "loader/rows_per_s", "loader/wait_share", "loader/wait_p50_ms", "loader/wait_p99_ms",
        "loader/cache_hit_share", "loader/decoded_mib", "loader/replaced_rows",
    }  # fmt: skip
    scalars, stats = loader.stats().scalars(), loader.stats()
    assert scalars["loader/wait_share"] == stats.stalled
    assert scalars["loader/cache_hit_share"] == stats.cache_hits / (stats.cache_hits + stats.cache_misses) > 0.5
    assert scalars["loader/wait_p99_ms"] == 1e3 * stats.wait_p99_s
    assert table.to_torch(BATCH).stats().scalars()["loader/rows_per_s"] == 0
