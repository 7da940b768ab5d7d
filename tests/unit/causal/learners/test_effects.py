"""Effects of learners are columns, the same wherever rows lie; averages are means of what papers write down."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.passes import Folds
from iceblink.errors import ColumnNotFound, QueryError

COUNT = 300


def drawn(seed: int = 0, count: int = COUNT) -> pa.Table:
    """Return an experiment: a third was treated, and effects are 1 + x where the city is Ürümqi, else 0."""
    draw = np.random.default_rng(seed)
    x, city, treated = draw.normal(size=count), draw.integers(0, 2, count), draw.uniform(size=count) < 1 / 3
    outcome = x + city + treated * city * (1 + x) + draw.normal(size=count) / 10
    return pa.table(
        {
            "id": np.arange(count),
            "y": outcome,
            "t": treated,
            "x": x,
            "city": np.array(["Köln", "Ürümqi"])[city],
            "p": np.full(count, 1 / 3),
        }
    )


LEARNERS: list[Any] = [
    ci.SLearner("y", "t", "x + i(city)"),
    ci.TLearner("y", "t", ["x", "i(city)"]),
    ci.XLearner("y", "t", ["x", "i(city)"], propensity="p", outcome_model=ci.models.Linear(penalty=3.0)),
    ci.RLearner("y", "t", ["x", "i(city)"], "id", propensity=1 / 3),
    ci.DRLearner("y", "t", ["x", "i(city)"], ["id"], folds=3),
]


@pytest.fixture(scope="module")
def spread(lake: ib.Lake) -> list[ib.Dataset]:
    """The same rows in 1, 3 and 7 files."""
    table, found = drawn(), []
    for files in (1, 3, 7):
        numbered = table.append_column("part", pa.array(np.arange(len(table)) % files))
        lake.write(f"n.t{files}", numbered, "create", partition_by=["part"])
        found.append(lake.table(f"n.t{files}"))
    return found


def test_arms_are_those_that_have_an_effect_whoever_estimates_it(lake: ib.Lake) -> None:
    draw = np.random.default_rng(0)
    arm = np.array(["b", "none", "a"])[np.arange(90) % 3]
    data = lake.from_arrow(
        pa.table({"id": np.arange(90), "y": draw.integers(0, 2, 90), "arm": arm, "x": draw.normal(size=90)})
    )
    for estimator in (
        ci.TLearner("y", "arm", ["x"], control="none"),
        ci.LinearDML("y", "arm", ["x"], "id", folds=2, discrete=True, control="none"),
        ci.UpliftTree("y", "arm", ["x"], "id", control="none", depth=1, min_leaf=5, min_arm=1),
    ):
        fit: Any = estimator.fit(data)
        assert fit.arms == ("a", "b")
        assert fit.effect(data).columns[-2:] == [f"effect[{arm}]" for arm in fit.arms]
        assert isinstance(fit, ci.LinearEffects) or fit.control == "none"


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda one: type(one).__name__)
def test_shares_of_rows_change_no_digit_that_counts(spread: list[ib.Dataset], learner: Any) -> None:
    found = []
    for data in spread:
        learnt = learner.fit(data)
        rows = learnt.effect(data).order_by("id").to_arrow()
        found.append(np.concatenate([rows["effect"].to_numpy(), learnt.ate().values]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-12)


def test_effects_are_written_back_beside_the_rows(lake: ib.Lake) -> None:
    lake.write("n.trial", drawn(), "create")
    learnt = ci.TLearner("y", "t", "x * i(city)").fit(lake.table("n.trial"))
    lake.write("n.scored", learnt.effect(lake.table("n.trial"), "uplift in €"), "create")
    rows = lake.table("n.scored").to_arrow()
    assert rows.column_names == [*drawn().column_names, "uplift in €"]
    truth = np.where(np.array(rows["city"].to_pylist()) == "Ürümqi", 1 + rows["x"].to_numpy(), 0.0)
    np.testing.assert_allclose(rows["uplift in €"].to_numpy(), truth, atol=0.2)


@pytest.fixture(scope="module")
def learnt(lake: ib.Lake) -> list[ci.LearnedEffects]:
    return [learner.fit(lake.from_arrow(drawn())) for learner in LEARNERS]


def test_rows_to_be_scored_need_the_features_only(lake: ib.Lake, learnt: list[ci.LearnedEffects]) -> None:
    fresh = lake.from_arrow(pa.table({"city": ["Köln", None, "Ürümqi"], "x": [1.0, 2.0, None]}))
    for one in (learnt[0], learnt[1], learnt[3], learnt[4]):  # the other has its propensity in a column
        effects = one.effect(fresh, "e").to_arrow()["e"]
        assert effects[0].is_valid
        assert effects.null_count == 2


def test_effects_of_no_rows_are_no_rows(lake: ib.Lake, learnt: list[ci.LearnedEffects]) -> None:
    for one in learnt:
        found = one.effect(lake.from_arrow(drawn().slice(0, 0))).to_arrow()
        assert found.num_rows == 0
        assert found.schema.field("effect").type == pa.float64()


def test_features_may_be_expressions(lake: ib.Lake) -> None:
    table = drawn(9)
    squared = table.append_column("x2", pa.array(table["x"].to_numpy() ** 2))
    computed = ci.TLearner("y", "t", "x + I(x ** 2)").fit(lake.from_arrow(table)).effect(lake.from_arrow(table))
    assert computed.columns == [*table.column_names, "effect"]
    expected = ci.TLearner("y", "t", ["x", "x2"]).fit(lake.from_arrow(squared)).effect(lake.from_arrow(squared))
    np.testing.assert_allclose(
        computed.to_arrow()["effect"].to_numpy(), expected.to_arrow()["effect"].to_numpy(), rtol=1e-12
    )


def test_a_t_learner_on_average_is_regression_adjustment(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn(1))
    ate = ci.TLearner("y", "t", "x + i(city)").fit(data).ate()
    expected = ci.RegressionAdjustment().fit(ci.Problem(data, "y", "t", "x + i(city)"))
    assert ate["ATE"] == pytest.approx(expected["ATE"], rel=1e-12)
    assert np.isnan(ate.error("ATE"))


def test_the_average_effect_of_an_r_learner_is_that_of_its_augmented_scores(lake: ib.Lake) -> None:
    table = drawn(2)
    learnt = ci.RLearner("y", "t", "x", "id", propensity=0.25).fit(lake.from_arrow(table))
    y, t, effect = (
        learnt.effect(lake.from_arrow(table)).to_arrow()[name].to_numpy(zero_copy_only=False).astype(float)
        for name in ("y", "t", "effect")
    )
    fold = Folds(("id",), 5, 0).numbers(table.combine_chunks().to_batches()[0])
    x = np.column_stack([np.ones(len(y)), table["x"].to_numpy()])
    m = np.empty(len(y))
    for one in range(5):
        coefficients, *_ = np.linalg.lstsq(x[fold != one], y[fold != one], rcond=None)
        m[fold == one] = x[fold == one] @ coefficients
    e = 0.25
    own = m + (1 - e) * effect
    control = m - e * effect
    scores = effect + t * (y - own) / e - (1 - t) * (y - control) / (1 - e)
    ate = learnt.ate()
    assert ate["ATE"] == pytest.approx(scores.mean(), rel=1e-10)
    assert ate.error("ATE") == pytest.approx(scores.std() / np.sqrt(len(y)), rel=1e-10)


def test_a_propensity_that_a_column_says_is_the_same_as_a_number(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn(3))
    by = [ci.DRLearner("y", "t", "x", "id", propensity=one).fit(data) for one in (1 / 3, "p", {True: "p"})]
    for other in by[1:]:
        np.testing.assert_array_equal(other.ate().values, by[0].ate().values)
        np.testing.assert_array_equal(other.coefficients().covariance, by[0].coefficients().covariance)


def test_an_outcome_of_true_and_false_is_a_chance(lake: ib.Lake) -> None:
    table = drawn(4)
    bought = pa.array(table["y"].to_numpy() > 0.5)
    data = lake.from_arrow(table.append_column("bought", bought).append_column("number", bought.cast(pa.int8())))
    logistic = ci.models.Logistic(penalty=1.0)
    chances = ci.TLearner("bought", "t", "x", outcome_model=logistic).fit(data)
    assert abs(chances.ate()["ATE"]) < 1
    numbers = ci.TLearner("number", "t", "x", outcome_model=logistic).fit(data)
    np.testing.assert_array_equal(chances.ate().values, numbers.ate().values)


def test_rows_that_lack_a_value_are_left_out_where_that_is_asked(lake: ib.Lake) -> None:
    rows = drawn(5).to_pylist()
    for at, name in enumerate(("y", "t", "x", "city", "p")):
        rows[at * 11][name] = None
    whole = [row for row in rows if None not in row.values()]
    assert len(whole) == COUNT - 5
    schema = drawn(5).schema
    for learner in (
        ci.XLearner("y", "t", "x + i(city)", propensity="p", missing="drop"),
        ci.DRLearner("y", "t", "x + i(city)", "id", propensity="p", missing="drop"),
    ):
        found, expected = (
            learner.fit(lake.from_arrow(pa.Table.from_pylist(part, schema))).ate() for part in (rows, whole)
        )
        assert found.rows == len(whole)
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-12)


def test_a_constant_feature_is_left_out_and_named(lake: ib.Lake) -> None:
    table = drawn(6).append_column("one", pa.array(np.ones(COUNT)))
    for learner in (ci.TLearner("y", "t", ["one", "x"]), ci.DRLearner("y", "t", ["one", "x"], "id")):
        ate = learner.fit(lake.from_arrow(table)).ate()
        assert ate.dropped == ("one",)
        assert "one" in ate.summary()


def test_chances_that_are_clipped_are_counted(lake: ib.Lake) -> None:
    table = drawn(7)
    chance = np.where(np.arange(COUNT) < 10, 0.001, 1 / 3)
    data = lake.from_arrow(table.set_column(5, "p", pa.array(chance)))
    found = ci.DRLearner("y", "t", "x", "id", propensity="p").fit(data).ate()
    assert found.facts["rows clipped"] == 10
    found = ci.DRLearner("y", "t", "x", "id", propensity="p", clip=1e-4).fit(data).ate()
    assert found.facts["rows clipped"] == 0


def test_a_chance_may_be_a_number_of_any_kind(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn(7))
    halves: tuple[Any, ...] = (0.5, Fraction(1, 2), np.float32(0.5))
    told = [ci.XLearner("y", "t", "x", propensity=half).fit(data).ate() for half in halves]
    assert len({float(one["ATE"]) for one in told}) == 1


def test_a_learner_of_trees_finds_what_a_linear_one_cannot(lake: ib.Lake) -> None:
    table = drawn(8, 1_000)
    data = lake.from_arrow(table)
    truth = np.where(np.array(table["city"].to_pylist()) == "Ürümqi", 1 + table["x"].to_numpy(), 0.0)
    trees = ci.models.XGBoost(rounds=20, depth=3, learning_rate=0.2, threads=1)

    def missed(learner: Any) -> float:
        found = learner.fit(data).effect(data).to_arrow()["effect"].to_numpy()
        return float(np.sqrt(np.mean((found - truth) ** 2)))

    linear = missed(ci.TLearner("y", "t", "x + i(city)"))
    for learner in (
        ci.XLearner("y", "t", "x + i(city)", outcome_model=trees, propensity=1 / 3),
        ci.RLearner("y", "t", "x + i(city)", "id", outcome_model=trees, effect_model=trees, propensity=1 / 3, folds=2),
    ):
        assert missed(learner) < linear / 1.5


@pytest.mark.parametrize("learner", [ci.DRLearner, ci.RLearner])
def test_clusters_decide_folds_and_their_scores_are_added_up(lake: ib.Lake, learner: Any) -> None:
    table = drawn().append_column("shop", pa.array(np.random.default_rng(1).integers(0, 20, COUNT)))
    options: dict[str, Any] = {"propensity": 1 / 3, "folds": 2}
    data = lake.from_arrow(table)
    found = learner("y", "t", "x", key="id", cluster="shop", **options).fit(data)
    plain = learner("y", "t", "x", key="shop", **options).fit(data)  # the same folds
    (batch,) = table.combine_chunks().to_batches()
    of_shop = {"cov_type": "cluster", "cov_kwds": {"groups": table["shop"].to_numpy()}, "use_t": True}
    ((scores,), _) = plain.scores.of(batch)
    mean = sm.OLS(scores, np.ones(COUNT)).fit(**of_shop)
    assert (found.ate()["ATE"], found.ate().error("ATE")) == pytest.approx((mean.params[0], mean.bse[0]), rel=1e-9)
    np.testing.assert_allclose(found.ate().interval(), mean.conf_int(), rtol=1e-9)
    assert found.ate().convention.endswith("by shop (20), times G / (G - 1)")
    design, target, weight = sm.add_constant(table["x"].to_numpy()), scores, np.ones(COUNT)
    if learner is ci.RLearner:
        nuisances = (plain.setting, plain.scores.expected, plain.scores.chances)
        ratio: Any = learner("y", "t", "x", key="shop", **options)._targets(*nuisances)[0]
        target, weight = ratio.values(batch), ratio.weights(batch)
    line, said = sm.WLS(target, design, weight).fit(**of_shop), found.coefficients()
    np.testing.assert_allclose(said.values, line.params, rtol=1e-9)
    np.testing.assert_allclose(said.errors, line.bse, rtol=1e-9)
    assert (said.convention, said.freedom) == ("CR1 by shop (20)", 19)
    rows = found.effect(data, error="se").limit(5).to_arrow()
    expected = np.sqrt(np.einsum("nk,kl,nl->n", design[:5], line.cov_params(), design[:5]))
    np.testing.assert_allclose(rows["se"].to_numpy(), expected, rtol=1e-9)


def test_of_a_pair_of_arms_the_clusters_that_have_them_count(lake: ib.Lake) -> None:
    draw = np.random.default_rng(2)
    shop = draw.integers(0, 30, COUNT)
    table = pa.table(
        {
            "id": np.arange(COUNT),
            "x": draw.normal(size=COUNT),
            "shop": shop,
            "arm": shop % 3,
            "y": draw.normal(size=COUNT),
        }
    )
    data = lake.from_arrow(table)
    learner = ci.RLearner("y", "arm", "x", "id", cluster="shop", folds=2, propensity={1: 1 / 3, 2: 1 / 3})
    assert [learner.fit(data).coefficients(arm).freedom for arm in (1, 2)] == [19, 19]


def test_a_cluster_that_is_not_there_or_missing(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn()).sql("SELECT *, CASE WHEN id > 9 THEN id % 9 END AS shop FROM this")
    learner = ci.DRLearner("y", "t", "x", "id", cluster="shop", propensity="p", folds=2)
    with pytest.raises(QueryError, match="shop is missing in 10 rows"):
        learner.fit(data)
    assert replace(learner, missing="drop").fit(data).ate().rows == COUNT - 10
    with pytest.raises(ColumnNotFound, match="nobody"):
        replace(learner, cluster="nobody").fit(data)
