"""The average effect by doubly robust scores of a forest, each of trees that have not seen the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.estimates import Estimates
from iceblink.causal.forests.drawing import LittleBags
from iceblink.causal.forests.little_bags import LocalEffects
from iceblink.causal.forests.residuals import Residuals
from iceblink.causal.forests.rows import Binner
from iceblink.causal.hashing import hashed
from iceblink.causal.judging.jackknife import BUCKETS, buckets_of, jackknifed
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.observational.stack import added
from iceblink.causal.passes import summed
from iceblink.causal.provenance import Provenance
from iceblink.causal.sums import Sums
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

RARE = 0.01
"""A row whose chance of either arm is below this is no ground to compare arms on."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Doubly robust scores of a block of rows, summed by bucket of units [1]_.

    With ỹ and w the residuals of outcome and treatment t, chances e = t - w, and the effect θ by trees that have not
    seen the row, Γ = θ + w / (e (1 - e)) (ỹ - w θ), whose mean is the average effect.

    Parameters
    ----------
    binner : Binner
    residuals : Residuals
    treatment : str
    effects : LocalEffects
    drawing : LittleBags

    References
    ----------
    .. [1] Athey, Wager: Estimating treatment effects with causal forests: an application, Observational Studies 2019.
    """

    binner: Binner
    residuals: Residuals
    treatment: str
    effects: LocalEffects
    drawing: LittleBags

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.binner.inputs, self.treatment)))

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        y, w = self.residuals.of(batch)
        t = floats(batch.column(self.treatment)).astype(np.float64)
        chance = t - w
        there = np.isfinite(y) & np.isfinite(w) & np.isfinite(t)
        bad = (chance < RARE) | (chance > 1 - RARE)
        effect = self.effects.unseen(self.binner.bins.codes(batch), self._unseen(batch))
        alone = np.isnan(effect)
        use = np.flatnonzero(there & ~bad & ~alone)
        gamma = effect[use] + w[use] / (chance[use] * (1 - chance[use])) * (y[use] - w[use] * effect[use])
        sums = {
            "lacking": (~there).sum(),
            "by degrees": (there & (t != 0) & (t != 1)).sum(),
            "rare": bad.sum(),
            "alone": alone.sum(),
        }
        bucket = buckets_of(batch, self.binner.keys)[use]
        scores = np.stack([added(bucket, one, BUCKETS) for one in (np.ones(len(use)), gamma)], axis=1)
        return Sums({"scores": scores, **{name: np.array(float(value)) for name, value in sums.items()}})

    def _unseen(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Return which trees have not seen which rows (T, n)."""
        places = hashed([batch.column(key) for key in self.binner.keys], self.binner.seed, "forest")
        return np.stack([~self.drawing.seen(places, tree) for tree in range(len(self.effects.trees))])


def average(data: Dataset, scores: Scores, title: str, provenance: Provenance) -> Estimates:
    """Return the average effect, its error by a jackknife over units. Eager: one pass.

    Raises
    ------
    QueryError
        A value is missing.
    PlanError
        There is one unit, the treatment is not of 0 and 1, chances are near 0 or 1, or some rows are in every tree.
    """
    found = summed(data.select(*scores.inputs), scores)
    lacking, degrees, rare, alone = (int(found[name]) for name in ("lacking", "by degrees", "rare", "alone"))
    if lacking:
        raise QueryError(
            f"outcome or treatment, or what explains them, is missing in {lacking:,} rows", title, "filter the rows"
        )
    if degrees:
        raise PlanError(
            f"{scores.treatment} is neither 0 nor 1 in {degrees:,} rows", title, "by degrees it is for LinearPLR"
        )
    if rare:
        raise PlanError(
            f"the chance of {scores.treatment} is below {RARE:g} or above {1 - RARE:g} in {rare:,} rows",
            title,
            "leave such rows out by a filter, or give residuals of a model whose chances are between 0 and 1",
        )
    if alone:
        raise PlanError(f"{alone:,} rows were seen by every tree", title, "grow more trees")
    values, covariance, freedom = jackknifed(found["scores"], _mean, title)
    return Estimates(
        title=title,
        names=("ATE",),
        values=values,
        covariance=covariance,
        convention=f"jackknife of {freedom + 1} groups of units",
        rows=int(found["scores"][:, 0].sum()),
        freedom=freedom,
        facts={"trees": len(scores.effects.trees)},
        provenance=provenance,
    )


def _mean(sums: Floats) -> Floats:
    """Return means (m, 1) of sums over buckets (m, 2) of ones and scores."""
    return sums[:, 1:] / sums[:, :1]
