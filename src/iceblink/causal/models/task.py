"""What models are trained on: features, targets, and folds, each of which is left out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.matrix import Matrix
from iceblink.causal.models.target import Target
from iceblink.causal.moments import SCHEMA, Floats, Integers, Moments
from iceblink.causal.passes import BLOCK_ROWS, Folds, Grouping, by_group, check_finite
from iceblink.causal.tree import merged
from iceblink.errors import ColumnNotFound, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows, those of a fold side by side.

    Parameters
    ----------
    fold : int64 array (n,)
        Ascending.
    features : float64 array (p, n)
    targets : float64 array (m, n)
        0 where a target does not learn from a row.
    weights : float64 array (m, n)
        0 there too.
    learnt : bool array (m, n)
        Whether it does.
    """

    fold: Integers
    features: Floats
    targets: Floats
    weights: Floats
    learnt: NDArray[np.bool_]

    def among(self, some: slice) -> Rows:
        """Return some of the rows, in their order."""
        features, targets, weights = (array[:, some] for array in (self.features, self.targets, self.weights))
        return Rows(self.fold[some], features, targets, weights, self.learnt[:, some])


@dataclass(frozen=True, eq=False)
class Task:
    """Models to be fitted together: one for each target, or one for each target and fold, made of the other folds.

    Parameters
    ----------
    features : Matrix
        What is known of a row when it is predicted for.
    targets : tuple of Target
    folds : Grouping or None
        Which fold a row is in; None for models of all rows.
    where : str
        Who asks, for errors.
    """

    features: Matrix
    targets: tuple[Target, ...]
    folds: Grouping | None
    where: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        names = [*self.features.inputs, *(self.folds.inputs if self.folds else ())]
        return tuple(dict.fromkeys((*names, *(name for target in self.targets for name in target.inputs))))

    def data(self, data: Dataset) -> Dataset:
        """Return the dataset with the columns that are read.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        schema = data.schema
        for name in self.inputs:
            if name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, self.where)
        for term in self.features.terms:
            term.check(schema, self.where)
        for target in self.targets:
            target.check(schema, self.where)
        return data.select(*self.inputs)

    def rows(self, batch: pa.RecordBatch, gaps: bool = False) -> Rows:
        """Return the rows of a batch.

        Parameters
        ----------
        batch : RecordBatch
        gaps : bool
            Whether features may lack values; infinite they may not be.

        Raises
        ------
        QueryError
            A value is missing, a weight is negative, a binary target is neither 0 nor 1, or a class is none.
        """
        fold = np.zeros(batch.num_rows, np.int64) if self.folds is None else self.folds.numbers(batch)
        order = None if self.folds is None else by_group(fold)
        features = self.features.filled(batch, order)
        targets, weights = np.empty((len(self.targets), len(fold))), np.ones((len(self.targets), len(fold)))
        learnt = np.ones((len(self.targets), len(fold)), bool)
        for at, target in enumerate(self.targets):
            if target.rows is not None:
                learnt[at] = target.rows(batch) != 0
            if target.weights is not None:
                weights[at] = target.weights(batch)
            values = target.values_where(learnt[at], batch)
            self._refuse(target, values, weights[at], learnt[at])
            learnt[at] &= weights[at] > 0
            targets[at] = np.where(learnt[at], values, 0.0)
        weights[~learnt] = 0.0
        if not np.isfinite(features.sum()):
            self._missing(features, np.isinf(features) if gaps else ~np.isfinite(features))
        if order is None:
            return Rows(fold, features, targets, weights, learnt)
        return Rows(fold[order], features, targets[:, order], weights[:, order], learnt[:, order])

    @cached_property
    def sample_of(self) -> tuple[int, ...]:
        """Of each target the number of its sample: targets that learn from the same rows in the same way share one."""
        firsts: list[int] = []
        numbers = []
        for at, target in enumerate(self.targets):
            alike = (number for number, first in enumerate(firsts) if target.counts_as(self.targets[first]))
            number = next(alike, len(firsts))
            if number == len(firsts):
                firsts.append(at)
            numbers.append(number)
        return tuple(numbers)

    def moments(self, data: Dataset) -> Sampled:
        """Read the data once, and return the moments of each fold. Eager."""
        names = (*(target.name for target in self.targets), *self.features.names)
        blocks = self.data(data).map_batches(_Blocks(self, names), schema=SCHEMA, batch_size=BLOCK_ROWS)
        found = merged(state for batch in blocks.to_batches() for state in Moments.from_batch(names, batch))
        if found is None or not len(found.groups):
            raise no_rows(self.where)
        check_finite(found, self.where)
        samples = len(set(self.sample_of))
        folds = np.unique(found.groups // samples)
        self.check_folds(folds)
        return Sampled(found, folds, self.sample_of, samples)

    def check_folds(self, folds: Integers) -> None:
        """Refuse folds (K,) of which nothing would be learnt.

        Raises
        ------
        PlanError
        """
        if self.folds is None:
            return
        if len(folds) < 2:
            raise PlanError(f"all rows are in {len(folds)} fold", self.where, "is the key the same in all rows?")
        if isinstance(self.folds, Folds) and len(folds) < self.folds.count:
            raise PlanError(
                f"{self.folds.count - len(folds)} of {self.folds.count} folds have no rows",
                self.where,
                "there are hardly more units than folds: ask for fewer folds",
            )

    def of(self, target: Target) -> str:
        """Return what errors of a target's model begin with."""
        return f"{self.where}, model of {target.name}"

    def _refuse(self, target: Target, values: Floats, weight: Floats, learnt: NDArray[np.bool_]) -> None:
        where = self.of(target)
        lacking = learnt & ~(np.isfinite(values) & np.isfinite(weight))
        if lacking.any():
            raise QueryError(
                f"{target.name} is missing in {int(lacking.sum()):,} of {int(learnt.sum()):,} rows",
                where,
                'filter the rows, fill them by mutate, or say missing="drop" where it can be said',
            )
        if (weight[learnt] < 0).any():
            raise QueryError(f"weights of {target.name} are negative", where, "weights are 0 or more")
        if target.binary:
            other = learnt & (values != 0) & (values != 1)
            if other.any():
                raise QueryError(f"{target.name} has {values[other][0]:g}", where, "it is to be 0 or 1")
        if target.classes:
            other = learnt & ~np.isin(values, np.arange(len(target.classes)))
            if other.any():
                hint = f"it is to be the number of a class, from 0 to {len(target.classes) - 1}"
                raise QueryError(f"{target.name} has {values[other][0]:g}", where, hint)

    def _missing(self, features: Floats, lacking: NDArray[np.bool_]) -> None:
        counts = lacking.sum(axis=1)
        at = int(np.argmax(counts))
        if counts[at]:  # else their sum was too large, and each of them is not
            raise QueryError(
                f"{self.features.names[at]} is missing or infinite in {int(counts[at]):,} of {len(features.T):,} rows",
                self.where,
                'filter the rows, fill them by mutate, or say missing="drop" where it can be said',
            )


