"""Columns and rows that chance has made, by a hash of the unit's key: the same however the rows are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from iceblink.causal.hashing import Hashes, below, hashed, poisson, uniform
from iceblink.causal.late import special
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

SAMPLE_ROWS = 10_000
"""Of so many rows values are drawn."""
RANK = "__rank"


@dataclass(frozen=True)
class Chance:
    """What decides: the key of the unit, a seed, which refuter asks, and its how-manieth draw."""

    keys: tuple[str, ...]
    seed: int
    purpose: str
    draw: int

    def hashes(self, batch: pa.RecordBatch) -> Hashes:
        """Return a number of 64 random bits for each row."""
        return hashed([batch.column(key) for key in self.keys], self.seed, self.purpose, self.draw)

    def normal(self, batch: pa.RecordBatch) -> Floats:
        """Return a draw of the standard normal distribution for each row."""
        return np.asarray(special.ndtri(uniform(self.hashes(batch)) + 2.0**-54))

    def among(self, batch: pa.RecordBatch, count: int) -> Integers:
        """Return a number below `count` for each row."""
        return below(self.hashes(batch), count)

    def chosen(self, batch: pa.RecordBatch, share: float) -> NDArray[np.bool_]:
        """Return whether a row is in a subset that has about a share of all units."""
        return uniform(self.hashes(batch)) < share

    def times(self, batch: pa.RecordBatch) -> Integers:
        """Return how often a row is in a bootstrap sample of units."""
        return poisson(self.hashes(batch))


def sampled(data: Dataset, column: str, keys: tuple[str, ...], seed: int) -> pa.Array:
    """Return the values that a column has in up to 10,000 rows, as chance has chosen them. Eager: one scan.

    Those of the smallest hashes: a sample without replacement that knows of no order and no files. Values that are
    missing or infinite are not in it.

    Raises
    ------
    PlanError
        All are missing or infinite.
    """
    names = list(dict.fromkeys((column, *keys)))
    schema = pa.schema([pa.field("value", data.schema.field(column).type), pa.field(RANK, pa.int64())])
    ranked = data.select(*names).map_batches(
        _Ranked(column, Chance(keys, seed, "sample", 0)), schema=schema, batch_size=BLOCK_ROWS
    )
    found = ranked.order_by(RANK, "value").limit(SAMPLE_ROWS).to_arrow()
    values: pa.Array = found.column("value").combine_chunks()
    values = values.filter(pc.invert(_lacking(values)))
    if not len(values):
        raise PlanError(f"{column} has no values", "a sample of it", "look at the filters, and at missing values")
    return values


@dataclass(frozen=True)
class _Ranked:
    column: str
    chance: Chance

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [batch.column(self.column), pa.array((self.chance.hashes(batch) >> np.uint64(1)).astype(np.int64))]
        return pa.RecordBatch.from_arrays(columns, names=["value", RANK])


def _lacking(values: pa.Array) -> pa.BooleanArray:
    """Return whether values are missing or infinite, so that their rows are left out or refused."""
    if pa.types.is_floating(values.type):
        return pc.invert(pc.fill_null(pc.is_finite(values), False))
    return values.is_null()


def _decoded(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


@dataclass(frozen=True)
class Redrawn:
    """Gives a column values that are drawn from a sample of it, and have nothing to do with the row."""

    column: str
    sample: pa.Array
    chance: Chance

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        at = batch.schema.get_field_index(self.column)
        drawn = _decoded(self.sample).take(pa.array(self.chance.among(batch, len(self.sample))))
        given = _decoded(batch.column(at))
        values = pc.if_else(_lacking(given), given, drawn)  # what was missing stays so
        return batch.set_column(at, batch.schema.field(at), values.cast(batch.schema.field(at).type))


@dataclass(frozen=True)
class Added:
    """Adds a column of normal numbers that have nothing to do with anything."""

    name: str
    chance: Chance

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.append_column(pa.field(self.name, pa.float64()), pa.array(self.chance.normal(batch)))


@dataclass(frozen=True)
class Chosen:
    """Leaves out the rows that are not in a subset."""

    share: float
    chance: Chance

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.filter(pa.array(self.chance.chosen(batch, self.share)))


@dataclass(frozen=True)
class Resampled:
    """Gives rows as often as a bootstrap sample has them."""

    chance: Chance

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.take(pa.array(np.repeat(np.arange(batch.num_rows), self.chance.times(batch))))


def applied(data: Dataset, change: Redrawn | Added | Chosen | Resampled) -> Dataset:
    """Return a dataset with a change. Lazy."""
    schema = data.schema
    if isinstance(change, Added):
        schema = pa.schema([*schema, pa.field(change.name, pa.float64())])
    return data.map_batches(change, schema=schema, batch_size=BLOCK_ROWS)
