"""Which codec each column of a Parquet file has: the one that is named, else the usual one where it pays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from iceblink.config import KIB, MIB
from iceblink.errors import ConfigError, nearest

CODECS = {name: name for name in ("zstd", "snappy", "gzip", "lz4", "brotli")} | {"uncompressed": "none"}
CODEC = "write.parquet.compression-codec"
CODEC_OF = f"{CODEC}.column."
USUAL = "zstd"

LEAST_SAVING = 0.15
"""Of noise, as floats and embeddings are, the codec takes less than this, and a scan takes two thirds more CPU."""
SAMPLED_PART, SLICES = 64, 4
"""One row of so many is sampled, in so many runs of neighbours, of which it depends how well they compress."""
LEAST_BYTES = MIB
"""A smaller row group is not sampled: it has the usual codec."""
LEAST_LEAF_BYTES = 4 * KIB
"""A leaf column with less than this in the sample has the usual codec: so little tells nothing, and costs nothing."""


def named_codec(path: str, properties: Mapping[str, str]) -> str | None:
    """Return the codec of a leaf column: that of the innermost field around it which has one, else the table's.

    Raises
    ------
    ConfigError
        There is no such codec.
    """
    names = [f"{CODEC_OF}{name}" for name in reversed(_around(path))]
    codec = next((properties[name].lower() for name in (*names, CODEC) if name in properties), None)
    if codec is not None and codec not in CODECS:
        raise ConfigError(f"no compression codec {codec!r}", "table properties", nearest(codec, CODECS, "codecs"))
    return None if codec is None else CODECS[codec]


def _around(path: str) -> list[str]:
    """Return what may be names of fields around a leaf column, and its own, shortest first: names may have dots."""
    return [*(path[:end] for end, sign in enumerate(path) if sign == "."), path]


def codecs(
    paths: Sequence[str],
    properties: Mapping[str, str],
    rows: pa.Table,
    dictionaries: Collection[str],
    level: int | None,
) -> dict[str, str]:
    """Return the codec of each leaf column of a file.

    A column for which none is named is compressed, unless that saves less than `LEAST_SAVING` of a sample. What is
    compressed is what would be written: with dictionaries, levels of lists, and pages.

    Parameters
    ----------
    paths : sequence of str
        Leaf columns.
    properties : mapping of str to str
        The table's properties.
    rows : pa.Table
        The first row group, as it is stored.
    dictionaries : collection of str
        The leaf columns with dictionaries.
    level : int or None
        Of the usual codec. Default: Arrow's.

    Raises
    ------
    ConfigError
        There is no such codec.
    """
    named = {path: named_codec(path, properties) for path in paths}
    unnamed = [path for path, codec in named.items() if codec is None]
    noise = _noise(unnamed, rows, dictionaries, level)
    return {path: codec or ("none" if path in noise else USUAL) for path, codec in named.items()}


def _noise(paths: Sequence[str], rows: pa.Table, dictionaries: Collection[str], level: int | None) -> set[str]:
    """Return the leaf columns, of `paths`, that the usual codec hardly makes smaller."""
    around = {end for path in paths for end in _around(path)}
    asked = rows.select([name for name in rows.column_names if name in around])
    if asked.nbytes < LEAST_BYTES:
        return set()
    written = _written(_sample(asked), dictionaries, level)
    chunks = (written.row_group(0).column(leaf) for leaf in range(written.num_columns))
    return {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in paths
        and chunk.total_uncompressed_size >= LEAST_LEAF_BYTES
        and chunk.total_compressed_size > (1 - LEAST_SAVING) * chunk.total_uncompressed_size
    }


def _sample(rows: pa.Table) -> pa.Table:
    count = max(1, rows.num_rows // SAMPLED_PART)
    slices = min(SLICES, count)
    return pa.concat_tables([rows.slice(at * (rows.num_rows // slices), count // slices) for at in range(slices)])


def _written(rows: pa.Table, dictionaries: Collection[str], level: int | None) -> pq.FileMetaData:
    """Return what a file of these rows says of itself."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        rows.schema,
        compression=USUAL,
        compression_level=level,
        use_dictionary=[*dictionaries],
        write_statistics=False,
        store_decimal_as_integer=True,
    ) as writer:
        writer.write_table(rows, row_group_size=rows.num_rows)
    found: pq.FileMetaData = writer.writer.metadata
    return found
