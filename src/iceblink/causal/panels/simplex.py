"""Least squares over weights that are not negative and add up to 1."""

from __future__ import annotations

import numpy as np

from iceblink.causal.late import optimize
from iceblink.causal.moments import Floats


def simplex_weights(columns: Floats, target: Floats, ridge: float = 0.0) -> Floats:
    """Return the w (n,) that minimises ‖columns · w - target‖² + ridge ‖w‖² with w ≥ 0 and Σ w = 1.

    With weights that add up to 1 this is the point of a convex hull that is nearest to 0, which non-negative least
    squares find exactly in finitely many steps [1]_: of (B; 1') v ≈ (0; 1), B = columns - target 1', w = v / Σ v.

    Parameters
    ----------
    columns : float64 array (m, n)
    target : float64 array (m,)
    ridge : float

    References
    ----------
    .. [1] Lawson, Hanson: Solving Least Squares Problems, 1974, chapter 23, problem LDP.
    """
    apart = columns - target[:, np.newaxis]
    if ridge > 0:
        apart = np.vstack([apart, np.sqrt(ridge) * np.eye(columns.shape[1])])
    size = np.sqrt((apart**2).sum(axis=0)).min()  # of the nearest corner: distances beside the 1 of the last row
    stacked = np.vstack([apart / (size or 1.0), np.ones(columns.shape[1])])
    found, _ = optimize.nnls(stacked, np.append(np.zeros(len(apart)), 1.0), maxiter=30 * columns.shape[1])
    return np.asarray(found / found.sum())
