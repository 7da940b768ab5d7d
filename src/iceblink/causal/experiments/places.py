"""Which cell a row is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.buffers import data_of, valid_of
from iceblink.causal.experiments.cells import Keys
from iceblink.causal.moments import Integers


@dataclass(frozen=True, eq=False)
class Places:
    """Combinations of values of some columns, by number.

    Parameters
    ----------
    columns : tuple of str
    levels : tuple of Array
        The values that each of them has.
    codes : int64 array (n,)
        The combinations, ascending, as numbers of which the levels are digits.
    numbers : int64 array (n,)
        What each combination is called.
    """

    columns: tuple[str, ...]
    levels: tuple[pa.Array, ...]
    codes: Integers
    numbers: Integers

    @classmethod
    def of(cls, columns: Sequence[str], keys: Sequence[Keys], schema: pa.Schema) -> Places:
        """Number combinations in the order in which they are given."""
        axes = [list(dict.fromkeys(key[at] for key in keys)) for at in range(len(columns))]
        levels = [pa.array(axis, _plain(schema.field(name).type)) for axis, name in zip(axes, columns, strict=True)]
        codes = np.zeros(len(keys), np.int64)
        for at, axis in enumerate(axes):
            place = {value: number for number, value in enumerate(axis)}
            codes = codes * len(axis) + np.array([place[key[at]] for key in keys], np.int64)
        order = np.argsort(codes)
        return cls(tuple(columns), tuple(levels), codes[order], order.astype(np.int64))

    def of_rows(self, batch: pa.RecordBatch) -> Integers:
        """Return the number of each row's combination, -1 where it is none of them."""
        codes = np.zeros(batch.num_rows, np.int64)
        known = np.ones(batch.num_rows, bool)
        for name, levels in zip(self.columns, self.levels, strict=True):
            values = batch.column(name)
            values = values.cast(levels.type) if values.type != levels.type else values
            at = pc.index_in(values, levels)
            known &= valid_of(at)
            codes = codes * len(levels) + data_of(at)
        found = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(known & (self.codes[found] == codes), self.numbers[found], -1)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
