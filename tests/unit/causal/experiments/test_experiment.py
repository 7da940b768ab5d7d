"""Experiments say what plain NumPy says of the same rows, published numbers, and what is wrong with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from causaldata import nsw_mixtape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

import iceblink as ib
from contract.staged import staged_engine
from iceblink import causal as ci
from iceblink.causal.experiments import cells, scan
from iceblink.causal.experiments.metrics import Metric
from iceblink.errors import ColumnNotFound, ConfigError, IceblinkError, PlanError, QueryError, TypeMismatch

Floats = NDArray[np.float64]
COVARIATES = ("age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75")


def rows(seed: int, count: int, far: float = 0.0) -> dict[str, Any]:
    """Return rows of three arms, in clusters that are in one stratum; names need quotes, values may be far from 0."""
    draw = np.random.default_rng(seed)
    cluster = draw.integers(0, max(count // 3, 12), count)
    before = draw.normal(size=count) + cluster % 3
    return {
        "the arm": np.array(["ä b", "Ω", "'x'"])[cluster % 7 % 3],
        "who": cluster,
        'str"ata': np.array([3, 5])[cluster // 3 % 2],
        "größe": before * 2 + draw.normal(size=count) + far,
        "vor her": before + far,
        "clicks": draw.poisson(2 + cluster % 2, count),
        "views": draw.poisson(9, count) + 1,
        "old clicks": draw.poisson(2 + cluster % 2, count),
        "old views": draw.poisson(9, count) + 1,
        "paid": draw.random(count) < 0.3,
        "part": np.array(["a", "b", None], object)[draw.integers(0, 3, count)],
    }


METRICS: dict[str, Metric] = {
    "mean": ci.Mean("größe", name="mean"),
    "cuped": ci.Mean("größe", "vor her", name="cuped"),
    "ratio": ci.Ratio("clicks", "views", name="ratio"),
    "less": ci.Ratio("clicks", "views", ("old clicks", "old views"), name="less"),
    "paid": ci.Conversion("paid"),
}
FRACTIONS = {
    "mean": [("größe", "")],
    "cuped": [("größe", ""), ("vor her", "")],
    "ratio": [("clicks", "views")],
    "less": [("clicks", "views"), ("old clicks", "old views")],
    "paid": [("paid", "")],
}


def modelled(data: dict[str, Any], name: str, arm: str, strata: bool, cluster: bool, keep: Any = None) -> list[float]:
    """Return the difference to the first arm and its standard error, by the parts that rows have in both."""
    keep = np.ones(len(data["who"]), bool) if keep is None else keep
    one = np.ones(keep.sum())
    columns = [
        (np.asarray(data[a][keep], float), np.asarray(data[b][keep], float) if b else one) for a, b in FRACTIONS[name]
    ]
    arms, groups = data["the arm"][keep], data['str"ata'][keep] if strata else one
    if cluster:
        names, at = np.unique(data["who"][keep], return_inverse=True)
        first = np.searchsorted(np.sort(at), range(len(names)))
        order = np.argsort(at, kind="stable")[first]
        columns = [(np.bincount(at, top), np.bincount(at, bottom)) for top, bottom in columns]
        arms, groups = arms[order], groups[order]

    def parts(mine: NDArray[np.bool_]) -> tuple[list[float], list[Floats]]:
        """Return ratios of means weighted by strata, and each unit's part in them."""
        weights = {h: (groups == h).mean() for h in np.unique(groups)}
        ratios, influence = [], []
        for top, bottom in columns:
            a, b = (sum(w * x[mine & (groups == h)].mean() for h, w in weights.items()) for x in (top, bottom))
            ratios.append(a / b)
            influence.append((top - a / b * bottom) / b)
        return ratios, influence

    everybody = np.ones(len(arms), bool)
    overall, influence = parts(everybody)
    theta = 0.0
    if len(columns) == 2:
        y, x = (z - sum((groups == h) * z[groups == h].mean() for h in np.unique(groups)) for z in influence)
        theta = (x @ y) / (x @ x)
    values, variance = {}, 0.0
    for one_arm in ("ä b", arm):
        mine = arms == one_arm
        ratios, influence = parts(mine)
        z = influence[0] - theta * influence[1] if len(columns) == 2 else influence[0]
        values[one_arm] = ratios[0] - (theta * (ratios[1] - overall[1]) if len(columns) == 2 else 0)
        for h in np.unique(groups):
            inside = mine & (groups == h)
            variance += (groups == h).mean() ** 2 * z[inside].var(ddof=1) / inside.sum()
    return [values[arm] - values["ä b"], np.sqrt(variance)]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), far=st.sampled_from([0.0, 1e7]), strata=st.booleans(), cluster=st.booleans())
