"""Normal equations solved column by column: what depends on the columns before it is left out, and named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    tolerance, which is 1 - R² of a regression on the columns before it, is skipped, as in R's ``lm``. The rows of the
    factor's inverse come by forward substitution as its own rows do.
    """
    with one_thread():  # more of them, woken for every small column, cost milliseconds each
        return _decomposed(products, tolerance)


def _decomposed(products: Floats, tolerance: float) -> Solved:
    width = len(products)
    scale = np.sqrt(np.diag(products))
    varies = np.flatnonzero(scale > 0)
    left = np.zeros((width, width))  # what the columns kept so far do not explain of correlations
    left[np.ix_(varies, varies)] = products[np.ix_(varies, varies)] / np.outer(scale[varies], scale[varies])
    factor, half = np.zeros((width, width)), np.zeros((width, width))
    kept: list[int] = []
    for column in varies:
        pivot = left[column, column]
        if pivot <= tolerance:
            continue
        at = len(kept)
        step = left[column:, column] / np.sqrt(pivot)
        left[column:, column:] -= np.outer(step, step)
        factor[column:, at] = step
        half[at, at] = 1.0 / scale[column]
        half[at] -= factor[column, :at] @ half[:at]
        half[at] /= step[0]
        kept.append(int(column))
    half = half[: len(kept), : len(kept)]
    return Solved(np.array(kept, np.intp), half.T @ half)
