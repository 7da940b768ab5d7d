"""The linear frontdoor estimator: what the treatment does to mediators, times what these do to the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Missing, check_missing, moments, summed
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.fit import check_outcome, fitted
from iceblink.causal.sums import Sums
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class FrontDoor:
    """The total effect of a treatment that is confounded, by mediators that are not [1]_, in linear models.

    If all of the effect goes through the mediators M, nothing unobserved moves M and the treatment, and the treatment
    stands for all that moves M and the outcome, then E[y | do(t)] = Σ_m P(m | t) Σ_t' E[y | m, t'] P(t'). With
    M = c + a t + e and E[y | m, t] = d + b'm + g t it is d + g E[t] + b'c + a'b t: the effect is a'b.

    All equations are solved together, so the standard errors are those of the influence functions of a, b and a'b
    (delta method), robust to unequal variances, without a factor for small samples (HC0).

    Parameters
    ----------
    outcome, treatment : str
    mediators : sequence of str
        Columns of numbers.
    missing : {"raise", "drop"}
        What to do about rows that lack a value.

    Raises
    ------
    ConfigError
        There are no mediators, a column has two roles, or `missing` is neither.

    References
    ----------
    .. [1] Pearl: Causality, 2009, theorem 3.3.4.
    """

    outcome: str
    treatment: str
    mediators: Sequence[str]
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        if isinstance(self.mediators, str) or not self.mediators:
            raise ConfigError("there are no mediators", "FrontDoor", 'a list of columns: ["clicks"]')
        check_missing(self.missing, "FrontDoor")
        roles = [self.outcome, self.treatment, *self.mediators]
        if twice := {name for name in roles if roles.count(name) > 1}:
            raise ConfigError(f"{twice.pop()!r} has two roles", "FrontDoor", "outcome, treatment, mediators")

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: reads the data twice.

        Of the result the effect has the treatment's name; the parts are ``treatment -> mediator`` and
        ``mediator -> outcome``.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            A column is the same in every row, or the treatment or a mediator follows from the others.
        """
        where = f"FrontDoor of {self.outcome} by {self.treatment}"
        matrix = Matrix(tuple(map(Number, (self.outcome, self.treatment, *self.mediators))))
        found = moments(data, matrix, missing=self.missing, where=where)
        check_outcome(found, where)
        places = range(2, 2 + len(self.mediators))
        last = fitted(found, [1, *places], [1, *places], True, where)
        if last.dropped:
            raise PlanError(
                f"{', '.join(last.dropped)} is constant, or follows from the other columns", where, "leave it out"
            )
        first = np.array([fitted(found, [1], [1], True, where, outcome=at).coefficients[1] for at in places])
        second = last.coefficients[2:]
        products, means = found.products[0], found.means[0]
        influences = _Influences(matrix, means, first, last.coefficients[1:], products[1, 1], last.bread[2:, 1:])
        meat = summed(data.select(*matrix.inputs), influences)["meat"]
        turned = np.block([[second, first], [np.eye(2 * len(first))]])
        return Estimates(
            title=where,
            names=(
                self.treatment,
                *(f"{self.treatment} -> {name}" for name in self.mediators),
                *(f"{name} -> {self.outcome}" for name in self.mediators),
            ),
            values=np.concatenate([[first @ second], first, second]),
            covariance=turned @ meat @ turned.T,
            convention="influence function",
            rows=int(found.rows[0]),
            provenance=Provenance.of(data),
        )


@dataclass(frozen=True, eq=False)
class _Influences:
    """The sum of products of the influence functions (2k, 2k) of a and b over a block of rows.

    Parameters
    ----------
    matrix : Matrix
    means : float64 array (2 + k,)
    first : float64 array (k,)
        a.
    slopes : float64 array (1 + k,)
        Of the outcome on treatment and mediators.
    variation : float
        The treatment's sum of squares.
    bread : float64 array (k, 1 + k)
        The mediators' rows of the inverse cross products of treatment and mediators.
    """

    matrix: Matrix
    means: Floats
    first: Floats
    slopes: Floats
    variation: float
    bread: Floats

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        values = self.matrix.filled(batch)
        values = values[:, np.isfinite(values.sum(axis=0))]
        with one_thread():
            values -= self.means[:, np.newaxis]
            outcome, treatment, regressors = values[0], values[1], values[1:]
            left = values[2:] - np.outer(self.first, treatment)
            rest = outcome - self.slopes @ regressors
            scores = np.concatenate([left * treatment / self.variation, self.bread @ regressors * rest])
            return Sums({"meat": scores @ scores.T})
