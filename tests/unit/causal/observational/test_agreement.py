"""Estimators agree with plain Python, with each other, and with themselves on other forms of the same rows."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize, stats

import iceblink as ib
from iceblink import causal as ci

SATURATED: list[Any] = [ci.IPW(), ci.RegressionAdjustment(), ci.AIPW(), ci.AIPW(weighted=True), ci.IPWRA()]


def drawn(seed: int, count: int = 400, arms: int = 2) -> pa.Table:
    """Return rows of a study: names with spaces and letters of all kinds, as tables have them."""
    draw = np.random.default_rng(seed)
    age, region = draw.normal(40, 10, count), draw.integers(0, 3, count)
    scores = draw.gumbel(size=(arms, count)) + np.arange(arms)[:, np.newaxis] * (age / 40 - 1 + (region == 2))
    arm = scores.argmax(axis=0)
    return pa.table(
        {
            "id": np.arange(count),
            "größe y": age / 5 + region + arm * (1 + region / 2) + draw.normal(size=count),
            "arm": np.array(["none", "pill", "shot"])[arm],
            "age in years": age,
            "region": np.array(["a", "b", "ç"])[region],
            "w": draw.integers(1, 4, count),
        }
    )


def asked(data: ib.Dataset, confounders: Any = ("age in years", "i(region)"), **more: Any) -> ci.Problem:
    return ci.Problem(data, "größe y", "arm", confounders, control="none", **more)


def standardised(table: pa.Table, weights: list[float]) -> dict[str, float]:
    """Return the mean outcome of each arm if all arms had everybody's regions."""
    sums: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])
    regions: dict[str, float] = defaultdict(float)
    for row, weight in zip(table.to_pylist(), weights, strict=True):
        cell = sums[row["arm"], row["region"]]
        cell[0] += weight
        cell[1] += weight * row["größe y"]
        regions[row["region"]] += weight
    total = sum(regions.values())
    arms = {arm for arm, _ in sums}
    return {
        arm: sum(size / total * sums[arm, region][1] / sums[arm, region][0] for region, size in regions.items())
        for arm in arms
    }


def test_of_one_category_all_are_standardisation(lake: ib.Lake) -> None:
    table = drawn(2, arms=3)
    problem = asked(lake.from_arrow(table), "i(region)", weight="w")
    expected = standardised(table, table["w"].to_pylist())
    found = [estimator.fit(problem) for estimator in (*SATURATED, ci.EntropyBalancing("ATE"))]
    for one in found:
        means = {name: one[f"mean[{name}]"] for name in expected}
        assert means == pytest.approx(expected, rel=1e-10)
        assert one["ATE[shot]"] == pytest.approx(expected["shot"] - expected["none"], rel=1e-9)
        np.testing.assert_allclose(one.covariance, found[0].covariance, rtol=1e-7, atol=1e-12)


def test_weights_are_rows_that_stand_several_times(lake: ib.Lake) -> None:
    table = drawn(3)
    copied = table.take(np.repeat(np.arange(len(table)), table["w"].to_numpy()))
    estimators: list[Any] = [ci.IPW("ATT"), ci.AIPW(weighted=True), ci.EntropyBalancing()]
    for estimator in estimators:
        once = estimator.fit(asked(lake.from_arrow(table), weight="w"))
        often = estimator.fit(asked(lake.from_arrow(copied), cluster="id"))
        np.testing.assert_allclose(often.values, once.values, rtol=1e-9)
        factor = len(table) / (len(table) - 1)
        np.testing.assert_allclose(often.covariance, once.covariance * factor, rtol=1e-6)


def influences(table: pa.Table) -> Any:
    """Return what each row adds to the mean of each arm, if all arms had everybody's regions: φ - μ, float64 (n, J)."""
    outcome, arm, region = (np.array(table[name].to_pylist()) for name in ("größe y", "arm", "region"))
    parts = []
    for name in ("none", "pill"):
        mean, chance = np.zeros(len(arm)), np.zeros(len(arm))
        for one in np.unique(region):
            there, mine = region == one, (region == one) & (arm == name)
            mean[there], chance[there] = outcome[mine].mean(), mine.sum() / there.sum()
        score = mean + np.where(arm == name, (outcome - mean) / chance, 0.0)
        parts.append(score - score.mean())
    return np.stack(parts, axis=1)


