"""Models are those that scikit-learn and XGBoost fit to the rows of other folds, and say what they cannot learn."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from statsmodels.api import MNLogit, add_constant

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.models import (
    Column,
    Equals,
    Fitted,
    Linear,
    Logistic,
    Pairwise,
    SkLearn,
    Target,
    Task,
    XGBoost,
    boosting,
)
from iceblink.causal.models.boosting import TreePredictor
from iceblink.causal.models.classes import chances_of_all
from iceblink.causal.models.fitted import fit_all
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Folds
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

ROWS = 900
FEATURES = ("x0", "Größe in cm", "x2")
FOLDS = Folds(("id",), 3, 0)
TREES = XGBoost(rounds=8, depth=2, learning_rate=0.5, threads=1)
FOREST = SkLearn(RandomForestRegressor(5, max_depth=3, random_state=0))


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, 3)) * [1, 10, 100] + [0, 170, 1_000]
    z = (x - [0, 170, 1_000]) / [1, 10, 100]
    t = (draw.random(ROWS) < 1 / (1 + np.exp(-z[:, 0]))).astype(np.int64)
    y = z @ [1.0, 2.0, 3.0] + t + draw.normal(size=ROWS)
    columns = dict(zip(FEATURES, x.T, strict=True))
    weights = draw.uniform(0.5, 2, ROWS)
    scores = np.array([[0.5], [0.0], [0.0]]) + np.outer([0.0, 0.7, -0.4], z[:, 2])
    arm = (scores + draw.gumbel(size=(3, ROWS))).argmax(axis=0)
    return pa.table({"id": np.arange(ROWS), **columns, "y": y, "t": t, "arm": arm, "w": weights})


@pytest.fixture(scope="module")
def data(lake: ib.Lake, rows: pa.Table) -> ib.Dataset:
    return lake.from_arrow(rows)


def task(*targets: Target, folds: Folds | None = FOLDS, features: tuple[str, ...] = FEATURES) -> Task:
    return Task(Matrix(tuple(map(Number, features))), targets, folds, "a test")


def whole(rows: pa.Table) -> pa.RecordBatch:
    (batch,) = rows.combine_chunks().to_batches()
    return batch


def of_other_folds(
    rows: pa.Table, estimator: Any, target: str, arm: int | None = None, weighted: bool = False
) -> Floats:
    """Return the predictions of scikit-learn's models, one for each fold."""
    fold = FOLDS.numbers(whole(rows))
    x = np.column_stack([rows[name].to_numpy() for name in FEATURES])
    values, t, weight = (rows[name].to_numpy() for name in (target, "t", "w"))
    found = np.empty(ROWS)
    for at in range(FOLDS.count):
        used = (fold != at) & (True if arm is None else t == arm)
        fitted = clone(estimator).fit(x[used], values[used], sample_weight=weight[used] if weighted else None)
        mine = x[fold == at]
        chance = hasattr(fitted, "predict_proba")
        found[fold == at] = fitted.predict_proba(mine)[:, 1] if chance else fitted.predict(mine)
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Linear(), LinearRegression()), (Linear(50.0), Ridge(50.0)), (SkLearn(Ridge(50.0)), Ridge(50.0))],
)
def test_linear_models_of_all_rows_of_an_arm_and_weighted_ones(
    rows: pa.Table, data: ib.Dataset, ours: Any, theirs: Any
) -> None:
    fits = ours.fit(data, task(Target("y"), Target("y", rows=Equals("t", 1)), Target("t", weight="w")))
    wanted = [
        of_other_folds(rows, theirs, "y"),
        of_other_folds(rows, theirs, "y", arm=1),
        of_other_folds(rows, theirs, "t", weighted=True),
    ]
    for fit, values in zip(fits, wanted, strict=True):
        np.testing.assert_allclose(fit.predict(whole(rows)), values, 1e-9, 1e-11)


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_logistic_regressions(rows: pa.Table, data: ib.Dataset, penalty: float) -> None:
    theirs = LogisticRegression(C=1 / penalty if penalty else np.inf, tol=1e-12, solver="newton-cholesky", max_iter=200)
    high = data.mutate(high=(ib._["Größe in cm"] > 172).cast("int64"))
    more = rows.append_column("high", pa.array((rows["Größe in cm"].to_numpy() > 172).astype(np.int64)))
    targets = (Target("t", binary=True, weight="w"), Target("t", binary=True))
    fits = Logistic(penalty).fit(data, task(*targets))
    np.testing.assert_allclose(fits[0].predict(whole(rows)), of_other_folds(rows, theirs, "t", weighted=True), 1e-7)
    np.testing.assert_allclose(fits[1].predict(whole(rows)), of_other_folds(rows, theirs, "t"), 1e-7)
    with pytest.raises(PlanError, match="grows without end") as caught:
        Logistic().fit(high, task(Target("high", binary=True)))
    assert "a test, model of high" in str(caught.value)
    assert np.isfinite(Logistic(1.0).fit(high, task(Target("high")))[0].predict(whole(more))).all()


