"""A column that is the same in every row: there is nothing to explain, or to explain with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from iceblink.causal.regression.design import quoted
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

ROUNDING = 1e-13
"""A standard deviation that is a smaller part of the mean than this comes of rounding."""


def check_varies(name: str, mean: float, squares: float, weight: float, where: str, hint: str) -> None:
    """Raise PlanError where a column does not vary.

    Parameters
    ----------
    name : str
    mean, squares, weight : float
        Its mean, the sum of its squared deviations from that, and the sum of the rows' weights.
    where, hint : str
    """
    if weight > 0 and squares <= (ROUNDING * mean) ** 2 * weight:
        raise PlanError(f"{name} is {mean:g} in every row", where, hint)


def check_columns_vary(data: Dataset, hints: Mapping[str, str], where: str) -> None:
    """Raise PlanError where all values of a column are the same. Eager: a scan of these columns.

    Parameters
    ----------
    data : Dataset
    hints : mapping of str to str
        Of each column what to say.
    where : str
    """
    extremes = ", ".join(f"min({quoted(name)}), max({quoted(name)})" for name in hints)
    (row,) = data.sql(f"SELECT {extremes} FROM this").to_arrow().to_batches()
    for at, (name, hint) in enumerate(hints.items()):
        low, high = (row.column(2 * at + side)[0].as_py() for side in (0, 1))
        if low is not None and low == high:
            raise PlanError(f"{name} is {low} in every row", where, hint)
