"""Learners give the numbers of EconML and DoubleML on the same rows, models and folds.

EconML 0.17.0 and DoubleML 0.11.4 (scikit-learn 1.9.1, NumPy 2.4.6) were run once on the rows of `drawn`, with folds
``row % 4`` given as `cv`, `LinearRegression()` and `LogisticRegression(C=inf, tol=1e-12, solver="newton-cholesky")`.
Numbers are effects on the first two rows, of arm 1 and 2 each; then what the test says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.moments import Integers

COUNT = 400
FEATURES = ["age in years", "größe"]
PILL, SHOT = "effect[pill]", "effect[shot]"
PAIRWISE = ci.models.Pairwise(ci.models.Logistic())


@dataclass(frozen=True)
class ByColumn:
    """Folds that a column says."""

    column: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        return np.asarray(batch.column(self.column).to_numpy(), np.int64)


FOLDS = ByColumn("fold")


def drawn() -> pa.Table:
    draw = np.random.default_rng(11)
    age, size = draw.normal(50, 10, COUNT), draw.integers(0, 3, COUNT).astype(float)
    scores = draw.gumbel(size=(3, COUNT)) + np.arange(3)[:, np.newaxis] * (age / 40 - 1.2)
    arm = scores.argmax(axis=0)
    outcome = age / 5 + size + arm * (1 + size / 2 + age / 100) + draw.normal(size=COUNT)
    return pa.table(
        {
            "id": np.arange(COUNT),
            "fold": np.arange(COUNT) % 4,
            "y": outcome,
            "arm": np.array(["none", "pill", "shot"])[arm],
            "age in years": age,
            "größe": size,
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Dataset]:
    folder: Path = tmp_path_factory.mktemp("lake")
    with ib.connect(folder) as lake:
        yield lake.from_arrow(drawn())


@pytest.fixture(scope="module")
def two(data: ib.Dataset) -> ib.Dataset:
    return data.sql("SELECT *, arm = 'pill' AS \"given?\" FROM this WHERE arm <> 'shot'")


def first_two(found: ib.Dataset, *names: str) -> Any:
    return [found.to_arrow()[name][:2].to_pylist() for name in names]


def close(expected: Any, rel: float = 1e-12) -> Any:
    return pytest.approx(np.array(expected), rel=rel)


def test_s_learner(data: ib.Dataset) -> None:
    found = ci.SLearner("y", "arm", FEATURES).fit(data)
    # SLearner(overall_model=LinearRegression())
    assert first_two(found.effect(data), PILL, SHOT) == close([[1.9018070214673166] * 2, [4.037615700517209] * 2])


def test_t_learner(data: ib.Dataset) -> None:
    found = ci.TLearner("y", "arm", FEATURES).fit(data)
    # TLearner(models=LinearRegression()); .const_marginal_effect(X).mean(axis=0)
    assert first_two(found.effect(data), PILL, SHOT) == close(
        [[2.2525991826962155, 2.197851685898323], [5.0105659683993675, 5.129047065482938]]
    )
    assert found.ate().values == close([1.8597080255630645, 3.9352701719548104])


def test_x_learner(data: ib.Dataset) -> None:
    ridge = ci.models.Linear(penalty=50.0)
    options: dict[str, Any] = {"outcome_model": ridge, "effect_model": ci.models.Linear(), "propensity": PAIRWISE}
    learner = ci.XLearner("y", "arm", FEATURES, **options)
    found = learner.fit(data)
    # XLearner(models=Ridge(alpha=50), cate_models=LinearRegression(), propensity_model=LogisticRegression(...))
    assert first_two(found.effect(data), PILL, SHOT) == close(
        [[2.213107960862045, 2.091133963856291], [4.849377111911781, 4.816431878156081]]
    )
    assert found.ate().values == close([1.859453670688758, 3.9467796471950463])


def test_x_learner_of_a_known_propensity(data: ib.Dataset) -> None:
    learner = ci.XLearner(
        "y",
        "arm",
        FEATURES,
        outcome_model=ci.models.Linear(penalty=50.0),
        effect_model=ci.models.Linear(),
        propensity={"pill": 3 / 13, "shot": 3 / 13},
    )
    # the same with a propensity_model whose predict_proba is (0.7, 0.3)
    assert first_two(learner.fit(data).effect(data), PILL, SHOT) == close(
        [[2.2896654862522605, 2.2730150541129603], [5.045106277341401, 5.196626264358228]]
    )


def test_dr_learner(data: ib.Dataset) -> None:
    found = ci.DRLearner("y", "arm", FEATURES, key="id").fit(data, grouping=FOLDS)
    # LinearDRLearner(model_propensity=LogisticRegression(...), model_regression=<LinearRegression of each arm>,
    #   cv=..., min_propensity=0.01), inference="statsmodels": a multinomial propensity
    assert first_two(found.effect(data, error="se"), PILL, SHOT, "se[pill]", "se[shot]") == close(
        [
            [2.2428571661261323, 2.187802155415402],
            [4.978925518876132, 5.091379635116276],
            [0.1615712692688222, 0.2384783474594984],
            [0.16465844127389792, 0.2296461449142072],
        ],
        rel=1e-8,
    )
    of_pill = found.coefficients("pill")
    assert of_pill.names == ("(Intercept)", *FEATURES)
    assert of_pill.values == close([1.7357971276227566, -0.0041533561516867165, 0.35807399674492685], rel=1e-8)
    assert of_pill.errors == close([0.6670495599125265, 0.012764279073168293, 0.13362204527627145], rel=1e-8)


def test_dr_learner_of_arms_in_pairs(data: ib.Dataset) -> None:
    found = ci.DRLearner("y", "arm", FEATURES, key="id", propensity=PAIRWISE).fit(data, grouping=FOLDS)
    # the same with model_propensity=<logistic regressions of each arm with the control>
    assert first_two(found.effect(data, error="se"), PILL, SHOT, "se[pill]", "se[shot]") == close(
        [
            [2.2392068978580406, 2.186411047362695],
            [4.971130731150741, 5.072346086810969],
            [0.16390323098224105, 0.24913210819592083],
            [0.17143748820212396, 0.24460262173329675],
        ],
        rel=1e-11,
    )


def test_linear_dml_of_several_arms(data: ib.Dataset) -> None:
    asked = ci.LinearDML("y", "arm", "`age in years`", key="id", modifiers="größe", discrete=True)
    found = asked.fit(data, grouping=FOLDS)
    # LinearDML(model_y=LinearRegression(), model_t=LogisticRegression(...), discrete_treatment=True, cv=...), X=größe,
    #   W=age, inference="statsmodels"
    values = [1.5461179400397993, 0.35505265740504854, 3.0077371837320315, 1.0029279786675256]
    errors = [0.1972824292102516, 0.137000368495396, 0.21752980624601662, 0.14459171350895916]
    assert found.names == ("arm[pill]", "arm[pill]:größe", "arm[shot]", "arm[shot]:größe")
    assert (found.values, found.errors) == (close(values, rel=1e-8), close(errors, rel=1e-8))


def test_dr_learner_of_a_known_propensity(data: ib.Dataset) -> None:
    learner = ci.DRLearner("y", "arm", FEATURES, key="id", propensity={"pill": 0.3, "shot": 0.2})
    found = learner.fit(data, grouping=FOLDS)
    # the same with a model_propensity whose predict_proba is (0.5, 0.3, 0.2)
    assert first_two(found.effect(data, error="se"), PILL, SHOT, "se[pill]", "se[shot]") == close(
        [
            [2.24996260645115, 2.203422913391491],
            [5.017369996625311, 5.15670749835045],
            [0.13290670143586397, 0.201371120074781],
            [0.22255962023995912, 0.30736321141544326],
        ],
        rel=1e-11,
    )


def test_the_average_effect_of_a_dr_learner_is_that_of_the_interactive_model(two: ib.Dataset) -> None:
    found = ci.DRLearner("y", "arm", FEATURES, key="id").fit(two, grouping=FOLDS).ate()
    # DoubleMLIRM(data, LinearRegression(), LogisticRegression(...), score="ATE"), set_sample_splitting; coef, se
    assert (found["ATE"], found.error("ATE")) == pytest.approx((1.8701714085809316, 0.12681287477654085), rel=1e-11)


def test_r_learner(two: ib.Dataset) -> None:
    found = ci.RLearner("y", "given?", FEATURES, key="id").fit(two, grouping=FOLDS)
    # NonParamDML(model_y=LinearRegression(), model_t=LogisticRegression(...), model_final=LinearRegression(),
    #   discrete_treatment=True, cv=...); errors of LinearDML of the same models, inference="statsmodels"
    assert first_two(found.effect(two, error="se"), "effect", "se") == close(
        [[2.249631245569575, 1.4399826874562296], [0.1702267770765473, 0.2582838064555862]], rel=1e-11
    )


def test_r_learner_of_several_arms_takes_each_with_the_control(data: ib.Dataset, two: ib.Dataset) -> None:
    learner = ci.RLearner("y", "arm", FEATURES, key="id", propensity=PAIRWISE)
    every, pair = learner.fit(data, grouping=FOLDS), learner.fit(two, grouping=FOLDS)
    assert every.coefficients("pill").values == close(pair.coefficients().values, rel=1e-10)
    assert every.coefficients("pill").errors == close(pair.coefficients().errors, rel=1e-10)
