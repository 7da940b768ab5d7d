"""Whether each unit is in one row and one arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.causal.passes import Missing
from iceblink.causal.regression.design import quoted
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


def check_units(data: Dataset, unit: str, arm: str, missing: Missing, where: str) -> None:
    """Group the rows by their units and look. Eager: reads two columns once, on the engine of the dataset.

    Raises
    ------
    PlanError
        Units are in several arms or in several rows; says how many.
    QueryError
        A unit's key is missing.
    """
    rows = f"SELECT {quoted(unit)} AS unit, {quoted(arm)} AS arm FROM this"
    if missing == "drop":
        rows += f" WHERE {quoted(arm)} IS NOT NULL"
    units = f"SELECT unit, count(1) AS n, min(arm) AS low, max(arm) AS high FROM ({rows}) AS of_rows GROUP BY unit"
    (found,) = data.sql(
        "SELECT count(CASE WHEN low <> high THEN 1 END) AS crossed, count(CASE WHEN n > 1 THEN 1 END) AS repeated, "
        f"sum(CASE WHEN unit IS NULL THEN n END) AS keyless, count(1) AS units FROM ({units}) AS of_units"
    ).to_pylist()
    if found["keyless"]:
        raise QueryError(f"{unit} is missing in {found['keyless']:,} rows", where, "filter the rows")
    if found["crossed"]:
        what = f"{found['crossed']:,} of {found['units']:,} values of {unit} are in several arms"
        raise PlanError(what, where, "find out why; to leave such units out hides an effect on who they are")
    if found["repeated"]:
        what = f"{found['repeated']:,} of {found['units']:,} values of {unit} are in several rows"
        raise PlanError(what, where, f"say cluster={unit!r}, or make one row of each with group_by")
