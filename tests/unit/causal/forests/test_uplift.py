"""Uplift trees are those of CausalML, whatever the rows lack and wherever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.forests import growth, rows
from iceblink.errors import (
    ColumnNotFound,
    ConfigError,
    DuplicateColumn,
    IceblinkError,
    PlanError,
    QueryError,
    TypeMismatch,
)

FEATURES = ["x0", "x1", "x2", "x3"]


def drawn(arms: int = 2, count: int = 4_000) -> pa.Table:
    """Draw a campaign: the first treatment moves those of a high x1, the second those of a high x2."""
    draw = np.random.default_rng(1)
    x = draw.integers(0, 8, (count, 4))
    t = draw.integers(0, arms, count)
    chance = 0.2 + 0.04 * x[:, 0] + (t == 1) * 0.05 * (x[:, 1] - 3) + (t == 2) * 0.06 * (x[:, 2] > 4)
    y = (draw.uniform(size=count) < np.clip(chance, 0, 1)).astype(int)
    features = {name: x[:, at] for at, name in enumerate(FEATURES)}
    return pa.table({"id": np.arange(count), "t": t, "y": y, **features})


def effects(grown: ci.GrownUplift, data: ib.Dataset) -> NDArray[np.float64]:
    """Return the effects of rows (n, J - 1)."""
    found = grown.effect(data).to_arrow()
    return np.stack([found[name].to_numpy() for name in found.column_names if name.startswith("effect")], axis=1)


# mean and standard deviation over rows of each treatment's uplift, by causalml 0.18.0 on drawn(arms):
# UpliftTreeClassifier("control", max_depth=3, min_samples_leaf=100, min_samples_treatment=10, n_reg=100,
# evaluationFunction=criterion, normalization=normalization).fit(X, group, y).predict(X)
CAUSALML: list[tuple[int, Any, bool, list[tuple[float, float]]]] = [
    (2, "KL", True, [(0.020024397353070975, 0.13043788599451867)]),
    (2, "KL", False, [(0.02159272137680187, 0.1337023400777113)]),
    (2, "ED", True, [(0.019937219592920975, 0.1337330978789627)]),
    (2, "Chi", False, [(0.02159272137680187, 0.1337023400777113)]),
    (3, "KL", True, [(0.020192250177635054, 0.14385359789789862), (0.01850916764144791, 0.04239484248491497)]),
    (3, "ED", False, [(0.01998132882656111, 0.14345688037673948), (0.020084366136507117, 0.04922709061835954)]),
    (3, "Chi", True, [(0.019983571196742142, 0.14286457825872328), (0.020490356231055558, 0.05373416370726342)]),
    (3, "Chi", False, [(0.021954513933131345, 0.15110501504892243), (0.02087047991580689, 0.07211395998128944)]),
]


@pytest.mark.parametrize(("arms", "criterion", "normalization", "expected"), CAUSALML)
def test_a_tree_is_that_of_causalml(
    lake: ib.Lake, arms: int, criterion: Any, normalization: bool, expected: list[tuple[float, float]]
) -> None:
    data = lake.from_arrow(drawn(arms))
    tree = ci.UpliftTree("y", "t", FEATURES, "id", criterion=criterion, normalization=normalization).fit(data)
    found = effects(tree, data)
    np.testing.assert_allclose(np.stack([found.mean(axis=0), found.std(axis=0)], axis=1), expected, rtol=1e-12)


def test_a_forest_is_the_same_in_any_blocks_turns_and_order(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    table = drawn(3, 2_000)
    data = lake.from_arrow(table)
    forest = ci.UpliftForest("y", "t", FEATURES, "id", trees=6, depth=3, min_leaf=20)
    expected = forest.fit(data)
    monkeypatch.setattr(growth, "LEVEL_ROWS", 300)
    monkeypatch.setattr(growth, "PASS_BYTES", 1)
    monkeypatch.setattr(rows, "KEPT_BYTES", 0)
    order = np.random.default_rng(0).permutation(len(table))
    found = forest.fit(lake.from_arrow(table.take(order)))
    assert [found.show(tree) for tree in range(6)] == [expected.show(tree) for tree in range(6)]
    np.testing.assert_array_equal(effects(found, data), effects(expected, data))


def test_trees_of_a_forest_differ_and_their_mean_is_the_effect(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn())
    grown = ci.UpliftForest("y", "t", FEATURES, "id", trees=4, depth=2).fit(data)
    assert len({grown.show(tree) for tree in range(4)}) == 4
    alone = [
        effects(ci.GrownUplift(grown.title, grown.bins, grown.counted, (tree,), (sums,)), data)
        for tree, sums in zip(grown.trees, grown.sums, strict=True)
    ]
    np.testing.assert_allclose(effects(grown, data), np.mean(alone, axis=0), rtol=1e-12)
    assert sum(grown.importance()["importance"].to_pylist()) == pytest.approx(1)


def test_categories_and_what_is_missing_are_split_by(lake: ib.Lake) -> None:
    count = 3_000
    draw = np.random.default_rng(2)
    town = draw.integers(0, 4, count)
    t, moved = draw.integers(0, 2, count), np.isin(town, (1, 3))
    y = draw.uniform(size=count) < 0.3 + 0.4 * t * moved
    towns = pa.array([["a", "b", "c", None][at] for at in town])
    table = pa.table({"id": range(count), "was treated?": t == 1, "gekauft": y, "Stadt, wo": towns, "noise": t * 0.0})
    data = lake.from_arrow(table)
    tree = ci.UpliftTree("gekauft", "was treated?", ["noise", "Stadt, wo"], "id", depth=1).fit(data)
    assert "Stadt, wo in (a, c): " in tree.show()
    found = effects(tree, data)[:, 0]
    assert found[~moved].max() < 0.1 < 0.3 < found[moved].min()
    unknown = lake.from_arrow(pa.table({"noise": pa.array([None, 1.0]), "Stadt, wo": ["nowhere", "b"]}))
    fresh = effects(tree, unknown)[:, 0]
    np.testing.assert_array_equal(fresh, [found[town == 3][0], found[town == 1][0]])


def test_the_effect_is_written_back(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn(3, 500))
    tree = ci.UpliftTree("y", "t", FEATURES, "id", control=2, depth=1, min_leaf=20).fit(data)
    written = lake.write("n.scored", tree.effect(data, column="gain"), "create")
    assert written.columns == [*data.columns, "gain[0]", "gain[1]"]
    assert written.count() == 500


def test_rows_that_lack_an_outcome_are_refused_or_left_out(lake: ib.Lake) -> None:
    table = drawn(count=1_000)
    gap = pa.array([None if at < 9 else value for at, value in enumerate(table["y"].to_pylist())])
    data = lake.from_arrow(table.set_column(2, "y", gap))
    tree = ci.UpliftTree("y", "t", FEATURES, "id")
    with pytest.raises(QueryError, match="y is missing in 9 rows"):
        tree.fit(data)
    found = ci.UpliftTree("y", "t", FEATURES, "id", missing="drop").fit(data)
    assert found.show().startswith("all: 991 rows")


ROWS: dict[str, Any] = {
    "id": range(60),
    "half": [at / 2 for at in range(60)],
    "t": [at % 2 for at in range(60)],
    "y": [at % 3 == 0 for at in range(60)],
    "x": [at * 7 % 10 for at in range(60)],
    "one": [1] * 60,
    "many": [str(at) for at in range(60)],
    "lone": [at == 3 for at in range(60)],
    "when": pa.array(range(60), pa.timestamp("us")),
    "nothing": pa.nulls(60, pa.float64()),
    "effect": [0.0] * 60,
}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"outcome": "z"}, ColumnNotFound),
        ({"features": ["x", "z"]}, ColumnNotFound),
        ({"key": "z"}, ColumnNotFound),
        ({"key": []}, PlanError),
        ({"features": []}, ConfigError),
        ({"features": "x"}, ConfigError),
        ({"features": ["x", "x"]}, ConfigError),
        ({"features": ["x", "t"]}, PlanError),
        ({"features": ["when"]}, PlanError),
        ({"features": ["one"]}, PlanError),
        ({"features": ["nothing"]}, PlanError),
        ({"outcome": "x"}, PlanError),
        ({"outcome": "one"}, PlanError),
        ({"outcome": "many"}, PlanError),
        ({"outcome": "t"}, PlanError),
        ({"treatment": "one"}, PlanError),
        ({"treatment": "many"}, PlanError),
        ({"treatment": "nothing"}, QueryError),
        ({"treatment": "lone"}, PlanError),
        ({"control": 7}, PlanError),
        ({"key": "half"}, PlanError),
        ({"trees": 0}, ConfigError),
        ({"depth": 0}, ConfigError),
        ({"depth": 40}, ConfigError),
        ({"min_leaf": 0}, ConfigError),
        ({"min_arm": 0}, ConfigError),
        ({"n_reg": -1.0}, ConfigError),
        ({"criterion": "kl"}, ConfigError),
        ({"max_features": 0}, ConfigError),
        ({"bins": 5_000}, ConfigError),
        ({"missing": "fill"}, ConfigError),
    ],
)
def test_what_cannot_be_is_refused(lake: ib.Lake, given: dict[str, Any], error: type[IceblinkError]) -> None:
    asked: dict[str, Any] = {"outcome": "y", "treatment": "t", "features": ["x"], "key": "id", "trees": 2, **given}
    with pytest.raises(error) as caught:
        ci.UpliftForest(**asked).fit(lake.from_arrow(pa.table(ROWS)))
    assert caught.value.hint


def test_no_rows_and_one_row_are_refused(lake: ib.Lake) -> None:
    for count in (0, 1):
        with pytest.raises(PlanError):
            ci.UpliftTree("y", "t", ["x"], "id").fit(lake.from_arrow(pa.table(ROWS).slice(0, count)))


def test_a_tree_of_few_rows_is_a_leaf_and_says_which_names_are_taken(lake: ib.Lake) -> None:
    data = lake.from_arrow(pa.table(ROWS))
    tree = ci.UpliftTree("y", "t", ["x"], "id").fit(data)
    assert tree.show() == "all: 60 rows, 0 0.3333, 1 +0.0000"
    assert tree.importance()["importance"].to_pylist() == [0.0]
    with pytest.raises(DuplicateColumn):
        tree.effect(data)
    with pytest.raises(ColumnNotFound):
        tree.effect(data.drop("x"), "gain")
    with pytest.raises(PlanError):
        tree.show(1)


def test_a_bootstrap_that_lacks_an_arm_is_refused(lake: ib.Lake) -> None:
    table = pa.table({**ROWS, "who": [at % 2 for at in range(60)]})  # each arm is one unit: half of the draws lack it
    with pytest.raises(PlanError, match="no row of some arm"):
        ci.UpliftForest("y", "t", ["x"], "who", trees=20, min_leaf=5).fit(lake.from_arrow(table))


def test_levels_are_looked_up_in_columns_of_their_own_kind(lake: ib.Lake) -> None:
    table = pa.table({**ROWS, "city": [str(at % 3) for at in range(60)], "new": [at % 3 == 0 for at in range(60)]})
    for feature, other in (("city", "new"), ("new", "city"), ("city", "when"), ("x", "city")):
        data = lake.from_arrow(table)
        tree = ci.UpliftTree("y", "t", [feature], "id").fit(data)
        swapped = data.drop(feature).rename(**{feature: other})
        with pytest.raises(TypeMismatch):
            tree.effect(swapped, "gain")
    coded = lake.from_arrow(
        table.set_column(table.column_names.index("city"), "city", table["city"].dictionary_encode())
    )
    tree = ci.UpliftTree("y", "t", ["city"], "id", min_arm=5, min_leaf=10).fit(data)
    assert tree.effect(coded, "gain").to_arrow()["gain"] == tree.effect(data, "gain").to_arrow()["gain"]


def test_rules_of_large_numbers_are_told_to_the_last_digit(lake: ib.Lake) -> None:
    large = 1_700_000_000 + np.arange(400)
    y = np.where(np.arange(400) < 200, np.arange(400) // 2 % 2, np.arange(400) % 2)
    table = pa.table({"id": np.arange(400), "t": np.arange(400) % 2, "y": y, "at": large})
    told = ci.UpliftTree("y", "t", ["at"], "id", depth=1, min_leaf=20).fit(lake.from_arrow(table)).show()
    bound = float(told.split("at <= ")[1].split(":")[0])
    assert 1_700_000_000 < bound < 1_700_000_400
