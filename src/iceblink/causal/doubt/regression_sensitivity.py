"""Omitted variable bias of least squares: how strong a confounder has to be, and how strong observed ones are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import t_quantile
from iceblink.causal.doubt.bounds import (
    PARTIAL_R2,
    ROBUSTNESS,
    ROBUSTNESS_95,
    Bounds,
    Sensitivity,
    check_level,
    check_strength,
    contour_table,
    grid,
)
from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import Moments
from iceblink.causal.passes import moments
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.regression.fit import fitted
from iceblink.causal.regression.ols import OLS
from iceblink.causal.solve import TOLERANCE
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


def robustness_value(statistic: float, freedom: float, q: float = 1.0, level: float | None = None) -> float:
    """Return how much a confounder has to explain, of what is left of treatment and outcome alike [1]_.

    Parameters
    ----------
    statistic : float
        Student's t of the coefficient.
    freedom : float
        Its degrees of freedom, more than 1.
    q : float
        Which part of the coefficient it is to explain away: 1 for all.
    level : float, optional
        Explain it away so far that the interval of this level reaches 0. Default: the coefficient itself.

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Cinelli, Hazlett: Making sense of sensitivity, JRSS B 2020, section 4; for strong ones as in their
       package `sensemakr`.
    """
    if not freedom > 1:
        raise ConfigError(f"freedom is {freedom}", "robustness_value", "more than one degree of freedom")
    strength = q * abs(statistic) / np.sqrt(freedom)
    needed = 0.0
    if level is not None:
        check_level(level, "robustness_value")
        needed = t_quantile((1 + level) / 2, freedom - 1) / np.sqrt(freedom - 1)
    left = strength - needed
    if left <= 0:
        return 0.0
    if needed and strength > 1 / needed:
        return float((strength**2 - needed**2) / (1 + strength**2))
    return float((np.sqrt(left**4 + 4 * left**2) - left**2) / 2)


@dataclass(frozen=True, eq=False, repr=False)
class RegressionSensitivity(Sensitivity):
    """How a coefficient of least squares stands if a confounder was left out [1]_.

    With partial R² of the confounder with treatment and outcome, the coefficient moves by
    se √(df R²_y R²_d / (1 - R²_d)), exactly. Standard errors are classical ones, as in the paper and in `sensemakr`,
    whatever the regression's own are.

    Parameters
    ----------
    title, treatment : str
    estimate, error : float
    freedom : int
        Degrees of freedom of the regression.
    found : Moments
    matrix : Matrix
    at : int
        The treatment's place in the matrix, whose first column is the outcome.
    intercept : bool
    provenance : Provenance

    References
    ----------
    .. [1] Cinelli, Hazlett: Making sense of sensitivity: extending omitted variable bias, JRSS B 2020.
    """

    title: str
    treatment: str
    estimate: float
    error: float
    freedom: int
    found: Moments
    matrix: Matrix
    at: int
    intercept: bool
    provenance: Provenance = UNKNOWN

    @property
    def partial_r2(self) -> float:
        """Of treatment and outcome: which part a confounder of all of what is left of the outcome has to explain."""
        squared = (self.estimate / self.error) ** 2
        return squared / (squared + self.freedom)

    def bounds(self, r2_treatment: float, r2_outcome: float, level: float = 0.95) -> Bounds:
        """Return what the coefficient would be with a confounder of this strength, if it lowers and if it raises it.

        Intervals are Student's t of the regression with the confounder, which has one degree of freedom less
        (`sensemakr` takes as many as without it).

        Raises
        ------
        ConfigError
        """
        check_strength(self.title, r2_treatment=r2_treatment, r2_outcome=r2_outcome)
        check_level(level, self.title)
        bias = self.error * np.sqrt(self.freedom * r2_outcome * r2_treatment / (1 - r2_treatment))
        scale = (1 - r2_outcome) / (1 - r2_treatment) * self.freedom / (self.freedom - 1)
        error = float(self.error * np.sqrt(scale))
        reach = t_quantile((1 + level) / 2, self.freedom - 1) * error
        lower, upper = float(self.estimate - bias), float(self.estimate + bias)
        ends = (float(lower - reach), float(upper + reach))
        return Bounds(r2_treatment, r2_outcome, lower, upper, error, error, ends)

    def robustness_value(self, null: float = 0.0, level: float | None = None) -> float:
        """Return how much a confounder has to explain, of what is left of treatment and outcome alike, to make doubt.

        Without a level to bring the coefficient to `null` (RV), with one to bring the end of its interval there (RVa).
        Raises ConfigError.
        """
        return robustness_value((self.estimate - null) / self.error, self.freedom, 1.0, level)

    def benchmark(self, *columns: str, strength: float = 1.0) -> Bounds:
        """Return the bounds for a confounder so many times as strong as some observed columns are [1]_.

        Reads nothing.

        Parameters
        ----------
        *columns : str
            Regressors, or columns of the table: all regressors that are made of it. Several are taken as one.
        strength : float
            Of treatment and outcome alike.

        Raises
        ------
        ColumnNotFound
        ConfigError
        PlanError
            A confounder so strong would explain more than there is.

        References
        ----------
        .. [1] Cinelli, Hazlett 2020, section 4.4.
        """
        places = self._places(columns)
        if not strength > 0:
            raise ConfigError(f"strength is {strength}", self.title, "how many times as strong: more than 0")
        others = [place for place in self._regressors if place not in (self.at, *places)]
        of_treatment = self._partial(self.at, others, places)
        of_outcome = self._partial(0, [*others, self.at], places)
        r2_treatment = strength * of_treatment / (1 - of_treatment)
        between = strength * of_treatment**2 / ((1 - strength * of_treatment) * (1 - of_treatment))
        if not (strength * of_treatment < 1 and r2_treatment < 1 and between < 1):
            raise PlanError(
                f"a confounder {strength:g} times as strong as {', '.join(columns)} explains all of {self.treatment}",
                self.title,
                "a smaller strength",
            )
        share = ((np.sqrt(strength) + np.sqrt(between)) / np.sqrt(1 - between)) ** 2
        r2_outcome = share * of_outcome / (1 - of_outcome)
        if not r2_outcome < 1:
            raise PlanError(
                f"a confounder {strength:g} times as strong as {', '.join(columns)} explains all of the outcome",
                self.title,
                "a smaller strength",
            )
        return self.bounds(float(r2_treatment), float(r2_outcome))

    def contour(self, most_treatment: float = 0.4, most_outcome: float = 0.4, points: int = 21) -> pa.Table:
        """Return a tidy table over a grid of strengths, to be drawn.

        Columns are r2_treatment, r2_outcome, estimate (the coefficient if the confounder draws it towards 0), limit
        (the end of its 95 % interval there); points² rows. Raises ConfigError.
        """
        across, up = grid(most_treatment, points, self.title), grid(most_outcome, points, self.title)
        return contour_table(self.estimate, (self.bounds(float(d), float(y)) for d in across for y in up))

    @property
    def known(self) -> dict[str, float]:
        """What is told of it."""
        return {
            "estimate": self.estimate,
            "std. error, classical": self.error,
            ROBUSTNESS: self.robustness_value(),
            ROBUSTNESS_95: self.robustness_value(level=0.95),
            PARTIAL_R2: self.partial_r2,
        }

    @property
    def _regressors(self) -> list[int]:
        return list(range(1, len(self.matrix.names)))

    def _places(self, columns: Sequence[str]) -> list[int]:
        """Return the places of regressors that are named, or made of a column that is."""
        if not columns:
            raise ConfigError("no column is named", self.title, 'benchmark("age")')
        names = self.matrix.names
        made = [name for term in self.matrix.terms for name in [set(term.inputs)] * len(term.names)]
        found: list[int] = []
        for column in columns:
            mine = [at for at in self._regressors if at != self.at and (names[at] == column or column in made[at])]
            if not mine:
                others = [name for at, name in enumerate(names) if at not in (0, self.at)]
                raise ColumnNotFound.of(column, others, self.title)
            found += [at for at in mine if at not in found]
        return found

    def _partial(self, outcome: int, others: list[int], added: list[int]) -> float:
        """Return which part of what other columns leave of one some more explain."""
        sides = sorted(others), sorted([*others, *added])
        short, long = (fitted(self.found, one, one, self.intercept, self.title, outcome).squares for one in sides)
        return 1 - long / short


def regression_sensitivity(estimator: OLS, data: Dataset, treatment: str | None) -> RegressionSensitivity:
    """Ask an estimator, as `sensitivity` does."""
    where = f"OLS {estimator.formula}"
    if treatment is None:
        raise ConfigError("which regressor is the treatment?", where, 'treatment="coupon"')
    design = estimator.designed(data, where)
    names = design.matrix.names
    if treatment not in names[1:]:
        raise ColumnNotFound.of(treatment, names[1:], where)
    found = moments(design.data, design.matrix, weight=estimator.weight, missing=estimator.missing, where=where)
    places = design.exogenous
    fit = fitted(found, places, places, design.intercept, where)
    if treatment in fit.dropped:
        raise PlanError(f"{treatment} follows from the other columns", where, "nothing of it is left to learn from")
    at, freedom = fit.names.index(treatment), fit.rows - len(fit.names)
    if freedom < 2:
        raise PlanError(
            f"{fit.rows:,} rows are too few for {len(fit.names)} coefficients", where, "two more than these"
        )
    error = float(np.sqrt(max(fit.bread[at, at] * fit.squares / freedom, 0.0)))
    if not fit.squares > TOLERANCE * fit.variation:
        raise PlanError("the regression leaves nothing of the outcome", where, "there is no room for a confounder")
    estimate, place = float(fit.values[at]), names.index(treatment, 1)
    return RegressionSensitivity(
        where,
        treatment,
        estimate,
        error,
        freedom,
        found,
        design.matrix,
        place,
        design.intercept,
        Provenance.of(data),
    )
