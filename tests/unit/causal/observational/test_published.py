"""Published and printed numbers, on data that ships in packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels
from causaldata import cps_mixtape, nhefs_complete, nsw_mixtape
from statsmodels.discrete.discrete_model import Probit
from statsmodels.regression.linear_model import OLS
from statsmodels.treatment.tests.results import results_teffects as stata
from statsmodels.treatment.treatment_effects import TreatmentEffect

import iceblink as ib
from iceblink import causal as ci

CATTANEO = Path(statsmodels.__file__).parent / "treatment/tests/results/cataneo2.csv"
TREATED = "mmarried_ + mage + mage2 + fbaby_ + medu"
EXPLAINED = "prenatal1_ + mmarried_ + mage + fbaby_"
MIXTAPE = (
    "age + I(age ** 2) + I(age ** 3) + educ + I(educ ** 2) + marr + nodegree + black + hisp + re74 + re75 + u74 + u75 "
    "+ I(educ * re74)"
)
NHEFS = (
    "sex + race + age + I(age ** 2) + i(education) + smokeintensity + I(smokeintensity ** 2) + smokeyrs "
    "+ I(smokeyrs ** 2) + i(exercise) + i(active) + wt71 + I(wt71 ** 2)"
)


@pytest.fixture(scope="module")
def births(lake: ib.Lake) -> ci.Problem:
    data = kept(lake, pd.read_csv(CATTANEO))
    confounders = f"{TREATED} + prenatal1_"
    return ci.Problem(data, "bweight", "mbsmoke_", confounders, treatment_model=TREATED, outcome_model=EXPLAINED)


def kept(lake: ib.Lake, frame: Any) -> ib.Dataset:
    return lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


@pytest.mark.parametrize(
    ("estimator", "printed"),
    [
        (ci.IPW(link="probit"), stata.results_ipw),
        (ci.RegressionAdjustment(), stata.results_ra),
        (ci.AIPW(link="probit"), stata.results_aipw),
        (ci.AIPW(link="probit", weighted=True), stata.results_aipw_wls),
        (ci.IPWRA(link="probit"), stata.results_ipwra),
    ],
    ids=["ipw", "ra", "aipw", "aipw, wnls", "ipwra"],
)
def test_stata_teffects(births: ci.Problem, estimator: ci.IPW, printed: Any) -> None:
    found = estimator.fit(births)
    np.testing.assert_allclose(found.values[:2], printed.table[:2, 0], rtol=1e-9)
    np.testing.assert_allclose(found.errors[:2], printed.table[:2, 1], rtol=1e-8)


def test_effects_on_the_treated_as_of_statsmodels(births: ci.Problem) -> None:
    frame = pd.read_csv(CATTANEO)
    chosen = Probit.from_formula(f"mbsmoke_ ~ {TREATED}", frame).fit(disp=0)
    model = OLS.from_formula(f"bweight ~ {EXPLAINED}", frame)
    theirs = TreatmentEffect(model, frame["mbsmoke_"].to_numpy(), results_select=chosen)
    for ours, name in ((ci.IPW, "ipw"), (ci.IPWRA, "ipw_ra")):
        for estimand, group in (("ATT", 1), ("ATC", 0)):
            found = ours(estimand, link="probit").fit(births)  # type: ignore[arg-type]
            effect, *means = getattr(theirs, name)(return_results=False, effect_group=group)
            np.testing.assert_allclose(found.values, [effect, *means], rtol=1e-8)


def test_the_job_training_beside_a_survey(lake: ib.Lake) -> None:
    trained, survey = nsw_mixtape.load_pandas().data, cps_mixtape.load_pandas().data
    frame = pd.concat([trained[trained.treat == 1], survey]).drop(columns="data_id")
    data = kept(lake, frame.assign(u74=frame.re74 == 0, u75=frame.re75 == 0))
    problem = ci.Problem(data, "re78", "treat", MIXTAPE)
    naive = problem.study.means
    assert naive[1] - naive[0] == pytest.approx(-8497.5161481330, rel=1e-12)
    raw = ci.IPW(normalized=False).fit(problem)
    assert raw["ATE"] == pytest.approx(-11876.787464, rel=1e-7)
    assert "little overlap" in raw.summary()
    assert ci.IPW().fit(problem)["ATE"] == pytest.approx(-7238.140311, rel=1e-7)
    assert ci.IPW("ATT").fit(problem)["ATT"] == pytest.approx(1782.2085312494, rel=1e-7)
    trimmed = ci.IPW(trim=0.1).fit(problem)
    assert trimmed["ATE"] == pytest.approx(1806.7300571430, rel=1e-7)
    assert trimmed.weighted("w").filter(ib._.w > 0).count() == 361


def test_quitting_smoking_and_weight(lake: ib.Lake) -> None:
    frame = nhefs_complete.load_pandas().data
    whole = ["wt82_71", "qsmk", "age", "smokeintensity", "smokeyrs", "wt71"]
    levels = ["sex", "race", "education", "exercise", "active"]
    data = kept(lake, frame[whole + levels].astype(dict.fromkeys(levels, "int64")))
    problem = ci.Problem(data, "wt82_71", "qsmk", NHEFS)
    assert problem.study.means[1] - problem.study.means[0] == pytest.approx(2.540581, rel=1e-6)
    found = ci.IPW().fit(problem)
    assert found["ATE"] == pytest.approx(3.4405354296, rel=1e-9)
    assert found.balance().worst < 0.04 < 0.28 < problem.balance().worst