def test_it_is_what_numpy_says(lake: ib.Lake, seed: int, far: float, strata: bool, cluster: bool) -> None:
    data = rows(seed, 400, far)
    found = ci.ABTest(
        "the arm", "ä b", list(METRICS.values()), strata='str"ata' if strata else None,
        cluster="who" if cluster else None, segments="part", allocation={"ä b": 3, "Ω": 2, "'x'": 2},
    ).fit(lake.from_arrow(pa.table(data)))  # fmt: skip
    for arm in ("Ω", "'x'"):
        for name in METRICS:
            for part in (None, "a", None if cluster else "b"):
                keep = None if part is None else data["part"] == part
                one = found.effect(name, arm, by=None if part is None else "part", segment=part)
                expected = modelled(data, name, arm, strata, cluster, keep)
                np.testing.assert_allclose(
                    [one.difference, one.std_error], expected, 1e-6 if far else 1e-8, 1e-8 if far else 1e-12
                )
    assert {one.segment for one in found.effects if one.by} == {"a", "b", None}


def nsw(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.Table.from_pandas(nsw_mixtape.load_pandas().data, preserve_index=False))


def test_the_national_supported_work_demonstration(lake: ib.Lake) -> None:
    metrics: list[Metric] = [
        ci.Mean("re78"), ci.Mean("re78", "re75", name="cuped"), ci.Mean("re78", COVARIATES, "lin", name="lin"),
    ]  # fmt: skip
    found = ci.ABTest("treat", 0, metrics, allocation={0: 260, 1: 185}).fit(nsw(lake))
    for name, difference, error in (
        ("re78", 1794.3423818501, 670.9965444673),
        ("cuped", 1747.1339897587, 668.9619076258),
        ("lin", 1621.5830818964, 694.7215691213),
    ):
        one = found.effect(name)
        assert (one.difference, one.std_error) == pytest.approx((difference, error), rel=1e-11)
    assert found.sample_ratio.counts == (260, 185)
    assert found.sample_ratio.p_value == 1
    assert found.rows == 445


def test_peers_say_the_same(lake: ib.Lake) -> None:
    data = rows(5, 600)
    test = ci.ABTest("the arm", "ä b", [METRICS["mean"]], allocation={"ä b": 3, "Ω": 2, "'x'": 2})
    plain = test.fit(lake.from_arrow(pa.table(data))).effect("mean", "Ω")
    mine, control = (data["größe"][data["the arm"] == arm] for arm in ("Ω", "ä b"))
    z, p = CompareMeans(DescrStatsW(mine), DescrStatsW(control)).ztest_ind(usevar="unequal")
    assert (plain.statistic, plain.p_value) == pytest.approx((z, p), rel=1e-10)

    clustered = ci.ABTest("the arm", "ä b", [METRICS["mean"]], cluster="who", allocation=test.allocation)
    one = clustered.fit(lake.from_arrow(pa.table(data))).effect("mean", "Ω")
    errors = []
    for arm in ("Ω", "ä b"):
        own = data["the arm"] == arm
        fit = OLS(data["größe"][own], np.ones(own.sum())).fit(
            cov_type="cluster", cov_kwds={"groups": data["who"][own], "use_correction": False}
        )
        count = len(np.unique(data["who"][own]))
        errors.append(fit.bse[0] ** 2 * count / (count - 1))  # ours has divisor G - 1
    assert one.std_error == pytest.approx(np.sqrt(sum(errors)), rel=1e-10)


def test_lin_in_strata_is_a_weighted_mean_of_regressions(lake: ib.Lake) -> None:
    frame = nsw_mixtape.load_pandas().data
    metric = ci.Mean("re78", ("re75", "age", "educ", "married twice"), "lin")
    frame["married twice"] = 2.0 * frame.educ
    data = lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))
    one = ci.ABTest("treat", 0, [metric], strata="marr", allocation={0: 260, 1: 185}).fit(data).effect("re78")
    difference, variance = 0.0, 0.0
    for _, part in frame.groupby("marr"):
        x = part[["re75", "age", "educ"]].to_numpy(float)
        x -= x.mean(axis=0)
        t = part.treat.to_numpy(float)[:, np.newaxis]
        fit = OLS(part.re78.to_numpy(float), np.hstack([np.ones_like(t), t, x, t * x])).fit(cov_type="HC2")
        difference += fit.params[1] * len(part) / len(frame)
        variance += (fit.bse[1] * len(part) / len(frame)) ** 2
    assert (one.difference, one.std_error) == pytest.approx((difference, np.sqrt(variance)), rel=1e-9)


