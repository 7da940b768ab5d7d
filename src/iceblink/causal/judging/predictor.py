"""The best linear predictor of effects: how much of what differs between rows a prediction has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iceblink.causal.estimates import Estimates
from iceblink.causal.judging.columns import check_numbers
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.passes import moments
from iceblink.causal.regression.design import quoted
from iceblink.causal.regression.errors import Errors, Kind
from iceblink.causal.regression.ols import OLS
from iceblink.errors import ColumnNotFound, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class BestLinearPredictor:
    """A regression of scores on the predicted effect S: Γ = β₁ + β₂ (S - its mean) + noise [1]_.

    ``average effect`` is β₁. ``heterogeneity``, β₂, is 1 if predictions are right, 0 if they know nothing of what
    differs between rows (or nothing differs), between them if they are too wild, above 1 if too tame.

    Which columns effects go with is asked by any regression of scores in the same way: ``OLS("score ~ age")``.

    Parameters
    ----------
    effect : str
        A column of predicted effects, of rows that the prediction has not seen.
    score : str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them.
    errors : {"classical", "HC0", "HC1", "HC2", "HC3"}
    cluster : str or sequence of str, optional
        As of `OLS`.

    References
    ----------
    .. [1] Chernozhukov, Demirer, Duflo, Fernández-Val: Fisher-Schultz lecture: Generic machine learning inference on
       heterogeneous treatment effects in randomized experiments, Econometrica 2025, on the best linear predictor;
       doubly robust scores take the place of Horvitz-Thompson's.
    """

    effect: str
    score: str
    errors: Kind = "HC1"
    cluster: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        Errors.of(self.errors, self.cluster, "BestLinearPredictor")

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: about three passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            The predicted effect is the same in all rows.
        """
        where = f"BestLinearPredictor of {self.score} by {self.effect}"
        check_numbers(data, (self.effect, self.score), where)
        clusters = Errors.of(self.errors, self.cluster, where).clusters
        for name in clusters:
            if name not in data.columns:
                raise ColumnNotFound.of(name, data.columns, where)
        found = moments(data, Matrix((Number(self.effect),)), where=where)
        if not len(found.rows):
            raise PlanError("there are no rows", where, "look at the filters")
        if not found.products[0, 0, 0] > 0:
            raise PlanError(f"{self.effect} is the same in all rows", where, "there is nothing to judge")
        score, apart = (_beside(clusters, name) for name in ("score", "heterogeneity"))
        keyed = "".join(f", {quoted(name)}" for name in dict.fromkeys(clusters))
        rows = data.sql(
            f"SELECT CAST({quoted(self.score)} AS DOUBLE) AS {score}, CAST({quoted(self.effect)} AS DOUBLE) - "
            f"CAST({float(found.means[0, 0])!r} AS DOUBLE) AS {apart}{keyed} FROM this"
        )
        fit = OLS(f"{score} ~ {apart}", self.errors, clusters or None).fit(rows)
        return replace(fit, title=where, names=("average effect", "heterogeneity"), facts={})


def _beside(taken: Sequence[str], name: str) -> str:
    """Return a name that no column has yet; SQL takes large letters for small ones."""
    while name in map(str.lower, taken):
        name += "_"
    return name
