"""Linear models of the outcome, one for each arm: what a row's outcome would be under each treatment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import Reader, Rows, Study
from iceblink.causal.passes import summed
from iceblink.causal.regression.fit import fitted
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError

Weigh = Callable[[Rows], Floats]
"""Returns a weight for each row in its own arm's model (n,), beside that of sampling."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The model of an arm.

    Parameters
    ----------
    places : tuple of int
        Columns of the confounders.
    coefficients : float64 array (1 + k,)
        Of the one, and of the columns as the reader scales them.
    """

    places: tuple[int, ...]
    coefficients: Floats

    def mean(self, rows: Rows) -> Floats:
        """Return what it expects of rows of any arm (n,)."""
        return np.asarray(self.coefficients @ rows.beside_ones(self.places))


def least_squares(study: Study, where: str) -> tuple[Outcome, ...]:
    """Fit the model of each arm by the moments of its rows: no pass.

    Raises
    ------
    PlanError
        An arm has no more rows than coefficients.
    """
    reader = study.reader
    models = []
    for number, name in enumerate(study.arms.names):
        columns = [1 + place for place in study.outcome_model]
        arm = study.found.only(number)
        fit = fitted(arm, columns, columns, True, f"{where}, {study.arms.column} {name}")
        places = tuple(column - 1 for column in fit.regressors)
        slopes = fit.coefficients[1:]
        apart = reader.centres[list(places)] - arm.means[0, list(fit.regressors)]
        level = arm.means[0, 0] + fit.coefficients[0] + slopes @ apart
        models.append(Outcome(places, np.concatenate([[level], slopes * reader.scales[list(places)]])))
    return tuple(models)


def weighted_least_squares(study: Study, weigh: Weigh, where: str) -> tuple[Outcome, ...]:
    """Fit the model of each arm with weights that are known row by row. Eager: one pass.

    Raises
    ------
    PlanError
        No row of an arm has weight, or as many rows as coefficients have.
    """
    found = normal_equations(study, weigh)
    models = []
    for number, name in enumerate(study.arms.names):
        at = solved(found["products"][number])
        if not len(at.kept) or at.kept[0] != 0 or found["rows"][number] <= len(at.kept):
            raise PlanError(
                f"{int(found['rows'][number]):,} rows with weight are too few for a model of the outcome",
                f"{where}, {study.arms.column} {name}",
                "trim less, or give the model of the outcome fewer terms",
            )
        coefficients = at.inverse @ found["right"][number][at.kept]
        coefficients[0] += study.means[number]
        models.append(Outcome(tuple(study.outcome_model[column - 1] for column in at.kept[1:]), coefficients))
    return tuple(models)


def normal_equations(study: Study, weigh: Weigh | None) -> Sums:
    """Return by arm the normal equations of outcomes, less the arm's mean, on ones and the outcome model's columns.

    Without weights they are made of the study's moments. Eager with weights: one pass.

    Returns
    -------
    Sums
        ``products`` (J, 1 + k, 1 + k), ``right`` (J, 1 + k), ``rows`` (J,): those with weight.
    """
    if weigh is not None:
        return summed(study.needed(), _Normal(study.reader, study.outcome_model, weigh, study.means))
    places, found = list(study.outcome_model), study.found
    columns, scales = [1 + place for place in places], study.reader.scales[places]
    means = np.ones((len(study.arms), 1 + len(places)))
    means[:, 1:] = (found.means[:, columns] - study.reader.centres[places]) / scales
    products = found.weights[:, np.newaxis, np.newaxis] * means[:, :, np.newaxis] * means[:, np.newaxis]
    products[:, 1:, 1:] += found.products[:, columns][:, :, columns] / np.outer(scales, scales)
    right = np.zeros_like(means)
    right[:, 1:] = found.products[:, 0, columns] / scales
    return Sums({"products": products, "right": right, "rows": found.rows.astype(np.float64)})


@dataclass(frozen=True)
class _Normal:
    """Normal equations of a block of rows, by arm; outcomes less the arm's mean."""

    reader: Reader
    places: tuple[int, ...]
    weigh: Weigh
    means: Floats

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        arms, width = len(self.reader.arms), 1 + len(self.places)
        products, right, counts = np.zeros((arms, width, width)), np.zeros((arms, width)), np.zeros(arms)
        with one_thread():
            rows = self.reader.rows(batch)
            weight = rows.weight * self.weigh(rows)
            columns = rows.beside_ones(self.places)
            for arm in range(arms):
                mine = np.flatnonzero((rows.arm == arm) & (weight != 0))
                weighed = columns[:, mine] * weight[mine]
                products[arm] = weighed @ columns[:, mine].T
                right[arm] = weighed @ (rows.outcome[mine] - self.means[arm])
                counts[arm] = len(mine)
        return Sums({"products": products, "right": right, "rows": counts})
