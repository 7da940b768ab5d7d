"""Ordinary and weighted least squares, with classical, heteroskedasticity-robust or clustered standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import Formula
from iceblink.causal.regression.errors import Errors
from iceblink.causal.regression.fit import check_outcome, fitted
from iceblink.causal.regression.model import OfMoments
from iceblink.causal.regression.sandwich import Residuals
from iceblink.causal.saved import SavedMoments
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class OLS(OfMoments):
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

    no_leverage: ClassVar[str | None] = None

    def _check(self, formula: Formula) -> None:
        if formula.absorbed:
            raise PlanError(
                "OLS absorbs no fixed effects", self.formula, "use FixedEffects, or write them as i(column)"
            )
        if formula.instruments:
            raise PlanError("OLS has no instruments", self.formula, "use TwoStage")

    def fit(self, data: Dataset, *, saved: SavedMoments | None = None) -> Estimates:
        """Estimate it. Eager: reads the data once, or twice unless the errors are classical.

        Parameters
        ----------
        data : Dataset
        saved : SavedMoments, optional
            Of `moments`, of this version or an earlier one: the first time only what changed since is read.

        Raises
        ------
        ColumnNotFound, TypeMismatch
            Before anything is read.
        PlanError
            There are too few rows, the outcome is the same in all, or there is one cluster.
        QueryError
            A value is missing, a weight is negative, or of HC2 and HC3 a row decides a coefficient alone.
        """
        where = self._where
        design, found = self._read(data, saved)
        matrix, places = design.matrix, design.exogenous
        check_outcome(found, where)
        fit = fitted(found, places, places, design.intercept, where)
        ratio = 1 - fit.squares / fit.variation if fit.variation > 0 else np.nan
        errors = Errors.of(self.errors, self.cluster, where)
        return errors.estimates(where, design.data, Residuals(matrix, self.weight, fit), {"R²": ratio})
