"""The rows of an observational study, as all its estimators see them: outcomes, arms, confounders, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.constant import check_varies
from iceblink.causal.formula import Formula, Terms
from iceblink.causal.matrix import Matrix, floats
from iceblink.causal.models.target import Target
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import Missing, moments
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.design import Design, complete, quoted
from iceblink.errors import PlanError, QueryError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST_ARMS = 20


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows.

    Parameters
    ----------
    outcome, weight : float64 arrays (n,)
    arm : int array (n,)
        Which treatment a row had, 0 being the control.
    columns : float64 array (p, n)
        Confounders less their means, in their standard deviations.
    """

    outcome: Floats
    arm: Integers
    columns: Floats
    weight: Floats

    def beside_ones(self, places: Sequence[int]) -> Floats:
        """Return a one and some of the columns (1 + k, n)."""
        return np.concatenate([np.ones((1, len(self.arm))), self.columns[list(places)]])


@dataclass(frozen=True)
class Arms:
    """A grouping of rows by their treatment."""

    column: str
    levels: pa.Array

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self.levels.to_pylist()))

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        codes = pc.index_in(batch.column(self.column), self.levels)
        if codes.null_count:
            raise QueryError(
                f"{codes.null_count:,} rows have a {self.column} that was not there when its values were counted",
                "a study",
                "pin the table to a version",
            )
        return np.asarray(codes.to_numpy(), np.int64)


@dataclass(frozen=True)
class ArmNumbers:
    """The number of a row's arm, 0 for the control."""

    arms: Arms

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.arms.inputs

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return self.arms.numbers(batch).astype(np.float64)


@dataclass(frozen=True)
class InArms:
    """1 where a row is in one of some arms, else 0."""

    arms: Arms
    of: tuple[int, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.arms.inputs

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        return np.isin(self.arms.numbers(batch), self.of).astype(np.float64)


def membership(arms: Arms) -> Target:
    """Return what a model learns of who is in which arm: of two arms the chance of the second, of more that of each."""
    if len(arms) == 2:
        return Target(InArms(arms, (1,)), binary=True, name=f"{arms.column} {arms.names[1]}")
    return Target(ArmNumbers(arms), classes=arms.names, name=arms.column)


@dataclass(frozen=True, eq=False)
class Reader:
    """What makes `Rows` of a batch; it travels to the workers.

    Parameters
    ----------
    matrix : Matrix
        The outcome, then the confounders.
    arms : Arms
    weight : str or None
    centres, scales : float64 arrays (p,)
        What is subtracted from confounders, and what they are divided by.
    """

    matrix: Matrix
    arms: Arms
    weight: str | None
    centres: Floats
    scales: Floats

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        weight = (self.weight,) if self.weight else ()
        return tuple(dict.fromkeys((*self.matrix.inputs, *self.arms.inputs, *weight)))

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """Return the rows of a batch, none of which lacks a value."""
        values = self.matrix.filled(batch)
        columns = values[1:]
        columns -= self.centres[:, np.newaxis]
        columns /= self.scales[:, np.newaxis]
        weight = np.ones(batch.num_rows)
        if self.weight is not None:
            weight = floats(batch.column(self.weight)).astype(np.float64)
        return Rows(values[0], self.arms.numbers(batch), columns, weight)


@dataclass(frozen=True, eq=False)
class Study:
    """A study whose arms have been counted and whose moments are known.

    Parameters
    ----------
    data : Dataset
        Its rows, complete, with a column for each expression.
    columns : tuple of str
        Those that the user's dataset has.
    reader : Reader
    found : Moments
        Of the outcome and the confounders, by arm.
    confounders, treatment_model, outcome_model : tuple of int
        Places among the confounders' columns, those left out that follow from others.
    dropped : tuple of str
        Those.
    cluster : tuple of str
    interacted : tuple of int or None
        Places whose slopes in one model of the outcome differ between arms; None where each arm has its own model.
    """

    data: Dataset
    columns: tuple[str, ...]
    reader: Reader
    found: Moments
    confounders: tuple[int, ...]
    treatment_model: tuple[int, ...]
    outcome_model: tuple[int, ...]
    cluster: tuple[str, ...]
    interacted: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        data: Dataset,
        outcome: Formula,
        sides: Sequence[Terms],
        treatment: str,
        control: object,
        weight: str | None,
        cluster: tuple[str, ...],
        missing: Missing,
        where: str,
    ) -> Study:
        """Count the arms and read the moments. Eager: two passes, the first over few columns.

        Parameters
        ----------
        data : Dataset
        outcome : Formula
            What is right of its tilde does not matter.
        sides : sequence of Terms
            The confounders, the model of the treatment, the model of the outcome; if that is one for all arms, those of
            its terms that are multiplied with the treatment.
        treatment : str
        control : object
            The value of the treatment that others are compared with; None for the smallest.
        weight : str or None
        cluster : tuple of str
        missing : {"raise", "drop"}
        where : str
            For errors.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError
        PlanError
            There are fewer than two arms, more than 20, or one has a single row; a weight is negative; the outcome is
            the same in every row.
        QueryError
            A value is missing.
        """
        terms = tuple(dict.fromkeys(term for side in sides for term in side))
        columns = tuple(data.columns)
        design = Design.of(data, Formula(outcome.outcome, terms, True), where)
        data, matrix = design.data, design.matrix
        if missing == "drop":
            data = complete(data, (*matrix.inputs, treatment, *((weight,) if weight else ()), *cluster))
        arms = arms_of(data, treatment, control, weight, where)
        found = moments(data, matrix, grouping=arms, weight=weight, missing="raise", where=where)
        total = found.total
        mean, squares = float(total.means[0, 0]), float(total.products[0, 0, 0])
        check_varies(matrix.names[0], mean, squares, float(total.weights[0]), where, "no treatment changed it")
        deviations = np.sqrt(np.diag(total.products[0])[1:] / total.weights[0])
        reader = Reader(matrix, arms, weight, total.means[0, 1:], np.where(deviations > 0, deviations, 1.0))
        ends = np.cumsum([0, *(len(term.names) for term in matrix.terms[1:])])
        at = {term: range(begin, end) for term, begin, end in zip(terms, ends[:-1], ends[1:], strict=True)}
        places = [tuple(int(place) for term in side for place in at[term]) for side in sides]
        interacted = places[3] if len(places) > 3 else None
        return cls(data, columns, reader, found, places[0], places[1], places[2], cluster, interacted)

    @property
    def arms(self) -> Arms:
        return self.reader.arms

    @property
    def names(self) -> tuple[str, ...]:
        """The confounders' columns."""
        return self.reader.matrix.names[1:]

    @property
    def rows(self) -> int:
        return int(self.found.rows.sum())

    @property
    def provenance(self) -> Provenance:
        """Where its rows come from."""
        return Provenance.of(self.data)

    @property
    def means(self) -> Floats:
        """The mean outcome of each arm (J,)."""
        return self.found.means[:, 0]

    @property
    def correlations(self) -> Floats:
        """Of the confounders (p, p), over all rows; of a column that does not vary zeros."""
        total, scales = self.found.total, self.reader.scales
        return np.asarray(total.products[0, 1:, 1:] / total.weights[0] / np.outer(scales, scales))

    def needed(self, *more: str) -> Dataset:
        """Return the dataset with the columns that the reader reads, and more."""
        return self.data.select(*dict.fromkeys((*self.reader.inputs, *more)))


