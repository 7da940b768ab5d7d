"""Batches as a user's function sees them, and back: Arrow, NumPy, pandas, polars; no value changes its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from iceblink.errors import BatchContractBroken, TypeMismatch
from iceblink.interop import optional, to_pandas, to_polars
from iceblink.plan.function import BatchFormat
from iceblink.run.columns import from_values, restored, type_in
from iceblink.types import show_type


def given(batch: pa.RecordBatch, form: BatchFormat) -> Any:
    """Return `batch` in the form a function asked for.

    ``numpy`` gives ``dict[str, ndarray]``: fixed-shape tensors as ``(rows, *shape)``, lists and strings as object
    arrays. ``numpy_masked`` gives masked arrays. ``pandas`` columns are Arrow-backed, so that integers with
    nulls stay integers.

    Raises
    ------
    TypeMismatch
        ``numpy`` and a column has nulls: NumPy has no null, and turning integers into floats would be silent.
    ConfigError
        pandas or polars is not installed.
    """
    match form:
        case "arrow":
            return batch
        case "numpy" | "numpy_masked":
            masked = form == "numpy_masked"
            return {name: _to_numpy(name, column, masked) for name, column in zip(batch.schema.names, batch.columns)}  # noqa: B905
        case "pandas":
            return to_pandas(pa.Table.from_batches([batch]))
        case "polars":
            return to_polars(pa.Table.from_batches([batch]))


def returned(value: Any, where: str, like: pa.Schema | None = None) -> pa.RecordBatch:
    """Return what a function gave back as one Arrow batch.

    Parameters
    ----------
    value : RecordBatch, Table, mapping of name to array, pandas or polars DataFrame
    where : str
        What an error should name.
    like : pa.Schema, optional
        What columns of these names were, or should be. Types that a format cannot carry (tensors in data frames,
        decimals and zones in NumPy) are taken from there.

    Raises
    ------
    BatchContractBroken
        It is no batch, its columns differ in length, or a column mixes types.
    """
    if isinstance(value, pa.RecordBatch):
        return value
    if isinstance(value, pa.Table):
        return _one_batch(value)
    if isinstance(value, Mapping):
        return _from_columns(value, where, like)
    kind = type(value).__module__.partition(".")[0]
    if kind == "pandas" and hasattr(value, "columns"):
        columns = {str(name): value[name].array for name in value.columns}
        if len(columns) != len(value.columns):
            raise BatchContractBroken("it returned two columns of one name", where, "rename one of them")
        converted = {name: _of_pandas(array) for name, array in columns.items()}
        return restored(_from_columns(converted, where, None), like)
    if kind == "polars" and hasattr(value, "to_arrow") and hasattr(value, "columns"):
        polars = optional("polars")
        objects = [name for name, dtype in value.schema.items() if dtype == polars.Object]
        if objects:
            raise BatchContractBroken(
                f"column {objects[0]!r} holds Python objects",
                where,
                "return numbers, text, bytes, dates, lists or structs",
            )
        return restored(_one_batch(value.to_arrow(compat_level=polars.CompatLevel.oldest())), like)
    raise BatchContractBroken(
        f"it returned {type(value).__name__}, not a batch",
        where,
        "return a RecordBatch, Table, dict of arrays, pandas or polars DataFrame",
    )


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _from_columns(columns: Mapping[str, Any], where: str, like: pa.Schema | None) -> pa.RecordBatch:
    arrays = {
        str(name): from_values(str(name), values, where, type_in(like, str(name))) for name, values in columns.items()
    }
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
        raise BatchContractBroken(f"its columns differ in length ({shown})", where, "return one value for each row")
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _of_pandas(array: Any) -> Any:
    """Return a column that pandas holds in NumPy: in its object columns NaN, NaT and NA all mean null."""
    if hasattr(array, "__arrow_array__") and array.dtype != np.dtype(object):
        return array
    values = np.asarray(array)
    if values.dtype != np.dtype(object):
        return values
    missing = optional("pandas").isna(array)
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _to_numpy(name: str, column: pa.Array, masked: bool) -> Any:
    if column.null_count and not masked:
        raise TypeMismatch(
            f"column {name!r} has {column.null_count:,} nulls, and NumPy has no null",
            "batch_format='numpy'",
            "fill or filter them, or use batch_format='numpy_masked', 'arrow', 'pandas' or 'polars'",
        )
    if not masked:
        return _dense(column)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    dense = _dense(_filled(column))
    mask = np.broadcast_to(missing.reshape(-1, *(1 for _ in dense.shape[1:])), dense.shape)
    return np.ma.MaskedArray(dense, mask=mask)


def _filled(column: pa.Array) -> pa.Array:
    """Put zeros under the nulls, so that a masked array keeps the column's own dtype."""
    if not column.null_count:
        return column
    if isinstance(column.type, pa.FixedShapeTensorType):
        zeros = pa.array([[0] * column.type.storage_type.list_size], column.type.storage_type)
        return pa.ExtensionArray.from_storage(column.type, _where_null(column.storage, zeros))
    if pt.is_boolean(column.type):
        return column.fill_null(False)
    if pt.is_integer(column.type) or pt.is_floating(column.type):
        return column.fill_null(0)
    if pt.is_temporal(column.type):
        return column.fill_null(pa.scalar(0, pa.int64()).cast(column.type)) if pt.is_timestamp(column.type) else column
    return column  # object arrays hold None themselves


def _where_null(storage: pa.Array, filler: pa.Array) -> pa.Array:
    places = np.where(storage.is_valid().to_numpy(zero_copy_only=False), np.arange(len(storage)), len(storage))
    return pa.concat_arrays([storage, filler]).take(pa.array(places))


def _dense(column: pa.Array) -> Any:
    dtype = column.type
    if isinstance(dtype, pa.FixedShapeTensorType):
        return column.to_numpy_ndarray()
    if pt.is_fixed_size_list(dtype) and pt.is_primitive(dtype.value_type) and not column.null_count:
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), dtype.list_size)
    if pt.is_list(dtype) and pt.is_primitive(dtype.value_type):
        return _ragged(column)
    if pt.is_nested(dtype) or isinstance(dtype, pa.BaseExtensionType) or pt.is_decimal(dtype):
        return _objects(column.to_pylist())
    return column.to_numpy(zero_copy_only=False)


def _ragged(column: pa.Array) -> Any:
    """Lists as an object array of views of one buffer."""
    values = column.values.to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy()
    valid = column.is_valid().to_pylist()
    pairs = zip(offsets[:-1], offsets[1:], valid, strict=True)
    return _objects([values[start:end] if known else None for start, end, known in pairs])


def _objects(values: list[Any]) -> Any:
    result = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):  # assigning the list at once would try to stack arrays of one length
        result[index] = value
    return result


def describe(schema: pa.Schema) -> str:
    """Return a schema on one line, for messages."""
    return ", ".join(f"{field.name}: {show_type(field.type)}" for field in schema)
