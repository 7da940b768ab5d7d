"""Refuters of linear estimators in one scan: columns of chance beside the others, and weights of chance by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.dml.linear_nuisances import crossed, trained
from iceblink.causal.dml.partially_linear import LinearPLR
from iceblink.causal.doubt.chance import Added, Chosen, Redrawn, Resampled
from iceblink.causal.doubt.subjects import Subject
from iceblink.causal.formula import Variable, mentions, parsed
from iceblink.causal.matrix import Matrix, Order, Term, floats
from iceblink.causal.moments import SCHEMA, Floats, Moments
from iceblink.causal.passes import BLOCK_ROWS, Grouping
from iceblink.causal.regression.fit import fitted
from iceblink.causal.regression.ols import OLS
from iceblink.causal.tree import merged
from iceblink.errors import PlanError

Change = Redrawn | Added | Chosen | Resampled


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear estimator: the effect follows from the moments of its columns.

    Parameters
    ----------
    data : Any
        The dataset, with a column for each expression.
    matrix : Matrix
        The outcome, then the regressors.
    grouping : Grouping or None
        Folds, by which moments are kept apart, if there are any.
    folds : int
        How many numbers the grouping has.
    weight : str or None
    effect : callable
        Returns the effect of moments of the outcome, regressors, and the treatment's name among them.
    """

    data: Any
    matrix: Matrix
    grouping: Grouping | None
    folds: int
    weight: str | None
    effect: Callable[[Moments, str], float]


def linear(subject: Subject) -> Linear | None:
    """Return the linear estimator that a subject is; None if it is another, or its treatment stands in products."""
    estimator = subject.estimator
    if isinstance(estimator, LinearPLR) and estimator.repeats == 1:
        question = estimator.asked(subject.data, estimator.key_folds)
        by, effect_of = question.grouping, lambda found, _: _partially_linear(found)
        return Linear(question.data, question.matrix, by, estimator.folds, None, effect_of)
    if not isinstance(estimator, OLS):
        return None
    formula = parsed(estimator.formula)
    treatment = Variable(subject.treatment, True)
    if [term for term in formula.terms if mentions((term,), treatment)] != [(treatment,)]:
        return None
    design = estimator.designed(subject.data, f"refute {estimator.formula}")

    def effect(found: Moments, treatment: str) -> float:
        places = range(1, len(found.columns))
        fit = fitted(found, places, places, design.intercept, "refute")
        if treatment not in fit.names:
            raise PlanError(f"nothing is left of {treatment}", f"refute {estimator.formula}", "is it constant?")
        return float(fit.values[fit.names.index(treatment)])

    return Linear(design.data, design.matrix, None, 1, estimator.weight, effect)


def effects(subject: Subject, estimator: Linear, changes: Sequence[Change]) -> list[float]:
    """Return the effect after each change. Eager: one scan for all of them.

    Raises
    ------
    PlanError
        A change leaves nothing to learn from.
    """
    terms = tuple(
        _Drawn(f"__{at}", change) if isinstance(change, Redrawn | Added) else None for at, change in enumerate(changes)
    )
    weighted = tuple(change for change in changes if isinstance(change, Chosen | Resampled))
    blocks = _Blocks(
        estimator.matrix, tuple(filter(None, terms)), weighted, estimator.grouping, estimator.folds, estimator.weight
    )
    found = merged(
        _Both.of(blocks.names, rows)
        for batch in estimator.data.select(*blocks.inputs)
        .map_batches(blocks, schema=SCHEMA, batch_size=BLOCK_ROWS)
        .to_batches()
        for rows in (batch.slice(at, 2) for at in range(0, batch.num_rows, 2))
    )
    if found is None:
        raise PlanError("there are no rows", "refute", "look at the filters, and at missing values")
    with one_thread():  # for systems so small more of them only wait for each other
        return [
            _after(subject, estimator, found, weighted, change, term)
            for change, term in zip(changes, terms, strict=True)
        ]


def _after(
    subject: Subject,
    estimator: Linear,
    found: _Both,
    weighted: Sequence[Chosen | Resampled],
    change: Change,
    term: _Drawn | None,
) -> float:
    """Return the effect after one change."""
    treatment, own = subject.treatment, list(estimator.matrix.names)
    if isinstance(change, Chosen | Resampled):
        first = weighted.index(change) * estimator.folds
        return estimator.effect(_groups(found.rows, first, estimator.folds), treatment)
    assert term is not None
    if isinstance(change, Added):
        return estimator.effect(found.columns.chosen([*own, term.name]), treatment)
    columns = [term.name if name == change.column else name for name in own]
    return estimator.effect(found.columns.chosen(columns), term.name if change.column == treatment else treatment)


