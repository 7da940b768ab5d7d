"""Inverses of cross products, and which columns are left out of them."""

from __future__ import annotations

import numpy as np
import pytest

from iceblink.causal.solve import solved

DRAW = np.random.default_rng(5)


@pytest.mark.parametrize("width", [1, 2, 7, 40])
def test_independent_columns_have_their_inverse(width: int) -> None:
    values = DRAW.normal(size=(200, width)) * 10.0 ** DRAW.uniform(-4, 4, width)
    products = values.T @ values
    found = solved(products)
    assert found.kept.tolist() == list(range(width))
    size = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    np.testing.assert_allclose(found.inverse * size, np.linalg.inv(products / size), rtol=1e-10, atol=1e-12)


def test_what_follows_from_columns_before_it_or_is_nothing_is_left_out() -> None:
    x = DRAW.normal(size=(100, 3))
    values = np.column_stack([np.zeros(100), x[:, 0], 2 * x[:, 0], x[:, 1], x[:, 0] - x[:, 1], x[:, 2]])
    found = solved(values.T @ values)
    assert found.kept.tolist() == [1, 3, 5]
    np.testing.assert_allclose(found.inverse, np.linalg.inv(x.T @ x), rtol=1e-10)


def test_of_no_columns_nothing_is_kept() -> None:
    for products in (np.zeros((0, 0)), np.zeros((2, 2))):
        found = solved(products)
        assert not len(found.kept)
        assert found.inverse.shape == (0, 0)
