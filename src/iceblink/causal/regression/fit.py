"""Linear models solved from moments: least squares and two-stage least squares of centred columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iceblink.causal.constant import check_varies
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.solve import solved
from iceblink.errors import PlanError

INTERCEPT = "(Intercept)"


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A linear model with instruments; of least squares each regressor is its own.

    Parameters
    ----------
    names : tuple of str
        Of the k coefficients.
    dropped : tuple of str
        Regressors that follow from those before them.
    outcome : int
        Its place in the matrix, as are `regressors` and `instruments`.
    regressors, instruments : tuple of int
        Without the intercept.
    intercept : bool
    centres : float64 array
        What is subtracted from the columns of the matrix.
    coefficients : float64 array (k,)
        Of the centred columns, that of the ones first.
    projection : float64 array (k, m)
        Fitted regressors of the instruments, ones first on both sides.
    bread : float64 array (k, k)
        The inverse of the cross products of fitted regressors.
    rows : int
    weight : float
        The sum of the rows' weights.
    squares, variation : float
        Of the residuals; of the outcome.
    """

    names: tuple[str, ...]
    dropped: tuple[str, ...]
    outcome: int
    regressors: tuple[int, ...]
    instruments: tuple[int, ...]
    intercept: bool
    centres: Floats
    coefficients: Floats
    projection: Floats
    bread: Floats
    rows: int
    weight: float
    squares: float
    variation: float

    @property
    def to_columns(self) -> Floats:
        """What turns coefficients of centred columns into those of the columns as they are (k, k)."""
        turned = np.eye(len(self.coefficients))
        if self.intercept:
            turned[0, 1:] = -self.centres[list(self.regressors)]
        return turned

    @property
    def values(self) -> Floats:
        """The coefficients of the columns as they are (k,)."""
        found = self.coefficients.copy()
        if self.intercept:
            found[0] += self.centres[self.outcome]
        return np.asarray(self.to_columns @ found)


def fitted(
    found: Moments,
    regressors: Sequence[int],
    instruments: Sequence[int],
    intercept: bool,
    where: str,
    outcome: int = 0,
) -> LinearFit:
    """Solve the normal equations of one column of the moments on others.

    Parameters
    ----------
    found : Moments
        Of one group.
    regressors, instruments : sequence of int
        Places of columns; for least squares both are the same.
    intercept : bool
    where : str
        For errors.

    Raises
    ------
    PlanError
        There are no more rows than coefficients, the instruments leave a regressor undetermined, or a column's sum of
        squares is not a number.
    """
    if not len(found.groups) or found.rows[0] == 0:
        raise PlanError("there are no rows", where, "look at the filters, and at missing values")
    if found.weights[0] == 0:
        raise PlanError("all weights are 0", where, "look at the column of weights")
    weight, means, products = float(found.weights[0]), found.means[0], found.products[0]
    asked = list(dict.fromkeys((outcome, *regressors, *instruments)))
    if lacking := [found.columns[at] for at in asked if np.isnan(products[at, at])]:
        what = f"the sum of squares of {lacking[0]} is not a number"
        raise PlanError(what, where, "is a value missing, or too large to be squared?")
    if not intercept:
        products = products + weight * np.outer(means, means)
    by = solved(products[np.ix_(instruments, instruments)])
    used = [instruments[at] for at in by.kept]
    if list(regressors) == list(instruments):
        kept, onto = used, np.eye(len(used))
        bread = by.inverse
    else:
        onto = products[np.ix_(regressors, used)] @ by.inverse
        explained = solved(onto @ products[np.ix_(used, regressors)])
        kept, onto, bread = [regressors[at] for at in explained.kept], onto[explained.kept], explained.inverse
    slopes = bread @ (onto @ products[used, outcome])
    of = products[np.ix_([outcome, *kept], [outcome, *kept])]
    turned = np.concatenate([[1.0], -slopes])
    names = tuple(found.columns[at] for at in kept)
    if intercept:
        names = (INTERCEPT, *names)
        slopes = np.concatenate([[0.0], slopes])
        onto, bread = _beside_ones(onto, 1.0), _beside_ones(bread, 1.0 / weight)
    if found.rows[0] <= len(names):
        raise PlanError(
            f"{found.rows[0]:,} rows are too few for {len(names)} coefficients",
            where,
            "leave out terms, or join categories",
        )
    return LinearFit(
        names=names,
        dropped=tuple(found.columns[at] for at in regressors if at not in kept),
        outcome=outcome,
        regressors=tuple(kept),
        instruments=tuple(used),
        intercept=intercept,
        centres=means if intercept else np.zeros(len(means)),
        coefficients=slopes,
        projection=onto,
        bread=bread,
        rows=int(found.rows[0]),
        weight=weight,
        squares=float(turned @ of @ turned),
        variation=float(products[outcome, outcome]),
    )


def check_outcome(found: Moments, where: str) -> None:
    """Raise PlanError where the first column of moments, the outcome, is the same in every row."""
    if len(found.groups):
        mean, squares = float(found.means[0, 0]), float(found.products[0, 0, 0])
        check_varies(found.columns[0], mean, squares, float(found.weights[0]), where, "there is nothing to explain")


def _beside_ones(matrix: Floats, first: float) -> Floats:
    """Return a matrix with a row and a column for the ones, of which centred columns know nothing."""
    wide = np.zeros((matrix.shape[0] + 1, matrix.shape[1] + 1))
    wide[0, 0], wide[1:, 1:] = first, matrix
    return wide
