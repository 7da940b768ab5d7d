"""What all results have in common: they are read, computed with, drawn, and say where their numbers come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from iceblink.causal.provenance import Provenance
from iceblink.causal.sheet import Sheet
from iceblink.interop import optional, to_polars


class Result(ABC):
    """A result: small, immutable, computed already."""

    keys: ClassVar[tuple[str, ...]]
    """Columns of `to_arrow` that name a row: the index of `to_pandas`."""

    if TYPE_CHECKING:  # fields of most, which would take a property of this class for their default

        @property
        def title(self) -> str:
            """What was computed."""

        @property
        def provenance(self) -> Provenance:
            """Where it comes from."""

    @abstractmethod
    def to_arrow(self) -> pa.Table:
        """Return all of it as a tidy table, a row for each thing that was estimated or counted."""

    @abstractmethod
    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show."""

    def to_pandas(self) -> Any:
        """Return `to_arrow` as a pandas frame, its index what names a row. Raises ConfigError without pandas."""
        return indexed(self.to_arrow(), self.keys)

    def to_polars(self) -> Any:
        """Return `to_arrow` as a polars frame. Raises ConfigError without polars."""
        return to_polars(self.to_arrow())

    def summary(self) -> str:
        """Return a table to read."""
        return self.sheet().text()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return self.sheet().html()


def indexed(table: pa.Table, keys: tuple[str, ...]) -> Any:
    """Return a pandas frame whose index is some of its columns. Raises ConfigError without pandas."""
    optional("pandas")
    return table.to_pandas().set_index(list(keys))
