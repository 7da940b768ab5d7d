"""Columns that a user names: that they are there, that they are numbers, and that none of these is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.matrix import Number, floats
from iceblink.causal.moments import Floats
from iceblink.errors import ColumnNotFound, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


def check_numbers(data: Dataset, columns: Sequence[str], where: str) -> None:
    """Raise ColumnNotFound or TypeMismatch where one of the columns is none, or none of numbers. Reads nothing."""
    schema = data.schema
    for name in columns:
        if name not in schema.names:
            raise ColumnNotFound.of(name, schema.names, where)
        Number(name).check(schema, where)


def keys_of(key: str | Sequence[str], data: Dataset, where: str) -> tuple[str, ...]:
    """Return the columns of a key. Raises ColumnNotFound, PlanError."""
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys:
        raise PlanError("the key has no column", where, "name the columns that tell units apart")
    for name in keys:
        if name not in data.schema.names:
            raise ColumnNotFound.of(name, data.schema.names, where)
    return keys


def clusters_of(cluster: str | Sequence[str] | None, data: Dataset, where: str) -> tuple[str, ...]:
    """Return the columns by which rows belong together, none if nothing is said. Raises ColumnNotFound, PlanError."""
    return () if cluster is None else keys_of(cluster, data, where)


def numbers(batch: pa.RecordBatch, column: str, where: str) -> Floats:
    """Return the numbers (n,) of a column. Raises QueryError where one is missing or infinite."""
    values = floats(batch.column(column)).astype(np.float64)
    if lacking := int((~np.isfinite(values)).sum()):
        raise QueryError(
            f"{column} is missing in {lacking:,} rows of a block of {len(values):,}",
            where,
            "filter the rows, or fill it by mutate",
        )
    return values
