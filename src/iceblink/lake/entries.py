"""What the metadata says of one data file, as plain data: all that planning needs, nothing of PyIceberg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """A file of deletes that applies to a data file (Iceberg spec, "Delete Formats").

    Parameters
    ----------
    kind : {"position", "equality", "vector"}
        ``vector`` is a deletion vector: one blob of a Puffin file.
    path : str
        Location of the file.
    file_bytes : int
        Size on disk [bytes].
    equality_ids : tuple of int
        Field ids to compare, for ``equality``.
    offset, length : int
        Place of the blob in the Puffin file [bytes], for ``vector``.
    """

    kind: Literal["position", "equality", "vector"]
    path: str
    file_bytes: int
    equality_ids: tuple[int, ...] = ()
    offset: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One live data file of a snapshot.

    Parameters
    ----------
    path, file_bytes, rows
        Location, size on disk [bytes] and record count before deletes.
    spec_id : int
        Partition spec it was written under.
    partition : mapping of str to object
        Partition field name to value, as plain Python values.
    identity : mapping of int to object
        Source field id to value, of identity partition fields: the value of that column in every row.
    column_bytes : mapping of int to int
        Compressed size by field id [bytes]; may be empty.
    null_counts, lower, upper : mapping of int to object
        Statistics by field id, bounds decoded to plain Python values; string and binary bounds may be
        truncated. A field that is absent is unknown.
    deletes : tuple of DeleteFile
        Deletes that apply to this file, sequence numbers already honoured.
    only : tuple of DeleteFile
        Where there are any, just the rows are meant that one of these takes out, and none of `deletes`.
    lineage : tuple of (int, int), optional
        What the file gives to rows that have no lineage of their own: the id of its first row, and its sequence number.
        None where its rows have no ids.
    """

    path: str
    file_bytes: int
    rows: int
    spec_id: int
    partition: Mapping[str, object]
    identity: Mapping[int, object]
    column_bytes: Mapping[int, int]
    null_counts: Mapping[int, int]
    lower: Mapping[int, object]
    upper: Mapping[int, object]
    deletes: tuple[DeleteFile, ...] = ()
    only: tuple[DeleteFile, ...] = ()
    lineage: tuple[int, int] | None = None
