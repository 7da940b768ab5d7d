"""What the levels of further effects are worth, when one effect has been absorbed: least squares by level.

With M the within-transformation by the largest effect and D the dummies of the others' levels, columns X are freed of
both by M (X - D Γ), where D'M D Γ = D'M X [1]_. Only Γ, a row for each level of the others, is kept in memory.

References
----------
.. [1] Correia: Linear models with high-dimensional fixed effects: an efficient and feasible estimator, 2016, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from iceblink.causal.late import linalg
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.passes import moments, summed
from iceblink.causal.regression.absorbed import Keyed, Levels, columns_of
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError

FEW_LEVELS = 64
"""So many levels are columns of dummies, which takes one pass."""
MOST_LEVELS = 200_000
MOST_STEPS = 500
CLOSE = 1e-12
"""Conjugate gradients end where the levels explain less than this part of a column's standard deviation."""


def demeaned(rows: Keyed, variation: Floats, where: str) -> Keyed:
    """Subtract from the columns what all effects explain of them.

    Lazy for one effect. Eager for several: a pass where the smaller effects have
    at most 64 levels together, and else one for each step of conjugate gradients, of which a balanced panel takes
    two. That is the method of alternating projections, accelerated [1]_.

    Parameters
    ----------
    rows : Keyed
        Without singletons.
    variation : float64 array (p,)
        Sums of squares of the columns about their means.
    where : str
        For errors.

    Raises
    ------
    PlanError
        The smaller effects have more than 200,000 levels, or the steps are too many.

    References
    ----------
    .. [1] Hernández-Ramos, Escalante, Raydan: Unconstrained optimization techniques for the acceleration of alternating
       projection methods, Numerical Functional Analysis and Optimization 2011.
    """
    largest, *others = rows.effects
    if not others:
        return rows.within(largest)
    levels = Levels.of(rows, others, MOST_LEVELS, where)
    if len(levels) <= FEW_LEVELS:
        shifts = _by_dummies(rows, levels, where)
    else:
        shifts = _by_conjugate_gradients(rows, levels, CLOSE**2 * variation, where)
    return rows.mapped(_Shifted(rows.keys, rows.columns, levels, shifts, 1.0, rows.schema)).within(largest)


def _by_dummies(rows: Keyed, levels: Levels, where: str) -> Floats:
    """Return Γ (levels, p) from the cross products of columns and dummies. Eager: a pass."""
    names = tuple(f"level {at} (within)" for at in range(len(levels)))
    wide = replace(rows, columns=(*rows.columns, *names))
    beside = rows.mapped(_Dummies(rows.keys, rows.columns, levels, wide.schema), names)
    within = beside.within(rows.effects[0])
    found = moments(within.data, within.matrix, weight=rows.weight, where=where)
    products = found.products[0] + found.weights[0] * np.outer(found.means[0], found.means[0])
    width = len(rows.columns)
    # Levels that others imply, one for each effect at least, share what they explain: D Γ is the same for any share.
    return np.asarray(linalg.pinvh(products[width:, width:], rtol=1e-11) @ products[width:, :width])


def _by_conjugate_gradients(rows: Keyed, levels: Levels, small: Floats, where: str) -> Floats:
    """Return Γ (levels, p), a pass for each step."""

    def crossed(spread: Keyed) -> Sums:
        within = spread.within(rows.effects[0])
        return summed(within.data, _Crossed(within.columns, levels, rows.weight))

    def applied(directions: Floats) -> Floats:
        return crossed(rows.mapped(_Shifted(rows.keys, rows.columns, levels, -directions, 0.0, rows.schema)))["sums"]

    first = crossed(rows)
    return conjugate_gradients(applied, first["sums"], first["weights"], small, where)


def conjugate_gradients(
    applied: Callable[[Floats], Floats], right: Floats, scale: Floats, small: Floats, where: str
) -> Floats:
    """Solve A x = b for several b at once, A positive semidefinite and b in its range.

    Parameters
    ----------
    applied : function
        Multiplies A with a matrix (m, p).
    right : float64 array (m, p)
        A column for each b.
    scale : float64 array (m,)
        The diagonal that preconditions (Jacobi), above 0.
    small : float64 array (p,)
        A column is solved when its residuals' squares over `scale` add up to this or less.

    Raises
    ------
    PlanError
        A column is not solved after 500 steps.
    """
    found, left = np.zeros_like(right), right.copy()
    turned = left / scale[:, np.newaxis]
    direction = turned.copy()
    size = (left * turned).sum(axis=0)
    for _ in range(MOST_STEPS):
        going = size > small
        if not going.any():
            return found
        direction[:, ~going] = 0.0
        image = applied(direction)
        curvature = (direction * image).sum(axis=0)
        step = np.divide(size, curvature, out=np.zeros_like(size), where=going & (curvature > 0))
        found += step * direction
        left -= step * image
        turned = left / scale[:, np.newaxis]
        before, size = size, np.where(going, (left * turned).sum(axis=0), size)
        direction = turned + np.divide(size, before, out=np.zeros_like(size), where=before > 0) * direction
    raise PlanError(
        f"the fixed effects are not found after {MOST_STEPS} steps",
        where,
        "their levels hardly meet each other: absorb fewer effects, or keep the largest connected part of the rows",
    )


@dataclass(frozen=True, eq=False)
class _Dummies:
    """The columns, and one of ones and zeros for each level."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    levels: Levels
    schema: pa.Schema

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        dummies = np.zeros((len(self.levels), batch.num_rows))
        for codes in self.levels.codes(batch):
            dummies[codes, np.arange(batch.num_rows)] = 1.0
        arrays = [*map(batch.column, self.columns), *map(pa.array, dummies), *map(batch.column, self.keys)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


@dataclass(frozen=True, eq=False)
class _Shifted:
    """The columns, times a factor, less a number for each level that a row has."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    levels: Levels
    shifts: Floats
    factor: float
    schema: pa.Schema

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        values = self.factor * columns_of(batch, self.columns)
        for codes in self.levels.codes(batch):
            values -= self.shifts[codes].T
        return pa.RecordBatch.from_arrays([*map(pa.array, values), *map(batch.column, self.keys)], schema=self.schema)


@dataclass(frozen=True, eq=False)
class _Crossed:
    """The sums of columns by level, and of weights."""

    columns: tuple[str, ...]
    levels: Levels
    weight: str | None

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        count = len(self.levels)
        weight = np.ones(batch.num_rows)
        if self.weight is not None:
            weight = floats(batch.column(self.weight)).astype(np.float64)
        values = columns_of(batch, self.columns) * weight
        sums, weights = np.zeros((count, len(values))), np.zeros(count)
        for codes in self.levels.codes(batch):
            weights += np.bincount(codes, weight, count)
            for at, column in enumerate(values):
                sums[:, at] += np.bincount(codes, column, count)
        return Sums({"sums": sums, "weights": weights})
