"""Rows as trees see them: codes of features, a place that the key decides, and what is counted in bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.forests.bins import Bins, Codes
from iceblink.causal.hashing import Hashes, hashed
from iceblink.causal.moments import Floats
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.dataset import Dataset
from iceblink.plan.nodes import Memory

PLACE = "place"
KEPT_BYTES = 256 << 20
"""Binned rows that take less than this are kept in memory between passes; others are read and binned by each."""

Values = Mapping[str, Floats]


class Counted(Protocol):
    """What of a row trees count besides its features."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it is made of."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its columns are called."""

    def of(self, batch: pa.RecordBatch) -> Floats:
        """Return its columns (k, n) of the rows of a batch."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some binned rows.

    Parameters
    ----------
    codes : uint8 or uint16 array (p, n)
    places : uint64 array (n,)
        Hashes of their keys, of which all chance is made.
    values : mapping of str to float64 array (n,)
        What is counted.
    """

    codes: Codes
    places: Hashes
    values: Values

    @classmethod
    def of(cls, batch: pa.RecordBatch, features: int) -> Rows:
        """Take a batch apart that `Binner` made."""
        codes = np.stack([batch.column(1 + at).to_numpy() for at in range(features)])
        names = batch.schema.names[1 + features :]
        return cls(codes, batch.column(0).to_numpy(), {name: batch.column(name).to_numpy() for name in names})

    def among(self, at: NDArray[np.intp]) -> Rows:
        """Return some of the rows; one may be there repeatedly."""
        return Rows(self.codes[:, at], self.places[at], {name: values[at] for name, values in self.values.items()})


@dataclass(frozen=True)
class Binner:
    """Makes binned rows of a batch."""

    bins: Bins
    keys: tuple[str, ...]
    counted: Counted
    seed: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.keys, *self.bins.columns, *self.counted.inputs)))

    @property
    def schema(self) -> pa.Schema:
        code = pa.from_numpy_dtype(self.bins.code_type)
        features = [pa.field(str(at), code) for at in range(len(self.bins.features))]
        values = [pa.field(name, pa.float64()) for name in self.counted.names]
        return pa.schema([pa.field(PLACE, pa.uint64()), *features, *values])

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        places = hashed([batch.column(key) for key in self.keys], self.seed, "forest")
        arrays = [places, *self.bins.codes(batch), *self.counted.of(batch)]
        return pa.RecordBatch.from_arrays(list(map(pa.array, arrays)), schema=self.schema)


def binned_rows(data: Dataset, binner: Binner, rows: int) -> Dataset:
    """Return binned rows, to be read once for each level of trees.

    Eager, and in memory, where they are few; else lazy: every pass bins them again, where they are.
    """
    made = data.select(*binner.inputs).map_batches(binner, schema=binner.schema, batch_size=BLOCK_ROWS)
    row_bytes = 8 + binner.bins.code_type.itemsize * len(binner.bins.features) + 8 * len(binner.counted.names)
    if rows * row_bytes > KEPT_BYTES:
        return made
    return Dataset(Memory(binner.schema, made.to_arrow()), made.session)
