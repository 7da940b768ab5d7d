"""Permutations by a key: each number once, none favoured, the same for ever."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.load.permute import SMALL, Permutation, shuffled
from iceblink.splitmix import start_of


@given(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
def test_each_number_comes_once(count: int, key: int) -> None:
    assert sorted(shuffled(count, key)) == list(range(count))
    assert sorted(Permutation(count, key)(np.arange(count))) == list(range(count))


@given(st.sampled_from([SMALL + 1, 3 * SMALL, 1 << 18, (1 << 18) + 1]), st.integers(0, 99))
def test_each_number_comes_once_of_so_many_that_they_are_not_shuffled_in_memory(count: int, key: int) -> None:
    found = Permutation(count, start_of(key))(np.arange(count))
    assert np.array_equal(np.sort(found), np.arange(count))


def test_any_places_may_be_asked_for_in_any_order() -> None:
    whole = Permutation(100_000, 7)(np.arange(100_000))
    asked = np.array([99_999, 3, 3, 50_000])
    assert Permutation(100_000, 7)(asked).tolist() == whole[asked].tolist()


def test_a_table_of_a_million_million_rows_has_a_permutation() -> None:
    count = 10**12
    found = Permutation(count, 1)(np.array([0, 1, count - 1]))
    assert len(set(found.tolist())) == 3
    assert all(0 <= place < count for place in found)


@pytest.mark.parametrize("permuted", [shuffled, lambda count, key: Permutation(count, key)(np.arange(count))])
def test_all_permutations_are_about_as_frequent(permuted: object) -> None:
    drawn = Counter(tuple(permuted(4, start_of(key))) for key in range(24_000))  # type: ignore[operator]
    assert len(drawn) == 24
    assert sum((count - 1000) ** 2 / 1000 for count in drawn.values()) < 53  # chi squared, 23 degrees: p = 0.0004


def test_a_large_permutation_leaves_no_trace_of_its_order() -> None:
    count = 4 * SMALL
    found = Permutation(count, start_of("trace"))(np.arange(count))
    assert abs(np.corrcoef(np.arange(count), found)[0, 1]) < 5 / np.sqrt(count)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5 / np.sqrt(count)
    within, _ = np.histogram(found[: count // 16], bins=16, range=(0, count))
    expected = count / 256
    assert ((within - expected) ** 2 / expected).sum() < 44  # chi squared, 15 degrees: p = 0.0001


def test_the_order_is_the_same_for_ever() -> None:
    assert shuffled(8, 42).tolist() == SHUFFLED
    assert Permutation(SMALL + 1, 42)(np.arange(4)).tolist() == PERMUTED


SHUFFLED = [4, 1, 6, 2, 3, 0, 7, 5]
PERMUTED = [36325, 3047, 1449, 22012]
"""A loader's state names a seed and a step: other numbers here mean that jobs resume in other places."""
