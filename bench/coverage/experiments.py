"""A thousand experiments at once, each a segment of one: how often intervals hold the truth, at all looks too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.coverage.memory import Memory
from iceblink import causal as ci

ROWS = 400
LOOKS = (0.25, 0.5, 0.75, 1.0)


def experiments(studies: int) -> Iterator[tuple[str, float]]:
    """Yield the part of the studies whose intervals hold, of each metric and way to look."""
    draw = np.random.default_rng(11)
    study, row = np.repeat(np.arange(studies), ROWS), np.tile(np.arange(ROWS), studies)
    count = len(study)
    arm, before = draw.random(count) < 0.4, draw.exponential(size=count)
    views = draw.poisson(5, count) + 1
    who = study * 1_000 + draw.integers(0, 100, count)  # sessions of 100 people, who differ, and are drawn by lot
    of_who = draw.normal(size=studies * 1_000)[who]
    of_people = draw.random(studies * 1_000)[who] < 0.4
    noise = draw.exponential(size=count)
    columns: dict[str, Any] = {
        "study": study, "row": row, "arm": arm, "x": before, "y": before + noise + 0.5 * arm,
        "views": views, "clicks": draw.binomial(views, np.where(arm, 0.5, 0.4)), "stratum": before > 0.7,
        "paid": draw.random(count) < np.where(arm, 0.3, 0.2), "null": noise,
        "who": who, "their arm": of_people, "theirs": of_who + noise + 0.5 * of_people,
        "their views": views, "their clicks": draw.binomial(views, np.where(of_people, 0.5, 0.4)),
    }  # fmt: skip
    data = Memory.of(**columns)
    metrics: dict[str, tuple[Any, float]] = {
        "mean": (ci.Mean("y"), 0.5),
        "CUPED": (ci.Mean("y", "x", name="cuped"), 0.5),
        "Lin": (ci.Mean("y", "x", "lin", "lin"), 0.5),
        "conversion": (ci.Conversion("paid"), 0.1),
        "ratio": (ci.Ratio("clicks", "views"), 0.1),
        "median": (ci.Quantile("y", 0.5), 0.5),
        "90th percentile": (ci.Quantile("y", 0.9), 0.5),
    }
    for strata in (None, "stratum"):
        used = {name: one for name, one in metrics.items() if strata is None or not isinstance(one[0], ci.Quantile)}
        test = ci.ABTest("arm", False, [one for one, _ in used.values()], segments="study", strata=strata)
        found = held(test, data, [truth for _, truth in used.values()])
        for name, inside in zip(used, found, strict=True):
            yield f"A/B {name}{', strata' if strata else ''}", float(inside.mean())
    clustered: list[Any] = [ci.Mean("theirs"), ci.Ratio("their clicks", "their views")]
    test = ci.ABTest("their arm", False, clustered, segments="study", cluster="who")
    for name, inside in zip(("mean", "ratio"), held(test, data, [0.5, 0.1]), strict=True):
        yield f"A/B {name}, clusters", float(inside.mean())
    yield from looked_at(data)
    yield from of_more_rows(studies)


def of_more_rows(studies: int) -> Iterator[tuple[str, float]]:
    """Yield the part of studies of 2,000 rows whose interval of a high quantile holds: it is whole rows long."""
    draw = np.random.default_rng(12)
    arm = draw.random(studies * 2_000) < 0.4
    study = np.repeat(np.arange(studies), 2_000)
    data = Memory.of(
        study=study, arm=arm, y=draw.exponential(size=len(arm)) + draw.exponential(size=len(arm)) + arm / 2
    )
    test = ci.ABTest("arm", False, [ci.Quantile("y", 0.9)], segments="study")
    yield "A/B 90th percentile of 2,000 rows", float(held(test, data, [0.5])[0].mean())


def looked_at(data: Any) -> Iterator[tuple[str, float]]:
    """Yield the part of studies whose intervals hold at all looks, of a metric without an effect."""
    whole: dict[str, Any] = {}
    for at, part in enumerate(LOOKS, 1):
        seen = data.sql(f"SELECT * FROM this WHERE row < {part * ROWS}")
        ways: dict[str, Any] = {
            "looked at 4 times, O'Brien-Fleming": ci.GroupSequential(LOOKS[:at]),
            "looked at 4 times, Pocock": ci.GroupSequential(LOOKS[:at], "pocock"),
            "looked at 4 times, always valid (95 % or more)": ci.AlwaysValid(ROWS),
            "looked at 4 times, as if once (not 95 %)": None,
        }
        for name, way in ways.items():
            test = ci.ABTest("arm", False, [ci.Mean("null")], segments="study", sequential=way)
            inside = held(test, seen, [0.0])[0]
            whole[name] = inside & whole.get(name, True)
    for name, inside in whole.items():
        yield f"A/B {name}", float(inside.mean())


def held(test: ci.ABTest, data: Any, truths: list[float]) -> list[Any]:
    """Return for each metric whether the interval of each study holds."""
    found = test.fit(data)
    return [
        np.array([one.lower <= truth <= one.upper for one in found.effects if one.metric == metric.name and one.by])
        for metric, truth in zip(test.metrics, truths, strict=True)
    ]
