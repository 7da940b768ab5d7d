"""A formula over a dataset becomes an outcome, regressors and instruments as terms of matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.formula import Factor, Formula, Levels, Terms, Variable
from iceblink.causal.matrix import Category, Matrix, Number, Product, Term
from iceblink.errors import ColumnNotFound, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST_LEVELS = 1_000


@dataclass(frozen=True)
class Design:
    """What is regressed on what.

    Parameters
    ----------
    data : Dataset
        With a column for each expression of the formula.
    matrix : Matrix
        The outcome, then the exogenous regressors without the intercept, the endogenous ones, the instruments.
    exogenous, endogenous, instruments : range
        Their places in the matrix.
    intercept : bool
    levels : mapping of Levels to Array
        The values of its categories, the reference first.
    """

    data: Dataset
    matrix: Matrix
    exogenous: range
    endogenous: range
    instruments: range
    intercept: bool
    levels: Mapping[Levels, pa.Array]

    @classmethod
    def of(cls, data: Dataset, formula: Formula, where: str, levels: Mapping[Levels, pa.Array] | None = None) -> Design:
        """Bring a formula and a dataset together.

        Eager where a column of categories has to be read for its levels, if these are not given.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError
        PlanError
            A category has too many levels, or none of the name given as reference.
        """
        schema = data.schema
        terms = (formula.terms, formula.endogenous, formula.instruments)
        factors = [formula.outcome, *(factor for part in terms for term in part for factor in term)]
        data = _with_expressions(data, factors, where)
        known = {} if levels is None else levels
        found = {
            one: known[one].cast(schema.field(one.column).type) if one in known else _levels(data, one, where)
            for one in dict.fromkeys(factors)
            if isinstance(one, Levels)
        }

        def term(factor: Factor) -> Term:
            return Category(factor.column, found[factor]) if isinstance(factor, Levels) else Number(factor.text)

        parts = [[reduce(Product, map(term, factors)) for factors in part] for part in terms]
        matrix = Matrix((Number(formula.outcome.text), *(one for part in parts for one in part)))
        for one in matrix.terms:
            one.check(data.schema, where)
        ends = np.cumsum([1, *(sum(len(one.names) for one in part) for part in parts)])
        exogenous, endogenous, instruments = (range(begin, end) for begin, end in pairwise(map(int, ends)))
        return cls(data, matrix, exogenous, endogenous, instruments, formula.intercept, found)


def with_expressions(data: Dataset, terms: Terms, where: str) -> Dataset:
    """Return a dataset with a column for each expression in some terms, as `Design.of` makes them. Lazy.

    Raises
    ------
    ColumnNotFound, SqlError
    """
    return _with_expressions(data, [factor for term in terms for factor in term], where)


def _with_expressions(data: Dataset, factors: Iterable[Factor], where: str) -> Dataset:
    wanted = {}
    for factor in factors:
        if isinstance(factor, Variable) and not factor.is_column:
            wanted[factor.text] = f"{factor.text} AS {quoted(factor.text)}"
        elif (name := factor.column if isinstance(factor, Levels) else factor.text) not in data.schema.names:
            raise ColumnNotFound.of(name, data.schema.names, where)
    return data.sql(f"SELECT *, {', '.join(wanted.values())} FROM this") if wanted else data


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def complete(data: Dataset, columns: Iterable[str]) -> Dataset:
    """Leave out rows that lack a value of some columns, or have one that is not finite. Lazy."""
    tests = []
    for name in dict.fromkeys(columns):
        tests.append(f"{quoted(name)} IS NOT NULL")
        if pa.types.is_floating(data.schema.field(name).type):
            tests.append(f"isfinite({quoted(name)})")
    return data.sql(f"SELECT * FROM this WHERE {' AND '.join(tests)}")


def levels_of(data: Dataset, column: str, where: str, most: int = MOST_LEVELS, hint: str | None = None) -> pa.Array:
    """Read which values a column has, in their order.

    Raises
    ------
    PlanError
        There are more than `most`, apart from what is missing.
    """
    found = data.select(column).distinct().limit(most + 2).to_arrow().column(column)
    values: pa.Array = found.combine_chunks().drop_null()
    if len(values) > most:
        raise PlanError(
            f"column {column!r} has more than {most:,} levels",
            where,
            hint or f"absorb it as a fixed effect: ... | {column}",
        )
    return values.take(pc.sort_indices(values))


def _levels(data: Dataset, wanted: Levels, where: str) -> pa.Array:
    """Read which values a column has, in their order, the reference first."""
    column = wanted.column
    values = levels_of(data, column, where)
    if wanted.reference is not None:
        names = [str(value) for value in values.to_pylist()]
        if wanted.reference not in names:
            raise PlanError(
                f"column {column!r} has no level {wanted.reference!r}", where, f"it has {', '.join(names[:10])}"
            )
        at = names.index(wanted.reference)
        values = pa.concat_arrays([values[at : at + 1], values[:at], values[at + 1 :]])
    return values
