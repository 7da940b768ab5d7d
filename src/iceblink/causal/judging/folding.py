"""Rows shared out by their keys: some to learn from, the others to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from iceblink.causal.hashing import below, hashed
from iceblink.causal.judging.columns import keys_of
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError, DuplicateColumn

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


def folded(data: Dataset, key: str | Sequence[str], folds: int = 2, seed: int = 0, column: str = "fold") -> Dataset:
    """Return rows with the number of their fold, from 0, which a hash of the key decides.

    Lazy. Rows of one unit are in one fold, now and later, on any engine; these folds have nothing to do with those in
    which estimators fit nuisance models.

    Parameters
    ----------
    data : Dataset
    key : str or sequence of str
        The columns of the unit: whole numbers, texts, dates.
    folds : int
    seed : int
    column : str
        The name of the added column, int64.

    Raises
    ------
    ColumnNotFound, DuplicateColumn, ConfigError
    """
    check_whole("folded", folds=folds, seed=seed)
    if folds < 2:
        raise ConfigError(f"folds is {folds}", "folded", "two or more")
    if column in data.columns:
        raise DuplicateColumn(f"there is a column {column!r} already", "folded", "folded(column=...)")
    keys = keys_of(key, data, "folded")
    schema = pa.schema([*data.schema, pa.field(column, pa.int64())])
    return data.map_batches(_Folded(keys, folds, seed, column), schema=schema, batch_size=BLOCK_ROWS)


@dataclass(frozen=True)
class _Folded:
    keys: tuple[str, ...]
    folds: int
    seed: int
    column: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        fold = below(hashed([batch.column(key) for key in self.keys], self.seed, "folded"), self.folds)
        return pa.RecordBatch.from_arrays([*batch.columns, pa.array(fold)], names=[*batch.schema.names, self.column])