ARM = Target("arm", classes=("none", "pill", "shot"))


def of_all_classes(rows: pa.Table, estimator: Any, weighted: bool = False) -> Floats:
    """Return the chances (3, n) of scikit-learn's classifiers, one for each fold."""
    fold, weight = FOLDS.numbers(whole(rows)), rows["w"].to_numpy()
    x, arm = np.column_stack([rows[name].to_numpy() for name in FEATURES]), rows["arm"].to_numpy()
    found = np.empty((3, ROWS))
    for at in range(FOLDS.count):
        used = fold != at
        weights = {"sample_weight": weight[used]} if weighted else {}
        fitted = clone(estimator).fit(x[used], arm[used], **weights)
        found[:, ~used] = fitted.predict_proba(x[~used]).T
    return found


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_multinomial_regressions(rows: pa.Table, data: ib.Dataset, penalty: float) -> None:
    scaled = LogisticRegression(C=1 / penalty if penalty else np.inf, tol=1e-12, solver="newton-cholesky", max_iter=200)
    weighted = replace(ARM, weight="w")
    # Beside another target, so that places of classes and targets differ.
    _, plain, heavy = Logistic(penalty).fit(data, task(Target("t", binary=True), ARM, weighted))
    np.testing.assert_allclose(plain.predict(whole(rows)), of_all_classes(rows, scaled), 1e-6)
    np.testing.assert_allclose(heavy.predict(whole(rows)), of_all_classes(rows, scaled, weighted=True), 1e-6)
    np.testing.assert_allclose(plain.predict(whole(rows)).sum(axis=0), 1, rtol=1e-14)


def test_a_multinomial_regression_of_all_rows_is_that_of_statsmodels(rows: pa.Table, data: ib.Dataset) -> None:
    x = add_constant(np.column_stack([rows[name].to_numpy() for name in FEATURES]))
    theirs = MNLogit(rows["arm"].to_numpy(), x).fit(method="newton", maxiter=50, tol=1e-14, disp=False)
    (fit,) = Logistic().fit(data, task(ARM, folds=None))
    np.testing.assert_allclose(fit.models[0].intercepts, theirs.params[0], 1e-6)  # type: ignore[attr-defined]
    np.testing.assert_allclose(fit.models[0].coefficients, theirs.params[1:].T, 1e-6)  # type: ignore[attr-defined]


def test_linear_chances_of_classes_and_classifiers_of_them(rows: pa.Table, data: ib.Dataset) -> None:
    neighbours = KNeighborsClassifier(15)  # whom the order of rows does not change
    (fit,) = SkLearn(neighbours).fit(data, task(ARM))
    np.testing.assert_allclose(fit.predict(whole(rows)), of_all_classes(rows, neighbours), 1e-12)
    for model in (Linear(), SkLearn(LinearRegression())):
        (fit,) = model.fit(data, task(ARM))
        said = fit.predict(whole(rows))
        for number, found in enumerate(said):
            more = data.sql(f"SELECT *, CAST(arm = {number} AS int) AS mine FROM this")
            (alone,) = model.fit(more, task(Target("mine")))
            np.testing.assert_allclose(found, alone.predict(whole(rows)), 1e-9)
        np.testing.assert_allclose(said.sum(axis=0), 1, rtol=1e-9)


