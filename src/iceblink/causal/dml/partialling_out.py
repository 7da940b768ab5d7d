"""The partially linear model, of a treatment as it is or of one that an instrument moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.dml.crossfit import CrossFit, Prepared
from iceblink.causal.dml.repeats import Groupings, combined
from iceblink.causal.dml.scores import Solution, solution
from iceblink.causal.estimates import Estimates
from iceblink.causal.models.fitted import Model
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.target import Column, Target
from iceblink.causal.moments import Floats
from iceblink.causal.provenance import Provenance
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

LITTLE = 1e-12
"""Less of a variance than this is left by rounding."""


@dataclass(frozen=True)
class PLR(CrossFit):
    """The constant effect of a treatment, of any number of degrees, in the partially linear regression model [1]_.

    With y = θ t + g(x) + u and t = m(x) + v, the partialling-out score ψ = (y - l(x) - θ (t - m(x))) (t - m(x)) is
    solved, l being the regression of y on x. Both are learnt from rows of other folds. With linear models it takes two
    passes over the data: one for all models, and one for θ and its error.

    Parameters
    ----------
    outcome : str
        A column of numbers, or an SQL expression.
    treatment : str
        A column of numbers.
    confounders : str or sequence of str
        Terms as of `OLS`: ``age + I(age ** 2) + i(race)``, or a list of them.
    key : str or sequence of str
        The columns of the unit, which decide its fold. Errors take rows as independent of each other, of one unit too,
        unless ``cluster=`` names what they have in common.
    outcome_model, treatment_model : Model
        Of l and m: of `iceblink.causal.models`. Of a treatment of 0 and 1 m may be ``Logistic()``.
    folds : int
    seed : int
    cluster : str or sequence of str, optional
        Columns by which rows belong together: they decide the fold instead of the key, and errors allow for them.
        With G clusters variances have the factor G / (G - 1), and intervals t of G - 1 degrees of freedom.
    missing : {"raise", "drop"}
        What to do about rows that lack a value.
    repeats : int
        How often it is all done, each time with other folds of the seed: the estimate is the median, and errors have in
        them how far the repeats lie apart [2]_.

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018, eq. 4.4.
    .. [2] The same, definition 3.3.
    """

    outcome_model: Model = field(default=Linear(), kw_only=True)
    treatment_model: Model = field(default=Linear(), kw_only=True)

    def fit(self, data: Dataset, *, grouping: Groupings | None = None) -> Estimates:
        """Estimate it. Eager: the models' passes, and one more; with clusters two; as often as there are repeats.

        Parameters
        ----------
        data : Dataset
        grouping : Grouping or sequence of Grouping, optional
            Folds of another kind; of several repeats a list of one for each.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError, QueryError
        PlanError
            Nothing of the treatment is left, a fold is empty, or what the models refuse.
        """
        return combined([self._once(prepared) for prepared in self._prepared(data, grouping).repeats()])

    def _once(self, prepared: Prepared) -> Estimates:
        asked = [
            (self.outcome_model, Target(self.outcome)),
            (self.treatment_model, Target(self.treatment)),
        ]
        found = solution(prepared, asked, _Residuals(self.outcome, self.treatment), self._clusters)
        variation = found.extras.products[0, 0, 0]
        if not variation > 0:
            value = found.extras.means[0, 0]
            raise PlanError(f"{self.treatment} is {value:g} in every row", self.title, "an effect wants two values")
        if not -found.slopes[0] > LITTLE * variation:
            raise PlanError(f"the confounders say all of {self.treatment}", self.title, "nothing is left to learn from")
        return estimates(self.title, (self.treatment,), found, self._facts(prepared), self._provenance(prepared))


@dataclass(frozen=True)
class _Residuals:
    """a = - v², b = u v, and the treatment; u and v what models leave of outcome and treatment."""

    outcome: str
    treatment: str
    width: int = 1
    extras: tuple[str, ...] = ("treatment",)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.outcome, self.treatment)

    def __call__(self, batch: pa.RecordBatch, nuisances: Floats) -> Floats:
        outcome, treatment = Column(self.outcome)(batch), Column(self.treatment)(batch)
        u, v = outcome - nuisances[0], treatment - nuisances[1]
        return np.stack([-v * v, u * v, treatment])


@dataclass(frozen=True)
class PLIV(CrossFit):
    """The constant effect of a treatment that an instrument moves, in the partially linear model [1]_.

    With y = θ t + g(x) + u, and an instrument z that has to do with t but, given x, not with u, the score
    ψ = (y - l(x) - θ (t - r(x))) (z - m(x)) is solved; l, r and m are the regressions of y, t and z on x.

    Parameters
    ----------
    outcome, treatment, confounders, key, folds, seed, cluster, missing, repeats
        As of `PLR`.
    instrument : str
        A column of numbers.
    outcome_model, treatment_model, instrument_model : Model
        Of l, r and m.

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Chernozhukov et al. 2018, eq. 4.8.
    """

    instrument: str = field(kw_only=True)
    outcome_model: Model = field(default=Linear(), kw_only=True)
    treatment_model: Model = field(default=Linear(), kw_only=True)
    instrument_model: Model = field(default=Linear(), kw_only=True)

    @property
    def _roles(self) -> tuple[str, ...]:
        return (self.treatment, self.instrument)

    def fit(self, data: Dataset, *, grouping: Groupings | None = None) -> Estimates:
        """Estimate it, as `PLR.fit` does.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError, QueryError
        PlanError
            Also where the instrument does not move the treatment.
        """
        return combined([self._once(prepared) for prepared in self._prepared(data, grouping).repeats()])

    def _once(self, prepared: Prepared) -> Estimates:
        asked = [
            (self.outcome_model, Target(self.outcome)),
            (self.treatment_model, Target(self.treatment)),
            (self.instrument_model, Target(self.instrument)),
        ]
        score = _Instrumented(self.outcome, self.treatment, self.instrument)
        found = solution(prepared, asked, score, self._clusters)
        treatment, instrument = np.sqrt(np.diag(found.extras.products[0]))
        for name, deviation, mean in zip(self._roles, (treatment, instrument), found.extras.means[0], strict=True):
            if not deviation > 0:
                raise PlanError(f"{name} is {mean:g} in every row", self.title, "an effect wants two values")
        if not abs(found.slopes[0]) > LITTLE * treatment * instrument:
            raise PlanError(
                f"given the confounders, {self.instrument} does not move {self.treatment}",
                self.title,
                "an instrument has to do with the treatment",
            )
        facts = self._facts(prepared, instrument=self.instrument)
        return estimates(self.title, (self.treatment,), found, facts, self._provenance(prepared))


@dataclass(frozen=True)
class _Instrumented:
    """a = - v w, b = u w, the treatment and the instrument; w what a model leaves of the instrument."""

    outcome: str
    treatment: str
    instrument: str
    width: int = 1
    extras: tuple[str, ...] = ("treatment", "instrument")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.outcome, self.treatment, self.instrument)

    def __call__(self, batch: pa.RecordBatch, nuisances: Floats) -> Floats:
        outcome, treatment, instrument = (Column(name)(batch) for name in self.inputs)
        u, v, w = outcome - nuisances[0], treatment - nuisances[1], instrument - nuisances[2]
        return np.stack([-v * w, u * w, treatment, instrument])


def estimates(
    title: str, names: tuple[str, ...], found: Solution, facts: dict[str, object], provenance: Provenance
) -> Estimates:
    """Return parameters as estimates, with the tests of the normal distribution, or with clusters of Student's t."""
    return Estimates(
        title=title,
        names=names,
        values=found.values,
        covariance=found.covariance,
        convention=found.convention,
        rows=found.rows,
        freedom=found.freedom,
        dropped=found.dropped,
        facts=facts,
        provenance=provenance,
    )
