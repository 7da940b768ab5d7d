"""Named arrays that add up: scores, Hessians and the like, of blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from iceblink.buffers import arrow_of, list_of, numpy_of, texts_of
from iceblink.causal.moments import Floats

SCHEMA = pa.schema(
    {"names": pa.list_(pa.string()), "shapes": pa.list_(pa.list_(pa.int64())), "values": pa.list_(pa.float64())}
)
"""Of sums as one row."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over some rows, by name."""

    arrays: Mapping[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.arrays[name]

    def merged(self, other: Self) -> Self:
        """Return the sums over the rows of both."""
        return type(self)({name: values + other[name] for name, values in self.arrays.items()})

    def to_batch(self) -> pa.RecordBatch:
        """Return them as one row of `SCHEMA`."""
        values = np.concatenate([np.ravel(array) for array in self.arrays.values()])
        shapes = [np.array(np.shape(array), np.int64) for array in self.arrays.values()]
        ends = np.cumsum([0, *map(len, shapes)]).astype(np.int32)
        lists = pa.ListArray.from_arrays(arrow_of(ends), arrow_of(np.concatenate(shapes)))
        arrays = map(list_of, (texts_of(list(self.arrays)), lists, arrow_of(values.astype(np.float64, copy=False))))
        return pa.RecordBatch.from_arrays(list(arrays), schema=SCHEMA)

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Iterator[Self]:
        """Yield the sums of each row of `SCHEMA`."""
        for at in range(batch.num_rows):
            names, shapes = batch["names"][at].as_py(), batch["shapes"][at].as_py()
            values = numpy_of(batch["values"][at].values)
            ends = np.cumsum([np.prod(shape, dtype=np.int64) for shape in shapes])
            parts = np.split(values, ends[:-1])
            yield cls({name: part.reshape(shape) for name, shape, part in zip(names, shapes, parts, strict=True)})
