"""Row groups decoded with pyarrow into batches of the table: checksums verified, nulls in required columns refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from iceblink.casts import required_nulls
from iceblink.lake.ranges import Parts, Range
from iceblink.lake.storage import Storage
from iceblink.scan.damage import damaged
from iceblink.scan.footer import Footer
from iceblink.scan.project import Projection, inner_fields

BUFFER_BYTES = 256 << 10
"""Read at a time of a column chunk on a local disk."""


def open_file(storage: Storage, footer: Footer, fetched: Parts | None = None) -> pq.ParquetFile:
    """Open a Parquet file whose footer is known, for one thread: pyarrow's readers must not be shared.

    Page checksums are verified. Column chunks are read from a local disk bit by bit: a row group of embeddings takes a
    fifth less memory so. Elsewhere all those of a row group are fetched at once, if they are not `fetched` already.

    Raises
    ------
    OSError
        The file cannot be opened, or is not of the size it had.
    """
    source = storage.open_input(footer.path, constant=True) if fetched is None else fetched.native()
    local = storage.local_path(footer.path) is not None
    if source.size() != footer.file_bytes:
        raise OSError(f"it has {source.size():,} bytes, and had {footer.file_bytes:,}")
    return pq.ParquetFile(
        source,
        metadata=footer.metadata,
        page_checksum_verification=True,
        coerce_int96_timestamp_unit="us",
        pre_buffer=not local and fetched is None,
        buffer_size=BUFFER_BYTES if local else 0,
    )


def chunk_ranges(footer: Footer, group: int, leaves: Iterable[int]) -> list[Range]:
    """Return where the chunks of leaf columns are in the file."""
    columns = footer.metadata.row_group(group)
    found = []
    for leaf in leaves:
        chunk = columns.column(leaf)
        # an offset of 0 is what some writers say for "no dictionary": the magic lies there
        start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
        found.append((start, start + chunk.total_compressed_size))
    return found


def read_group(
    file: pq.ParquetFile, footer: Footer, group: int, projection: Projection, threads: bool = False
) -> list[pa.RecordBatch]:
    """Decode the projected columns of a whole row group.

    Parameters
    ----------
    threads : bool
        Decode columns side by side, in pyarrow's own threads.

    Returns
    -------
    list of pa.RecordBatch
        One, but for row groups of more than 2 GiB of text.
    """
    rows = footer.metadata.row_group(group).num_rows
    if not projection.leaves:
        return [projection.apply([], rows)]
    table = file.read_row_group(group, columns=_paths(footer, projection), use_threads=threads)
    return [projection.apply(batch.columns, batch.num_rows) for batch in table.to_batches()]


def stream_group(
    file: pq.ParquetFile, footer: Footer, group: int, projection: Projection, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Decode a large row group batch by batch, never holding it whole."""
    batches = file.iter_batches(batch_rows, row_groups=[group], columns=_paths(footer, projection), use_threads=False)
    for batch in batches:
        yield projection.apply(batch.columns, batch.num_rows)


def _paths(footer: Footer, projection: Projection) -> list[str]:
    return [footer.leaf_paths[leaf] for leaf in projection.leaves]


def checked(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, owner: str, path: str, group: int
) -> Iterator[pa.RecordBatch]:
    """Pass batches of `schema` on, unless a required column, at any depth, has nulls.

    Raises
    ------
    DataCorrupt
    """
    # a flat column that may be null lacks nothing, and most columns are such
    suspects = [(place, field) for place, field in enumerate(schema) if not field.nullable or inner_fields(field.type)]
    for batch in batches:
        for place, field in suspects:
            if (found := required_nulls(batch.column(place), field, field.name)) is not None:
                what = f"required column {found[0]!r} has {found[1]:,} nulls, or is not in the file"
                raise damaged(what, owner, path, group)
        yield batch
