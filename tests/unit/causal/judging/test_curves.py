"""Curves and areas are those of the peers, exactly where these take each row, and their errors those of theory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.judging.cuts import cut
from iceblink.causal.judging.jackknife import jackknifed

ROWS = 400


def drawn(rows: int = ROWS) -> dict[str, Any]:
    draw = np.random.default_rng(8)
    x, t = draw.normal(size=rows), draw.integers(0, 2, rows)
    y = x + t * (0.3 + 0.5 * x) + draw.normal(size=rows)
    effect = 0.5 * x + draw.normal(size=rows) / 2
    return {"id": np.arange(rows), "größe y": y, "t": t, "effect": effect, "score": 2 * (2 * t - 1) * y}


@pytest.fixture(scope="module")
def uplift(lake: ib.Lake) -> ci.Curves:
    return ci.UpliftCurve("effect", "größe y", "t", key="id").fit(lake.from_arrow(pa.table(drawn())))


def test_points_are_those_of_causalml(uplift: ci.Curves) -> None:
    # causalml 0.18.0 on drawn(): get_cumlift, get_cumgain, get_qini (not normalized) at rows 100, 200 and 400
    at = [24, 49, 99]
    lift = [0.6954004964433266, 0.4652190867153092, 0.22691937171374893]
    gain = [69.54004964433265, 93.04381734306185, 90.76774868549957]
    qini = [29.206820850619707, 42.334936891093136, 43.114680625612294]
    np.testing.assert_allclose(uplift.shares[at], [0.25, 0.5, 1.0])
    np.testing.assert_allclose(uplift.values["lift"][at], lift, rtol=1e-10)
    np.testing.assert_allclose(uplift.values["gain"][at] * ROWS, gain, rtol=1e-10)
    np.testing.assert_allclose(uplift.values["qini"][at] * ROWS, qini, rtol=1e-10)


def test_areas_are_those_of_causalml_less_half_of_the_last_point(uplift: ci.Curves) -> None:
    # causalml 0.18.0 on drawn(): auuc_score and qini_score with normalize=False
    n, last, rows = ROWS, uplift.values["gain"][-1], drawn()
    first = np.argsort(-rows["effect"])
    arm, y = rows["t"][first], rows["größe y"][first]
    k = int(np.argmax(arm != arm[0])) + 1  # the first rows have one arm: they draw lines of lift there, we of gain
    lift = y[:k][arm[:k] == 1].mean() - y[:k][arm[:k] == 0].mean()
    before = sum(lift * at * (at / k - 1) for at in range(k))
    assert ((n * uplift.areas["AUUC"] + last / 2) * n + before) / (n + 1) == pytest.approx(93.20601868763256, rel=1e-10)
    assert n * n * uplift.areas["Qini"] / (n + 1) == pytest.approx(20.218889033002764, rel=1e-10)
    assert uplift.areas["AUUC above random"] == pytest.approx(uplift.areas["AUUC"] - last / 2)


def test_ties_are_one_point_as_in_scikit_uplift(lake: ib.Lake) -> None:
    rows = drawn()
    rows["effect"] = np.round(rows["effect"]).clip(-1, 1).astype(int)
    gain, qini = [0.0], [0.0]
    count = [0]
    for value in sorted(set(rows["effect"].tolist()), reverse=True):  # uplift_curve and qini_curve, as written there
        top = rows["effect"] >= value
        y1, y0 = (rows["größe y"][top & (rows["t"] == arm)] for arm in (1, 0))
        count.append(int(top.sum()))
        gain.append((y1.mean() if len(y1) else 0) * count[-1] - (y0.mean() if len(y0) else 0) * count[-1])
        qini.append(y1.sum() - y0.sum() * len(y1) / len(y0) if len(y0) else np.nan)
    assert np.isfinite(qini).all()
    table = pa.table(rows)
    for given in (table, table.take(np.random.default_rng(1).permutation(ROWS))):
        found = ci.UpliftCurve("effect", "größe y", "t", key="id").fit(lake.from_arrow(given))
        assert found.areas["AUUC"] * ROWS**2 == pytest.approx(np.trapezoid(gain, count), rel=1e-10)
        of_qini = np.trapezoid(qini, count) - qini[-1] * ROWS / 2
        assert found.areas["Qini"] * ROWS**2 == pytest.approx(of_qini, rel=1e-10)
        np.testing.assert_allclose(found.values["gain"] * ROWS, gain[1:], rtol=1e-10)


def test_few_points_are_exact_and_their_areas_close(lake: ib.Lake, uplift: ci.Curves) -> None:
    found = ci.UpliftCurve("effect", "größe y", "t", key="id", bins=20).fit(lake.from_arrow(pa.table(drawn())))
    np.testing.assert_allclose(found.values["gain"], uplift.values["gain"][4::5], rtol=1e-10)
    np.testing.assert_allclose(found.areas.values, uplift.areas.values, atol=0.01)


def test_before_both_arms_have_a_row_curves_rise_from_nothing(lake: ib.Lake) -> None:
    rows = {"id": range(6), "e": [6, 5, 4, 3, 2, 1], "t": [1, 1, 0, 1, 0, 0], "y": [4.0, 2.0, 1.0, 3.0, 0.0, 1.0]}
    found = ci.UpliftCurve("e", "y", "t", key="id").fit(lake.from_arrow(pa.table(rows)))
    assert np.isnan(found.values["lift"][:2]).all()
    np.testing.assert_allclose(found.values["gain"][:3], [1 / 3, 2 / 3, 1.0])
    assert found.areas["AUUC"] == pytest.approx(np.trapezoid([0, *found.values["gain"]], dx=1 / 6))


def test_toc_is_that_of_econml_and_its_areas_those_of_grf(lake: ib.Lake) -> None:
    rows = drawn()
    found = ci.TOC("effect", "score", key="id").fit(lake.from_arrow(pa.table(rows)))
    # econml 0.17.0 on drawn(): validate.utils.calc_uplift(..., percentiles=[50, 75, 90], metric="toc")
    theirs = [0.08724510603787528, 0.08980713776299831, 0.4362676820166554]
    np.testing.assert_allclose(found.values["TOC"][[49, 24, 9]], theirs, rtol=1e-10)
    np.testing.assert_allclose(
        found.errors["TOC"][[49, 24, 9]], [0.16859572494364689, 0.3262471118393016, 0.7187641398460011], rtol=0.15
    )
    score, rank = rows["score"][np.argsort(-rows["effect"])], np.arange(1, ROWS + 1)
    toc = score.cumsum() / rank - score.mean()  # rank_average_treatment_effect: sums over ranks
    assert found.areas["AUTOC"] == pytest.approx(toc.mean(), rel=1e-10)
    assert found.areas["Qini"] == pytest.approx((rank / ROWS * toc).mean(), rel=1e-10)


def test_ties_of_a_toc_have_their_mean(lake: ib.Lake) -> None:
    rows = drawn()
    rows["effect"] = np.round(rows["effect"]).astype(int)
    mean = {value: rows["score"][rows["effect"] == value].mean() for value in set(rows["effect"].tolist())}
    level = np.array([mean[value] for value in sorted(rows["effect"].tolist(), reverse=True)])
    toc = level.cumsum() / np.arange(1, ROWS + 1) - level.mean()
    data = lake.from_arrow(pa.table(rows))
    for bins in (None, 50):  # fewer values than points: nothing is lost by them
        found = ci.TOC("effect", "score", key="id", bins=bins).fit(data)
        assert found.areas["AUTOC"] == pytest.approx(toc.mean(), rel=1e-10)
        assert found.areas["Qini"] == pytest.approx((np.arange(1, ROWS + 1) / ROWS * toc).mean(), rel=1e-10)


def test_errors_of_areas_are_those_of_influence_functions(lake: ib.Lake) -> None:
    count = 6_000
    rows = drawn(count)
    found = ci.TOC("effect", "score", key="id", bins=100).fit(lake.from_arrow(pa.table(rows)))
    score, u = rows["score"][np.argsort(-rows["effect"])], np.arange(1, count + 1) / count
    autoc = (-np.log(u) - 1) * score - (score / u)[::-1].cumsum()[::-1] / count
    qini = (0.5 - u) * score - score[::-1].cumsum()[::-1] / count
    theory = np.array([autoc.std(), qini.std()]) / np.sqrt(count)
    np.testing.assert_allclose(found.areas.errors, theory, rtol=0.12)  # 200 groups say it to 5 %


def test_the_jackknife_of_means_has_the_variance_of_means() -> None:
    values = np.random.default_rng(2).normal(size=150)
    sums = np.stack([np.ones(150), values], axis=-1)
    buckets = np.concatenate([sums, np.zeros((50, 2))])
    mean, covariance, freedom = jackknifed(buckets, lambda s: s[:, 1:] / s[:, :1], "here")
    assert (mean[0], freedom) == (pytest.approx(values.mean()), 149)
    assert covariance[0, 0] == pytest.approx(values.var(ddof=1) / 150)


def test_rows_of_a_unit_are_left_out_together(lake: ib.Lake) -> None:
    table = pa.table(drawn())
    once = ci.TOC("effect", "score", key="id").fit(lake.from_arrow(table))
    twice = ci.TOC("effect", "score", key="id").fit(lake.from_arrow(pa.concat_tables([table, table])))
    np.testing.assert_allclose(twice.errors["TOC"], once.errors["TOC"], rtol=1e-9)


def test_shares_of_rows_change_no_digit_that_counts(lake: ib.Lake) -> None:
    rows, found = drawn(), []
    judges: list[Any] = [
        ci.UpliftCurve("effect", "größe y", "t", key="id"),
        ci.TOC("effect", "score", key="id"),
    ]
    for files in (1, 3, 7):
        numbered = pa.table({**rows, "part": np.arange(ROWS) % files})
        lake.write(f"n.t{files}", numbered, "create", partition_by=["part"])
        curves = [judge.fit(lake.table(f"n.t{files}")) for judge in judges]
        numbers = [np.concatenate([one.areas.values, one.areas.errors, *one.values.values()]) for one in curves]
        found.append(np.concatenate(numbers))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-13)


def test_cuts_are_values_of_ranks(lake: ib.Lake) -> None:
    values = np.array([5.0, 1, 1, 1, 2, 9, -3, 2, 4, 4])
    data = lake.from_arrow(pa.table({"v": values, "flat": np.ones(10)}))
    for parts in (2, 3, 4, 10, 50):
        bounds, flat = cut(data, ("v", "flat"), parts, "here")
        ranks = {-(-10 * part // parts) for part in range(1, parts)}
        wanted = sorted({float(np.sort(values)[rank - 1]) for rank in ranks} - {9.0})
        assert (bounds.tolist(), flat.tolist()) == (wanted, [])


def test_curves_are_told(uplift: ci.Curves) -> None:
    text = uplift.summary()
    assert text.count("\n") == 19
    assert "AUUC above random" in text
    table = uplift.to_arrow()
    assert table.column_names[:5] == ["share", "lift", "lift_error", "lift_lower", "lift_upper"]
    np.testing.assert_allclose(uplift.to_pandas()["gain_upper"], uplift.interval("gain")[:, 1])
