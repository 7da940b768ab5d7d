"""Dask data frames of ours, and ours of theirs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dask
import dask.dataframe as dd
import pyarrow as pa
import pyarrow.types as pt

from iceblink.errors import ColumnNotFound, PlanError, TypeMismatch
from iceblink.interop import to_arrow, to_pandas
from iceblink.plan.nodes import Plan, Scan
from iceblink.run.local_engine import LocalEngine
from iceblink.run.parts import Parts, Reader
from iceblink.scan.footer import FOOTERS
from iceblink.scan.prune import Bounds, column_bounds
from iceblink.scan.split import WHOLE_FILE, Piece, Split
from iceblink.types import conform

PARTITIONS_A_CPU = 2


def to_dask(plan: Plan, engine: LocalEngine, partitions: int | None, index: str | None) -> Any:
    """Return a Dask data frame of the rows of `plan`; see `Dataset.to_dask`."""
    if index is not None and index not in plan.schema.names:
        raise ColumnNotFound.of(index, plan.schema.names, "to_dask")
    parts = Parts.of(plan, engine.settings)
    if parts is None:
        raise PlanError(
            "what looks at several rows at a time has no partitions to read apart from each other",
            "to_dask",
            "write it to a table first, and take that one",
        )
    spans = spans_of(parts, index) if index is not None and isinstance(plan, Scan) else None
    if spans is not None:  # files come newest first
        parts = replace(parts, splits=tuple(sorted(spans, key=lambda split: spans[split])))
    least = PARTITIONS_A_CPU * engine.settings.threads
    groups = (parts.shared(partitions) if partitions else parts.by_bytes(least)) or [()]
    frame = partial(_frame, parts.reader, index)
    divisions = None if not spans else divided([[spans[split] for split in group] for group in groups])
    return dd.from_map(frame, groups, meta=frame(()), divisions=divisions, label="iceblink", enforce_metadata=False)


def _frame(reader: Reader, index: str | None, splits: Sequence[Split]) -> Any:
    frame = to_pandas(reader.table(splits))
    return frame if index is None else frame.set_index(index).sort_index(kind="stable")


def spans_of(parts: Parts, index: str) -> dict[Split, tuple[int, int]] | None:
    """Return the least and greatest integer of each split; None where statistics do not say them all."""
    reader = parts.reader
    if not pt.is_integer(reader.schema.field(index).type):  # of others the kept bounds may be cut or rounded
        return None
    spans: dict[Split, tuple[int, int]] = {}
    for split in parts.splits:
        found = [bounds for piece in split.pieces for bounds in _bounds(reader, piece, index)]
        if not found or any(not one.no_nulls or one.lower is None for one in found):
            return None
        spans[split] = min(one.lower for one in found), max(one.upper for one in found)
    return spans


def _bounds(reader: Reader, piece: Piece, name: str) -> list[Bounds]:
    if piece.groups == WHOLE_FILE:
        return []
    footer = FOOTERS.get(reader.storage, piece.path, piece.file_bytes, reader.owner)
    groups = range(piece.first_group, piece.first_group + piece.groups)
    return column_bounds(name, footer, groups, reader.table_schema, piece.identity)


def divided(groups: Sequence[Sequence[tuple[int, int]]]) -> tuple[int, ...] | None:
    """Return the least value of each group and the greatest of all, if no two groups overlap."""
    lower = [min(first for first, _ in group) for group in groups]
    upper = [max(last for _, last in group) for group in groups]
    if any(end >= begin for end, begin in zip(upper, lower[1:], strict=False)):
        return None
    return (*lower, upper[-1])


def from_dask(frame: Any, at_once: int) -> tuple[pa.Schema, Callable[[], pa.RecordBatchReader]]:
    """Return the schema of a Dask data frame, and what computes it and streams its rows.

    `at_once` partitions are computed at a time; a named index becomes the first column.

    Raises
    ------
    TypeMismatch
        It is no Dask data frame, or a column mixes types.
    """
    if not isinstance(frame, dd.DataFrame):
        raise TypeMismatch(f"{type(frame).__name__} is no dask.dataframe.DataFrame", "from_dask")
    schema = _arrow(frame._meta).schema
    if any(pt.is_null(dtype) for dtype in schema.types):  # an object column says what it holds when it is computed
        schema = next((found.schema for found in _computed(frame, 1) if found.num_rows), schema)
    return schema, lambda: pa.RecordBatchReader.from_batches(schema, _rows(frame, schema, at_once))


def _rows(frame: Any, schema: pa.Schema, at_once: int) -> Generator[pa.RecordBatch, None, None]:
    for number, table in enumerate(_computed(frame, at_once)):
        for batch in table.to_batches():
            yield conform(batch, schema, f"partition {number} of the Dask data frame")


def _computed(frame: Any, at_once: int) -> Generator[pa.Table, None, None]:
    parts = frame.to_delayed()
    for first in range(0, len(parts), at_once):
        yield from map(_arrow, dask.compute(*parts[first : first + at_once]))


def _arrow(frame: Any) -> pa.Table:
    found = to_arrow(frame if frame.index.name is None else frame.reset_index())
    assert isinstance(found, pa.Table)
    return found
