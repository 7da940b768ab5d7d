"""Plots show the numbers of the tables that they are drawn from, and say what their axes are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal import plots
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

mpl.use("Agg")
from matplotlib import pyplot

UNITS, PERIODS = 30, 5


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Dataset]:
    folder: Path = tmp_path_factory.mktemp("lake")
    draw = np.random.default_rng(2)
    unit, period = np.divmod(np.arange(UNITS * PERIODS), PERIODS)
    x = draw.normal(size=len(unit))
    rows = {
        "unit": unit,
        "period": period,
        "first": pa.array(np.where(unit < 10, 2, np.where(unit < 20, 3, 0))),
        "on": ((period >= 3) & (unit < 5)).astype(int),
        "t": unit % 2,
        "three": unit % 3,
        "x $": x,
        "größe": draw.uniform(1, 2, len(unit)),
        "y": 3 + x + unit % 2 + draw.normal(size=len(unit)),
        "city": [f"<{n // 2 % 2}>" for n in unit],
    }
    with ib.connect(folder) as lake:
        yield lake.from_arrow(pa.table(rows))


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def points(ax: Any) -> list[Any]:
    """Return the lines of a plot that have markers."""
    return [line for line in ax.lines if line.get_marker() not in ("None", None, "")]


def segments(collection: Any) -> Any:
    return np.array([path.vertices for path in collection.get_paths()])


def test_coefficients_and_their_intervals(data: ib.Dataset) -> None:
    found = ci.OLS("y ~ t + `x $` + i(city)").fit(data)
    ax: Any = found.plot(level=0.9)
    assert ticks(ax.yaxis) == ["t", r"x \$", "city[<1>]"]
    np.testing.assert_array_equal(points(ax)[0].get_xdata(), found.values[1:])
    np.testing.assert_array_equal(segments(ax.collections[0])[:, :, 0], found.interval(0.9)[1:])
    assert ax.get_xlabel() == "estimate, 90 % interval"
    ax.figure.canvas.draw()  # names with a dollar sign are no formulas
    assert ticks(found.plot(names=["city[<1>]", "(Intercept)"]).yaxis) == ["city[<1>]", "(Intercept)"]
    with pytest.raises(ColumnNotFound):
        found.plot(names=["q"])


def test_axes_that_are_given_are_drawn_into(data: ib.Dataset) -> None:
    _, (left, right) = pyplot.subplots(1, 2)
    found = ci.OLS("y ~ t").fit(data)
    assert found.plot(right) is right
    assert found.plot(ax=left) is left
    assert len(pyplot.get_fignums()) == 1


def test_effects_balance_and_overlap_of_a_study(data: ib.Dataset) -> None:
    problem = ci.Problem(data, "y", "t", ["x $", "größe"])
    found = ci.IPW().fit(problem)
    assert ticks(found.plot().yaxis) == ["ATE"]
    assert ticks(found.plot(names=["mean[1]"]).yaxis) == ["mean[1]"]
    balance = found.balance()
    ax: Any = balance.plot()
    before, after = (line for line in points(ax))
    order = np.argsort(-np.abs(balance.differences[0]))
    np.testing.assert_array_equal(before.get_xdata(), np.abs(balance.differences[0])[order])
    assert balance.weighted_differences is not None
    np.testing.assert_array_equal(after.get_xdata(), np.abs(balance.weighted_differences[0])[order])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["before", "after weighting"]
    assert "standard deviations" in ax.get_xlabel()
    assert len(points(problem.balance().plot())) == 1
    overlap = ci.Propensity().fit(problem).overlap(bins=7)
    ax = overlap.plot()
    heights = [patch.get_data().values for patch in ax.patches if not patch.get_fill()]
    np.testing.assert_allclose(heights, overlap.counts[0] / overlap.counts[0].sum(axis=1, keepdims=True))
    assert ax.get_xlabel() == "chance of t 1"
    several = ci.Propensity().fit(ci.Problem(data, "y", "three", ["größe"])).overlap()
    assert several.plot(of="2").get_xlabel() == "chance of three 2"
    for of in (None, "7"):
        with pytest.raises(PlanError):
            several.plot(of=of)


def test_an_experiment_by_metric_and_by_segment(data: ib.Dataset) -> None:
    found = ci.ABTest("three", 0, [ci.Mean("y"), ci.Mean("größe")], segments="city").fit(data)
    ax: Any = found.plot()
    assert ticks(ax.yaxis) == ["y", "größe"]
    for number, arm in enumerate("12"):
        lifts = [found.effect(metric, arm).lift for metric in ("y", "größe")]
        np.testing.assert_array_equal(points(ax)[number].get_xdata(), lifts)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["arm 1", "arm 2"]
    ax = found.plot(metric="y", by="city")
    assert ticks(ax.yaxis) == ["all rows", "city = <0>", "city = <1>"]
    assert points(ax)[1].get_xdata()[2] == found.effect("y", 2, by="city", segment="<1>").difference
    assert ax.get_xlabel() == "difference in y from arm 0, 95 % interval"
    ax = found.plot(metric="größe")
    assert ticks(ax.yaxis) == ["all rows"]
    assert points(ax)[0].get_xdata() == found.effect("größe", 1).difference
    below = ci.ABTest("t", 0, [ci.Mean("minus")]).fit(data.mutate(minus=-ib._["größe"]))
    with pytest.raises(PlanError, match="surely above 0"):
        below.plot()
    assert ticks(below.plot(metric="minus").yaxis) == ["all rows"]
    for metric, by in ((None, "city"), ("z", None), ("y", "town")):
        with pytest.raises(PlanError):
            found.plot(metric=metric, by=by)


def test_event_studies(data: ib.Dataset) -> None:
    panel = ci.Staggered("y", "unit", "period", "first").read(data)
    study = panel.event_study()
    ax: Any = study.plot()
    drawn, reference = points(ax)
    times = [float(name) for name in study.names]
    np.testing.assert_array_equal(drawn.get_xdata(), times)
    np.testing.assert_array_equal(drawn.get_ydata(), study.values)
    assert (list(reference.get_xdata()), list(reference.get_ydata())) == ([-1.0], [0])
    np.testing.assert_array_equal(segments(ax.collections[0])[:, :, 1], study.band())
    np.testing.assert_array_equal(segments(ax.collections[1])[:, :, 1], study.interval())
    assert ax.get_xlabel() == "periods since treatment"
    effects = panel.group_time()
    dynamic = effects.aggregate("dynamic")
    assert len(points(dynamic.plot())) == 1, "no period is a reference where each has an effect"
    assert len(points(dynamic.plot())[0].get_xdata()) == len(dynamic.names) - 1, "the overall effect has no time"
    assert ticks(dynamic.plot(names=["overall"]).yaxis) == ["overall"]
    assert ticks(panel.two_stage().plot().yaxis) == ["treated"]
    assert effects.aggregate("group").plot().get_xlabel() == "first treated"
    by_cohort: Any = effects.plot()
    assert [text.get_text() for text in by_cohort.get_legend().get_texts()] == ["2", "3"]
    np.testing.assert_array_equal(points(by_cohort)[1].get_ydata(), effects.values[effects.group == 3])


def test_a_synthetic_control(data: ib.Dataset) -> None:
    found = ci.SyntheticControl("y", "unit", "period", "on").fit(data)
    ax: Any = found.plot()
    rows = found.paths()
    for line, name in zip(ax.lines[-2:], ("treated", "synthetic"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), rows[name])
    assert ax.lines[0].get_xdata()[0] == 2.0, "the last period before treatment"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("period", "y")
    np.testing.assert_array_equal(found.plot(difference=True).lines[-1].get_ydata(), rows["difference"])
    unsorted = rows.select(["period", "difference"]).sort_by([("period", "descending")])
    ax = ci.plots.gap(unsorted, start=2.5)
    assert ax.lines[0].get_xdata()[0] == 2.0


GRID = np.array([0.0, 0.1, 0.2])
STRENGTHS = pa.table(
    {
        "r2_treatment": np.tile(GRID, 3),
        "r2_outcome": np.repeat(GRID, 3),
        "estimate": 1 - 10 * (np.tile(GRID, 3) + np.repeat(GRID, 3)),
    }
)


def test_contours_of_a_plane_are_straight_lines() -> None:
    marks = pa.table({"name": ["age"], "r2_treatment": [0.05], "r2_outcome": [0.15]})
    ax: Any = plots.contours(STRENGTHS.take([4, 0, 8, 1, 7, 2, 6, 3, 5]), marks=marks, threshold=-1.0)
    (strong,) = ax.collections[-1].get_paths()
    np.testing.assert_allclose(strong.vertices.sum(axis=1), 0.2)
    assert "age" in [text.get_text() for text in ax.texts]
    ends = STRENGTHS.rename_columns({"estimate": "limit"})
    np.testing.assert_array_equal(plots.contours(ends, estimate="limit").get_xlim(), ax.get_xlim())
    with pytest.raises(PlanError, match="no grid"):
        plots.contours(STRENGTHS.slice(1))


def test_curves_are_drawn_by_their_share() -> None:
    table = pa.table(
        {
            "share": [1.0, 0.0, 0.5, 0.0, 1.0],
            "value": [3.0, 0.0, 2.0, 0.0, 1.0],
            "lower": [2.0, 0.0, 1.0, 0.0, 0.5],
            "upper": [4.0, 0.0, 3.0, 0.0, 1.5],
            "score": ["a", "a", "a", "b", "b"],
        }
    )
    ax: Any = plots.curve(table, series="score", baseline="random", ylabel="orders")
    by_name = {line.get_label(): line for line in ax.lines}
    assert list(by_name["a"].get_ydata()) == [0, 2, 3]
    assert list(by_name["b"].get_xdata()) == [0, 1]
    assert list(ax.lines[1].get_ydata()) == [0, 3], "a random order"
    band = ax.collections[0].get_paths()[0].vertices
    assert {(0.5, 1.0), (0.5, 3.0)} <= set(map(tuple, band.tolist()))
    renamed = table.rename_columns({"value": "qini", "lower": "qini_lower", "upper": "qini_upper"})
    again = plots.curve(renamed.slice(3), value="qini", lower="qini_lower", upper="qini_upper")
    assert list(np.asarray(again.lines[0].get_ydata())) == [0, 1]
    assert len(again.collections) == 1
    assert not plots.curve(table.slice(3).select(["share", "value"])).collections
    with pytest.raises(ConfigError):
        plots.curve(table, baseline="best")  # type: ignore[arg-type]


def test_a_table_that_lacks_a_column_or_has_no_rows_is_refused() -> None:
    with pytest.raises(ColumnNotFound, match="estimate"):
        plots.intervals(pa.table({"name": ["a"], "estimat": [1.0]}))
    with pytest.raises(PlanError, match="nothing to draw"):
        plots.contours(STRENGTHS.slice(0, 0))
    ax: Any = plots.intervals(pa.table({"name": ["a"], "estimate": [np.nan], "lower": [None], "upper": [np.nan]}))
    assert ticks(ax.yaxis) == ["a"], "what is not known leaves its row empty"


def test_without_matplotlib_a_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError) as caught:
        plots.contours(STRENGTHS)
    assert caught.value.hint == "pip install 'iceblink[plots]'"
