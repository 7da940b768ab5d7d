"""Least squares, and two-stage least squares, of rows with fixed effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import Formula, parsed
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.passes import moments
from iceblink.causal.regression.absorbed import Keyed
from iceblink.causal.regression.design import Design, quoted
from iceblink.causal.regression.errors import Errors
from iceblink.causal.regression.fit import LinearFit, check_outcome, fitted
from iceblink.causal.regression.model import Regression
from iceblink.causal.regression.projections import demeaned
from iceblink.causal.regression.sandwich import Residuals
from iceblink.causal.regression.two_stage import first_stages, overidentified
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

LEFT = 1e-10
"""A column of whose variation the fixed effects leave less than this part is explained by them."""


@dataclass(frozen=True)
class FixedEffects(Regression):
    """A linear model whose fixed effects are absorbed, not estimated: the within estimator [1]_.

    Coefficients are those of the regression with a dummy for each level of each effect (Frisch, Waugh, Lovell). Rows
    that are alone in a level are left out. Degrees of freedom are counted as fixest does [2]_: n - K, with
    K = k + 1 + Σ (levels - 1), in which, where errors are clustered, an effect whose levels lie within clusters counts
    nothing (``fixef.K = "nested"``). linearmodels counts these too, and has n / (n - K) alone for a factor.

    Parameters
    ----------
    formula : str
        As fixest writes it: ``lwage ~ union + married | nr + year``, with instruments
        ``lwage ~ married | nr + year | union ~ unionlag``. Any number of effects; all but the largest may have 200,000
        levels together.
    errors : {"classical", "HC0", "HC1"}
    cluster : str or sequence of str, optional
        Columns by which rows belong together: errors are CR1 (``CRV1``), with the factor
        G / (G - 1) · (n - 1) / (n - K), and t has G - 1 degrees of freedom.
    weight : str, optional
        A column of weights, above 0.
    missing : {"raise", "drop"}
        What to do about rows that lack a value, an effect, or a cluster.

    Notes
    -----
    ``facts`` of the result are the within R², the effects with their numbers of levels, the rows left out since they
    were alone in a level, and with instruments those of `TwoStage`. Regressors that the effects explain are left out,
    and named.

    References
    ----------
    .. [1] Wooldridge: Econometric Analysis of Cross Section and Panel Data, 2010, section 10.5.
    .. [2] Bergé: Efficient estimation of maximum likelihood models with multiple fixed-effects, CREA discussion paper
       2018-13; fixest's vignette "On standard-errors".
    """

    no_leverage: ClassVar[str | None] = "needs the leverage of every dummy"

    def _check(self, formula: Formula) -> None:
        if not formula.absorbed:
            raise PlanError(
                "there are no fixed effects", self.formula, "y ~ x | effect; without any, use OLS or TwoStage"
            )

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it.

        Eager: with one effect the data is read about four times, with several a few times more, or, where the smaller
        effects have more than 64 levels, once for each step of conjugate gradients.

        Raises
        ------
        ColumnNotFound, TypeMismatch
            Before anything is read.
        QueryError
            A value is missing.
        PlanError
            There are too few rows, or no regressor that varies within the levels of the effects.
        """
        where = f"FixedEffects {self.formula}"
        formula = parsed(self.formula)
        errors = Errors.of(self.errors, self.cluster, where)
        design = Design.of(data, formula, where)
        rows = Keyed.of(
            design.data, design.matrix, formula.absorbed, errors.clusters, self.weight, self.missing, where
        ).without_singletons()
        if not rows.rows:
            if rows.singletons:
                raise PlanError("no row is left", where, f"all {rows.singletons:,} are alone in a level of an effect")
            raise PlanError("there are no rows", where, "look at the filters, and at missing values")
        raw = moments(rows.data, rows.matrix, weight=self.weight, where=where)
        check_outcome(replace(raw, columns=design.matrix.names), where)
        variation = np.diag(raw.products[0])
        within = demeaned(rows, variation, where)
        left = moments(within.data, within.matrix, weight=self.weight, where=where)
        found = _named(left, design, variation)
        fit = _fitted(found, design, where)
        absorbed = 1 + sum(
            levels - 1
            for effect, levels in zip(rows.effects, rows.levels, strict=True)
            if not _nested(rows, effect, levels, errors.clusters)
        )
        if fit.rows <= len(fit.coefficients) + absorbed:
            raise PlanError(
                f"{fit.rows:,} rows are too few for {len(fit.coefficients)} coefficients and {absorbed:,} levels",
                where,
                "absorb fewer effects, or leave out terms",
            )
        facts: dict[str, Any] = {
            "within R²": 1 - fit.squares / fit.variation if fit.variation > 0 else np.nan,
            "absorbed": " + ".join(
                f"{effect} ({levels:,})" for effect, levels in zip(rows.effects, rows.levels, strict=True)
            ),
        }
        if rows.singletons:
            facts["singletons left out"] = rows.singletons
        if formula.instruments:
            facts |= first_stages(found, design, where, absorbed) | overidentified(found, design, fit)
        residuals = Residuals(within.matrix, self.weight, fit)
        return errors.estimates(where, within.data, residuals, facts, absorbed=absorbed)


def _named(found: Moments, design: Design, variation: Floats) -> Moments:
    """Return the moments by the names of the formula, with zeros for regressors that the effects explain."""
    products = found.products.copy()
    explained = np.flatnonzero(np.diag(products[0]) <= LEFT * variation)
    explained = explained[explained > 0]  # the outcome stays, whatever is left of it
    products[:, explained] = 0.0
    products[:, :, explained] = 0.0
    means = np.zeros_like(found.means)  # what rounding left of them
    return replace(found, columns=design.matrix.names, means=means, products=products)


def _fitted(found: Moments, design: Design, where: str) -> LinearFit:
    """Solve the normal equations. Raises PlanError where a regressor that matters is explained by others."""
    regressors = [*design.exogenous, *design.endogenous]
    fit = fitted(found, regressors, [*design.exogenous, *design.instruments], False, where)
    lost = [design.matrix.names[at] for at in design.endogenous if at not in fit.regressors]
    if lost:
        raise PlanError(
            f"effects and instruments do not tell {', '.join(lost)} from the rest",
            where,
            "the column does not vary within the effects, follows from the others, or no instrument moves it",
        )
    if not fit.names:
        raise PlanError("the fixed effects explain all regressors", where, "nothing varies within their levels")
    return fit


def _nested(rows: Keyed, effect: str, levels: int, clusters: Sequence[str]) -> bool:
    """Say whether all rows of each level of an effect are in one cluster. Eager unless that is plain."""
    if not clusters:
        return False
    if set(clusters) == {effect}:
        return True
    names = ", ".join(map(quoted, dict.fromkeys((effect, *clusters))))
    return rows.data.sql(f"SELECT DISTINCT {names} FROM this").count() == levels
