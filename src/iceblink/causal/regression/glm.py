"""Logit and Poisson regressions by Newton's method, a pass over the data for each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import Formula
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.multinomial import LOGITS
from iceblink.causal.newton import Start, climbed
from iceblink.causal.passes import moments, summed
from iceblink.causal.regression.design import Design
from iceblink.causal.regression.errors import Errors
from iceblink.causal.regression.fit import LinearFit, check_outcome, fitted
from iceblink.causal.regression.link import Exponential, Link, Logistic
from iceblink.causal.regression.model import Regression
from iceblink.causal.regression.sandwich import Residuals
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class _Likelihood(Regression):
    """A regression whose score is that of least squares with a curved mean: a canonical link [1]_.

    References
    ----------
    .. [1] McCullagh, Nelder: Generalized Linear Models, 1989, section 2.5.
    """

    link: ClassVar[Link]

    def _check(self, formula: Formula) -> None:
        if formula.absorbed or formula.instruments:
            raise PlanError(
                f"{type(self).__name__} has neither fixed effects nor instruments", self.formula, "write i(column)"
            )

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: reads the data about seven times.

        Raises
        ------
        ColumnNotFound, TypeMismatch
            Before anything is read.
        QueryError
            A value is missing, a weight is negative, or an outcome is none: not 0 or 1, or below 0.
        PlanError
            There are too few rows, the outcome is the same in all, there is one cluster, or the likelihood has no
            maximum: some columns tell the outcomes apart without error; the one that does most is named.
        """
        where = f"{type(self).__name__} {self.formula}"
        design = self.designed(data, where)
        found = moments(design.data, design.matrix, weight=self.weight, missing=self.missing, where=where)
        places = design.exogenous
        begun = fitted(found, places, places, design.intercept, where)
        check_outcome(found, where)
        centres = begun.centres.copy()
        centres[0] = 0.0
        fit = replace(begun, centres=centres, projection=np.eye(len(begun.coefficients)))
        scales = np.sqrt(np.diag(found.products[0])[list(fit.regressors)] / fit.weight)
        begin = Residuals(design.matrix, self.weight, fit, self.link)
        residuals, likelihood = self._climbed(design, begin, self._start(found, fit), scales, where)
        errors = Errors.of(self.errors, self.cluster, where)
        return errors.estimates(
            where, design.data, residuals, {"log likelihood": likelihood}, variance=1.0, normal=True
        )

    def _start(self, found: Moments, fit: LinearFit) -> Start:
        """Return the coefficients by which all rows have the mean outcome, if there is an intercept."""
        start = np.zeros(len(fit.coefficients))
        if fit.intercept:
            with np.errstate(all="ignore"):
                start[0] = self.link.inverse(float(found.means[0, 0]))
            start[0] = start[0] if np.isfinite(start[0]) else 0.0  # the outcome is none: the next pass says which
        return Start.at(start)

    def _climbed(
        self, design: Design, residuals: Residuals, start: Start, scales: Floats, where: str
    ) -> tuple[Residuals, float]:
        """Return the model at the maximum of its likelihood, and that."""
        data = design.data.select(*residuals.inputs)
        fit = residuals.fit

        def at(coefficients: Floats) -> Sums:
            return summed(data, _Slope(replace(residuals, fit=replace(fit, coefficients=coefficients))))

        spread = np.asarray(np.linalg.inv(fit.bread) / fit.weight, np.float64)
        maximum = climbed(start, at, spread)
        fit = replace(fit, coefficients=maximum.parameters)
        if not maximum.found:
            raise self._no_maximum(fit, scales, where)
        there = at(maximum.parameters)
        fit = replace(fit, bread=solved(there["curvature"]).inverse)
        return replace(residuals, fit=fit), float(there["likelihood"])

    def _no_maximum(self, fit: LinearFit, scales: Floats, where: str) -> PlanError:
        moves = np.abs(fit.coefficients[int(fit.intercept) :]) * scales  # by how much a standard deviation does
        far = int(fit.intercept) + int(np.argmax(moves)) if len(moves) else 0
        return PlanError(
            f"the likelihood has no maximum: the coefficient of {fit.names[far]} grows without end",
            where,
            "a column, or several together, tell the outcomes apart without error: leave it out, or join categories",
        )


@dataclass(frozen=True)
class _Slope:
    """The likelihood of a block of rows, its slope and its curvature."""

    residuals: Residuals

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        link = self.residuals.link
        with one_thread():
            rows = self.residuals.rows(batch)
            outcome, score = rows.outcome, rows.score
            if not link.allows(outcome).all():
                value = float(outcome[~link.allows(outcome)][0])
                raise QueryError(f"{self.residuals.matrix.names[0]} has {value:g}", "a regression", link.wants)
            return Sums(link.likelihood(outcome, score).summed(rows.columns, rows.weight))


@dataclass(frozen=True)
class Logit(_Likelihood):
    """Logistic regression of an outcome that is 0 or 1, by maximum likelihood, without a penalty.

    Parameters
    ----------
    formula : str
        As of `OLS`.
    errors : {"classical", "HC0", "HC1"}
        Classical: the inverse of the information, as if the model were true. HC0: a sandwich; HC1: with the factor
        n / (n - k).
    cluster, weight, missing
        As of `OLS`. Tests and intervals are those of the normal distribution.
    """

    link: ClassVar[Link] = Logistic()

    def _start(self, found: Moments, fit: LinearFit) -> Start:
        share = float(found.means[0, 0])
        if not (fit.intercept and 0 < share < 1):
            return super()._start(found, fit)
        products = found.products[0][np.ix_([0, *fit.regressors], [0, *fit.regressors])] / fit.weight
        means = np.stack([-products[0, 1:] / (1 - share), products[0, 1:] / share])
        return LOGITS.start(np.array([1 - share, share]), means, products[1:, 1:], fit.weight)


@dataclass(frozen=True)
class Poisson(_Likelihood):
    """Poisson regression of counts, or of any outcome that is not negative [1]_; parameters as of `Logit`.

    References
    ----------
    .. [1] Gourieroux, Monfort, Trognon: Pseudo maximum likelihood methods, Econometrica 1984.
    """

    link: ClassVar[Link] = Exponential()