EVERYTHING: list[Metric] = [*METRICS.values(), ci.Mean("größe", "vor her", "lin", "lin"), ci.Quantile("größe", 0.7)]


def numbers(found: ci.ABResult) -> Floats:
    table = found.to_arrow()
    return np.stack([table[name].to_numpy() for name in table.column_names[5:]])


def test_files_and_stages_change_no_digit_that_counts(tmp_path: Path) -> None:
    data = pa.table({**rows(3, 500), "row": range(500)})
    test = ci.ABTest("the arm", "ä b", EVERYTHING, unit="row", segments="part", allocation={"ä b": 3, "Ω": 2, "'x'": 2})
    clustered = ci.ABTest("the arm", "ä b", EVERYTHING[:5], cluster="who", strata='str"ata', segments=["part"])
    found = []
    with ib.connect(tmp_path) as lake:
        for files in (1, 3, 7):
            lake.write(f"n.t{files}", data, "create", partition_by=[f"bucket({files}, row)"])
            found.append([numbers(one.fit(lake.table(f"n.t{files}"))) for one in (test, clustered)])
    with ib.connect(tmp_path, engine=staged_engine()) as lake:
        found.append([numbers(one.fit(lake.table("n.t7"))) for one in (test, clustered)])
    for other in found[1:]:
        for mine, first in zip(other, found[0], strict=True):
            np.testing.assert_allclose(mine, first, rtol=1e-10, atol=1e-12)


def test_intervals_cover_and_tests_reject_as_often_as_they_say(lake: ib.Lake) -> None:
    samples, count = 1_000, 300
    draw = np.random.default_rng(11)
    sample = np.repeat(np.arange(samples), count)
    arm = draw.random(len(sample)) < 0.4
    before = draw.exponential(size=len(sample))
    views = draw.poisson(5, len(sample)) + 1
    data = {
        "arm": arm, "sample": sample, "x": before, "y": before + draw.exponential(size=len(sample)) + 0.5 * arm,
        "views": views, "clicks": draw.binomial(views, np.where(arm, 0.5, 0.4)), "stratum": before > 0.7,
        "paid": draw.random(len(sample)) < np.where(arm, 0.3, 0.2),
    }  # fmt: skip
    metrics: list[Metric] = [
        ci.Mean("y"), ci.Mean("y", "x", name="cuped"), ci.Mean("y", "x", "lin", "lin"), ci.Ratio("clicks", "views"),
        ci.Conversion("paid"), ci.Quantile("y", 0.5),
    ]  # fmt: skip
    truths = [0.5, 0.5, 0.5, 0.1, 0.1, 0.5]
    for strata in (None, "stratum"):
        used = metrics if strata is None else metrics[:5]
        found = ci.ABTest("arm", False, used, segments="sample", strata=strata, allocation={False: 3, True: 2}).fit(
            lake.from_arrow(pa.table(data))
        )
        for metric, truth in zip(used, truths, strict=False):
            mine = [one for one in found.effects if one.metric == metric.name and one.by]
            covered = np.mean([one.lower <= truth <= one.upper for one in mine])
            assert 0.93 <= covered <= 0.97, (metric, covered)
        lifts = [one for one in found.effects if one.metric == "paid" and one.by]
        assert 0.93 <= np.mean([one.lift_lower <= 0.5 <= one.lift_upper for one in lifts]) <= 0.97


SIMPLE = pa.table({"unit": [1, 2, 3, 4, 5], "arm": ["a", "a", "a", "b", "b"], "y": [1.0, 2.0, 4.0, 3.0, 7.0]})


def changed(**columns: Any) -> pa.Table:
    return pa.table({**{name: SIMPLE[name] for name in SIMPLE.column_names}, **columns})


