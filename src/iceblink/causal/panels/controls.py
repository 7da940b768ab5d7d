"""A treated group and its possible controls over time, as a small matrix: what synthetic controls are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from iceblink.causal.constant import check_varies
from iceblink.causal.matrix import Number, floats
from iceblink.causal.moments import Floats
from iceblink.causal.passes import too_large
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.design import quoted
from iceblink.errors import ColumnNotFound, PlanError, QueryError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST_CELLS = 4_000_000
CONSTANT = "no treatment changed it"


@dataclass(frozen=True, eq=False)
class Controls:
    """Mean outcomes of units by period, controls and treated apart.

    Parameters
    ----------
    outcome : str
    names : tuple
        Of the controls, ascending.
    periods : float64 array (T,)
    before : int
        How many periods were before treatment.
    controls : float64 array (N, T)
    treated : float64 array (M, T)
    rows : int
        Rows of the table.
    provenance : Provenance
    """

    outcome: str
    names: tuple[Any, ...]
    periods: Floats
    before: int
    controls: Floats
    treated: Floats
    rows: int
    provenance: Provenance

    @classmethod
    def read(cls, data: Dataset, outcome: str, unit: str, time: str, treated: str) -> Controls:
        """Group a dataset by unit and period, and bring that here. Eager: one pass.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        PlanError
            There are more than 4,000,000 units times periods; units are treated from different periods on, or not all
            the time from then on; there are no controls, or fewer than two periods before treatment.
        QueryError
            A unit lacks the outcome in a period, or has one so large that its square is.
        """
        where = f"{outcome} of {unit} by {time}"
        for name in (outcome, unit, time, treated):
            if name not in data.schema.names:
                raise ColumnNotFound.of(name, data.schema.names, where)
        Number(outcome).check(data.schema, where)
        Number(treated).check(data.schema, where)
        kind = data.schema.field(time).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise TypeMismatch(
                f"column {time!r} is {show_type(kind)}, and periods are numbers", where, "number them: years, or months"
            )
        cells = data.select(*dict.fromkeys((outcome, unit, time, treated))).sql(
            f"SELECT {quoted(unit)} AS unit, {quoted(time)}::DOUBLE AS period, avg({quoted(outcome)}::DOUBLE) AS y, "
            f"min({quoted(treated)}::DOUBLE) AS low, max({quoted(treated)}::DOUBLE) AS high, count(*) AS n "
            f"FROM this WHERE {quoted(unit)} IS NOT NULL AND {quoted(time)} IS NOT NULL GROUP BY 1, 2"
        )
        found = cells.sql("SELECT * FROM this ORDER BY unit, period").limit(MOST_CELLS + 1).to_arrow()
        return _arranged(found, outcome, treated, Provenance.of(data), where)


def _arranged(found: pa.Table, outcome: str, treated: str, provenance: Provenance, where: str) -> Controls:
    if not found.num_rows:
        raise PlanError("there are no rows", where, "look at the filters")
    if found.num_rows > MOST_CELLS:
        raise PlanError(
            f"there are more than {MOST_CELLS:,} units times periods",
            where,
            "choose controls that resemble the treated",
        )
    period = floats(found.column("period"))
    periods = np.unique(period)
    count, left = divmod(found.num_rows, len(periods))
    observed = floats(found.column("y"))
    if left or not (period.reshape(count, -1) == periods).all() or not np.isfinite(observed).all():
        cells = len(found.column("unit").unique()) * len(periods)
        lacking = cells - int(np.isfinite(observed).sum())
        raise QueryError(
            f"units lack the outcome in some periods: {lacking:,} of {cells:,} values",
            where,
            "filter units or periods: weights are of whole histories",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, squares = float(observed.mean()), float(observed.var() * len(observed))
    if not np.isfinite(squares):
        raise too_large(outcome, where)
    check_varies(outcome, mean, squares, len(observed), where, CONSTANT)
    low, high = (floats(found.column(name)).reshape(count, -1) for name in ("low", "high"))
    if not ((low == high) & np.isin(low, (0.0, 1.0))).all():
        raise PlanError(f"{treated} is not 0 or 1 for a unit in a period", where, "1 from treatment on, 0 before it")
    ever = low.any(axis=1)
    starts = low[ever].argmax(axis=1)
    if not ever.any() or ever.all():
        raise PlanError(
            f"{'all' if ever.any() else 'no'} units are treated", where, "there must be treated ones and controls"
        )
    before = int(starts[0])
    if (starts != before).any() or not low[ever][:, before:].all():
        raise PlanError(
            "units are treated from different periods on, or not from one on",
            where,
            "take the units of one period and the never treated; or see Staggered",
        )
    if before < 2:
        raise PlanError(
            f"there are {before} periods before treatment", where, "weights need two or more to be found by"
        )
    values = observed.reshape(count, -1)
    names = np.array(found.column("unit").to_pylist(), dtype=object).reshape(count, -1)[:, 0]
    rows = int(np.sum(found.column("n").to_numpy()))
    return Controls(outcome, tuple(names[~ever]), periods, before, values[~ever], values[ever], rows, provenance)
