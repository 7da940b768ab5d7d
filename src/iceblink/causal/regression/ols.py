"""Ordinary and weighted least squares, with classical, heteroskedasticity-robust or clustered standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import parsed
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.passes import Missing, moments
from iceblink.causal.regression.design import Design
from iceblink.causal.regression.sandwich import Residuals, clustered_meat, robust_meat
from iceblink.causal.solve import solved
from iceblink.errors import ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Robust = Literal["classical", "HC0", "HC1", "HC2", "HC3"]
ROBUST = ("classical", "HC0", "HC1", "HC2", "HC3")


@dataclass(frozen=True)
class OLS:
    """Least squares of a formula.

    Parameters
    ----------
    formula : str
        As fixest writes it: ``lwage ~ educ + exper + i(region) + educ:married``; other words are SQL expressions:
        ``log(wage) ~ educ + exper + I(exper ** 2)``. ``- 1`` leaves out the intercept.
    errors : {"classical", "HC0", "HC1", "HC2", "HC3"}
        How the covariance is estimated [1]_ [2]_. The default is right when variances differ between rows.
    cluster : str or sequence of str, optional
        Columns by which rows belong together; the errors are then CR1 [3]_, with the factor
        G / (G - 1) · (n - 1) / (n - k) that Stata and statsmodels have, and t has G - 1 degrees of freedom.
    weight : str, optional
        A column of weights that are inverse to variances (WLS).
    missing : {"raise", "drop"}
        What to do about rows that lack a value.

    References
    ----------
    .. [1] White: A heteroskedasticity-consistent covariance matrix estimator, Econometrica 1980.
    .. [2] MacKinnon, White: Some heteroskedasticity-consistent covariance matrix estimators, J. Econometrics 1985.
    .. [3] Liang, Zeger: Longitudinal data analysis using generalized linear models, Biometrika 1986.
    """

    formula: str
    errors: Robust = "HC1"
    cluster: str | Sequence[str] | None = None
    weight: str | None = None
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        if self.errors not in ROBUST:
            raise ConfigError(f"no errors {self.errors!r}", "OLS", nearest(self.errors, ROBUST, "errors"))
        formula = parsed(self.formula)
        if formula.absorbed or formula.instruments:
            raise PlanError("fixed effects and instruments are not for OLS", self.formula, "write them as i(column)")

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: reads the data once, or twice unless the errors are classical.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError, QueryError
        """
        where = f"OLS {self.formula}"
        design = Design.of(data, parsed(self.formula), where)
        matrix = Matrix((Number(design.outcome), *design.regressors.terms))
        found = moments(design.data, matrix, weight=self.weight, missing=self.missing, where=where)
        fit = _solved(found, design.intercept, where)
        covariance, convention, freedom = self._covariance(design, matrix, fit)
        return Estimates(
            title=where,
            names=fit.names,
            values=fit.to_columns @ fit.coefficients,
            covariance=fit.to_columns @ covariance @ fit.to_columns.T,
            convention=convention,
            rows=fit.rows,
            freedom=freedom,
            dropped=fit.dropped,
            facts={"R²": fit.r_squared},
        )

    def _covariance(self, design: Design, matrix: Matrix, fit: _Fit) -> tuple[Floats, str, float]:
        """Return the covariance of the coefficients of centred columns, its name and its degrees of freedom."""
        rows, left = fit.rows, fit.rows - len(fit.coefficients)
        if self.cluster is None and self.errors == "classical":
            return fit.bread * (fit.squares / left), "classical", left
        residuals = Residuals(
            matrix, self.weight, self.missing, fit.kept, fit.centres, design.intercept, fit.coefficients, fit.bread
        )
        if self.cluster is None:
            meat = robust_meat(design.data, residuals, self.errors)
            scale = rows / left if self.errors == "HC1" else 1.0
            return fit.bread @ meat @ fit.bread * scale, self.errors, left
        keys = (self.cluster,) if isinstance(self.cluster, str) else tuple(self.cluster)
        meat, groups = clustered_meat(design.data, residuals, keys)
        scale = groups / (groups - 1) * (rows - 1) / left
        return fit.bread @ meat @ fit.bread * scale, f"CR1 by {', '.join(keys)} ({groups:,})", groups - 1


@dataclass(frozen=True, eq=False)
class _Fit:
    """Least squares of centred columns: what is computed with, and the way back to the columns as they are."""

    names: tuple[str, ...]
    kept: tuple[int, ...]
    dropped: tuple[str, ...]
    centres: Floats
    coefficients: Floats
    bread: Floats
    to_columns: Floats
    rows: int
    squares: float
    r_squared: float


def _solved(found: Moments, intercept: bool, where: str) -> _Fit:
    """Solve the normal equations of the first column on the others."""
    if not len(found.groups) or found.rows[0] == 0:
        raise PlanError("there are no rows", where, "look at the filters, and at missing values")
    weight, means, products = found.weights[0], found.means[0], found.products[0]
    if not intercept:
        products = products + weight * np.outer(means, means)
    inverse = solved(products[1:, 1:])
    kept = inverse.kept + 1
    slopes = inverse.inverse @ products[kept, 0]
    squares = float(products[0, 0] - slopes @ products[kept, 0])
    width = len(kept)
    centres = means[[0, *kept]] if intercept else np.zeros(width + 1)
    names = tuple(found.columns[at] for at in kept)
    bread, to_columns, coefficients = inverse.inverse, np.eye(width), slopes
    if intercept:
        bread = np.zeros((width + 1, width + 1))
        bread[0, 0], bread[1:, 1:] = 1 / weight, inverse.inverse
        to_columns = np.eye(width + 1)
        to_columns[0, 1:] = -centres[1:]
        coefficients = np.concatenate([centres[:1], slopes])
        names = ("(Intercept)", *names)
    if found.rows[0] <= len(names):
        raise PlanError(f"{found.rows[0]:,} rows are too few for {len(names)} coefficients", where, "")
    dropped = tuple(name for at, name in enumerate(found.columns) if at and at not in kept)
    ratio = 1 - squares / products[0, 0] if products[0, 0] > 0 else np.nan
    return _Fit(
        names,
        tuple(map(int, kept)),
        dropped,
        centres,
        coefficients,
        bread,
        to_columns,
        int(found.rows[0]),
        squares,
        ratio,
    )
