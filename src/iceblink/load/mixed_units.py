"""The units of several datasets, one dataset's behind another's, as those of a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.errors import ConfigError
from iceblink.load.cache.tier import entry_key
from iceblink.load.units import Stretch, Units
from iceblink.types import show_type


@dataclass(frozen=True, eq=False)
class MixedUnits:
    """Units of several sources, whose rows are given the columns and types of the first."""

    sources: Mapping[str, Units]
    weights: Mapping[str, float]
    schema: pa.Schema

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """How many rows each unit has."""
        return np.concatenate([units.rows for units in self.sources.values()])

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size [bytes]."""
        return sum(units.decoded_bytes for units in self.sources.values())

    @property
    def identity(self) -> dict[str, str]:
        """What the rows depend on; other weights make another dataset."""
        words = {
            f"{name}: {word}": text for name, units in self.sources.items() for word, text in units.identity.items()
        }
        return {**words, "weights": ", ".join(f"{name} {weight:.6g}" for name, weight in self.weights.items())}

    def read(self, unit: int) -> pa.Table:
        """Return the rows of a unit."""
        _, units, unit = self._found(unit)
        table = units.read(unit)
        return table if table.schema.equals(self.schema) else table.select(self.schema.names).cast(self.schema)

    def key(self, unit: int) -> str:
        """Return what names the rows of a unit: as in their own dataset, if they have the same columns there."""
        _, units, unit = self._found(unit)
        key = units.key(unit)
        return key if units.schema.equals(self.schema) else entry_key(key, self.schema.to_string())

    def place(self, unit: int) -> str:
        """Return where the rows of a unit lie."""
        name, units, unit = self._found(unit)
        return f"{name}: {units.place(unit)}"

    def stretches(self, unit: int) -> tuple[Stretch, ...]:
        """Return what is read for a unit."""
        _, units, unit = self._found(unit)
        return units.stretches(unit)

    def untouched(self, unit: int) -> bool:
        """Whether the rows of a unit are those of its stretches."""
        _, units, unit = self._found(unit)
        return units.untouched(unit)

    def _found(self, unit: int) -> tuple[str, Units, int]:
        for name, units in self.sources.items():
            if unit < len(units.rows):
                return name, units, unit
            unit -= len(units.rows)
        raise IndexError(unit)


def mixed_units(sources: Mapping[str, Units], weights: Mapping[str, float], where: str) -> MixedUnits:
    """Put the units of several sources together.

    Raises
    ------
    ConfigError
        They have not the same columns.
    """
    (first_name, first), *others = sources.items()
    nullable = {field.name: field.nullable for field in first.schema}
    for name, units in others:
        mine, theirs = ({field.name: show_type(field.type) for field in one.schema} for one in (units, first))
        if mine != theirs:
            column = next(iter(dict(mine.items() ^ theirs.items())))
            raise ConfigError(
                f"column {column!r} is {mine.get(column, 'not')} in {name!r}, and "
                f"{theirs.get(column, 'not')} in {first_name!r}",
                where,
                "a mixture is of datasets with the same columns: choose and cast them before",
            )
        for field in units.schema:
            nullable[field.name] |= field.nullable
    return MixedUnits(
        sources, weights, pa.schema([field.with_nullable(nullable[field.name]) for field in first.schema])
    )
