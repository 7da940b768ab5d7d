"""Batches fed to the kernel: it says which columns a statement needs, and only those are made."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pd

from iceblink.run.source import Source

Rows: TypeAlias = Generator[pa.RecordBatch, None, None]


class Feed(pd.Dataset):  # type: ignore[misc]
    """A `Source` as one of Arrow's datasets, which the kernel asks for columns and for rows that pass a filter.

    The kernel reads in any thread: the source runs in `context`, whose observers observe it and whose end stops it.
    Keeps the errors of the source in `failed`, for the kernel would pass on only their text, and what it opens in
    `opened`, for the kernel may let go of it later than it says.
    """

    def __init__(self, source: Source, failed: list[BaseException], opened: list[Rows], context: Context) -> None:
        # there is no C++ dataset behind: all that is used is below
        self._source, self._failed, self._opened, self._context = source, failed, opened, context

    @property
    def schema(self) -> pa.Schema:
        """What may be asked for."""
        return self._source.schema

    def scanner(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> _Scanner:
        """Return what gives `columns` of the rows that pass `filter`."""
        names = self.schema.names if columns is None else columns
        schema = pa.schema([self.schema.field(name) for name in names])
        return _Scanner(schema, self._batches(names, filter))

    def _batches(self, names: Sequence[str], condition: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        context = self._context.copy()  # two threads cannot be in one
        try:
            needed = names if condition is None else [*dict.fromkeys([*names, *self._source.expected])]
            batches = context.run(self._source.open, needed)
            self._opened.append(batches)
            while (batch := context.run(next, batches, None)) is not None:
                rows = batch if condition is None else batch.filter(condition)
                yield rows.select(names)
        except BaseException as error:
            self._failed.append(error)
            raise


@dataclass(frozen=True)
class _Scanner:
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.schema, self.batches)
