"""A user's function over a stream of batches: exact batch sizes, a pool of workers, one schema held throughout."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from iceblink.errors import (
    BatchContractBroken,
    FunctionError,
    IceblinkError,
    SchemaMismatch,
    TypeMismatch,
    WriteError,
)
from iceblink.events import BatchDone, emit
from iceblink.plan.nodes import Function
from iceblink.run.formats import given, returned
from iceblink.run.pool import ordered_map
from iceblink.scan.read import Batch
from iceblink.types import conform, show_field


def apply(function: Function, batches: Iterable[Batch], schema: pa.Schema | None) -> Generator[Batch, None, None]:
    """Call `function` on `batches` and yield what it returns, in order.

    Memory is at most ``workers + 1`` input batches and as many outputs. The schema is `schema`, or what the first
    output has; every later output is held to it.

    Raises
    ------
    FunctionError
        The function raised: its file and line, and the batch it had.
    BatchContractBroken
        It returned something else than promised.
    """
    sized = rebatched(batches, function.batch_rows) if function.batch_rows else batches
    outputs = ordered_map(lambda: _worker(function), sized, function.workers, f"map {function.label}")
    held = schema
    with closing(outputs):
        for origin, output in outputs:
            if held is None:
                held = _found(output.schema, function.label)
            yield Batch(_held(output, held, _place(function, origin)), origin.path, origin.first_row)


def first_schema(function: Function, batches: Iterable[Batch], source: pa.Schema) -> pa.Schema:
    """Return the schema of the function's first output; an empty input is answered with an empty batch."""
    empty = Batch(_empty(source), "", 0)
    sized = rebatched(batches, function.batch_rows) if function.batch_rows else batches
    first = next(iter(islice(sized, 1)), empty)
    _, output = _worker(function)(first)
    return _found(output.schema, function.label)


def rebatched(batches: Iterable[Batch], rows: int) -> Generator[Batch, None, None]:
    """Cut and join batches to exactly `rows` each, but for the last; the origin is that of the first row."""
    parts: list[Batch] = []
    have = 0
    for batch in batches:
        start = 0
        while start < batch.data.num_rows:
            take = min(rows - have, batch.data.num_rows - start)
            parts.append(Batch(batch.data.slice(start, take), batch.path, batch.first_row + start))
            start += take
            have += take
            if have == rows:
                yield _joined(parts)
                parts, have = [], 0
    if parts:
        yield _joined(parts)


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(pa.concat_batches([part.data for part in parts]), parts[0].path, parts[0].first_row)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _worker(function: Function) -> Callable[[Batch], tuple[Batch, pa.RecordBatch]]:
    """Build what one worker thread keeps: the instance, when the function is a class."""
    target = function.target
    if isinstance(target, type) or isinstance(getattr(target, "func", None), type):
        try:
            target = target()
        except Exception as error:
            raise FunctionError(_said(error), f"{function.label}(), building a worker") from error

    def call(batch: Batch) -> tuple[Batch, pa.RecordBatch]:
        started = time.perf_counter()
        output = _rows(function, target, batch) if function.per_row else _batch(function, target, batch)
        seconds = time.perf_counter() - started
        emit(BatchDone(function.label, output.num_rows, output.nbytes, seconds))
        return batch, output

    return call


def _batch(function: Function, target: Callable[..., Any], batch: Batch) -> pa.RecordBatch:
    place = _place(function, batch)
    try:
        value = given(batch.data, function.batch_format)
    except TypeMismatch as error:
        raise TypeMismatch(error.what, f"{place}, {error.where}", error.hint) from None
    return returned(_called(function, target, value, batch), place)


def _rows(function: Function, target: Callable[..., Any], batch: Batch) -> pa.RecordBatch:
    rows = []
    for index, row in enumerate(batch.data.to_pylist()):
        origin = Batch(batch.data.slice(index, 1), batch.path, batch.first_row + index)
        result = _called(function, target, row, origin)
        if not isinstance(result, dict):
            raise BatchContractBroken(
                f"it returned {type(result).__name__}, not a dict", _place(function, origin), "return {'column': value}"
            )
        rows.append(result)
    columns = list(dict.fromkeys(chain.from_iterable(rows))) if rows else []
    if not rows and function.declared is not None:
        return _empty(function.declared)
    ragged = next((index for index, row in enumerate(rows) if len(row) != len(columns)), None)
    if ragged is not None:
        lacking = next(name for name in columns if name not in rows[ragged])
        origin = Batch(batch.data.slice(ragged, 1), batch.path, batch.first_row + ragged)
        raise BatchContractBroken(
            f"it returned no {lacking!r} for a row", _place(function, origin), "return it as None"
        )
    if function.declared is not None and set(columns) == set(function.declared.names):
        return _typed_rows(function, rows, batch)
    return returned({name: [row[name] for row in rows] for name in columns}, _place(function, batch))


def _typed_rows(function: Function, rows: list[dict[str, Any]], batch: Batch) -> pa.RecordBatch:
    assert function.declared is not None
    arrays = []
    for field in function.declared:
        values = [row[field.name] for row in rows]
        try:
            storage = field.type.storage_type if isinstance(field.type, pa.FixedShapeTensorType) else field.type
            array = pa.array(values, storage)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, TypeError) as error:
            raise BatchContractBroken(
                f"column {field.name!r} was declared {show_field(field)}: {str(error).splitlines()[0]}",
                _place(function, batch),
            ) from error
        arrays.append(pa.ExtensionArray.from_storage(field.type, array) if storage is not field.type else array)
    return pa.RecordBatch.from_arrays(arrays, names=function.declared.names)


def _called(function: Function, target: Callable[..., Any], value: Any, batch: Batch) -> Any:
    try:
        return target(value)
    except IceblinkError:
        raise
    except Exception as error:
        line = _line(function, error)
        raise FunctionError(_said(error), f"{_place(function, batch)}{line}") from error


def _said(error: BaseException) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _line(function: Function, error: BaseException) -> str:
    """The deepest frame in the file that defines the function, which is where its author will look."""
    target = getattr(function.target, "func", function.target)
    if not hasattr(target, "__code__"):  # a class, or an instance
        target = (target if isinstance(target, type) else type(target)).__call__
    home = getattr(getattr(target, "__code__", None), "co_filename", None)
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == home]
    last = (own or list(frames))[-1:]
    return "".join(f", {frame.filename}:{frame.lineno}" for frame in last)


def _place(function: Function, batch: Batch) -> str:
    rows = f"rows {batch.first_row:,} to {batch.first_row + max(batch.data.num_rows - 1, 0):,}"
    origin = f" of {batch.path}" if batch.path else ""
    return f"{'map' if function.per_row else 'map_batches'}({function.label}), {rows}{origin}"


def _found(schema: pa.Schema, label: str) -> pa.Schema:
    unknown = next((field.name for field in schema if pa.types.is_null(field.type)), None)
    if unknown is not None:
        raise BatchContractBroken(
            f"column {unknown!r} has only nulls in the first batch, so its type is not known",
            label,
            f"declare it: schema={{{unknown!r}: 'string', ...}}",
        )
    return schema.remove_metadata()


def _held(output: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    if output.schema.equals(schema):
        return output
    try:
        return conform(output, schema, where)
    except (SchemaMismatch, WriteError) as error:
        raise BatchContractBroken(error.what, error.where, error.hint) from error
