"""Features become codes of a byte or two: numbers by cuts between quantiles, categories by their levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from iceblink.causal.hashing import hashed, uniform
from iceblink.causal.judging.cuts import shown
from iceblink.causal.matrix import Floats, floats
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.causal.regression.design import levels_of
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, TypeMismatch
from iceblink.splitmix import numbers as splitmix
from iceblink.splitmix import start_of
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Codes = NDArray[np.unsignedinteger[Any]]

SAMPLE_ROWS = 65_536
"""Rows that cuts are quantiles of, about; of a table with fewer rows they are exact."""
MOST_BINS = 4_096
"""Of a feature of numbers."""
MOST_LEVELS = 254
"""Of a feature of categories."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """A feature of numbers.

    Parameters
    ----------
    column : str
    at : float64 array (c,)
        Ascending; a number has as its code how many of them are below it.
    """

    column: str
    at: Floats

    ordered = True

    def __len__(self) -> int:
        return len(self.at) + 1

    def fits(self, kind: pa.DataType) -> bool:
        """Return whether a column of a type can be coded."""
        return _is_number(kind)

    def codes(self, values: pa.Array, missing: int) -> NDArray[np.intp]:
        """Return the code of each value; what is null or NaN has that of what is missing."""
        numbers = floats(values).astype(np.float64, copy=False)
        found = np.searchsorted(self.at, numbers)
        found[np.isnan(numbers)] = missing
        return found

    def told(self, left: NDArray[np.bool_]) -> str:
        """Return what is true of values whose codes go left."""
        below = int(left[: len(self)].sum())
        return f"{self.column} <= {shown(self.at[below - 1])}" if below < len(self) else f"{self.column} is there"


@dataclass(frozen=True, eq=False)
class Levels:
    """A feature of categories.

    Parameters
    ----------
    column : str
    values : Array
        Each level that occurs, ascending; its place is its code.
    """

    column: str
    values: pa.Array

    ordered = False

    def __len__(self) -> int:
        return max(len(self.values), 1)

    def fits(self, kind: pa.DataType) -> bool:
        """Return whether a column of a type can be coded: texts where levels are texts."""
        inside = kind.value_type if pa.types.is_dictionary(kind) else kind
        return _is_category(kind) and pa.types.is_boolean(inside) == pa.types.is_boolean(self.values.type)

    def codes(self, values: pa.Array, missing: int) -> NDArray[np.intp]:
        """Return the code of each value; one that is null or was never seen has that of what is missing."""
        plain = values.cast(self.values.type) if values.type != self.values.type else values
        found = pc.fill_null(pc.index_in(plain, self.values, skip_nulls=True), missing)
        return np.asarray(found.to_numpy(zero_copy_only=False).astype(np.intp))

    def told(self, left: NDArray[np.bool_]) -> str:
        names = [str(value) for value, goes in zip(self.values.to_pylist(), left, strict=False) if goes]
        return f"{self.column} in ({', '.join(names)})" if len(names) < len(self) else f"{self.column} is there"


Feature = Cuts | Levels


@dataclass(frozen=True)
class Bins:
    """How rows become codes.

    Parameters
    ----------
    features : tuple of Cuts or Levels
        The p features.
    """

    features: tuple[Feature, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(feature.column for feature in self.features)

    @property
    def width(self) -> int:
        """How many codes there are (B): the bins of the feature with most of them, and what is missing, the last."""
        return max(map(len, self.features)) + 1

    @property
    def code_type(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest type of codes."""
        return np.dtype(np.min_scalar_type(self.width - 1))

    def codes(self, batch: pa.RecordBatch) -> Codes:
        """Return the codes (p, n) of the rows of a batch."""
        found = np.empty((len(self.features), batch.num_rows), self.code_type)
        for place, feature in enumerate(self.features):
            found[place] = feature.codes(batch.column(feature.column), self.width - 1)
        return found

    def check(self, schema: pa.Schema, where: str) -> None:
        """Raise ColumnNotFound or TypeMismatch where a dataset has not what the features are made of."""
        for feature in self.features:
            if feature.column not in schema.names:
                raise ColumnNotFound.of(feature.column, schema.names, where)
            kind = schema.field(feature.column).type
            if not feature.fits(kind):
                wanted = "numbers" if isinstance(feature, Cuts) else show_type(feature.values.type)
                raise TypeMismatch(
                    f"column {feature.column!r} is {show_type(kind)}, and was of {wanted} when the trees were grown",
                    where,
                    "cast it",
                )

    def told(self, feature: int, left: NDArray[np.bool_], gaps: bool) -> str:
        """Return what is true of the rows that a split sends left, of which some may lack the feature."""
        return self.features[feature].told(left) + (" or missing" if gaps and left[-1] else "")


