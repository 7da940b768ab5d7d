"""Columns of numbers cut at their own quantiles, exactly, without a sort of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from iceblink.causal.experiments.places import Places
from iceblink.causal.experiments.quantiles import Ranks, ordered, selected
from iceblink.causal.judging.columns import check_numbers
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.regression.design import quoted
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

EVERYWHERE = Places((), (), np.zeros(1, np.int64), np.zeros(1, np.int64))
"""All rows are in one cell."""


def cut(data: Dataset, columns: Sequence[str], parts: int, where: str) -> tuple[Floats, ...]:
    """Return bounds that cut each column into parts of about as many rows.

    Eager: about three passes. The bound of share p of n rows is the value of rank ⌈n p⌉; bounds that are equal are one,
    so rows of equal values are always in one part, and a column of few values has a part for each.

    Parameters
    ----------
    data : Dataset
    columns : sequence of str
        Of numbers.
    parts : int
        At most so many.
    where : str
        For errors.

    Returns
    -------
    tuple of float64 arrays
        Ascending, fewer than `parts`: a row is above a bound if its value is larger. None is the greatest value.

    Raises
    ------
    ColumnNotFound, TypeMismatch
    PlanError
        There are no rows.
    QueryError
        A value is missing or infinite.
    """
    check_numbers(data, columns, where)
    told = ["count(1) AS n"]
    for at, name in enumerate(columns):
        value = f"CAST({quoted(name)} AS DOUBLE)"
        told.append(f"count(CASE WHEN isfinite({value}) THEN 1 END) AS n{at}")
        told += [f"{least}({value}) AS {least}{at}" for least in ("min", "max")]
    (found,) = data.sql(f"SELECT {', '.join(told)} FROM this").to_pylist()
    rows = found["n"]
    if not rows:
        raise PlanError("there are no rows", where, "look at the filters")
    for at, name in enumerate(columns):
        if lacking := rows - found[f"n{at}"]:
            raise QueryError(f"{name} is missing in {lacking:,} of {rows:,} rows", where, "filter the rows, or fill it")
    rank = np.unique([-(-rows * part // parts) for part in range(1, parts)] or [rows])
    column = np.repeat(np.arange(len(columns)), len(rank))
    nowhere = np.zeros(len(column), np.int64)
    ends = np.array([[found[f"min{at}"], found[f"max{at}"]] for at in range(len(columns))], np.float64)[column]
    ranks = Ranks(
        nowhere, column, nowhere, np.tile(rank, len(columns)).astype(np.int64), ordered(ends[:, 0]), ordered(ends[:, 1])
    )
    values = selected(data, tuple(columns), (EVERYWHERE,), ranks).reshape(len(columns), -1)
    return tuple(
        bounds[bounds < found[f"max{at}"]] for at, bounds in enumerate(np.unique(of_column) for of_column in values)
    )


def part_of(values: Floats, bounds: Floats) -> Integers:
    """Return for each value (n,) how many bounds it is above."""
    return np.searchsorted(bounds, values, side="left").astype(np.int64)


def shown(bound: float) -> str:
    """Return a bound to read by which nobody is sent to the wrong side: to 15 digits.

    One that single precision holds is told in the fewest digits that tell it from its neighbours there, 42.48 rather
    than 42.4799995422363; larger ones may be whole numbers, whose neighbours are nearer.
    """
    single = np.float32(bound)
    return f"{float(str(single)) if float(single) == bound and abs(bound) < 2**24 else bound:.15g}"
