"""Normal equations solved column by column: what depends on the columns before it is left out, and named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from iceblink.causal.blas import one_thread
from iceblink.causal.moments import Floats

TOLERANCE = 1e-10
"""A column of whose variation the columns before it leave less than this part unexplained is one too many."""


@dataclass(frozen=True, eq=False)
class Solved:
    """The inverse of a matrix of cross products, and which of its columns are in it.

    Parameters
    ----------
    kept : int array (k,)
        The columns that are independent of those before them, ascending.
    inverse : float64 array (k, k)
        Of the cross products of those.
    """

    kept: NDArray[np.intp]
    inverse: Floats


def solved(products: Floats, tolerance: float = TOLERANCE) -> Solved:
    """Invert a positive semidefinite matrix (p, p) of cross products.

    A Cholesky decomposition in the columns' order, after each has been scaled to 1. A column whose pivot is below the
    tolerance, which is 1 - R² of a regression on the columns before it, is skipped, as in R's ``lm``.
    """
    with one_thread():  # more of them, woken for every small column, cost milliseconds each
        return _decomposed(products, tolerance)


def _decomposed(products: Floats, tolerance: float) -> Solved:
    scale = np.sqrt(np.diag(products))
    width = len(products)
    factor = np.zeros((width, width))
    kept: list[int] = []
    for column in range(width):
        if not scale[column] > 0:
            continue
        correlations = products[column, kept] / (scale[column] * scale[kept])
        row = np.zeros(0)
        if kept:
            row = solve_triangular(factor[: len(kept), : len(kept)], correlations, lower=True)
        left = 1.0 - row @ row
        if left <= tolerance:
            continue
        at = len(kept)
        factor[at, :at], factor[at, at] = row, np.sqrt(left)
        kept.append(column)
    lower = factor[: len(kept), : len(kept)]
    half = solve_triangular(lower, np.diag(1.0 / scale[kept]), lower=True) if kept else np.zeros((0, 0))
    return Solved(np.array(kept, np.intp), half.T @ half)
