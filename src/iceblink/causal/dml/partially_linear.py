"""The partially linear model with linear nuisances, of which one pass over the data knows all that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.constant import check_varies
from iceblink.causal.dml.linear_nuisances import Nuisances, crossed, trained
from iceblink.causal.dml.repeats import Groupings, check_repeats, combined, folds_of
from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Moments
from iceblink.causal.passes import Folds, Grouping, Missing, check_differ, check_missing, summed
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.design import complete
from iceblink.causal.saved import Question, SavedMoments, saved_moments
from iceblink.causal.sums import Sums
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class LinearPLR:
    """The constant effect of a treatment in the partially linear model, cross-fitted by least squares [1]_.

    With y = θ t + g(x) + u and t = m(x) + v, both g and m linear, the partialling-out score
    ψ = (y - l(x) - θ (t - m(x))) (t - m(x)) is solved over all folds together (DML2), l being the regression of y on x.
    The training data's moments of a fold are those of all other folds, and residuals' cross products are quadratic
    forms in a fold's moments: so θ takes one pass, and its error another.

    Parameters
    ----------
    outcome, treatment : str
    confounders : sequence of str
        Columns of numbers.
    key : str or sequence of str
        The columns of the unit, which decide its fold. The error takes rows as independent of each other, of one unit
        too; `PLR` allows for clusters.
    folds : int
    seed : int
    missing : {"raise", "drop"}
        What to do about rows that lack a value.
    repeats : int
        As of `PLR`. Moments are saved of a single one.

    Raises
    ------
    ConfigError
    PlanError
        The outcome or the treatment is among the confounders.

    References
    ----------
    .. [1] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018, eq. 4.4 and definition 3.2.
    """

    outcome: str
    treatment: str
    confounders: Sequence[str]
    key: str | Sequence[str]
    folds: int = 5
    seed: int = 0
    missing: Missing = "raise"
    repeats: int = 1

    def __post_init__(self) -> None:
        check_whole_fields(self, "LinearPLR")
        if self.folds < 2:
            raise ConfigError(
                f"folds is {self.folds}", "LinearPLR", "two or more: a model is judged by rows it has not seen"
            )
        if isinstance(self.confounders, str):
            raise ConfigError("confounders is one text", "LinearPLR", f"a list: [{self.confounders!r}]")
        check_repeats(self.repeats, "LinearPLR")
        check_missing(self.missing, "LinearPLR")
        if not self.confounders:
            raise ConfigError("there are no confounders", "LinearPLR", "of a random treatment, compare means: OLS")
        check_differ(self.outcome, self.treatment, "LinearPLR")
        for role, name in (("outcome", self.outcome), ("treatment", self.treatment)):
            if name in self.confounders:
                raise PlanError(f"the {role} {name!r} is among the confounders", self._where, "leave it out")

    def moments(self, data: Dataset, *, saved: SavedMoments | None = None) -> SavedMoments:
        """Return what θ needs of a table, fold by fold, at the version that the dataset is of, to be saved.

        Eager; as `OLS.moments`. The error of θ is not in it: `fit` reads the rows for that.

        Raises
        ------
        PlanError
            There are several repeats.
        """
        self.check_once("moments are saved")
        return self._saved(data, self.key_folds, saved)

    @property
    def _where(self) -> str:
        return f"LinearPLR of {self.outcome} by {self.treatment}"

    @property
    def key_folds(self) -> Folds:
        """The folds of units, by their keys."""
        return Folds.by(self.key, self.folds, self.seed)

    def asked(self, data: Dataset, by: Grouping) -> Question:
        """Say what θ needs of a dataset, fold by fold. Lazy; raises ColumnNotFound."""
        matrix = Matrix(tuple(map(Number, (self.outcome, self.treatment, *self.confounders))))
        for name in (*matrix.inputs, *by.inputs):
            if name not in data.schema.names:
                raise ColumnNotFound.of(name, data.schema.names, self._where)
        found = complete(data, matrix.inputs) if self.missing == "drop" else data
        return Question(found, matrix, by, missing=self.missing)

    def _saved(self, data: Dataset, by: Grouping, saved: SavedMoments | None) -> SavedMoments:
        return saved_moments(data, lambda rows, _: self.asked(rows, by), saved, self._where)

    def fit(self, data: Dataset, *, saved: SavedMoments | None = None, grouping: Groupings | None = None) -> Estimates:
        """Estimate it. Eager: reads the data twice, as often as there are repeats.

        Parameters
        ----------
        data : Dataset
        saved : SavedMoments, optional
            Of `moments`, of this version or an earlier one: the first time only what changed since is read.
        grouping : Grouping or sequence of Grouping, optional
            Folds of another kind; of several repeats a list of one for each.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            Nothing of the treatment is left, a fold is empty, the outcome is the same in every row, the saved
            moments are of something else, or there are several repeats and saved moments.
        """
        if saved is not None:
            self.check_once("moments are saved")
        folds = folds_of(self.key_folds, self.repeats, grouping, self._where)
        return combined([self._once(data, by, saved) for by in folds])

    def check_once(self, what: str) -> None:
        """Raise PlanError where there are several repeats."""
        if self.repeats > 1:
            raise PlanError(f"{what} of one repeat, and there are {self.repeats}", self._where, "leave repeats at 1")

    def _once(self, data: Dataset, by: Grouping, saved: SavedMoments | None) -> Estimates:
        where, question = self._where, self.asked(data, by)
        matrix = question.matrix
        found = question.answer(where) if saved is None else self._saved(data, by, saved).moments
        self.check(found, by, where)
        nuisances = trained(found, where)
        products = crossed(found, nuisances, where)
        effect = products[0, 1] / products[1, 1]
        rows = int(found.rows.sum())
        needed = list(dict.fromkeys((*matrix.inputs, *by.inputs)))
        squares = summed(question.data.select(*needed), _ScoreSquares(matrix, by, nuisances, effect))["squares"]
        variance = float(squares) / products[1, 1] ** 2
        return Estimates(
            title=where,
            names=(self.treatment,),
            values=np.array([effect]),
            covariance=np.array([[variance]]),
            convention="influence function",
            rows=rows,
            provenance=Provenance.of(data, folds=len(found.groups), seed=by.seed if isinstance(by, Folds) else None),
        )

    def check(self, found: Moments, by: Grouping, where: str) -> None:
        """Raise PlanError where rows are such that no fold can learn from them."""
        if not len(found.groups):
            raise PlanError("there are no rows", where, "look at the filters, and at missing values")
        total = found.total
        for at, hint in enumerate(("there is nothing to explain", "an effect compares different treatments")):
            mean, squares = float(total.means[0, at]), float(total.products[0, at, at])
            check_varies(found.columns[at], mean, squares, float(total.weights[0]), where, hint)
        if len(found.groups) < 2:
            raise PlanError("all rows are in 1 fold", where, "is the key the same in all rows?")
        if isinstance(by, Folds) and len(found.groups) < by.count:
            raise PlanError(
                f"{by.count - len(found.groups)} of {by.count} folds have no unit",
                where,
                "take fewer folds: each should have many units",
            )


@dataclass(frozen=True)
class _ScoreSquares:
    """The sum of squared scores of a block of rows."""

    matrix: Matrix
    grouping: Grouping
    nuisances: Nuisances
    effect: float

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        outcome, treatment = self.nuisances.residuals(self.matrix, self.grouping, batch)
        score = (outcome - self.effect * treatment) * treatment
        return Sums({"squares": np.array(np.sum(score * score))})
