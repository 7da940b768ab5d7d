"""Effects by imputation: outcomes without treatment from rows not treated yet, in two stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.blas import one_thread
from iceblink.causal.late import linalg
from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.panels.cohorts import ByCohort, Cohorts, Units
from iceblink.causal.panels.effects import PanelEffects, shown
from iceblink.causal.regression.sandwich import squares_by_cluster, told_of_clusters
from iceblink.errors import PlanError

CONVENTION = "clustered by unit, corrected for the first stage"


def two_stage(cohorts: Cohorts, dynamic: bool, units: Units | None = None) -> PanelEffects:
    """Estimate the average effect on the treated, or one for each period since treatment, by two stages [1]_.

    The first stage explains the outcomes of rows not treated yet by effects of units and periods; the second regresses
    what these leave of all outcomes on treatment. Point estimates are those of imputation [2]_. The covariance is that
    of both stages as one GMM problem, scores summed by unit: (X'X)⁻¹ Σ s s' (X'X)⁻¹, without a small-sample factor; or
    by cluster of units, for which these are read again, with the factor G / (G - 1) and t of G - 1 degrees of freedom.

    Parameters
    ----------
    cohorts : Cohorts
    dynamic : bool
        Whether there is an effect for each period since treatment, -1 the reference, instead of one.
    units : Units, optional
        Read where they have clusters.

    Raises
    ------
    PlanError
        In no period is one unit treated and another not yet.

    References
    ----------
    .. [1] Gardner: Two-stage differences in differences, arXiv 2207.05943, section 3.
    .. [2] Borusyak, Jaravel, Spiess: Revisiting event-study designs, Review of Economic Studies 2024.
    """
    title = f"Two-stage DiD: {cohorts.title}"
    untreated = ~cohorts.treated
    seen = np.asarray(untreated.any(axis=0))  # other periods have no effect of their own that could be known
    names, design = _regressors(cohorts, seen, dynamic)
    if not names:
        raise PlanError(
            "no treated row has an untreated one in its period", title, "there are no units to compare with"
        )
    sizes, count = cohorts.units.astype(np.float64), int(cohorts.units.sum())
    clean = untreated.astype(np.float64)
    share = clean / clean.sum(axis=1, keepdims=True)
    normal = _normal(sizes, clean)
    inside, over_time = (design * sizes[:, np.newaxis, np.newaxis]).sum(axis=1), np.einsum("c,ctk->tk", sizes, design)
    right = np.column_stack(
        [
            np.concatenate([sizes * (clean * cohorts.means).sum(axis=1), sizes @ (clean * cohorts.means)]),
            np.concatenate([inside, over_time]),
        ]
    )
    solution = linalg.pinvh(normal, rtol=1e-12) @ right
    of_units, of_periods = solution[: len(sizes)], solution[len(sizes) :]
    # What the first stage leaves of a unit's outcomes y: (y - λ) less its mean over the unit's untreated periods.
    apart = cohorts.means - of_periods[:, 0]
    residual = apart - (share * apart).sum(axis=1, keepdims=True)
    bread = np.linalg.inv(np.einsum("c,ctk,ctl->kl", sizes, design, design))
    values = bread @ np.einsum("c,ctk,ct->k", sizes, design, residual)
    fitted = clean[:, :, np.newaxis] * (of_units[:, np.newaxis, 1:] + of_periods[np.newaxis, :, 1:])
    weights = design - fitted
    scores = weights - share[:, :, np.newaxis] * weights.sum(axis=1, keepdims=True)  # of y, through its residuals
    constant = np.einsum("ctk,ct->ck", weights, residual) - np.einsum("ctk,ctl,l->ck", design, design, values)
    convention, freedom = CONVENTION, np.inf
    if units is not None and units.clusters:
        scored = _Scores(units.matrix, units.grouping, units.found.groups, cohorts.means, scores, constant)
        needed = dict.fromkeys((*units.matrix.inputs, *units.grouping.inputs, *units.clusters))
        meat, groups = squares_by_cluster(units.data.select(*needed), scored, units.clusters, of="units")
        meat = meat * (groups / (groups - 1))
        convention = f"clustered {told_of_clusters(units.clusters, groups)}, corrected for the first stage"
        freedom = groups - 1
    else:
        meat = np.einsum("ctk,cts,csl->kl", scores, cohorts.products, scores, optimize=True)
        meat += constant.T @ (constant * sizes[:, np.newaxis])
    return PanelEffects(
        title=title,
        names=names,
        values=values,
        covariance=bread @ meat @ bread,
        convention=convention,
        rows=count * int(seen.sum()),
        freedom=freedom,
        facts={"units": f"{count:,}", **shown({"units treated from the start, left out": cohorts.left_out})},
        provenance=cohorts.provenance,
    )


@dataclass(frozen=True, eq=False)
class _Scores:
    """The scores of units: linear in what their outcomes (T,) are apart from their cohort's means.

    Parameters
    ----------
    matrix : Matrix
    grouping : ByCohort
    groups : int64 array (C,)
        The numbers of the cohorts that have units.
    means : float64 array (C, T)
    slopes : float64 array (C, T, k)
    constant : float64 array (C, k)
    """

    matrix: Matrix
    grouping: ByCohort
    groups: Integers
    means: Floats
    slopes: Floats
    constant: Floats

    @property
    def width(self) -> int:
        return int(self.constant.shape[1])

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        cohort = np.searchsorted(self.groups, self.grouping.numbers(batch))
        outcomes = self.matrix.filled(batch)[: self.means.shape[1]]
        scores = np.empty((self.width, batch.num_rows))
        with one_thread():
            for one in np.unique(cohort):
                mine = cohort == one
                apart = outcomes[:, mine] - self.means[one][:, np.newaxis]
                scores[:, mine] = self.slopes[one].T @ apart + self.constant[one][:, np.newaxis]
        return scores


def _regressors(cohorts: Cohorts, seen: NDArray[np.bool_], dynamic: bool) -> tuple[tuple[str, ...], Floats]:
    """Return the regressors (C, T, k) of the second stage, and their names."""
    treated = cohorts.treated & seen
    if not dynamic:
        return (("treated",), treated[:, :, np.newaxis].astype(np.float64)) if treated.any() else ((), np.zeros(0))
    since = np.where(seen, cohorts.periods - cohorts.first[:, np.newaxis], -np.inf)
    steps = np.unique(since[np.isfinite(since)])
    steps = steps[steps != -1]
    if not (steps >= 0).any():
        return (), np.zeros(0)
    return tuple(f"{step:.15g}" for step in steps), (since[:, :, np.newaxis] == steps).astype(np.float64)


def _normal(units: Floats, clean: Floats) -> Floats:
    """Return the normal equations of effects of cohorts and periods, of untreated rows."""
    cells = units[:, np.newaxis] * clean
    return np.block([[np.diag(cells.sum(axis=1)), cells], [cells.T, np.diag(cells.sum(axis=0))]])