def test_errors_by_cluster_have_the_factor_and_t_of_few_clusters(lake: ib.Lake) -> None:
    table = drawn(9)
    villages = np.arange(len(table)) ** 2 % 11
    problem = asked(lake.from_arrow(table.append_column("dorf", pa.array(villages))), "i(region)", cluster="dorf")
    phi = influences(table)
    sums = np.stack([phi[villages == one].sum(axis=0) for one in np.unique(villages)])
    count = len(sums)
    expected = sums.T @ sums / len(table) ** 2 * count / (count - 1)
    error = (expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]) ** 0.5
    for estimator in (*SATURATED, ci.EntropyBalancing("ATE")):
        found = estimator.fit(problem)
        means = [found.names.index(f"mean[{arm}]") for arm in ("none", "pill")]
        np.testing.assert_allclose(found.covariance[np.ix_(means, means)], expected, rtol=1e-7)
        assert found.convention.endswith(f"by dorf ({count}), times G / (G - 1)")
        assert found.convention in found.provenance.conventions
        reach = stats.t.ppf(0.95, count - 1) * error
        low, high = found.interval(0.9)[0]
        assert (low, high) == pytest.approx((found["ATE"] - reach, found["ATE"] + reach), rel=1e-7)
        assert found.p_values[0] == pytest.approx(2 * stats.t.sf(abs(found["ATE"]) / error, count - 1), rel=1e-6)


def test_shares_of_rows_change_no_digit_that_counts(lake: ib.Lake) -> None:
    table, found = drawn(4), []
    for files in (1, 3, 7):
        name = f"n.t{files}"
        numbered = table.append_column("part", pa.array(np.arange(len(table)) % files))
        lake.write(name, numbered, "create", partition_by=["part"])
        assert lake.table(f"{name}.files").count() == files
        fitted = ci.AIPW("ATT").fit(asked(lake.table(name)))
        found.append(np.concatenate([fitted.values, fitted.errors]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-10)


def test_rows_that_lack_a_value_are_left_out_where_that_is_asked(lake: ib.Lake) -> None:
    rows = drawn(5).to_pylist()
    for at, name in enumerate(("größe y", "arm", "age in years", "region")):
        rows[at * 7][name] = None
    rows[50]["age in years"] = float("nan")
    schema = drawn(5).schema
    whole = [row for row in rows if None not in row.values() and row["age in years"] == row["age in years"]]
    assert len(whole) == len(rows) - 5
    found = ci.AIPW().fit(asked(lake.from_arrow(pa.Table.from_pylist(rows, schema)), missing="drop"))
    expected = ci.AIPW().fit(asked(lake.from_arrow(pa.Table.from_pylist(whole, schema))))
    assert found.rows == len(whole)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-10)


def test_entropy_balancing_is_the_dual_of_hainmueller(lake: ib.Lake) -> None:
    table = drawn(6)
    found = ci.EntropyBalancing().fit(asked(lake.from_arrow(table)))
    assert found.balance().worst < 1e-8
    region, arm = np.array(table["region"].to_pylist()), np.array(table["arm"].to_pylist())
    columns = np.column_stack([table["age in years"].to_numpy() / 10, region == "b", region == "ç"]).astype(float)
    apart = columns[arm == "none"] - columns[arm == "pill"].mean(axis=0)

    def dual(tilt: Any) -> Any:
        weights = np.exp(apart @ tilt)
        return np.log(weights.sum()), weights @ apart / weights.sum()

    best = optimize.minimize(dual, np.zeros(3), jac=True, tol=1e-12)
    outcome = table["größe y"].to_numpy()
    expected = np.average(outcome[arm == "none"], weights=np.exp(apart @ best.x))
    assert found["mean[none]"] == pytest.approx(expected, rel=1e-7)
    weighted = found.weighted("how much").to_arrow()
    assert weighted.column_names == [*table.column_names, "how much"]
    weights = weighted["how much"].to_numpy()
    assert weights[arm == "none"].sum() == pytest.approx((arm == "pill").sum())


