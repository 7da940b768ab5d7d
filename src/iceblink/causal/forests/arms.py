"""The arms of a study with outcomes of 0 and 1: who had which treatment, and how often it went well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.forests.divergence import CELL
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import MOST_ARMS, Arms, control_first
from iceblink.causal.regression.design import quoted
from iceblink.errors import PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Cells:
    """Numbers a row by its arm and its outcome: 2 arm + outcome."""

    outcome: str
    arms: Arms

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.outcome, *self.arms.inputs)

    @property
    def names(self) -> tuple[str, ...]:
        return (CELL,)

    def of(self, batch: pa.RecordBatch) -> Floats:
        outcome = floats(batch.column(self.outcome)).astype(np.float64)
        return (2.0 * self.arms.numbers(batch) + outcome)[np.newaxis]


def counted_arms(data: Dataset, outcome: str, treatment: str, control: object, where: str) -> tuple[Arms, Floats]:
    """Count rows by arm and outcome, the control first. Eager: one pass over two columns.

    Returns
    -------
    Arms
    float64 array (J, 2)
        Rows of each arm, and those of outcome 1.

    Raises
    ------
    PlanError
        There are fewer than two arms or more than 20, no arm is the control, or outcomes are not 0 and 1, or are all
        the same.
    QueryError
        A treatment or an outcome is missing.
    """
    column, value = quoted(treatment), f"CAST({quoted(outcome)} AS DOUBLE)"
    whole = f"{value} IS NOT NULL AND NOT isnan({value})"
    counted = data.sql(
        f"SELECT {column} AS arm, count(*) AS n, count(*) FILTER (WHERE {whole}) AS there, "
        f"count(*) FILTER (WHERE {value} = 1) AS ones, count(*) FILTER (WHERE {value} = 0) AS zeros FROM this "
        f"GROUP BY 1 ORDER BY 1 LIMIT {MOST_ARMS + 2}"
    ).to_arrow()
    levels = counted["arm"].combine_chunks()
    n, there, ones, zeros = (counted[name].to_numpy() for name in ("n", "there", "ones", "zeros"))
    absent = pc.is_null(levels, nan_is_null=pa.types.is_floating(levels.type)).to_numpy(zero_copy_only=False)
    for name, lacking in ((treatment, n[absent].sum()), (outcome, (n - there).sum())):
        if lacking:
            raise QueryError(
                f"{name} is missing in {lacking:,} rows",
                where,
                'filter the rows, or say missing="drop" to leave out rows that lack a value',
            )
    if (other := int((there - ones - zeros).sum())) > 0:
        raise PlanError(
            f"{outcome} is neither 0 nor 1 in {other:,} rows",
            where,
            "an outcome by degrees is for CausalForest",
        )
    order = control_first(levels, treatment, control, where, "CausalForest")
    if ones.sum() == 0 or zeros.sum() == 0:
        raise PlanError(f"{outcome} is {int(ones.sum() > 0)} in every row", where, "nothing is to be learned from it")
    found = np.stack([n, ones], axis=1)[order].astype(np.float64)
    return Arms(treatment, levels.take(pa.array(order))), found
