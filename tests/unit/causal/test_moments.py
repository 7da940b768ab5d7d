"""Moments add up as their rows do, and what was added can be taken away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from iceblink.causal.moments import Moments
from iceblink.causal.regression.fit import fitted
from iceblink.causal.tree import merged
from iceblink.errors import PlanError

NAMES = ("a", "b", "c")


def rows(seed: int, count: int, far: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return values (3, n), groups in order, and weights."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(3, count)) * [[1.0], [100.0], [0.01]] + far
    return values, np.sort(draw.integers(0, 4, count)), draw.uniform(0.1, 3, count)


def of(values: NDArray[np.float64], group: NDArray[np.int64], weight: NDArray[np.float64] | None) -> Moments:
    return Moments.of(NAMES, values.copy(), group, weight)


def same(left: Moments, right: Moments, rtol: float = 1e-12, beside: Moments | None = None) -> None:
    """Compare; differences of products are measured in those of `beside`, of which these are a part."""
    np.testing.assert_array_equal(left.groups, right.groups)
    np.testing.assert_array_equal(left.rows, right.rows)
    np.testing.assert_allclose(left.weights, right.weights, rtol)
    np.testing.assert_allclose(left.means, right.means, rtol, atol=1e-12 if beside is None else 1e-8)
    whole = right if beside is None else beside
    sizes = np.einsum("gii->gi", whole.products[np.isin(whole.groups, right.groups)])
    scale = np.sqrt(np.einsum("gi,gj->gij", sizes, sizes)) + 1e-12
    assert np.abs((left.products - right.products) / scale).max(initial=0) <= rtol


@given(seed=st.integers(0, 2**32), count=st.integers(1, 300), weighted=st.booleans())
def test_they_are_what_numpy_says(seed: int, count: int, weighted: bool) -> None:
    values, group, weight = rows(seed, count)
    found = of(values, group, weight if weighted else None)
    weight = weight if weighted else np.ones(count)
    for at, number in enumerate(found.groups):
        mine = group == number
        assert found.rows[at] == mine.sum()
        mean = np.average(values[:, mine], axis=1, weights=weight[mine])
        apart = values[:, mine] - mean[:, np.newaxis]
        np.testing.assert_allclose(found.means[at], mean, 1e-12, 1e-12)
        np.testing.assert_allclose(found.products[at], (apart * weight[mine]) @ apart.T, 1e-9, 1e-9)


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 40), min_size=1, max_size=20), weighted=st.booleans())
def test_parts_make_the_whole(seed: int, sizes: list[int], weighted: bool) -> None:
    values, group, weight = rows(seed, sum(sizes))
    shuffled = np.random.default_rng(seed).permutation(sum(sizes))
    parts = []
    for begin, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        mine = np.sort(shuffled[begin : begin + size])
        parts.append(of(values[:, mine], group[mine], weight[mine] if weighted else None))
    whole = merged(parts)
    assert whole is not None
    same(whole, of(values, group, weight if weighted else None))


@given(seed=st.integers(0, 2**32), first=st.integers(0, 50), second=st.integers(0, 50))
def test_what_was_added_can_be_removed(seed: int, first: int, second: int) -> None:
    values, group, weight = rows(seed, first + second)
    mine = np.sort(np.random.default_rng(seed).permutation(first + second)[:first])
    others = np.setdiff1d(np.arange(first + second), mine)
    left, right = (of(values[:, at], group[at], weight[at]) for at in (mine, others))
    same(left.merged(right).removed(right), left, 1e-9, beside=left.merged(right))
    same(left.merged(right).removed(left.merged(right)), Moments.nothing(NAMES))


def test_large_close_values_lose_no_digits() -> None:
    values, group, _ = rows(1, 10_000, far=1e9)
    exact = of(values - 1e9, group, None)
    parts = [of(values[:, at : at + 100], group[at : at + 100], None) for at in range(0, 10_000, 100)]
    whole = merged(parts)
    assert whole is not None
    np.testing.assert_allclose(whole.products[:, :2, :2], exact.products[:, :2, :2], rtol=1e-5)


def test_folds_left_out_are_the_rest_of_the_rows() -> None:
    values, group, weight = rows(2, 500)
    found = of(values, group, weight)
    rest = group != 2
    same(found.without(2), of(values[:, rest], np.zeros(rest.sum(), np.int64), weight[rest]))
    same(found.total, of(values, np.zeros(500, np.int64), weight))


def test_they_come_back_from_a_batch_as_they_went() -> None:
    found = of(*rows(3, 50))
    (back,) = Moments.from_batch(NAMES, found.to_batch())
    same(back, found, 0)
    (none,) = Moments.from_batch(NAMES, Moments.nothing(NAMES).to_batch())
    same(none.merged(found), found, 0)


def test_moments_of_other_columns_do_not_add_up() -> None:
    with pytest.raises(PlanError, match="do not add up"):
        Moments.nothing(NAMES).merged(Moments.nothing(("a",)))
    few, many = of(*rows(4, 10)), of(*rows(4, 20))
    with pytest.raises(PlanError, match="fewer rows"):
        few.removed(many)


def test_a_column_that_is_no_number_is_not_passed_over() -> None:
    values, _, _ = rows(0, 20)
    values[1, 3] = np.nan
    with pytest.raises(PlanError, match="squares of b is not a number"):
        fitted(Moments.of(NAMES, values), [1, 2], [1, 2], True, "a test")
