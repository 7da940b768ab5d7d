"""Trees are the best there are, budgets end where they are spent, and values are means of what rows gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.judging.cuts import shown
from iceblink.causal.policies import budget
from iceblink.causal.policies.search import Leaf, Split
from iceblink.errors import QueryError

ROWS = 300


def drawn(seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    x, z = draw.integers(0, 6, ROWS), np.round(draw.normal(size=ROWS), 1)
    return {
        "id": [f"unit {n}" for n in range(ROWS)],
        "x": x,
        "z": z,
        "größe m": draw.integers(0, 2, ROWS).astype(bool),
        "effect": np.round(draw.normal(size=ROWS), 1),
        "cost": draw.uniform(0.2, 2, ROWS),
        "call": (x > 2) * (z < 0.5) - 0.3 + draw.normal(size=ROWS),
        "letter": 0.2 * z + draw.normal(size=ROWS),
    }


@pytest.fixture(scope="module")
def data(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.table(drawn()))


def brute(features: list[Any], worth: Any, depth: int, min_leaf: int) -> float:
    """Return what the best tree gains, by trying all."""
    if worth.shape[1] < min_leaf:
        return -np.inf
    most = max(0.0, *worth.sum(axis=1))
    if depth:
        for of in features:
            for bound in np.unique(of)[:-1]:
                halves = (of <= bound, of > bound)
                found = [brute([f[h] for f in features], worth[:, h], depth - 1, min_leaf) for h in halves]
                most = max(most, sum(found))
    return float(most)


@pytest.mark.parametrize(("depth", "min_leaf"), [(1, 1), (1, 40), (2, 1), (2, 40)])
def test_trees_are_the_best_of_all(lake: ib.Lake, depth: int, min_leaf: int) -> None:
    rows = {name: values[:80] for name, values in drawn(5).items()}
    features, names = ["x", "z", "größe m"], ("call", "letter")
    costs: dict[str, Any] = {"call": "cost", "letter": 0.05}
    tree = ci.PolicyTree(features, {"A": "call", "B": "letter"}, {"A": "cost", "B": 0.05}, depth, 100, min_leaf)
    data = lake.from_arrow(pa.table(rows))
    found = tree.fit(data)
    worth = np.stack([rows[name] - (rows["cost"] if name == "call" else costs[name]) for name in names])
    assert found.tree.gained == pytest.approx(brute([rows[name] for name in features], worth, depth, min_leaf))
    assert found.gained == pytest.approx(found.tree.gained / 80)
    told = np.array(found.assign(data, "do").to_arrow()["do"].to_pylist())
    gained = np.where(told == "A", worth[0], np.where(told == "B", worth[1], 0.0)).sum()
    assert gained == pytest.approx(found.tree.gained)
    value = ci.PolicyValue({"A": "call", "B": "letter"}, "do", {"A": "cost", "B": 0.05}).fit(found.assign(data, "do"))
    assert value["policy"] == pytest.approx(found.gained)


def test_a_tree_of_one_action_says_whether_to_treat(data: ib.Dataset) -> None:
    found = ci.PolicyTree(["x", "z"], "call", depth=2, bins=200).fit(data)
    rows, treat = drawn(), np.array(found.assign(data).to_arrow()["treat"].to_pylist())
    assert treat.dtype == bool
    assert rows["call"][treat].sum() == pytest.approx(found.tree.gained)
    leaves = found.to_arrow().to_pylist()
    assert [leaf["rule"].count(" and ") for leaf in leaves] == [1, 1, 1, 1]
    assert sum(leaf["rows"] for leaf in leaves if leaf["action"] == "treat") == treat.sum()
    assert sum(leaf["rows"] * leaf["gained"] for leaf in leaves) == pytest.approx(found.tree.gained)
    assert isinstance(found.tree, Split)
    bound = found.bounds[found.tree.feature][found.tree.part]
    assert f"{found.features[found.tree.feature]} <= {bound:g}" in str(found)


def test_where_nothing_pays_nothing_is_done(data: ib.Dataset) -> None:
    found = ci.PolicyTree(["x", "z"], "call", cost=1e6).fit(data)
    assert found.tree == Leaf(0, ROWS, 0.0)
    assert not any(found.assign(data).to_arrow()["treat"].to_pylist())


@pytest.mark.parametrize("cost", [0.7, "cost"])
@pytest.mark.parametrize("amount", [0, 3.5, 20, 60, 1e9])
def test_budgets_take_the_best_as_long_as_they_last(data: ib.Dataset, cost: Any, amount: float) -> None:
    rows = drawn()
    price = rows["cost"] if cost == "cost" else np.full(ROWS, 0.7)
    found = ci.Budget("effect", amount, "id", cost).fit(data)
    treat = np.array(found.assign(data).to_arrow()["treat"].to_pylist())
    ratio = rows["effect"] / price
    assert treat.sum() == found.treated
    assert price[treat].sum() == pytest.approx(found.spent)
    assert rows["effect"][treat].sum() == pytest.approx(found.gained)
    assert found.spent <= amount * (1 + 1e-9)
    left = ~treat & (rows["effect"] > 0)
    assert not treat[rows["effect"] <= 0].any()
    if left.any():
        assert ratio[left].max() <= ratio[treat].min(initial=np.inf)
        most = ratio == ratio[left].max()
        assert found.spent + price[most & left].max() > amount * (1 - 1e-9)
    else:
        assert found.treated == (rows["effect"] > 0).sum()


def test_one_who_fits_the_budget_exactly_is_treated(lake: ib.Lake) -> None:
    data = lake.from_arrow(pa.table({"id": range(30), "e": np.arange(30) + 1.0}))
    for count in (1, 3, 7, 13, 30):
        assert ci.Budget("e", 0.1 * count, "id", 0.1).fit(data).treated == count
    assert ci.Budget("e", 0.0, "id", 0.0).fit(data).treated == 30  # what is free is done


def test_ties_are_drawn_by_key(lake: ib.Lake) -> None:
    rows, found = drawn(), []
    for order, seed in ((1, 0), (-1, 0), (1, 1)):
        data = lake.from_arrow(pa.table({"id": rows["id"][::order], "e": np.ones(ROWS)}))
        table = ci.Budget("e", 100, "id", seed=seed).fit(data).assign(data).to_arrow()
        found.append({row["id"] for row in table.to_pylist() if row["treat"]})
    assert len(found[0]) == 100
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("effect", ["effect", "flat"])
def test_where_rows_are_too_many_to_fetch_brackets_are_narrowed_to_the_end(
    lake: ib.Lake, monkeypatch: pytest.MonkeyPatch, effect: str
) -> None:
    data = lake.from_arrow(pa.table({**drawn(), "flat": np.ones(ROWS)}))
    fetched = ci.Budget(effect, 40, "id", "cost").fit(data)
    monkeypatch.setattr(budget, "FEW_ROWS", 0)
    narrowed = ci.Budget(effect, 40, "id", "cost").fit(data)
    assert (narrowed.treated, narrowed.spent, narrowed.least) == (fetched.treated, fetched.spent, fetched.least)


def test_the_value_of_a_policy_is_a_mean_and_its_error_that_of_a_mean(lake: ib.Lake) -> None:
    rows = drawn()
    treat = (rows["effect"] > 0.3).astype(float)
    data = lake.from_arrow(pa.table({**rows, "treat": treat}))
    found = ci.PolicyValue("call", cost="cost").fit(data)
    worth = rows["call"] - rows["cost"]
    assert found["policy"] == pytest.approx((treat * worth).mean())
    assert found["everybody"] == pytest.approx(worth.mean())
    assert found["over random"] == pytest.approx(np.cov(treat, worth, ddof=0)[0, 1])
    root = np.sqrt(ROWS)
    assert found.error("policy") == pytest.approx((treat * worth).std(ddof=1) / root)
    influence = (treat - treat.mean()) * (worth - worth.mean())
    assert found.error("over random") == pytest.approx(influence.std(ddof=1) / root)


def test_shares_of_rows_change_no_choice(lake: ib.Lake) -> None:
    rows, found = drawn(), []
    for files in (1, 3, 7):
        lake.write(f"n.t{files}", pa.table({**rows, "part": np.arange(ROWS) % files}), "create", partition_by=["part"])
        data = lake.table(f"n.t{files}")
        tree = ci.PolicyTree(["x", "z", "größe m"], "call", cost="cost", bins=16).fit(data)
        spending = ci.Budget("effect", 40, "id", "cost").fit(data)
        treated = [row["id"] for row in spending.assign(data).order_by("id").to_pylist() if row["treat"]]
        shape = tree.to_arrow().drop_columns(["gained"]).to_pylist(), spending.treated, tuple(treated)
        found.append((shape, tree.gained, spending.spent))
    for shape, *numbers in found[1:]:
        assert shape == found[0][0]
        assert numbers == pytest.approx(found[0][1:], rel=1e-12)


@pytest.mark.parametrize("parts", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_features_of_one_value_are_never_split(lake: ib.Lake, parts: tuple[int, int]) -> None:
    a, b = (np.arange(40) % part for part in parts)
    gain = np.where((a == 1) == (b == 1), 1.0, -1.0)
    data = lake.from_arrow(pa.table({"a": a, "b": b, "g": gain}))
    found = ci.PolicyTree(["a", "b"], "g").fit(data)
    assert found.tree.gained == pytest.approx(brute([a, b], gain[np.newaxis], 2, 1))


def test_values_of_units_with_several_rows_are_no_surer_than_of_one(lake: ib.Lake) -> None:
    rows = {**drawn(), "treat": (drawn()["effect"] > 0.3).astype(float)}
    names = ("id", "call", "cost", "treat")
    once, thrice = (
        ci.PolicyValue("call", cost="cost", key="id").fit(
            lake.from_arrow(pa.table({name: np.repeat(rows[name], times) for name in names}))
        )
        for times in (1, 3)
    )
    np.testing.assert_allclose(thrice.values, once.values, rtol=1e-9)
    np.testing.assert_allclose(thrice.covariance, once.covariance, rtol=1e-9)
    alone = ci.PolicyValue("call", cost="cost").fit(lake.from_arrow(pa.table({name: rows[name] for name in names})))
    np.testing.assert_allclose(once.values, alone.values, rtol=1e-9)
    np.testing.assert_allclose(once.errors, alone.errors, rtol=0.2)


def test_names_that_are_no_action_are_not_taken_for_nothing(lake: ib.Lake) -> None:
    table = pa.table({"a": [1.0, 2.0, 3.0], "b": [5.0, 6.0, 7.0], "do": ["a", "leave", "b"], "odd": ["a", "A", "b"]})
    scores, data = {"a": "a", "b": "b"}, lake.from_arrow(table)
    found = ci.PolicyValue(scores, "do", nothing="leave").fit(data)
    assert found["policy"] == pytest.approx((1 + 0 + 7) / 3)
    with pytest.raises(QueryError, match="odd is 'A'"):
        ci.PolicyValue(scores, "odd").fit(data)


def test_bounds_of_large_numbers_are_told_to_the_last_digit(lake: ib.Lake) -> None:
    at = 1_700_000_000 + np.arange(40)
    data = lake.from_arrow(pa.table({"at": at, "gain": np.where(at > 1_700_000_019, 1.0, -1.0)}))
    assert "at <= 1700000019\n" in str(ci.PolicyTree(["at"], "gain", depth=1, bins=100).fit(data))


@pytest.mark.parametrize(
    ("bound", "text"),
    [(float(np.float32(42.48)), "42.48"), (42.4799995, "42.4799995"), (0.5, "0.5"), (-1_700_000_128, "-1700000128")],
)
def test_a_bound_is_told_as_short_as_it_can_be(bound: float, text: str) -> None:
    assert shown(bound) == text