def _partially_linear(found: Moments) -> float:
    products = crossed(found, trained(found, "refute"), "refute")
    return float(products[0, 1] / products[1, 1])


def _groups(found: Moments, first: int, count: int) -> Moments:
    """Return the groups of some numbers, which are theirs from 0 on."""
    at = np.flatnonzero((found.groups >= first) & (found.groups < first + count))
    if not len(at):
        raise PlanError("a sample of chance has no rows", "refute", "there are too few units")
    return Moments(
        found.columns, found.groups[at] - first, found.rows[at], found.weights[at], found.means[at], found.products[at]
    )


@dataclass(frozen=True)
class _Drawn:
    """A column of chance, as a term of a matrix."""

    name: str
    change: Redrawn | Added

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.change.chance.keys

    def check(self, schema: pa.Schema, where: str) -> None:
        """Its sample is of a column that has been checked."""

    def fill(self, batch: pa.RecordBatch, order: Order | None, out: Floats) -> None:
        chance = self.change.chance
        if isinstance(self.change, Added):
            values = chance.normal(batch)
        else:
            values = floats(self.change.sample)[chance.among(batch, len(self.change.sample))]
        out[0] = values if order is None else values[order]


@dataclass(frozen=True, eq=False)
class _Both:
    """Moments with columns of chance, and moments of the other columns by weights of chance."""

    columns: Moments
    rows: Moments

    def merged(self, other: Self) -> Self:
        return type(self)(self.columns.merged(other.columns), self.rows.merged(other.rows))

    @classmethod
    def of(cls, names: tuple[Sequence[str], Sequence[str]], batch: pa.RecordBatch) -> Self:
        wide, own = (next(Moments.from_batch(names[at], batch.slice(at, 1))) for at in (0, 1))
        return cls(wide, own)


@dataclass(frozen=True)
class _Blocks:
    """The function that a worker calls: a block of rows becomes two rows of moments.

    Rows that lack a value are left out; who refuses these has done so in the fit before.
    """

    matrix: Matrix
    drawn: tuple[Term, ...]
    weighted: tuple[Chosen | Resampled, ...]
    grouping: Grouping | None
    folds: int
    weight: str | None

    @property
    def names(self) -> tuple[Sequence[str], Sequence[str]]:
        return (*self.matrix.names, *(name for term in self.drawn for name in term.names)), self.matrix.names

    @property
    def inputs(self) -> list[str]:
        terms = [*self.matrix.inputs, *(name for term in self.drawn for name in term.inputs)]
        keys = [name for change in self.weighted for name in change.chance.keys]
        more = [*(self.grouping.inputs if self.grouping else ()), *([self.weight] if self.weight else ())]
        return list(dict.fromkeys([*terms, *keys, *more]))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        values = Matrix((*self.matrix.terms, *self.drawn)).filled(batch)
        count = batch.num_rows
        weight = np.ones(count) if self.weight is None else floats(batch.column(self.weight)).astype(np.float64)
        group = np.zeros(count, np.int64) if self.grouping is None else self.grouping.numbers(batch)
        times = [
            change.chance.chosen(batch, change.share) if isinstance(change, Chosen) else change.chance.times(batch)
            for change in self.weighted
        ]
        order = np.argsort(group, kind="stable")
        order = order[np.isfinite(values.sum(axis=0) + weight)[order]]
        values, weight, group = values[:, order], weight[order], group[order]
        wide, own = self.names
        parts = []
        for at, each in enumerate(times):
            mine = np.flatnonzero(each[order])
            scaled = weight[mine] * each[order][mine]
            parts.append(Moments.of(own, values[: len(own), mine], group[mine] + at * self.folds, scaled))
        whole = Moments.of(wide, values, group, None if self.weight is None else weight)
        return pa.concat_batches([whole.to_batch(), _beside(own, parts).to_batch()])


def _beside(columns: Sequence[str], parts: Sequence[Moments]) -> Moments:
    """Return moments whose groups have ascending numbers as one."""
    if not parts:
        return Moments.nothing(columns)
    return Moments(
        tuple(columns),
        np.concatenate([one.groups for one in parts]),
        np.concatenate([one.rows for one in parts]),
        np.concatenate([one.weights for one in parts]),
        np.concatenate([one.means for one in parts]),
        np.concatenate([one.products for one in parts]),
    )
