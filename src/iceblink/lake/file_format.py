"""How a table wants its Parquet files: Iceberg's ``write.parquet.*`` properties as pyarrow's arguments."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import BooleanType, DoubleType, FloatType

from iceblink.errors import ConfigError
from iceblink.lake.codecs import USUAL, codecs, named_codec
from iceblink.lake.late import iceberg_arrow
from iceblink.lake.schemas import byte_tensors

Number = TypeVar("Number", int, float)

SAMPLE_ROWS = 4096

ROW_GROUP_ROWS = "write.parquet.row-group-limit"
LEVEL = "write.parquet.compression-level"
BLOOM_ENABLED = "write.parquet.bloom-filter-enabled.column."
BLOOM_FPP = "write.parquet.bloom-filter-fpp.column."
BLOOM_NDV = "write.parquet.bloom-filter-ndv.column."
BLOOM_MAX_BYTES = "write.parquet.bloom-filter-max-bytes"


def number(properties: Mapping[str, str], name: str, default: Number, kind: Callable[[str], Number] = int) -> Number:
    """Read a table property as a number above zero.

    Raises
    ------
    ConfigError
        It is not one.
    """
    text = properties.get(name)
    if text is None:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = kind("0")
    if value <= 0:
        raise ConfigError(f"{name} is {text!r}", "table properties", "set it to a number above zero")
    return value


def writer_arguments(
    schema: Schema, properties: Mapping[str, str], sort_order: SortOrder, rows: pa.Table
) -> dict[str, Any]:
    """Return arguments of `pyarrow.parquet.ParquetWriter` for one file.

    Page checksums, the page index and SizeStatistics are always written.

    Parameters
    ----------
    schema : pyiceberg Schema
    properties : mapping of str to str
        The table's properties.
    sort_order : pyiceberg SortOrder
        What the rows are sorted by, or the unsorted order.
    rows : pa.Table
        The first row group, as it is stored. A Bloom filter is made for that many distinct values unless told
        otherwise; a column gets dictionaries if its values repeat there, and the usual codec if that saves something.

    Raises
    ------
    ConfigError
        A property that is not what it should be.

    References
    ----------
    .. [1] Iceberg documentation, "Configuration", "Write properties".
    """
    paths = list(iceberg_arrow.parquet_path_to_id_mapping(schema))
    tensors = byte_tensors(schema, properties)  # as bytes they neither repeat nor have an order
    dictionaries = _dictionary_columns(schema, rows, tensors)
    level = number(properties, LEVEL, 1) if LEVEL in properties else None
    of_columns = codecs(paths, properties, rows, dictionaries, level)
    return {
        "compression": of_columns,
        "compression_level": _levels(level, of_columns, properties),
        "data_page_size": number(properties, "write.parquet.page-size-bytes", 1 << 20),
        "dictionary_pagesize_limit": number(properties, "write.parquet.dict-size-bytes", 2 << 20),
        "max_rows_per_page": number(properties, "write.parquet.page-row-limit", 20_000),
        "bloom_filter_options": _bloom_filters(schema, properties, rows.num_rows) or None,
        "sorting_columns": _sorting_columns(schema, sort_order) or None,
        "use_dictionary": dictionaries,
        "write_statistics": [path for path in paths if path not in tensors],
        "write_page_index": True,
        "write_page_checksum": True,
        "store_decimal_as_integer": True,
    }


def _levels(level: int | None, codecs: Mapping[str, str], properties: Mapping[str, str]) -> dict[str, int] | None:
    """Return the level of the columns that have the table's codec: to another it would mean another thing."""
    if level is None:
        return None
    usual = named_codec("", properties) or USUAL
    return {path: level for path, codec in codecs.items() if codec == usual}


def _dictionary_columns(schema: Schema, rows: pa.Table, but: Collection[str]) -> list[str]:
    """Return the columns, `but` those, whose values repeat: a dictionary of the others costs several times their
    encoding and is larger than they are. Floats in lists are embeddings, which never repeat; what else is nested is
    not looked into.
    """
    chosen = random.Random(0).sample(range(rows.num_rows), min(SAMPLE_ROWS, rows.num_rows))
    indices = pa.array(sorted(chosen), pa.int64())
    kept = []
    for path, field_id in iceberg_arrow.parquet_path_to_id_mapping(schema).items():
        if path in but or (".list." in path and isinstance(schema.find_type(field_id), FloatType | DoubleType)):
            continue
        if path in rows.column_names and not _repeats(rows.column(path), indices):
            continue
        kept.append(path)
    return kept


def _repeats(column: pa.ChunkedArray, indices: pa.Array) -> bool:
    """Tell by a random sample whether values occur at least twice on average."""
    if pa.types.is_nested(column.type):
        return True
    sample = column.take(indices)
    if isinstance(column.type, pa.BaseExtensionType):
        sample = sample.cast(column.type.storage_type)
    known = len(sample) - sample.null_count
    if not known:
        return True
    part = len(indices) / len(column)
    # of values that occur twice each, the sample has this many: one that is sampled twice counts once
    expected = known * (1 - part / 2)
    return bool(pc.count_distinct(sample, mode="only_valid").as_py() <= expected)


def _bloom_filters(schema: Schema, properties: Mapping[str, str], rows: int) -> dict[str, dict[str, float]]:
    wanted = [
        name.removeprefix(BLOOM_ENABLED)
        for name, value in properties.items()
        if name.startswith(BLOOM_ENABLED) and value.lower() == "true"
    ]
    if not wanted:
        return {}
    paths = {field_id: path for path, field_id in iceberg_arrow.parquet_path_to_id_mapping(schema).items()}
    limit = number(properties, BLOOM_MAX_BYTES, 1 << 20)
    options: dict[str, dict[str, float]] = {}
    for column in wanted:
        try:
            field = schema.find_field(column)
        except ValueError:
            continue  # a column that was dropped or renamed: Iceberg keeps the property, and so does the table
        if field.field_id not in paths or isinstance(field.field_type, BooleanType):
            kind = str(field.field_type)
            raise ConfigError(f"{BLOOM_ENABLED}{column}: {kind} has no Bloom filter", "table properties", "unset it")
        fpp = number(properties, BLOOM_FPP + column, 0.01, float)
        if fpp >= 1:
            raise ConfigError(f"{BLOOM_FPP}{column} is {fpp}", "table properties", "set it between 0 and 1")
        # Parquet spec, "Bloom Filter", sizing: the count at which a filter of `limit` bytes has this error rate
        most = max(1, int(-limit * math.log(1 - fpp ** (1 / 8))))
        options[paths[field.field_id]] = {"ndv": min(number(properties, BLOOM_NDV + column, rows), most), "fpp": fpp}
    return options


def _sorting_columns(schema: Schema, sort_order: SortOrder) -> list[pq.SortingColumn]:
    leaves = list(iceberg_arrow.parquet_path_to_id_mapping(schema).values())  # in the order of the file's columns
    columns = []
    for field in sort_order.fields:
        if not isinstance(field.transform, IdentityTransform):
            break  # Parquet can only name columns; what is sorted by a transform before it is not sorted by them
        columns.append(
            pq.SortingColumn(
                leaves.index(field.source_id),
                descending=field.direction is SortDirection.DESC,
                nulls_first=field.null_order is NullOrder.NULLS_FIRST,
            )
        )
    return columns
