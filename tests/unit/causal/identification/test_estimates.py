"""Graphs become estimators, and data can contradict them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm

import iceblink as ib
from iceblink import causal as ci
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

ROWS = 3_000
GRAPH = "mood -> coupon; mood -> gmv; coupon -> clicks; coupon -> visits; clicks -> gmv; visits -> gmv; lot -> coupon"


def drawn() -> dict[str, Any]:
    draw = np.random.default_rng(5)
    mood, lot = draw.normal(size=(2, ROWS))
    coupon = mood + lot + draw.normal(size=ROWS)
    clicks = 0.5 * coupon + draw.normal(size=ROWS) * (1 + np.abs(coupon))
    visits = -coupon + draw.normal(size=ROWS) + 1e6
    gmv = 2 * clicks + 0.3 * visits - 2 * mood + draw.normal(size=ROWS)
    return {
        "id": np.arange(ROWS),
        "mood": mood,
        "lot": lot,
        "coupon": coupon,
        "clicks": clicks,
        "visits": visits,
        "gmv": gmv,
    }


@pytest.fixture(scope="module")
def data(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.table(drawn()))


def test_a_backdoor_goes_straight_into_estimators(data: ib.Dataset) -> None:
    found = ci.Graph(GRAPH).identify("coupon", "gmv")
    assert found.backdoor == (frozenset({"mood"}),)
    assert found.confounders == ["mood"]
    effect = ci.OLS("gmv ~ coupon + mood").fit(data)["coupon"]
    split = ci.LinearPLR("gmv", "coupon", found.confounders, key="id").fit(data)
    assert split["coupon"] == pytest.approx(effect, abs=0.02)
    assert found.problem(data, control=0).confounders == ["mood"]
    text = repr(found)
    assert "adjust for      {mood}" in text
    assert "{clicks, visits}" in text
    assert "lot" in text


def test_an_instrument_goes_straight_into_two_stage(data: ib.Dataset) -> None:
    found = ci.Graph(GRAPH, unobserved=["mood"]).identify("coupon", "gmv")
    assert not found.backdoor
    assert found.two_stage() == ci.TwoStage("gmv ~ 1 | coupon ~ lot")
    assert found.two_stage().fit(data)["coupon"] == pytest.approx(0.7, abs=0.3)
    with pytest.raises(PlanError, match="front_door"):
        found.problem(data)
    with pytest.raises(PlanError, match="lot"):
        found.two_stage("clicks")


def test_a_frontdoor_is_two_regressions_and_their_influences(data: ib.Dataset) -> None:
    found = ci.Graph(GRAPH, unobserved=["mood"]).identify("coupon", "gmv").front_door().fit(data)
    rows = drawn()
    regressors = sm.add_constant(np.column_stack([rows["coupon"], rows["clicks"], rows["visits"] - 1e6]))
    last = sm.OLS(rows["gmv"], regressors).fit()
    firsts = [sm.OLS(rows[name], regressors[:, :2]).fit() for name in ("clicks", "visits")]
    first, second = np.array([fit.params[1] for fit in firsts]), last.params[2:]
    np.testing.assert_allclose(found.values, [first @ second, *first, *second], rtol=1e-9)
    of_first = np.stack([np.linalg.pinv(regressors[:, :2])[1] * fit.resid for fit in firsts])
    of_second = np.linalg.pinv(regressors)[2:] * last.resid
    each = second @ of_first + first @ of_second
    assert found.error("coupon") == pytest.approx(np.sqrt(each @ each), rel=1e-6)
    assert found.error("coupon -> clicks") == pytest.approx(firsts[0].get_robustcov_results("HC0").bse[1], rel=1e-6)
    assert found.error("visits -> gmv") == pytest.approx(last.get_robustcov_results("HC0").bse[3], rel=1e-6)
    low, high = found.interval()[0]
    assert low < 0.7 < high


def test_a_frontdoor_refuses_what_it_cannot_use(data: ib.Dataset) -> None:
    with pytest.raises(ConfigError):
        ci.FrontDoor("gmv", "coupon", [])
    with pytest.raises(ConfigError, match="two roles"):
        ci.FrontDoor("gmv", "coupon", ["gmv"])
    odd = data.sql(
        "SELECT *, 1 AS one, clicks * 2 AS twice, 'a' AS text, CASE WHEN lot > 0 THEN lot END AS holes FROM this"
    )
    for mediators in (["one"], ["clicks", "twice"]):
        with pytest.raises(PlanError, match=mediators[-1]):
            ci.FrontDoor("gmv", "coupon", mediators).fit(odd)
    for outcome, treatment in (("gmv", "one"), ("one", "coupon")):
        with pytest.raises(PlanError, match="one"):
            ci.FrontDoor(outcome, treatment, ["clicks"]).fit(odd)
    with pytest.raises(PlanError):
        ci.FrontDoor("gmv", "coupon", ["clicks"]).fit(data.limit(1))
    with pytest.raises(TypeMismatch):
        ci.FrontDoor("gmv", "coupon", ["text"]).fit(odd)
    with pytest.raises(QueryError):
        ci.FrontDoor("gmv", "coupon", ["holes"]).fit(odd)
    whole = ci.FrontDoor("gmv", "coupon", ["holes"]).fit(odd.sql("SELECT * FROM this WHERE holes IS NOT NULL"))
    dropped = ci.FrontDoor("gmv", "coupon", ["holes"], missing="drop").fit(odd)
    np.testing.assert_allclose(dropped.covariance, whole.covariance, rtol=1e-9)


def test_data_contradict_what_they_do_not_fit(data: ib.Dataset) -> None:
    true = ci.Graph(GRAPH, unobserved=["mood"]).check(data)
    assert true.contradicted == ()
    assert "contradicted 0" in repr(true)
    wrong = ci.Graph("coupon -> clicks -> gmv; lot -> gmv; visits -> gmv").check(data)
    assert {str(one) for one in wrong.contradicted} >= {
        "coupon ⊥ visits",
        "coupon ⊥ lot",
        "coupon ⊥ gmv | {clicks}",
    }
    rows = drawn()
    left = [sm.OLS(rows[name], sm.add_constant(rows["clicks"])).fit().resid for name in ("coupon", "gmv")]
    table = wrong.to_arrow().to_pylist()
    (told,) = [row for row in table if (row["first"], row["second"]) == ("coupon", "gmv")]
    assert told["given"] == ["clicks"]
    assert told["correlation"] == pytest.approx(np.corrcoef(*left)[0, 1], rel=1e-7)


def test_what_cannot_be_checked_is_refused(data: ib.Dataset) -> None:
    with pytest.raises(PlanError, match="no independence"):
        ci.Graph("coupon -> gmv").check(data)
    graph = ci.Graph("lot -> coupon -> gmv")
    with pytest.raises(PlanError, match="too few"):
        graph.check(data.limit(1))
    with pytest.raises(ConfigError):
        graph.check(data, level=5)
    with pytest.raises(ColumnNotFound):
        ci.Graph("lott -> coupon -> gmv").check(data)
    copied = graph.check(data.sql("SELECT coupon, coupon AS lot, gmv FROM this"))
    assert np.isnan(copied.correlations).all()
    assert "contradicted 0 of 0, not tested 1" in copied.summary()
    assert copied.contradicted == ()


def test_names_with_spaces(data: ib.Dataset) -> None:
    odd = data.sql('SELECT lot AS "the lot", coupon AS "der Gutschein", gmv AS umsätze FROM this')
    graph = ci.Graph('"the lot" -> "der Gutschein" -> umsätze; "der Gutschein" <-> umsätze')
    found = graph.identify("der Gutschein", "umsätze").two_stage().fit(odd)
    assert found["der Gutschein"] == pytest.approx(ci.TwoStage("gmv ~ 1 | coupon ~ lot").fit(data)["coupon"], rel=1e-12)