@pytest.mark.parametrize(
    ("data", "given", "error", "said"),
    [
        (changed(unit=[1, 2, 3, 3, 2]), {"unit": "unit"}, PlanError, "2 of 3 values of unit are in several arms"),
        (changed(unit=[1, 1, 3, 4, 5]), {"unit": "unit"}, PlanError, "1 of 4 values of unit are in several rows"),
        (changed(unit=[None, 1, 3, 4, 5]), {"unit": "unit"}, QueryError, "missing in 1 rows"),
        (changed(unit=[1, 2, 3, 3, 2]), {"cluster": "unit"}, PlanError, "2 of 3 values of unit are in several arms"),
        (changed(unit=[None, 1, 2, 4, 5]), {"cluster": "unit"}, QueryError, "unit is missing"),
        (changed(s=[1, 2, 1, 1, 1], unit=[1, 1, 2, 3, 4]), {"cluster": "unit", "strata": "s"}, PlanError, "1 of 4"),
        (changed(arm=["a"] * 5), {}, PlanError, "all rows are in arm a"),
        (changed(arm=["b", "b", "b", "c", "c"]), {}, PlanError, "no row is in arm 'a'"),
        (changed(arm=["a", None, "a", "b", "b"]), {}, QueryError, "arm is missing in 1 rows"),
        (changed(arm=[0.5, 0.5, 0.5, 1, 1]), {}, TypeMismatch, "not a category"),
        (changed(y=[1.0, None, 2.0, 3.0, 4.0]), {}, QueryError, "y is missing or infinite in 1 rows"),
        (changed(y=[1.0, float("nan"), 2.0, 3.0, 4.0]), {}, QueryError, "y is missing or infinite in 1 rows"),
        (changed(y=pa.nulls(5, pa.float64())), {"missing": "drop"}, PlanError, "too few rows"),
        (changed(y=[1e200, 2e200, 3e200, 0, 0]), {}, QueryError, "squares of y are larger"),
        (SIMPLE.slice(0, 0), {}, PlanError, "there are no rows"),
        (SIMPLE.slice(2, 2), {}, PlanError, "too few rows"),
        (SIMPLE, {"strata": "unit"}, PlanError, "too few rows"),
        (changed(y=["1"] * 5), {}, TypeMismatch, "not a number"),
        (SIMPLE, {"metrics": [ci.Mean("z")]}, ColumnNotFound, "no column 'z'"),
        (SIMPLE, {"segments": "z"}, ColumnNotFound, "no column 'z'"),
        (SIMPLE, {"metrics": [ci.Conversion("y")]}, QueryError, "4 rows have neither 0 nor 1"),
        (SIMPLE, {"metrics": [ci.Quantile("y", 0.5)]}, PlanError, "too few rows"),
        (SIMPLE, {"metrics": []}, ConfigError, "no metrics"),
        (SIMPLE, {"metrics": [ci.Mean("y"), ci.Mean("y", "unit")]}, ConfigError, "two metrics"),
        (SIMPLE, {"cluster": "unit", "metrics": [ci.Quantile("y")]}, ConfigError, "a quantile has rows"),
        (SIMPLE, {"cluster": "unit", "metrics": [ci.Mean("y", "unit", "lin")]}, ConfigError, "not clusters"),
        (SIMPLE, {"allocation": {"a": 1}}, ConfigError, "arm 'b' has no share"),
        (SIMPLE, {"allocation": {"a": 1, "b": 1, "c": 1}}, ConfigError, "no row is in arm 'c'"),
        (SIMPLE, {"allocation": {"a": 1, "b": float("inf")}}, ConfigError, "arm 'b' has no share"),
        (SIMPLE, {"allocation": {"a": 1, "b": "1"}}, ConfigError, "arm 'b' has no share"),
        (SIMPLE, {"metrics": ["y"]}, ConfigError, "metrics is \\['y'\\]"),
        (SIMPLE, {"metrics": "y"}, ConfigError, "metrics is 'y'"),
        (SIMPLE, {"metrics": ci.Mean("y")}, ConfigError, "metrics is Mean"),
        (SIMPLE, {"sequential": ci.AlwaysValid}, ConfigError, "AlwaysValid"),
        (changed(z=[0] * 5), {"metrics": [ci.Ratio("y", "z")]}, PlanError, "for y / z"),
        (SIMPLE, {"correction": "none"}, ConfigError, "no correction"),
        (SIMPLE, {"sequential": "always"}, ConfigError, "no 'always'"),
        (SIMPLE, {"level": 95}, ConfigError, "level is 95"),
    ],
)
def test_what_is_wrong_is_said(
    lake: ib.Lake, data: pa.Table, given: dict[str, Any], error: type[IceblinkError], said: str
) -> None:
    with pytest.raises(error, match=said):
        ci.ABTest(**{"arm": "arm", "control": "a", "metrics": [ci.Mean("y")], **given}).fit(lake.from_arrow(data))


@pytest.mark.parametrize(
    "make", [lambda: ci.Mean("y", "y"), lambda: ci.Mean("y", (), "lin"), lambda: ci.Quantile("y", 99)]
)
def test_metrics_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_metrics_may_come_one_after_the_other() -> None:
    metrics: Any = (ci.Mean(name) for name in "yz")
    assert [one.name for one in ci.ABTest("arm", "a", metrics).metrics] == ["y", "z"]