def arms_of(data: Dataset, treatment: str, control: object, weight: str | None, where: str) -> Arms:
    """Count the values of the treatment, and put the control first. Eager: one pass over few columns.

    Raises
    ------
    TypeMismatch
        The treatment is a list or has fields.
    QueryError
        A value is missing.
    PlanError
        There are fewer than two arms, more than 20, or one has a single row; a weight is negative; nobody is a control.
    """
    if pa.types.is_nested(kind := data.schema.field(treatment).type):
        hint = "name a column of numbers, texts, or true and false: make one by mutate"
        raise TypeMismatch(f"the treatment {treatment!r} is {show_type(kind)}", where, hint)
    column = quoted(treatment)
    mass = f"CAST({quoted(weight)} AS DOUBLE)" if weight else "1e0"
    counted = data.sql(
        f"SELECT {column} AS arm, count(*) AS n, min({mass}) AS least, max({mass}) AS most FROM this "
        f"GROUP BY 1 ORDER BY 1 LIMIT {MOST_ARMS + 2}"
    ).to_arrow()
    found: pa.Array = counted["arm"].combine_chunks()
    kind = found.type
    if (lacking := pc.is_null(found, nan_is_null=pa.types.is_floating(kind))).true_count:
        count = counted["n"].filter(lacking)[0].as_py()
        raise QueryError(
            f"{treatment} is missing in {count:,} rows",
            where,
            'filter the rows, or say missing="drop" to leave out rows that lack a value',
        )
    order = control_first(found, treatment, control, where, "LinearPLR")
    counts = counted["n"].to_pylist()
    if min(counts) < 2:
        value = found[int(np.argmin(counts))].as_py()
        raise PlanError(f"one row has {treatment} {value!r}", where, "leave it out by a filter, or join it with others")
    if weight:
        _check_weights(weight, pc.fill_null(counted["least"], 0).to_pylist(), counted["most"].to_pylist(), where)
    return Arms(treatment, found.take(pa.array(order)))


def control_first(levels: pa.Array, treatment: str, control: object, where: str, by_degrees: str) -> list[int]:
    """Return the places of the treatment's values, that of the control first: None is for the smallest.

    Raises
    ------
    PlanError
        There are fewer than two, or more than 20: `by_degrees` names what takes such a treatment; nobody is a control.
    """
    values = levels.to_pylist()
    if len(values) > MOST_ARMS:
        raise PlanError(
            f"{treatment} has more than {MOST_ARMS} values",
            where,
            f"a treatment by degrees is for {by_degrees}, or cut it",
        )
    if len(values) < 2:
        said = f"is {values[0]!r} in every row" if values else "has no rows"
        raise PlanError(f"{treatment} {said}", where, "an effect compares at least two treatments")
    if control is not None and control not in values:
        raise PlanError(f"no row has {treatment} {control!r}", where, f"it has {', '.join(map(repr, values[:10]))}")
    at = 0 if control is None else values.index(control)
    return [at, *(other for other in range(len(values)) if other != at)]


def _check_weights(weight: str, least: list[float], most: list[float | None], where: str) -> None:
    if min(least) < 0:
        raise PlanError(f"{weight} is negative in some rows", where, "weights are 0 or more")
    if any(one == 0 for one in most):
        raise PlanError(f"{weight} is 0 in all rows of an arm", where, "leave the arm out by a filter")