def test_strata_hold_equally_many_and_are_averaged(lake: ib.Lake) -> None:
    table = drawn(7, 2_000)
    problem = asked(lake.from_arrow(table))
    found = ci.Stratification(4).fit(problem)
    assert found.balance().worst < problem.balance().worst / 2
    scored = ci.Propensity().fit(problem).scored("p").to_arrow()
    score, arm, outcome = scored["p"].to_numpy(), np.array(scored["arm"].to_pylist()), scored["größe y"].to_numpy()
    weights = found.weighted().to_arrow()["weight"].to_numpy()
    numbers = {value: at for at, value in enumerate(dict.fromkeys(weights[np.argsort(score)].round(9)))}
    assert len(numbers) == 8
    effect = variance = 0.0
    begin = np.searchsorted(np.sort(score), np.quantile(score, [0.25, 0.5, 0.75]))
    for stratum in np.split(np.argsort(score), begin):
        pill, none = (outcome[stratum][arm[stratum] == name] for name in ("pill", "none"))
        effect += len(stratum) / len(score) * (pill.mean() - none.mean())
        variance += (len(stratum) / len(score)) ** 2 * (pill.var(ddof=1) / len(pill) + none.var(ddof=1) / len(none))
    assert found["ATE"] == pytest.approx(effect, rel=0.02)  # bounds are rounded, so that a few rows change strata
    assert found.error("ATE") == pytest.approx(variance**0.5, rel=0.02)
    assert np.average(outcome[arm == "pill"], weights=weights[arm == "pill"]) == pytest.approx(found["mean[pill]"])


def test_bins_of_true_and_false_and_bounds_beyond_all_rows(lake: ib.Lake) -> None:
    table = drawn(11)
    old = np.array(table["age in years"].to_numpy() > 40)
    data = lake.from_arrow(table.append_column("old", pa.array(old)).append_column("alt", pa.array(old.astype(float))))
    found = ci.CoarsenedMatching().fit(asked(data, "old"))
    expected = ci.CoarsenedMatching({"alt": [0.5]}).fit(asked(data, "alt"))
    assert found.values == pytest.approx(expected.values)
    endless = ci.CoarsenedMatching({"alt": [-np.inf, 0.5, np.inf]}).fit(asked(data, "alt"))
    np.testing.assert_array_equal(endless.values, expected.values)


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_cells_are_those_of_plain_python(lake: ib.Lake, estimand: Any) -> None:
    table = drawn(8)
    matching = ci.CoarsenedMatching({"age in years": [30, 40.0, 50]}, estimand)
    found = matching.fit(asked(lake.from_arrow(table)))
    cells: dict[Any, dict[str, list[float]]] = defaultdict(lambda: {"none": [], "pill": []})
    for row in table.to_pylist():
        cells[sum(row["age in years"] >= bound for bound in (30, 40, 50)), row["region"]][row["arm"]].append(
            row["größe y"]
        )
    effect = total = 0.0
    for cell in cells.values():
        pill, none = cell["pill"], cell["none"]
        if pill and none:
            size = {"ATT": len(pill), "ATC": len(none), "ATE": len(pill) + len(none)}[estimand]
            effect += size * (sum(pill) / len(pill) - sum(none) / len(none))
            total += size
    assert found[estimand] == pytest.approx(effect / total, rel=1e-10)
    kept = [cell for cell in cells.values() if cell["pill"] and cell["none"]]
    sizes = [
        {"ATT": len(cell["pill"]), "ATC": len(cell["none"])}.get(estimand, sum(map(len, cell.values())))
        for cell in kept
    ]
    part = np.array(sizes) / total
    means = np.array([[np.mean(cell[arm]) for arm in ("none", "pill")] for cell in kept])
    noise = np.zeros_like(means)
    for at, arm in enumerate(("none", "pill")):
        left = [np.var(cell[arm]) * len(cell[arm]) for cell in kept]
        pooled = sum(left) / sum(len(cell[arm]) - 1 for cell in kept)
        for number, cell in enumerate(kept):
            count = len(cell[arm])
            noise[number, at] = (left[number] / (count - 1) if count > 1 else pooled) / count
    apart = means - part @ means
    between = (part[:, np.newaxis] * apart).T @ apart - np.diag((part - part**2) @ noise)
    values, vectors = np.linalg.eigh(between)
    drawn_cells = (np.array([-1, 1]) @ vectors) ** 2 @ np.maximum(values, 0) / total
    assert found.error(estimand) == pytest.approx((part**2 @ noise.sum(axis=1) + drawn_cells) ** 0.5, rel=1e-10)
    rows = found.weighted().to_arrow()
    pill = np.array(rows["arm"].to_pylist()) == "pill"
    assert rows["weight"].to_numpy()[pill].sum() == pytest.approx(total)