def check_classes(seen: NDArray[Any], target: Target, where: str) -> None:
    """Raise PlanError unless each class of a target is among the numbers that a training set has."""
    for number, name in enumerate(target.classes):
        if number not in seen:
            raise PlanError(
                f"{target.name} is {name} in no row that a model learns from",
                where,
                "filter such rows, join them with others, or ask for fewer folds",
            )


def no_rows(where: str) -> PlanError:
    return PlanError("there are no rows", where, "look at the filters, and at missing values")


@dataclass(frozen=True, eq=False)
class Sampled:
    """Moments of the targets, then the features, of each fold and sample.

    Parameters
    ----------
    found : Moments
        Of group ``fold * samples + sample``.
    folds : int64 array (K,)
        Their numbers; one, 0, where there are none.
    numbers : tuple of int
        The sample of each target.
    samples : int
    """

    found: Moments
    folds: Integers
    numbers: tuple[int, ...]
    samples: int

    def training(self, target: int, fold: int) -> Moments:
        """Return those of the rows that a target's model for a fold learns from: those of other folds, if there are."""
        used = self.folds[self.folds != fold] if len(self.folds) > 1 else self.folds
        return self.found.among([int(one) * self.samples + self.numbers[target] for one in used])


@dataclass(frozen=True)
class _Blocks:
    """The function that a worker calls: a block of rows becomes one row of moments."""

    task: Task
    names: Sequence[str]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = self.task.rows(batch)
        samples = len(set(self.task.sample_of))
        with np.errstate(over="ignore", invalid="ignore"):  # `moments` refuses what is too large
            found = merged(self._of(rows, number, samples) for number in range(samples))
        return (found or Moments.nothing(self.names)).to_batch()

    def _of(self, rows: Rows, number: int, samples: int) -> Moments:
        first = self.task.sample_of.index(number)  # a target that has this sample
        kept = rows.learnt[first]
        values = np.concatenate([rows.targets, rows.features])
        group = rows.fold * samples + number
        weight = rows.weights[first] if self.task.targets[first].weight is not None else None
        if not kept.all():
            values, group = np.ascontiguousarray(values[:, kept]), group[kept]
            weight = None if weight is None else weight[kept]
        found = Moments.of(self.names, values, group, weight)
        # A fold of whose rows none is learnt from is a fold nevertheless.
        return found.spread(np.unique(rows.fold) * samples + number)
