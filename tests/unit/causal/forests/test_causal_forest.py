"""Causal forests are what loops over rows find, and find the effects that were put in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import stats

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.forests import bins, growth, rows
from iceblink.causal.forests.drawing import LittleBags
from iceblink.causal.forests.heterogeneity import Criterion
from iceblink.causal.forests.trees import Tree
from iceblink.causal.hashing import hashed
from iceblink.causal.judging.jackknife import buckets_of
from iceblink.causal.passes import Folds
from iceblink.errors import ColumnNotFound, ConfigError, IceblinkError, PlanError, QueryError

Array = NDArray[np.float64]


def drawn(count: int) -> pa.Table:
    """Draw rows whose effect is 1, and 2 more where a is positive; w and y are residuals already."""
    draw = np.random.default_rng(4)
    a, b, w = draw.normal(size=count), draw.integers(0, 5, count), draw.normal(size=count)
    y = w * (1 + 2 * (a > 0)) + 0.5 * draw.normal(size=count)
    t = 0.4 * a + w
    town = np.array(["p", "q", "r"])[draw.integers(0, 3, count)]
    return pa.table({"id": np.arange(count), "a": a, "b": b, "town": town, "w": w, "y": y, "t": t})


def slope(w: Array, y: Array) -> tuple[float, float]:
    """Return the slope of y on w, and the squares that it and the mean explain."""
    apart = w - w.mean()
    return float(apart @ y / (apart @ apart)), float(len(y) * y.mean() ** 2 + (apart @ y) ** 2 / (apart @ apart))


def worth(criterion: Criterion, w: Array, y: Array, left: NDArray[np.bool_]) -> float:
    """Return what a split is worth, as the papers write it."""
    if criterion == "mse":
        parts = slope(w[left], y[left])[1] + slope(w[~left], y[~left])[1]
        return (parts - slope(w, y)[1]) / len(y)
    apart = w - w.mean()
    pseudo = apart * (y - y.mean() - slope(w, y)[0] * apart) / (apart @ apart / len(y))
    return float(sum(pseudo[side].sum() ** 2 / side.sum() for side in (left, ~left)) / len(y))


@pytest.mark.parametrize("criterion", ["mse", "het"])
def test_first_splits_and_leaves_are_those_of_loops(lake: ib.Lake, criterion: Criterion) -> None:
    table = drawn(300)
    forest = ci.CausalForest(
        "y", "w", ["a", "b"], "id", residuals=("y", "w"), trees=4, bag=2, depth=1, criterion=criterion, bins=20
    )
    grown = forest.fit(lake.from_arrow(table))
    a, b, w, y = (table[name].to_numpy().astype(float) for name in ("a", "b", "w", "y"))
    places = hashed([table["id"].combine_chunks()], 0, "forest")
    drawing = LittleBags(0.45, 2, 0)
    for number, (tree, sums) in enumerate(zip(grown.trees, grown.sums, strict=True)):
        mine, fill = drawing.splitting(places, number), drawing.filling(places, number)
        assert not set(mine) & set(fill)
        found = []
        for feature, values in enumerate((a, b)):
            for cut in grown.bins.features[feature].at:  # type: ignore[union-attr]
                left = values[mine] <= cut
                if min(left.sum(), (~left).sum()) >= max(5, 0.05 * len(mine)):
                    found.append((worth(criterion, w[mine], y[mine], left), feature, cut))
        gain, feature, cut = max(found)
        assert tree.gain[0] == pytest.approx(gain, rel=1e-9)
        left = (a, b)[feature][fill] <= cut
        for node, side in ((0, left | True), (1, left), (2, ~left)):
            expected = [side.sum(), w[fill][side].sum(), (w[fill][side] ** 2).sum(), y[fill][side].sum()]
            np.testing.assert_allclose(sums[node][:4], expected, rtol=1e-9, atol=1e-9)


def test_effects_and_errors_are_those_of_loops(lake: ib.Lake) -> None:
    data = lake.from_arrow(drawn(400))
    forest = ci.CausalForest("y", "w", ["a", "b"], "id", residuals=("y", "w"), trees=12, bag=3, depth=3)
    grown = forest.fit(data)
    found = grown.effect(data, error="se").to_arrow()
    codes = grown.bins.codes(data.to_arrow().to_batches()[0])
    leaves = [tree.leaves(codes) for tree in grown.trees]
    for row in range(5):
        means = []
        for tree, sums, leaf in zip(grown.trees, grown.sums, leaves, strict=True):
            node = leaf[row]
            while sums[node][0] < 5:
                (node,) = np.flatnonzero(((tree.left == node) | (tree.right == node)) & (tree.feature >= 0))
            means.append(sums[node][1:] / sums[node][0])
        w, ww, y, wy = np.mean(means, axis=0)
        effect = (wy - w * y) / (ww - w * w)
        level = y - effect * w
        pull = [
            ((wy_b - effect * ww_b - level * w_b) - w * (y_b - effect * w_b - level)) / (ww - w * w)
            for w_b, ww_b, y_b, wy_b in means
        ]
        bags = [pull[at : at + 3] for at in range(0, 12, 3)]
        between = np.mean([np.mean(bag) ** 2 for bag in bags])
        within = np.mean([np.var(bag) for bag in bags]) / 2
        assert found["effect"][row].as_py() == pytest.approx(effect, rel=1e-9)
        spread = max(between, within) * np.sqrt(2 / 4)
        ratio = (between - within) / spread
        positive = between - within + spread * stats.norm.pdf(ratio) / stats.norm.cdf(ratio)
        assert found["se"][row].as_py() == pytest.approx(np.sqrt(positive), rel=1e-9)


def test_a_forest_finds_what_was_put_in(lake: ib.Lake) -> None:
    table = drawn(3_000)
    data = lake.from_arrow(table)
    grown = ci.CausalForest("y", "t", ["a", "town"], "id", ["b"], trees=24, depth=4).fit(data)
    found = grown.effect(data.drop("t", "y", "b"), error="error").to_arrow()
    truth = 1 + 2 * (table["a"].to_numpy() > 0)
    apart = found["effect"].to_numpy() - truth
    assert np.sqrt(np.mean(apart**2)) < 0.25
    assert np.mean(np.abs(apart) < 1.96 * found["error"].to_numpy()) > 0.8
    assert grown.importance()["feature"][0].as_py() == "a"


def test_a_forest_is_the_same_in_any_files_turns_and_passes(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    table = drawn(1_500)
    forest = ci.CausalForest("y", "t", ["a", "b", "town"], "id", trees=4, bag=2, depth=2, max_features=2)
    monkeypatch.setattr(growth, "LEVEL_ROWS", 500)
    expected = forest.fit(lake.from_arrow(table))
    for files in (1, 3, 7):
        name = f"n.files{files}"
        for at in range(files):
            part = table.slice(at * 1_500 // files, (at + 1) * 1_500 // files - at * 1_500 // files)
            lake.write(name, part, "append" if at else "create")
        data = lake.table(name)
        if data.select("id").to_arrow()["id"].to_pylist() != table["id"].to_pylist():
            data = data.order_by("id")
        monkeypatch.setattr(growth, "PASS_BYTES", 1 if files == 3 else 16 << 20)
        monkeypatch.setattr(growth, "KEPT_PASS_BYTES", 1 if files == 7 else 4 << 20)
        monkeypatch.setattr(rows, "KEPT_BYTES", 0 if files == 3 else 64 << 20)
        found = forest.fit(data)
        for one, other in zip(found.trees, expected.trees, strict=True):
            np.testing.assert_array_equal(one.goes_left, other.goes_left)
            np.testing.assert_array_equal(one.gain, other.gain)
        np.testing.assert_array_equal(np.concatenate(found.sums), np.concatenate(expected.sums))


def test_where_codes_are_many_for_a_tree_a_node_joins_those_that_its_rows_may_have(
    lake: ib.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lake.from_arrow(drawn(900))
    forest = ci.CausalForest("y", "w", ["a", "town"], "id", residuals=("y", "w"), trees=8, bag=2, depth=4, bins=400)
    fine = forest.fit(data)
    monkeypatch.setattr(growth, "TREE_BYTES", 1)
    coarse = forest.fit(data)
    assert [len(feature) for feature in coarse.bins.features] == [400, 3]

    def cuts(tree: Tree) -> Iterator[tuple[int, int]]:
        """Yield how many codes of a are one of 32 bins in each node, and how many of its own codes go left."""
        ends = {0: (0, 400)}
        for node in np.flatnonzero(tree.feature >= 0):
            first, after = ends[int(node)]
            left, right = (first, after), (first, after)
            if tree.feature[node] == 0:
                below = int(np.unpackbits(tree.goes_left[node], count=400, bitorder="little").sum())
                yield next(2**bits for bits in range(9) if after - first <= 32 * 2**bits), below - first
                left, right = (first, below), (below, after)
            ends[int(tree.left[node])], ends[int(tree.right[node])] = left, right

    found = [cut for tree in coarse.trees for cut in cuts(tree)]
    assert {joined for joined, _ in found} >= {8, 16}
    assert all(ahead % joined == 0 for joined, ahead in found)
    assert not all(ahead % joined == 0 for tree in fine.trees for joined, ahead in cuts(tree))


@pytest.mark.parametrize(("levels", "left"), [(3, 64), (100, 100), (254, 254)])
def test_bins_are_not_joined_where_levels_need_as_much_room(levels: int, left: int) -> None:
    names = bins.Levels("town", pa.array([f"{level:03}" for level in range(levels)]))
    both = bins.Bins((bins.Cuts("a", np.arange(253.0)), names))
    assert growth._width(both, growth.TREE_BYTES, 64) == left + 1


def test_residuals_of_ones_own_replace_the_linear_models(lake: ib.Lake) -> None:
    table = drawn(600)
    forest = ci.CausalForest("y", "t", ["a", "b"], "id", trees=4, bag=2, depth=2)
    expected = forest.fit(lake.from_arrow(table))
    fold = Folds(("id",), 5, 0).numbers(table.to_batches()[0])
    x = np.column_stack([np.ones(600), table["a"].to_numpy(), table["b"].to_numpy()])
    left = {}
    for name in ("y", "t"):
        values, residual = table[name].to_numpy(), np.zeros(600)
        for at in range(5):
            others = fold != at
            residual[~others] = (values - x @ np.linalg.lstsq(x[others], values[others])[0])[~others]
        left[f"{name}_left"] = residual
    given = pa.table({**{name: table[name] for name in table.column_names}, **left})
    forest = ci.CausalForest("y", "t", ["a", "b"], "id", residuals=("y_left", "t_left"), trees=4, bag=2, depth=2)
    found = forest.fit(lake.from_arrow(given))
    for one, other in zip(found.sums, expected.sums, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_the_average_effect_is_that_of_scores_by_trees_that_have_not_seen_a_row(lake: ib.Lake) -> None:
    draw = np.random.default_rng(6)
    x, t = draw.normal(size=500), draw.integers(0, 2, 500)
    y = t * (1 + (x > 0)) + draw.normal(size=500)
    table = pa.table({"id": range(500), "x": x, "t": t, "y": y, "y_left": y - 0.75, "t_left": t - 0.5})
    data = lake.from_arrow(table)
    grown = ci.CausalForest("y", "t", ["x"], "id", residuals=("y_left", "t_left"), trees=40, depth=2, min_leaf=20).fit(
        data
    )
    found = grown.ate(data)
    places = hashed([table["id"].combine_chunks()], 0, "forest")
    leaves = [tree.leaves(grown.bins.codes(table.to_batches()[0])) for tree in grown.trees]
    drawing, gammas = LittleBags(0.45, 4, 0), []
    seen = [{*drawing.splitting(places, tree), *drawing.filling(places, tree)} for tree in range(40)]
    for row in range(500):
        means = []
        for number, (sums, leaf) in enumerate(zip(grown.sums, leaves, strict=True)):
            if row not in seen[number]:
                means.append(sums[leaf[row]][1:] / sums[leaf[row]][0])
        w, ww, y_, wy = np.mean(means, axis=0)
        effect = (wy - w * y_) / (ww - w * w)
        gammas.append(effect + (t[row] - 0.5) / 0.25 * (y[row] - 0.75 - (t[row] - 0.5) * effect))
    assert found["ATE"] == pytest.approx(np.mean(gammas), rel=1e-9)
    bucket = buckets_of(table.to_batches()[0], ["id"])
    without = [np.mean([g for g, b in zip(gammas, bucket, strict=True) if b != one]) for one in np.unique(bucket)]
    assert found.error("ATE") == pytest.approx(np.std(without) * np.sqrt(len(without) - 1), rel=1e-9)
    assert found.error("ATE") == pytest.approx(np.std(gammas) / np.sqrt(500), rel=0.2)
    low, high = found.interval()[0]
    assert low < 1.5 < high


COUNT = 80
ROWS: dict[str, Any] = {
    "id": range(COUNT),
    "y": np.sin(np.arange(COUNT)),
    "t": np.arange(COUNT) % 2,
    "x": np.cos(np.arange(COUNT) * 7),
    "twice": 2.0 * (np.arange(COUNT) % 2),
    "one": np.ones(COUNT),
    "text": [str(at % 3) for at in range(COUNT)],
    "gap": pa.array([None if at == 5 else float(at % 9) for at in range(COUNT)]),
}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"outcome": "z"}, ColumnNotFound),
        ({"treatment": "z"}, ColumnNotFound),
        ({"confounders": ["z"]}, ColumnNotFound),
        ({"residuals": ("y", "z")}, ColumnNotFound),
        ({"outcome": "text"}, PlanError),
        ({"treatment": "text"}, PlanError),
        ({"confounders": ["text"]}, PlanError),
        ({"treatment": "y"}, PlanError),
        ({"features": ["x", "y"]}, PlanError),
        ({"confounders": ["y"]}, PlanError),
        ({"confounders": ["t"]}, PlanError),
        ({"residuals": ("y", "gap"), "features": ["x", "gap"]}, PlanError),
        ({"residuals": ("gap", "t"), "features": ["x", "gap"]}, PlanError),
        ({"residuals": ("t", "t")}, PlanError),
        ({"features": "x"}, ConfigError),
        ({"confounders": "x"}, ConfigError),
        ({"key": []}, PlanError),
        ({"key": "z"}, ColumnNotFound),
        ({"features": ["one"]}, PlanError),
        ({"treatment": "one"}, PlanError),
        ({"treatment": "one", "residuals": ("y", "one")}, PlanError),
        ({"features": ["x", "twice"]}, PlanError),
        ({"features": ["gap"]}, QueryError),
        ({"outcome": "gap"}, QueryError),
        ({"bag": 1}, ConfigError),
        ({"bag": 3}, ConfigError),
        ({"sample": 0.6}, ConfigError),
        ({"balance": 0.5}, ConfigError),
        ({"folds": 1}, ConfigError),
        ({"folds": 500}, PlanError),
        ({"criterion": "MSE"}, ConfigError),
        ({"residuals": ("y", "t"), "confounders": ["x"]}, ConfigError),
        ({"min_leaf": 30}, PlanError),
    ],
)
def test_what_cannot_be_is_refused(lake: ib.Lake, given: dict[str, Any], error: type[IceblinkError]) -> None:
    asked: dict[str, Any] = {"outcome": "y", "treatment": "t", "features": ["x"], "key": "id", "trees": 4, "bag": 2}
    with pytest.raises(error) as caught:
        ci.CausalForest(**{**asked, **given}).fit(lake.from_arrow(pa.table(ROWS)))
    assert caught.value.hint


def test_rows_that_lack_a_value_are_left_out_or_told_apart(lake: ib.Lake) -> None:
    data = lake.from_arrow(pa.table(ROWS))
    dropped = ci.CausalForest("y", "t", ["gap"], "id", trees=4, bag=2, missing="drop").fit(data)
    binned = ci.CausalForest("y", "t", ["gap"], "id", residuals=("y", "t"), trees=4, bag=2).fit(data)
    for grown in (dropped, binned):
        assert np.isfinite(grown.effect(data).to_arrow()["effect"].to_numpy()).all()


def test_no_rows_are_refused(lake: ib.Lake) -> None:
    with pytest.raises(PlanError):
        ci.CausalForest("y", "t", ["x"], "id").fit(lake.from_arrow(pa.table(ROWS).slice(0, 0)))


def test_an_average_needs_two_arms_with_chances_and_trees_that_have_not_seen_a_row(lake: ib.Lake) -> None:
    table = drawn(200)
    given = table.append_column("d", pa.array((table["w"].to_numpy() > 0).astype(float)))
    data = lake.from_arrow(given.append_column("d_left", pa.array(table["w"].to_numpy() * 0.3)))
    asked: dict[str, Any] = {"features": ["a"], "key": "id", "trees": 4, "bag": 2, "depth": 1}
    by_degrees = ci.CausalForest("y", "t", **asked).fit(data)
    apart = ci.CausalForest("y", "d", residuals=("y", "d_left"), **asked).fit(data)
    few = ci.CausalForest("y", "d", **asked).fit(data)
    for grown, said in ((by_degrees, "neither 0 nor 1"), (apart, "chance of d"), (few, "every tree")):
        with pytest.raises(PlanError, match=said):
            grown.ate(data)
    with pytest.raises(ColumnNotFound):
        few.ate(data.drop("d"))


def campaign(count: int) -> dict[str, Any]:
    """Draw a treatment by lot, whose effect is 1."""
    draw = np.random.default_rng(9)
    x, t = draw.normal(size=count), draw.integers(0, 2, count)
    return {"id": np.arange(count), "x": x, "t": t, "y": x + t + draw.normal(size=count)}


ASKED: dict[str, Any] = {"features": ["x"], "key": "id", "trees": 24, "depth": 1}


def test_an_average_leaves_out_the_rows_that_the_forest_left_out_or_says_what_is_missing(lake: ib.Lake) -> None:
    table = campaign(300)
    table["y"] = pa.array([None if at % 50 == 7 else value for at, value in enumerate(table["y"])])
    data = lake.from_arrow(pa.table(table))
    grown = ci.CausalForest("y", "t", missing="drop", **ASKED).fit(data)
    found, whole = grown.ate(data), grown.ate(data.sql("SELECT * FROM this WHERE y IS NOT NULL"))
    assert (found["ATE"], found.error("ATE"), found.rows) == (whole["ATE"], whole.error("ATE"), 294)
    strict = ci.CausalForest("y", "t", **ASKED).fit(data.sql("SELECT * FROM this WHERE y IS NOT NULL"))
    with pytest.raises(QueryError, match="missing in 6 rows"):
        strict.ate(data)


def test_an_averages_error_allows_for_rows_of_one_unit(lake: ib.Lake) -> None:
    table = campaign(250)
    once = lake.from_arrow(pa.table(table))
    grown = ci.CausalForest("y", "t", **ASKED).fit(once)
    thrice = lake.from_arrow(pa.table({name: np.repeat(values, 3) for name, values in table.items()}))
    assert grown.ate(thrice).error("ATE") == pytest.approx(grown.ate(once).error("ATE"), rel=1e-9)


def test_an_averages_error_survives_an_effect_that_is_large_against_its_spread(lake: ib.Lake) -> None:
    table = campaign(250)
    far = {**table, "y": table["y"] + 1e9 * table["t"]}
    near, away = (
        ci.CausalForest("y", "t", **ASKED).fit(data).ate(data)
        for data in (lake.from_arrow(pa.table(table)), lake.from_arrow(pa.table(far)))
    )
    assert away["ATE"] == pytest.approx(1e9, rel=1e-6)
    assert away.error("ATE") == pytest.approx(near.error("ATE"), rel=0.2)


def test_cuts_are_found_where_many_rows_have_one_key(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "SAMPLE_ROWS", 100)
    table = pa.table({**campaign(1_000), "user": np.arange(1_000) % 3})
    made = bins.binned(lake.from_arrow(table), ["x"], ("user",), 1_000, 8, 0, "here")
    assert 5 < len(made.features[0]) <= 8
    alike = lake.from_arrow(pa.table({"x": np.ones(1_000), "user": np.zeros(1_000, int)}))
    with pytest.raises(PlanError, match="no row was drawn"):
        bins.binned(alike, ["x"], ("user",), 1_000_000, 8, 0, "here")


def test_rows_that_lack_a_feature_leave_the_others_their_window(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "TREE_BYTES", 1)  # 32 bins a node, which the 128 values of `a` fill four by four
    draw = np.random.default_rng(0)
    a, gone, w = draw.integers(0, 128, 4_000), draw.random(4_000) < 0.3, draw.integers(0, 2, 4_000) - 0.5
    effect = np.where(gone, 4.0, np.where(a >= 52, 1.0, 0.0))
    table = pa.table(
        {
            "id": np.arange(4_000),
            "a": pa.array(a, mask=gone),
            "b": draw.normal(size=4_000),
            "w": w,
            "y": effect * w + 0.1 * draw.normal(size=4_000),
        }
    )
    data = lake.from_arrow(table)
    forest = ci.CausalForest("y", "w", ["a", "b"], "id", residuals=("y", "w"), trees=8, bag=4, depth=3).fit(data)
    found = forest.effect(data).to_arrow().sort_by("id")["effect"].to_numpy()
    assert np.sqrt(np.mean((found - effect) ** 2)) < 0.2
