"""A formula over a dataset becomes an outcome, regressors and instruments as terms of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa

from iceblink.causal.formula import Factor, Formula, Levels, Variable
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
    outcome : str
    regressors : Matrix
        Without the intercept.
    intercept : bool
    """

    data: Dataset
    outcome: str
    regressors: Matrix
    intercept: bool

    @classmethod
    def of(cls, data: Dataset, formula: Formula, where: str) -> Design:
        """Bring a formula and a dataset together.

        Eager where a column of categories has to be read for its levels.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError
        PlanError
            A category has too many levels, or none of the name given as reference.
        """
        schema = data.schema
        factors = [formula.outcome, *(factor for term in formula.terms for factor in term)]
        for factor in factors:
            name = factor.column if isinstance(factor, Levels) else factor.text if factor.is_column else None
            if name is not None and name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, where)
        wanted = dict.fromkeys(one.text for one in factors if isinstance(one, Variable) and not one.is_column)
        if wanted:
            made = ", ".join(f"{text} AS {quoted(text)}" for text in wanted)
            data = data.sql(f"SELECT *, {made} FROM this")
        levels = {one: _levels(data, one, where) for one in dict.fromkeys(factors) if isinstance(one, Levels)}

        def term(factor: Factor) -> Term:
            return levels[factor] if isinstance(factor, Levels) else Number(factor.text)

        regressors = Matrix(tuple(reduce(Product, map(term, factors)) for factors in formula.terms))
        for one in (Number(formula.outcome.text), *regressors.terms):
            one.check(data.schema, where)
        return cls(data, formula.outcome.text, regressors, formula.intercept)


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _levels(data: Dataset, wanted: Levels, where: str) -> Category:
    """Read which values a column has, in their order, the reference first."""
    column = wanted.column
    found = data.select(column).distinct().limit(MOST_LEVELS + 1).to_arrow().column(column)
    if len(found) > MOST_LEVELS:
        raise PlanError(
            f"column {column!r} has more than {MOST_LEVELS:,} levels",
            where,
            f"absorb it as a fixed effect: ... | {column}",
        )
    values: pa.Array = found.combine_chunks().drop_null()
    values = values.take(pa.compute.sort_indices(values))
    if wanted.reference is not None:
        names = [str(value) for value in values.to_pylist()]
        if wanted.reference not in names:
            raise PlanError(
                f"column {column!r} has no level {wanted.reference!r}", where, f"it has {', '.join(names[:10])}"
            )
        at = names.index(wanted.reference)
        values = pa.concat_arrays([values[at : at + 1], values[:at], values[at + 1 :]])
    return Category(column, values)