def test_pairwise_chances_have_the_odds_of_each_class_with_the_first(rows: pa.Table, data: ib.Dataset) -> None:
    (found,) = Pairwise(Logistic()).fit(data, task(ARM))
    chances = found.predict(whole(rows))
    np.testing.assert_allclose(chances.sum(axis=0), 1, rtol=1e-14)
    for number in (1, 2):
        pair = data.filter((ib._.arm == 0) | (ib._.arm == number)).mutate(mine=(ib._.arm == number).cast("int64"))
        (fit,) = Logistic().fit(pair, task(Target("mine", binary=True)))
        np.testing.assert_allclose(chances[number] / (chances[0] + chances[number]), fit.predict(whole(rows)), 1e-9)


def test_trees_of_classes_are_those_of_xgboost(rows: pa.Table, data: ib.Dataset) -> None:
    import xgboost

    (fit,) = TREES.fit(data, task(ARM, folds=None))
    x = np.column_stack([rows[name].to_numpy() for name in FEATURES])
    matrix = xgboost.QuantileDMatrix(x, rows["arm"].to_numpy(), nthread=1)
    settings = {"max_depth": 2, "eta": 0.5, "nthread": 1, "objective": "multi:softprob", "num_class": 3}
    theirs = xgboost.train(settings, matrix, 8).inplace_predict(x)
    found = fit.predict(whole(rows))
    np.testing.assert_allclose(found, theirs.T, 1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-14)


def test_chances_of_arms_add_up_to_one() -> None:
    two = chances_of_all(np.array([[0.2, -0.1, 1.1]]))
    np.testing.assert_array_equal(two, [[0.8, 1.0, 0.0], [0.2, 0.0, 1.0]])
    three = chances_of_all(np.array([[0.5, -0.3, 0.0], [0.5, -0.1, 0.1], [1.0, 1.4, 0.3]]))
    np.testing.assert_allclose(three, [[0.25, 0, 0], [0.25, 0, 0.25], [0.5, 1, 0.75]], atol=1e-15)
    assert three[0, 1] / (three[0, 1] + three[1, 1]) == 0.5  # of two arms that nobody has, neither is known to be less


@pytest.mark.parametrize("model", [Logistic(), TREES, SkLearn(LogisticRegression())])
def test_a_class_without_rows_is_refused(data: ib.Dataset, model: Any) -> None:
    with pytest.raises(PlanError, match="arm is pill in no row"):
        model.fit(data.filter(ib._.arm != 1), task(ARM))


def test_classes_are_numbers_and_not_told_apart(data: ib.Dataset) -> None:
    with pytest.raises(QueryError, match="arm has 2"):
        TREES.fit(data, task(Target("arm", classes=("none", "pill"))))
    with pytest.raises(PlanError, match="tell classes apart"):
        Logistic().fit(data.mutate(x0=ib._.arm + ib._.id * 1e-5), task(ARM, folds=None, features=("x0",)))


def test_trees_are_those_of_xgboost(rows: pa.Table, data: ib.Dataset) -> None:
    import xgboost

    target = Target("y", rows=Equals("t", 1), weight="w")
    (fit,) = TREES.fit(data, task(target, folds=None))
    x, used = np.column_stack([rows[name].to_numpy() for name in FEATURES]), rows["t"].to_numpy() == 1
    y, weight = rows["y"].to_numpy()[used], rows["w"].to_numpy()[used]
    matrix = xgboost.QuantileDMatrix(x[used], y, nthread=1)
    matrix.set_weight(weight)  # edges of bins know of none
    settings = {"max_depth": 2, "eta": 0.5, "nthread": 1, "base_score": float(weight @ y / weight.sum())}
    theirs = xgboost.train(settings, matrix, 8)
    np.testing.assert_allclose(fit.predict(whole(rows)), theirs.inplace_predict(x), 1e-5, 1e-5)
    (kept,) = replace(TREES, on_disk=True).fit(data, task(target, folds=None))
    np.testing.assert_array_equal(kept.predict(whole(rows)), fit.predict(whole(rows)))


