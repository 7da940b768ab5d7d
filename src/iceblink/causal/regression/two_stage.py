"""Two-stage least squares: effects of what is chosen, by instruments that are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from iceblink.causal.distributions import chi2_above
from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import Formula
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.regression.design import Design
from iceblink.causal.regression.errors import Errors
from iceblink.causal.regression.fit import LinearFit, check_outcome, fitted
from iceblink.causal.regression.model import OfMoments
from iceblink.causal.regression.sandwich import Residuals
from iceblink.causal.saved import SavedMoments
from iceblink.causal.solve import solved
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class TwoStage(OfMoments):
    """Two-stage least squares (2SLS) [1]_ of a formula.

    Parameters
    ----------
    formula : str
        With ``endogenous ~ instruments`` behind a bar: ``lwage ~ exper + black | educ ~ nearc4``.
    errors : {"classical", "HC0", "HC1"}
        Classical ones have the divisor n - k, as in Stata's ``ivregress, small``.
    cluster, weight, missing
        As of `OLS`.

    Notes
    -----
    ``facts`` of the result are, for each endogenous column, the classical F of its excluded instruments in the first
    stage, and with more instruments than endogenous columns Sargan's statistic [2]_ with its p. A robust F of one
    instrument is the square of its t in the first stage as `OLS`.

    References
    ----------
    .. [1] Wooldridge: Econometric Analysis of Cross Section and Panel Data, 2010, section 5.2.
    .. [2] Sargan: The estimation of economic relationships using instrumental variables, Econometrica 1958.
    """

    def _check(self, formula: Formula) -> None:
        if not formula.instruments:
            raise PlanError("there are no instruments", self.formula, "y ~ x | endogenous ~ instruments")
        if formula.absorbed:
            raise PlanError("TwoStage absorbs no fixed effects", self.formula, "use FixedEffects")

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
        QueryError
            A value is missing, or a weight is negative.
        PlanError
            There are too few rows, the outcome is the same in all, there is one cluster, or the instruments say nothing
            of an endogenous column.
        """
        where = self._where
        design, found = self._read(data, saved)
        regressors = [*design.exogenous, *design.endogenous]
        check_outcome(found, where)
        fit = fitted(found, regressors, [*design.exogenous, *design.instruments], design.intercept, where)
        lost = [design.matrix.names[at] for at in design.endogenous if at not in fit.regressors]
        if lost:
            raise PlanError(
                f"the instruments do not tell {', '.join(lost)} from the rest",
                where,
                "the column does not vary, follows from the others, or no instrument moves it",
            )
        facts = {**first_stages(found, design, where), **overidentified(found, design, fit)}
        residuals = Residuals(design.matrix, self.weight, fit)
        return Errors.of(self.errors, self.cluster, where).estimates(where, design.data, residuals, facts)


def first_stages(found: Moments, design: Design, where: str, absorbed: int = 0) -> dict[str, float]:
    """Return the F of the excluded instruments for each endogenous column; other coefficients may be absorbed."""
    facts = {}
    for at in design.endogenous:
        both = [*design.exogenous, *design.instruments]
        full = fitted(found, both, both, design.intercept, where, outcome=at)
        short = fitted(found, design.exogenous, design.exogenous, design.intercept, where, outcome=at)
        excluded = len(full.coefficients) - len(short.coefficients)
        left = full.rows - len(full.coefficients) - absorbed
        facts[f"first stage F of {design.matrix.names[at]}"] = (
            (short.squares - full.squares) / excluded / (full.squares / left)
        )
    return facts


def overidentified(found: Moments, design: Design, fit: LinearFit) -> dict[str, Any]:
    """Return Sargan's statistic: n R² of the residuals on all instruments."""
    more = len(fit.instruments) - len(fit.regressors)
    if more < 1:
        return {}
    products = found.products[0]
    if not design.intercept:
        products = products + fit.weight * np.outer(found.means[0], found.means[0])
    slopes = fit.coefficients[1:] if fit.intercept else fit.coefficients
    turned: Floats = np.concatenate([[1.0], -slopes])
    of = products[np.ix_(fit.instruments, [0, *fit.regressors])] @ turned
    statistic = (
        fit.rows * float(of @ solved(products[np.ix_(fit.instruments, fit.instruments)]).inverse @ of) / fit.squares
    )
    return {"Sargan": statistic, "p of Sargan": float(chi2_above(statistic, more))}
