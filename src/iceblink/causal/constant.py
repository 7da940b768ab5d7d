"""A column that is the same in every row: there is nothing to explain, or to explain with."""

from __future__ import annotations

from iceblink.errors import PlanError

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