def test_trees_learn_differences_of_large_values(rows: pa.Table, data: ib.Dataset) -> None:
    high = data.sql("SELECT *, y + 1e9 AS high FROM this")
    (plain,), (raised,) = (TREES.fit(high, task(Target(name))) for name in ("y", "high"))
    np.testing.assert_allclose(raised.predict(whole(rows)) - 1e9, plain.predict(whole(rows)), atol=1e-4)


@pytest.mark.parametrize(("name", "said"), [("x0", "x0"), ("y", "y"), ("w", "the weight of y")])
def test_trees_refuse_numbers_that_float32_has_not(data: ib.Dataset, name: str, said: str) -> None:
    huge = data.sql(f"SELECT * REPLACE (if(id = 3, 1e39, {name}) AS {name}) FROM this")
    with pytest.raises(QueryError, match=f"{said} is as large as"):
        TREES.fit(huge, task(Target("y", weight="w"), features=("x0",)))


def test_trees_read_once_and_leave_no_file(rows: pa.Table, tmp_path: Path) -> None:
    seen = []

    def noted(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(batch.num_rows)
        return batch

    with ib.connect(tmp_path / "lake", engine=ib.LocalEngine(spill_dir=str(tmp_path / "spill"))) as lake:
        watched = lake.from_arrow(rows).map_batches(noted, schema=rows.schema)
        TREES.fit(watched, task(Target("y"), Target("t", rows=Column("t"), weight="w"), Target("w")))
    assert sum(seen) == ROWS
    assert list((tmp_path / "spill").iterdir()) == []


def test_trees_of_an_arm_are_those_of_its_rows_alone(data: ib.Dataset) -> None:
    asked = (Target("y", rows=Equals("t", 0)), Target("y"), Target("y", rows=Equals("t", 1)), Target("x2", Column("t")))
    fits = TREES.fit(data, task(*asked))
    for at, arm in ((0, data.filter(ib._.t == 0)), (1, data), (2, data.filter(ib._.t == 1))):
        (alone,) = TREES.fit(arm, task(Target("y")))
        for one, other in zip(fits[at].models, alone.models, strict=True):
            assert isinstance(one, TreePredictor)
            assert isinstance(other, TreePredictor)
            assert one.booster.save_raw() == other.booster.save_raw()
    assert np.isfinite(fits[3].predict(whole(data.to_arrow()))).all()


@pytest.mark.parametrize(("said", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_xgboost_is_loaded_so_that_its_threads_sleep_while_they_wait(
    monkeypatch: pytest.MonkeyPatch, said: str | None, expected: str
) -> None:
    monkeypatch.delenv(boosting.WAITING, raising=False)
    if said is not None:
        monkeypatch.setenv(boosting.WAITING, said)
    monkeypatch.setattr(boosting, "optional", lambda package, extra: os.environ[boosting.WAITING])
    assert boosting.library() == expected
    assert os.environ.get(boosting.WAITING) == said


@pytest.mark.parametrize(
    ("none", "target"), [(Ridge(), "y"), (Linear, "y"), (0.5, "t"), (None, "y"), (LogisticRegression(), "t")]
)
def test_what_is_no_model_is_refused(data: ib.Dataset, none: Any, target: str) -> None:
    with pytest.raises(ConfigError, match="is no model") as caught:
        fit_all(data, [(Linear(), Target("y")), (none, Target(target))], task())
    assert "SkLearn(estimator)" in caught.value.hint


@pytest.mark.parametrize("model", [Linear(), Logistic(), TREES, FOREST])
def test_no_model_sees_the_fold_that_it_predicts_for(rows: pa.Table, lake: ib.Lake, model: Any) -> None:
    fold = FOLDS.numbers(whole(rows))
    turned = np.where(fold == 1, 1 - rows["t"].to_numpy(), rows["t"].to_numpy())
    other = rows.set_column(rows.schema.get_field_index("t"), "t", pa.array(turned))
    before, after = (
        model.fit(lake.from_arrow(one), task(Target("t", binary=True)))[0].predict(whole(rows)) for one in (rows, other)
    )
    np.testing.assert_array_equal(before[fold == 1], after[fold == 1])
    assert (before[fold != 1] != after[fold != 1]).mean() > 0.9


def test_files_do_not_matter_and_fits_travel(rows: pa.Table, lake: ib.Lake) -> None:
    found = []
    for files in (1, 3, 7):
        part = pa.array(np.arange(ROWS) * files // ROWS)
        lake.write(f"n.t{files}", rows.append_column("part", part), "create", partition_by=["part"])
        data = lake.table(f"n.t{files}").order_by("id")
        asked = task(Target("t", binary=True), ARM)
        fits = [fit for model in (Linear(), Logistic(), TREES) for fit in model.fit(data, asked)]
        found.append(np.vstack([fit.predict(whole(rows)) for fit in pickle.loads(pickle.dumps(fits))]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert (np.std(found[0], axis=1) > 0.05).all()


@dataclass(frozen=True)
class Left:
    """What a fitted model leaves of the outcome: a target that is computed."""

    fit: Fitted

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*self.fit.inputs, "y")

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return Column("y")(batch) - self.fit.predict(batch)


@pytest.mark.parametrize("model", [Linear(), TREES, FOREST])
def test_what_a_model_leaves_is_the_target_of_another(rows: pa.Table, data: ib.Dataset, model: Any) -> None:
    (first,) = Linear().fit(data, task(Target("y"), features=("x0",)))
    left = rows["y"].to_numpy() - first.predict(whole(rows))
    (second,) = model.fit(data, task(Target(Left(first), name="what is left"), folds=None))
    assert np.corrcoef(second.predict(whole(rows)), left)[0, 1] > 0.75


def test_trees_take_features_that_lack_values_and_others_say_which(rows: pa.Table, lake: ib.Lake) -> None:
    x = rows["x2"].to_numpy()
    holes = rows.set_column(rows.schema.get_field_index("x2"), "x2", pa.array(x, mask=x < 800))
    data = lake.from_arrow(holes)
    (fit,) = TREES.fit(data, task(Target("y")))
    assert np.isfinite(fit.predict(whole(holes))).all()
    for model in (Linear(), FOREST):
        with pytest.raises(QueryError, match="x2 is missing"):
            model.fit(data, task(Target("y")))


def test_features_that_follow_from_others_are_named(rows: pa.Table, data: ib.Dataset) -> None:
    more = data.mutate(twice=ib._.x0 * 2, one=ib._.x0 * 0 + 1)
    wanted = task(Target("t", binary=True), features=("x0", "twice", "one"))
    for model in (Linear(), Logistic()):
        (fit,), (plain,) = model.fit(more, wanted), model.fit(data, task(Target("t"), features=("x0",)))
        assert fit.dropped == ("twice", "one")
        batch = whole(rows.append_column("twice", rows["x0"]).append_column("one", rows["x0"]))
        np.testing.assert_allclose(fit.predict(batch), plain.predict(batch), 1e-9)


def test_a_batch_without_rows_and_a_fold_that_was_not_there(rows: pa.Table, data: ib.Dataset) -> None:
    (fit,) = Linear().fit(data.filter(ib._.id < 300), task(Target("y"), folds=Folds(("id",), 2)))
    assert len(fit.predict(whole(rows)[:0])) == 0
    strange = replace(fit, grouping=FOLDS)
    with pytest.raises(QueryError, match="without fold 2"):
        strange.predict(whole(rows))


MANY = Folds(("few",), 9)


@pytest.mark.parametrize("model", [Linear(), TREES])  # one that reads moments, and one that gathers rows
@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        (task(Target("nobody")), ColumnNotFound, "nobody"),
        (task(Target("text")), TypeMismatch, "text"),
        (task(Target("t"), features=("x0", "text")), TypeMismatch, "text"),
        (task(Target("hole", rows=Equals("x0", 5.0), weight="hole"), folds=None), PlanError, "no rows"),
        (task(Target("hole")), QueryError, "hole is missing in"),
        (task(Target("t", weight="x0")), QueryError, "negative"),
        (task(Target("y", binary=True)), QueryError, "0 or 1"),
        (task(Target("t"), folds=MANY), PlanError, "folds have no rows"),
        (task(Target("t"), folds=Folds(("same",), 3)), PlanError, "1 fold"),
        (task(Target("t"), folds=Folds(("x0",), 3)), TypeMismatch, "key"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    data: ib.Dataset, model: Any, wanted: Task, error: type[Exception], says: str
) -> None:
    more = data.sql(
        "SELECT *, 'a' AS text, 1 AS same, id % 3 AS few, CASE WHEN id % 2 = 0 THEN t END AS hole FROM this LIMIT 60"
    )
    with pytest.raises(error, match=says):
        model.fit(more, wanted)


@pytest.mark.parametrize("model", [Linear(), Linear(1.0), Logistic(), TREES, FOREST])
def test_no_rows_and_too_few(data: ib.Dataset, model: Any) -> None:
    with pytest.raises(PlanError, match=r"there are no rows|0 fold"):
        model.fit(data.filter(ib._.id < 0), task(Target("t", binary=True)))
    with pytest.raises(PlanError, match=r"1 fold|no rows"):
        model.fit(data.filter(ib._.id < 1), task(Target("t", binary=True)))


@pytest.mark.parametrize("model", [Logistic(), TREES, SkLearn(LogisticRegression())])
def test_a_chance_is_learnt_from_both_values(data: ib.Dataset, model: Any) -> None:
    with pytest.raises(PlanError, match="t is 1 in every row"):
        model.fit(data.filter(ib._.t == 1), task(Target("t", binary=True)))


def test_rows_beyond_the_budget_are_refused_with_a_hint(data: ib.Dataset) -> None:
    with pytest.raises(PlanError, match="more than 1,000 bytes") as caught:
        SkLearn(Ridge(), memory_bytes=1_000).fit(data, task(Target("y")))
    assert "XGBoost" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Linear(-1.0), ConfigError, "penalty"),
        (lambda: Logistic(np.nan), ConfigError, "penalty"),
        (lambda: XGBoost(rounds=0), ConfigError, "rounds"),
        (lambda: XGBoost(learning_rate=0.0), ConfigError, "learning_rate"),
        (lambda: XGBoost(min_child_weight=-1), ConfigError, "min_child_weight"),
        (lambda: SkLearn(Ridge), ConfigError, "instance|no estimator"),
        (lambda: SkLearn(object()), ConfigError, "no estimator"),
    ],
)
def test_a_model_that_is_none_is_refused_at_once(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_what_an_estimator_of_others_refuses_is_told_with_its_name(data: ib.Dataset) -> None:
    with pytest.raises(PlanError, match=r"so says Ridge\.fit"):
        SkLearn(Ridge(alpha=-1.0)).fit(data, task(Target("y")))
    with pytest.raises(PlanError, match="a classifier learns zeros and ones"):
        SkLearn(LogisticRegression()).fit(data, task(Target("y")))
    with pytest.raises(PlanError, match="no predict_proba"):
        SkLearn(RidgeClassifier()).fit(data, task(Target("t", binary=True)))


def test_models_are_public_by_their_module() -> None:
    assert ci.models.Linear is Linear
