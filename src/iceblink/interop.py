"""Data frames in and out: pandas, polars and anything that speaks Arrow."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pyarrow as pa

from iceblink.errors import ConfigError, TypeMismatch


def to_arrow(data: Any) -> pa.Table | pa.RecordBatchReader:
    """Return Arrow data of anything that holds rows; streams stay streams.

    Parameters
    ----------
    data : Table, RecordBatch, RecordBatchReader, pandas or polars DataFrame, list of dicts, dict of lists,
        or any object with ``__arrow_c_stream__``

    Raises
    ------
    TypeMismatch
        It is none of these, or a column mixes types.
    """
    try:
        if isinstance(data, pa.Table | pa.RecordBatchReader):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, list) and data and isinstance(data[0], dict):
            return pa.Table.from_pylist(data)
        if isinstance(data, dict):
            return pa.table(data)
        kind = type(data).__module__.partition(".")[0]
        if kind == "pandas":
            return pa.Table.from_pandas(data, preserve_index=False).replace_schema_metadata(None)
        if kind == "polars" and hasattr(data, "collect"):
            data = data.collect()
        if kind == "polars":
            return data.to_arrow(compat_level=optional("polars").CompatLevel.oldest())
        if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TypeMismatch(str(error).splitlines()[0], type(data).__name__, "give each column one type") from error
    raise TypeMismatch(
        f"cannot read rows from {type(data).__name__}",
        hint="give an Arrow table or stream, a pandas or polars frame, a list of dicts or a dict of lists",
    )


def to_pandas(table: pa.Table) -> Any:
    """Return a pandas DataFrame whose columns are Arrow's own."""
    return plain(table).to_pandas(types_mapper=optional("pandas").ArrowDtype)


def to_polars(table: pa.Table) -> Any:
    """Return a polars DataFrame."""
    return optional("polars").from_arrow(plain(table))


def plain(table: pa.Table) -> pa.Table:
    """Replace extension types, which data frames do not know, by their storage."""
    for index, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):
            chunks = [chunk.storage for chunk in table.column(index).chunks]
            storage = pa.chunked_array(chunks, field.type.storage_type)
            table = table.set_column(index, field.with_type(field.type.storage_type), storage)
    return table


def optional(package: str, extra: str = "") -> Any:
    """Import a package that iceblink does not require, or say which extra installs it: by default that of its name.

    Raises
    ------
    ConfigError
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise _not_installed(package, extra or package) from error


def required(extra: str, *packages: str) -> None:
    """Say which extra installs packages, unless they are there. Nothing is imported.

    Raises
    ------
    ConfigError
    """
    for package in packages:
        if not _is_there(package):
            raise _not_installed(package, extra)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # hidden by a finder, or by None in sys.modules
        return False


def _not_installed(package: str, extra: str) -> ConfigError:
    return ConfigError(f"{package} is not installed", hint=f"pip install 'iceblink[{extra}]'")