def check_features(schema: pa.Schema, features: Sequence[str], bins: int, where: str) -> None:
    """See that features can be binned, before anything is read.

    Raises
    ------
    ColumnNotFound, TypeMismatch
    ConfigError
        There are no features, one is named twice, or the bins are fewer than 2 or more than 4,096.
    """
    if not features:
        raise ConfigError("there are no features", where, "name the columns by which effects may differ")
    if len(set(features)) < len(features):
        raise ConfigError("a feature is named twice", where, "name each once")
    if not 2 <= bins <= MOST_BINS:
        raise ConfigError(f"bins is {bins}", where, f"from 2 to {MOST_BINS}")
    for name in features:
        if name not in schema.names:
            raise ColumnNotFound.of(name, schema.names, where)
        kind = schema.field(name).type
        if not _is_number(kind) and not _is_category(kind):
            raise TypeMismatch(
                f"column {name!r} is {show_type(kind)}, neither a number nor a category", where, "cast it, or leave it"
            )


def binned(
    data: Dataset, features: Sequence[str], keys: tuple[str, ...], rows: int, bins: int, seed: int, where: str
) -> Bins:
    """Find the cuts of numbers and the levels of categories. Eager: a pass, and one for each feature of categories.

    Numbers are cut between quantiles of a sample of about 65,536 rows that a hash of the key and of these numbers
    decides, so that cuts are the same however the rows are spread, and few units give no few rows; of fewer distinct
    values than bins halfway between each two.

    Parameters
    ----------
    data : Dataset
    features : sequence of str
    keys : tuple of str
    rows : int
        How many there are.
    bins : int
        Of a feature of numbers, at most.
    seed : int
    where : str
        For errors.

    Raises
    ------
    PlanError
        A category has more than 254 levels, no feature varies, or rows are too much alike for a sample of them.
    """
    numbers = [name for name in features if _is_number(data.schema.field(name).type)]
    cuts: dict[str, Feature] = {}
    if numbers:
        schema = pa.schema([pa.field(name, pa.float64()) for name in numbers])
        sample = _Sample(tuple(numbers), keys, min(1.0, SAMPLE_ROWS / max(rows, 1)), seed)
        drawn = data.select(*dict.fromkeys((*numbers, *keys))).map_batches(sample, schema=schema, batch_size=BLOCK_ROWS)
        found = drawn.to_arrow()
        if rows and not len(found):
            raise PlanError("no row was drawn to find cuts by", where, "rows are too much alike: a finer key")
        cuts = {name: Cuts(name, _cuts(found.column(name).to_numpy(), bins)) for name in numbers}
    made = Bins(tuple(cuts[name] if name in cuts else _levels(data, name, where) for name in features))
    if all(len(feature) < 2 for feature in made.features):
        raise PlanError("no feature varies", where, "name columns by which effects may differ")
    return made


@dataclass(frozen=True)
class _Sample:
    """Numbers of the rows that a hash of their key and of these numbers chooses."""

    columns: tuple[str, ...]
    keys: tuple[str, ...]
    chance: float
    seed: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [floats(batch.column(name)).astype(np.float64) + 0.0 for name in self.columns]  # of two zeros one
        places, start = hashed([batch.column(key) for key in self.keys], self.seed, "cuts"), start_of("cuts")
        for column in columns:
            column[np.isnan(column)] = np.nan  # of many bit patterns one
            places = splitmix(start, places ^ column.view(np.uint64))
        drawn = uniform(places) < self.chance
        return pa.RecordBatch.from_arrays([pa.array(column[drawn]) for column in columns], names=list(self.columns))


def _cuts(values: Floats, bins: int) -> Floats:
    """Return at most `bins` - 1 cuts, each halfway between two neighbouring values."""
    values = np.sort(values[np.isfinite(values)])
    distinct = np.unique(values)
    if len(distinct) <= bins:
        below = np.arange(len(distinct) - 1) if len(distinct) else np.zeros(0, np.intp)
    else:
        ranks = np.ceil(np.arange(1, bins) / bins * len(values)).astype(np.intp) - 1
        below = np.unique(np.searchsorted(distinct, values[ranks]))
        below = below[below < len(distinct) - 1]
    return np.asarray(distinct[below] + (distinct[below + 1] - distinct[below]) / 2)


def _levels(data: Dataset, name: str, where: str) -> Levels:
    found = levels_of(data, name, where, MOST_LEVELS, "join levels, or give each a number")
    return Levels(name, found.cast(found.type.value_type) if pa.types.is_dictionary(found.type) else found)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_category(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind))
