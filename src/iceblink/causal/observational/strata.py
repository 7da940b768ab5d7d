"""Stratification on the propensity score: like compared with like, and the differences averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.observational.adjusting import MODELLED
from iceblink.causal.observational.choice import Choice, Link, choice
from iceblink.causal.observational.effects import Effects, effects_of
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.stack import Means
from iceblink.causal.observational.study import Reader, Study
from iceblink.causal.observational.target import Estimand, Target, check_target
from iceblink.causal.passes import BLOCK_ROWS, moments, summed
from iceblink.causal.sums import Sums
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

STEP, REACH = 0.005, 40.0
"""Linear scores are counted in bins this wide, from -REACH to REACH, beyond which chances are 0 and 1."""
BINS = round(2 * REACH / STEP)


@dataclass(frozen=True)
class Stratification:
    """The mean difference inside of strata of the propensity score, averaged over the target population [1]_.

    Strata hold equally many rows of the target population, their bounds rounded to 0.005 of the linear score, so that
    they are the same however the rows are spread. The mean of an arm is Σ π_s ȳ_js, π_s being the part of the target
    population in stratum s; its variance Σ π_s² s²_js / n_js, with strata taken as given [2]_. Rows of strata that have
    fewer than two of an arm are left out.

    Parameters
    ----------
    strata : int
        Five remove about 90 % of the bias that the score could.
    estimand : {"ATE", "ATT", "ATC"}
    link : {"logit", "probit"}

    References
    ----------
    .. [1] Rosenbaum, Rubin: Reducing bias in observational studies using subclassification on the propensity score,
       JASA 1984.
    .. [2] Imbens, Rubin: Causal Inference for Statistics, Social, and Biomedical Sciences, 2015, section 17.5.
    """

    strata: int = 5
    estimand: Estimand = "ATE"
    link: Link = "logit"

    def __post_init__(self) -> None:
        check_target(self.estimand, None, "Stratification", MODELLED)
        check_whole_fields(self, "Stratification")
        if not 2 <= self.strata <= 1_000:
            raise ConfigError(f"strata is {self.strata}", "Stratification", "from 2 to 1,000; 5 to 20 are usual")

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: about five passes, and two for what the problem's estimators share.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There is no overlap, more than two arms, weights or clusters, or no stratum has both arms.
        """
        title, study = f"Stratification of {problem}", problem.study
        check_plain(study, title)
        model, dropped = choice(study, self.link, title)
        counts = summed(study.needed(), _Counts(study.reader, model))["counts"]
        arm = Target(self.estimand).arm
        counts = counts.sum(axis=0) if arm is None else counts[arm]
        parts = np.cumsum(counts) / counts.sum()
        bounds = np.unique(np.searchsorted(parts, np.arange(1, self.strata) / self.strata) + 1)
        strata = _Strata(study.reader, model, bounds)
        found = moments(study.needed(), study.reader.matrix, grouping=strata, where=title)
        rows, means, squares = np.zeros((3, len(bounds) + 1, 2))
        at = (found.groups // 2, found.groups % 2)
        rows[at], means[at], squares[at] = found.rows, found.means[:, 0], found.products[:, 0, 0]
        whole = rows.min(axis=1) >= 2
        if not whole.any():
            raise PlanError("no stratum has two rows of each arm", title, "take fewer strata, or look at the overlap")
        share = np.where(whole, rows.sum(axis=1) if arm is None else rows[:, arm], 0.0)
        share /= share.sum()
        some = np.where(whole[:, np.newaxis], rows, 2.0)
        weights = np.where(whole[:, np.newaxis], share[:, np.newaxis] / some, 0.0) * rows[whole].sum()
        variance = squares / (some - 1) / some
        solved = Means(
            values=share @ means,
            covariance=np.diag(share**2 @ np.where(whole[:, np.newaxis], variance, 0.0)),
            convention="variances inside of strata, divisor n - 1",
            effective=(weights * rows).sum(axis=0) ** 2 / (weights**2 * rows).sum(axis=0),
            heavy=0,
        )
        facts = {"link": self.link, "strata": int(whole.sum())}
        if lost := int(rows[~whole].sum()):
            facts["rows left out"] = lost
        weighing = _StratumWeights(strata, weights)
        return effects_of(title, self.estimand, study, solved, facts, dropped, weighing)


def check_plain(study: Study, where: str) -> None:
    """Refuse what the variances of strata and matches do not allow for: more arms, weights, clusters."""
    if len(study.arms) > 2:
        raise PlanError(f"there are {len(study.arms)} arms", where, "keep two by a filter; IPW and AIPW take several")
    if study.reader.weight is not None:
        raise PlanError("it takes no sampling weights", where, "IPW, AIPW and RegressionAdjustment do")
    if study.cluster:
        raise PlanError("its errors do not allow for clusters", where, "those of IPW, AIPW and others do")


@dataclass(frozen=True)
class _Counts:
    """How many rows of a block, by arm, have a linear score in each bin."""

    reader: Reader
    choice: Choice

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        with one_thread():
            rows = self.reader.rows(batch)
            bins = _bins(self.choice.scores(rows)[0])
        counts = np.bincount(rows.arm * BINS + bins, minlength=2 * BINS)
        return Sums({"counts": counts.reshape(2, BINS).astype(np.float64)})


def _bins(scores: Floats) -> Integers:
    return np.clip(np.floor((scores + REACH) / STEP), 0, BINS - 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Strata:
    """A grouping by stratum and arm: twice the number of the stratum, plus the arm."""

    reader: Reader
    choice: Choice
    bounds: Integers

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.reader.inputs

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        with one_thread():
            rows = self.reader.rows(batch)
            strata = np.searchsorted(self.bounds, _bins(self.choice.scores(rows)[0]), side="right")
        return np.asarray(2 * strata + rows.arm, np.int64)


@dataclass(frozen=True)
class _StratumWeights:
    """Gives rows the weight of their stratum and arm."""

    strata: _Strata
    weights: Floats

    def __call__(self, data: Dataset, name: str) -> Dataset:
        schema = pa.schema([*data.schema, pa.field(name, pa.float64())])
        return data.map_batches(_Weighed(self.strata.numbers, self.weights, name), schema=schema, batch_size=BLOCK_ROWS)


@dataclass(frozen=True)
class _Weighed:
    numbers: Callable[[pa.RecordBatch], Integers]
    weights: Floats
    name: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        weights = self.weights.ravel()[self.numbers(batch)]
        return pa.RecordBatch.from_arrays([*batch.columns, pa.array(weights)], names=[*batch.schema.names, self.name])
