"""Doubly robust scores: of each row a number whose mean, in any group of rows, is the effect on that group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.clipping import clipped
from iceblink.causal.judging.columns import check_numbers, keys_of
from iceblink.causal.learners.orthogonal import check_folds
from iceblink.causal.learners.propensity import KnownChances, Share, columns_of, known
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.observational.choice import Choice, choice
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.study import Arms, Reader, Rows, Study
from iceblink.causal.passes import BLOCK_ROWS, Folds, moments
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.fit import fitted
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError, DuplicateColumn, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Propensities = Share | Mapping[Any, Share]


@dataclass(frozen=True)
class DoublyRobust:
    """Scores of the effect of each row: right on average if either the outcomes or the treatment are modelled right.

    With μ_j(x) the outcome that is expected in arm j, and p_j(x) the chance of it, the score of arm j is
    Γ_j = μ_j(x) - μ_0(x) + 1{arm = j} (y - μ_j(x)) / p_j(x) - 1{arm = 0} (y - μ_0(x)) / p_0(x) [1]_ [2]_. μ is a linear
    model of each arm, made of the rows of other folds.

    They are what `TOC`, `Calibration`, `GroupEffects`, `BestLinearPredictor`, `PolicyTree` and `PolicyValue` judge by.
    Score the rows that a prediction has not seen.

    Parameters
    ----------
    key : str or sequence of str
        The columns of the unit, which decide its fold, unless the problem has clusters: then these do.
    propensity : float, str or mapping of arm to these, optional
        In an experiment, the chance of treatment, or a column of it; of more arms than two the chance of each, by its
        value: the control has what others leave if it is not named. Default: a multinomial logit of the confounders,
        fitted to all rows.
    folds : int
    seed : int
    clip : float
        Chances nearer to 0 or 1 than this are taken as this. Scores of such rows lean on the outcome's model; how many
        there are is in `Propensity(...).fit(problem).overlap()`.

    References
    ----------
    .. [1] Robins, Rotnitzky, Zhao: Estimation of regression coefficients when some regressors are not always observed,
       JASA 1994.
    .. [2] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018, eq. 5.3.
    """

    key: str | Sequence[str]
    propensity: Propensities | None = None
    folds: int = 5
    seed: int = 0
    clip: float = 0.01

    def __post_init__(self) -> None:
        where = "DoublyRobust"
        check_whole_fields(self, where)
        check_folds(self.folds, self.clip, where)
        given = self.propensity
        said: list[Any] = list(given.values()) if isinstance(given, Mapping) else [given]
        chances = [float(one) for one in said if isinstance(one, Real)]
        if not all(0 < one < 1 for one in chances) or sum(chances) > 1 + 1e-9:
            raise ConfigError(f"propensity is {given}", where, "chances between 0 and 1, those of all arms 1 together")

    def fit(self, problem: Problem) -> RowScores:
        """Fit the models. Eager: one pass, two for what the problem's estimators share, and about three for the logit.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        ConfigError
            Propensities are not those of the problem's arms.
        PlanError
            There is no overlap, a fold's other rows are too few for a model, or the problem has weights or
            interactions.
        """
        title, study = f"DoublyRobust of {problem}", problem.study
        if study.reader.weight is not None:
            raise PlanError("it takes no sampling weights", title, "judge without them, or average by weight yourself")
        if study.interacted is not None:
            raise PlanError(
                "it takes no interactions", title, "each arm has a model of its own: leave interactions at None"
            )
        keys = keys_of(self.key, study.data, title)
        chances = self._chances(study, title)
        folds = Folds(study.cluster or keys, self.folds, self.seed)
        found = moments(study.data, study.reader.matrix, grouping=_FoldArms(folds, study.arms), where=title)
        return RowScores(
            title, study, _Scorer(study.reader, folds, _outcomes(study, found, self.folds, title), chances, self.clip)
        )

    def _chances(self, study: Study, title: str) -> _Chances:
        if self.propensity is None:
            return _Modelled(choice(study, "logit", title)[0])
        check_numbers(study.data, columns_of(self.propensity), title)
        return _Known(known(self.propensity, study.arms, title))


@dataclass(frozen=True, eq=False, repr=False)
class RowScores:
    """Models by which rows are scored.

    Parameters
    ----------
    title : str
    study : Study
    """

    title: str
    study: Study
    scorer: _Scorer

    def __repr__(self) -> str:
        control, *others = self.study.arms.names
        return f"{self.title}: scores of {', '.join(others)} against {control}"

    @property
    def provenance(self) -> Provenance:
        """Which rows the models are made of."""
        folds = self.scorer.folds
        return Provenance.of(self.study.data, folds=folds.count, seed=folds.seed)

    def scored(self, column: str = "score") -> Dataset:
        """Return the rows with their scores. Lazy.

        Of two arms the score of the other against the control; of more a column for each, ``score[arm]``.

        Raises
        ------
        DuplicateColumn
        QueryError
            When it runs: a column of propensities lacks one, or has one that is no chance.
        """
        arms, data = self.study.arms.names[1:], self.study.data
        names = (column,) if len(arms) == 1 else tuple(f"{column}[{arm}]" for arm in arms)
        for one in names:
            if one in data.columns:
                raise DuplicateColumn(f"there is a column {one!r} already", self.title, "scored(column=...)")
        schema = pa.schema([*data.schema, *(pa.field(one, pa.float64()) for one in names)])
        return data.map_batches(_Scored(self.scorer, names), schema=schema, batch_size=BLOCK_ROWS).select(
            *self.study.columns, *names
        )


class _Chances(Protocol):
    """Knows the chance of each arm."""

    def of(self, batch: pa.RecordBatch, rows: Rows) -> Floats:
        """Return them (J, n)."""


@dataclass(frozen=True, eq=False)
class _Modelled:
    choice: Choice

    def of(self, batch: pa.RecordBatch, rows: Rows) -> Floats:
        return self.choice.chances(rows).of


@dataclass(frozen=True)
class _Known:
    chances: KnownChances

    def of(self, batch: pa.RecordBatch, rows: Rows) -> Floats:
        found = self.chances.of(batch)
        if np.isnan(found).any():
            names = ", ".join(self.chances.inputs)
            raise QueryError(
                f"{names} is missing in some rows", "DoublyRobust", "filter the rows, or fill it by mutate"
            )
        return found


@dataclass(frozen=True)
class _FoldArms:
    """A grouping by fold and arm: J times the fold, plus the arm."""

    folds: Folds
    arms: Arms

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.folds.inputs, *self.arms.inputs)))

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        return self.folds.numbers(batch) * len(self.arms) + self.arms.numbers(batch)


def _outcomes(study: Study, found: Moments, folds: int, where: str) -> Floats:
    """Fit the model of each arm for each fold, of the other folds' rows.

    Returns
    -------
    float64 array (folds, J, 1 + p)
        Of the one, and of the columns as the reader scales them.
    """
    reader, arms = study.reader, len(study.arms)
    models = np.zeros((folds, arms, 1 + len(reader.centres)))
    columns = [1 + place for place in study.outcome_model]
    for fold in range(folds):
        for arm, name in enumerate(study.arms.names):
            others = found.among([other * arms + arm for other in range(folds) if other != fold])
            place = f"{where}, {study.arms.column} {name}, without fold {fold}"
            fit = fitted(others, columns, columns, True, place)
            at, slopes = [column - 1 for column in fit.regressors], fit.values[1:]
            models[fold, arm, 0] = fit.values[0] + slopes @ reader.centres[at]
            models[fold, arm, [1 + one for one in at]] = slopes * reader.scales[at]
    return models


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Makes scores (J - 1, n) of the rows of a batch."""

    reader: Reader
    folds: Folds
    outcomes: Floats
    chances: _Chances
    clip: float

    def of(self, batch: pa.RecordBatch) -> Floats:
        with one_thread():
            rows = self.reader.rows(batch)
            means = np.empty((len(self.reader.arms), len(rows.arm)))
            columns = np.concatenate([np.ones((1, len(rows.arm))), rows.columns])
            fold = self.folds.numbers(batch)
            for number, models in enumerate(self.outcomes):
                mine = np.flatnonzero(fold == number)
                means[:, mine] = models @ columns[:, mine]
            at = (rows.arm, np.arange(len(rows.arm)))
            chances, _ = clipped(self.chances.of(batch, rows), self.clip)
            means[at] += (rows.outcome - means[at]) / chances[at]
        return np.asarray(means[1:] - means[0])


@dataclass(frozen=True)
class _Scored:
    scorer: _Scorer
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [*batch.columns, *map(pa.array, self.scorer.of(batch))]
        return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, *self.names])