def test_a_metric_has_the_rows_that_have_its_columns(lake: ib.Lake) -> None:
    data = changed(z=[None, 1.0, 2.0, 3.0, 5.0])
    found = ci.ABTest("arm", "a", [ci.Mean("y"), ci.Mean("z")], missing="drop").fit(lake.from_arrow(data))
    assert [(one.metric, one.rows) for one in found.effects] == [("y", 5), ("z", 4)]
    assert [one.difference for one in found.effects] == pytest.approx([5 - 7 / 3, 2.5], rel=1e-14)
    assert found.rows == 5


def test_what_does_not_vary_has_no_error(lake: ib.Lake) -> None:
    data = changed(x=[0.1] * 5, k=[7] * 5)
    metrics: list[Metric] = [
        ci.Mean("x"),
        ci.Mean("y", "x", name="nothing to adjust by"),
        ci.Mean("y"),
        ci.Ratio("x", "k"),
    ]
    found = ci.ABTest("arm", "a", metrics, correction="bh").fit(lake.from_arrow(data))
    still, adjusted, plain, ratio = found.effects
    assert (still.difference, still.std_error) == (0, 0)
    assert np.isnan([still.p_value, still.p_adjusted]).all()
    assert (adjusted.difference, adjusted.std_error) == (plain.difference, plain.std_error)
    assert ratio.std_error < 1e-12
    with pytest.raises(PlanError, match="does not vary"):
        found.power_analysis("x")


def test_segments_with_too_few_rows_are_named(lake: ib.Lake) -> None:
    data = changed(part=["p", "p", "q", "p", "p"])
    found = ci.ABTest("arm", "a", [ci.Mean("y")], segments="part").fit(lake.from_arrow(data))
    assert found.left_out == ("part = q",)
    assert found.by("part")["segment"].to_pylist() == ["p"]
    assert found.effect("y", "b", by="part", segment="p").difference == 3.5
    assert found.power_analysis("y").effect(found.effects[0].rows) > 0
    assert "part = p" in found.summary()
    for wrong in ({"metric": "x"}, {"metric": "y", "arm": "c"}, {"metric": "y", "by": "part", "segment": "r"}):
        with pytest.raises(PlanError):
            found.effect(**wrong)
    with pytest.raises(PlanError):
        found.by("parts")


def test_arms_of_other_sizes_than_allocated_raise_an_alarm(lake: ib.Lake) -> None:
    data = pa.table({"arm": [False] * 300 + [True] * 200, "y": np.arange(500) % 7})
    found = ci.ABTest("arm", False, [ci.Mean("y")]).fit(lake.from_arrow(data))
    assert found.sample_ratio.statistic == pytest.approx(20.0)
    assert found.sample_ratio.alarming
    assert "MISMATCH" in found.summary().splitlines()[1]


def test_more_cells_than_are_held_are_read_by_each_segment(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    data = lake.from_arrow(
        {
            "arm": [0, 1] * 100,
            "y": list(range(200)),
            "p": [n // 20 for n in range(200)],
            "q": [n // 4 % 5 for n in range(200)],
        }
    )
    test = ci.ABTest("arm", 0, [ci.Mean("y")], segments=["p", "q"])
    whole = test.fit(data)
    for module in (scan, cells):
        monkeypatch.setattr(module, "MOST_CELLS", 30)
    np.testing.assert_allclose(numbers(test.fit(data)), numbers(whole), rtol=1e-12)
    for module in (scan, cells):
        monkeypatch.setattr(module, "MOST_CELLS", 10)
    with pytest.raises(PlanError, match="p make more than 10 cells"):
        test.fit(data)


def test_many_segments_at_once_are_read_one_by_one(lake: ib.Lake) -> None:
    count = 12_000
    draw = np.random.default_rng(2)
    data = {"arm": draw.integers(0, 2, count), "y": draw.normal(size=count)} | {
        f"s{at}": draw.integers(0, 40, count) for at in range(4)
    }
    found = ci.ABTest("arm", 0, [ci.Mean("y")], segments=[f"s{at}" for at in range(4)]).fit(
        lake.from_arrow(pa.table(data))
    )
    assert len(found.effects) == 1 + 4 * 40
    mine = data["s3"] == 7
    expected = data["y"][mine & (data["arm"] == 1)].mean() - data["y"][mine & (data["arm"] == 0)].mean()
    assert found.effect("y", by="s3", segment=7).difference == pytest.approx(expected, rel=1e-10)
