"""The interactive model with an instrument: the effect on those whom it moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.clipping import ROWS_CLIPPED, check_bound, clipped
from iceblink.causal.dml.crossfit import Asked, CrossFit, Prepared
from iceblink.causal.dml.interactive import rows_clipped
from iceblink.causal.dml.partialling_out import LITTLE, estimates
from iceblink.causal.dml.repeats import Groupings, combined
from iceblink.causal.dml.scores import solution
from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Matrix
from iceblink.causal.models.fitted import Model
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.logistic import Logistic
from iceblink.causal.models.target import Column, Equals, Target
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats
from iceblink.causal.passes import summed
from iceblink.causal.sums import Sums
from iceblink.errors import ConfigError, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class IIVM(CrossFit):
    """The local average effect of a treatment of 0 and 1 on those whom an instrument of 0 and 1 moves (LATE) [1]_.

    The ratio of the instrument's average effect on the outcome to that on the treatment, both as of `IRM`. It is the
    effect on compliers if, given the confounders, the instrument is as good as random, acts through the treatment
    alone, and keeps nobody from it.

    Parameters
    ----------
    outcome, confounders, key, folds, seed, cluster, missing, repeats
        As of `PLR`.
    treatment, instrument : str
        Columns of 0 and 1, or of true and false.
    outcome_model, treatment_model : Model
        Of the outcome and of the chance of the treatment, for each value of the instrument.
    instrument_model : Model
        Of the chance of the instrument.
    always_takers, never_takers : bool
        Whether there may be rows that are treated though the instrument is 0, and rows that are not though it is 1.
        Where there are none, that chance is known, and is not to be learnt; a row that is one is then an error.
    clip : float
        As of `IRM`, of the chance of the instrument.

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Chernozhukov et al. 2018, eq. 5.8; Imbens, Angrist: Identification and estimation of local average treatment
       effects, Econometrica 1994.
    """

    instrument: str = field(kw_only=True)
    outcome_model: Model = field(default=Linear(), kw_only=True)
    treatment_model: Model = field(default=Logistic(), kw_only=True)
    instrument_model: Model = field(default=Logistic(), kw_only=True)
    always_takers: bool = field(default=True, kw_only=True)
    never_takers: bool = field(default=True, kw_only=True)
    clip: float = field(default=0.01, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bound(self.clip, "IIVM")
        if not (self.always_takers or self.never_takers):
            raise ConfigError("everybody does as the instrument says", "IIVM", "then it is the treatment: IRM")

    @property
    def _roles(self) -> tuple[str, ...]:
        return (self.treatment, self.instrument)

    def fit(self, data: Dataset, *, grouping: Groupings | None = None) -> Estimates:
        """Estimate it, as `IRM.fit` does; the estimate is called ``LATE``.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError
        QueryError
            Also where a row is of a kind that there is said to be none of, before models are trained.
        PlanError
            The instrument has one value, or does not move the treatment.
        """
        prepared = self._prepared(data, grouping)
        self._check_takers(prepared)
        return combined([self._once(one) for one in prepared.repeats()])

    def _check_takers(self, prepared: Prepared) -> None:
        """Count who is treated at which value of the instrument, and refuse what there is said to be none of."""
        targets = tuple(Target(name, binary=True) for name in (self.instrument, self.treatment))
        asked = Task(Matrix(()), targets, None, self.title)
        counts = summed(asked.data(prepared.data), _Takers(asked))["counts"].astype(int)
        for value, of_value in enumerate(counts):
            if not of_value.sum():
                what = f"{self.instrument} is {1 - value} in every row"
                raise PlanError(what, self.title, "an instrument of two values is compared")
        for allowed, value, name in ((self.always_takers, 0, "always_takers"), (self.never_takers, 1, "never_takers")):
            if not allowed and (against := counts[value, 1 - value]):
                raise QueryError(
                    f"{self.treatment} is {1 - value} though {self.instrument} is {value} in {against:,} rows",
                    self.title,
                    f"such there are: {name}=True",
                )

    def _once(self, prepared: Prepared) -> Estimates:
        asked: Asked = []
        for value in (0, 1):
            name = f"{self.outcome} of {self.instrument} {value}"
            asked.append((self.outcome_model, Target(self.outcome, rows=Equals(self.instrument, value), name=name)))
        asked.append((self.instrument_model, Target(self.instrument, binary=True)))
        for value, learnt in ((0, self.always_takers), (1, self.never_takers)):
            if learnt:
                name = f"{self.treatment} of {self.instrument} {value}"
                target = Target(self.treatment, rows=Equals(self.instrument, value), binary=True, name=name)
                asked.append((self.treatment_model, target))
        score = _Moved(self.outcome, self.treatment, self.instrument, self.always_takers, self.never_takers, self.clip)
        found = solution(prepared, asked, score, self._clusters)
        if not abs(found.slopes[0]) > LITTLE * found.rows:
            raise PlanError(
                f"given the confounders, {self.instrument} does not move {self.treatment}",
                self.title,
                "an instrument has to do with the treatment",
            )
        facts = {"instrument": self.instrument, "clip": self.clip, ROWS_CLIPPED: rows_clipped(found)}
        return estimates(self.title, ("LATE",), found, self._facts(prepared, **facts), self._provenance(prepared))


@dataclass(frozen=True)
class _Moved:
    """- a and b are the augmented effects of the instrument on treatment and outcome; whether a chance was clipped."""

    outcome: str
    treatment: str
    instrument: str
    always_takers: bool
    never_takers: bool
    clip: float
    width: int = 1
    extras: tuple[str, ...] = ("clipped",)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.outcome, self.treatment, self.instrument)

    def __call__(self, batch: pa.RecordBatch, nuisances: Floats) -> Floats:
        outcome, treatment, instrument = (Column(name)(batch) for name in self.inputs)
        (chance,), touched = clipped(nuisances[2:3], self.clip)
        rest = iter(nuisances[3:])
        takers = [
            next(rest) if self.always_takers else np.zeros(len(outcome)),
            next(rest) if self.never_takers else np.ones(len(outcome)),
        ]

        def effect(of: Floats, without: Floats, having: Floats) -> Floats:
            weighed = instrument * (of - having) / chance - (1 - instrument) * (of - without) / (1 - chance)
            return np.asarray(having - without + weighed)

        return np.stack(
            [
                -effect(treatment, *takers),
                effect(outcome, nuisances[0], nuisances[1]),
                touched,
            ]
        )


@dataclass(frozen=True)
class _Takers:
    """Counts the rows (2, 2) of each value of the instrument, and of the treatment at it."""

    asked: Task

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        instrument, treatment = self.asked.rows(batch).targets.astype(np.int64)
        return Sums({"counts": np.bincount(2 * instrument + treatment, minlength=4).reshape(2, 2).astype(np.float64)})
