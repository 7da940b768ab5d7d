"""What a statement did, as one row that every statement which changes something has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from iceblink.errors import DataCorrupt, PlanError, StorageError
from iceblink.lake.entries import FileEntry
from iceblink.lake.files import NewFile
from iceblink.lake.table import Table
from iceblink.plan.nodes import Memory
from iceblink.run.live_rows import live_rows
from iceblink.run.local_engine import LocalEngine


@dataclass(frozen=True)
class Counts:
    """The rows and files that one commit changed.

    Parameters
    ----------
    rows_inserted, rows_updated, rows_deleted : int
        Rows as users see them: what is written again only because its file is, is none of them.
    files_added, files_removed : int
        Data files that came into the table, and that are in it no more.
    delete_files_added : int
        Position delete files written.
    """

    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    files_added: int
    files_removed: int
    delete_files_added: int


@dataclass(frozen=True)
class Removed:
    """How many data files go, and how many rows they hold, without those that are deleted already."""

    files: int
    rows: int


@dataclass(frozen=True)
class Written:
    """A commit of rows.

    Parameters
    ----------
    table : Table
        At the snapshot that was made; at the one before where nothing was to be changed.
    counts : Counts or None
        None where an earlier try had made the commit, of which no more is known; or where what it replaced is damaged.
    """

    table: Table
    counts: Counts | None


OUTCOME = pa.schema(
    {
        "statement": pa.string(),
        "name": pa.string(),
        **dict.fromkeys(Counts.__dataclass_fields__, pa.int64()),
        "snapshot_id": pa.int64(),
    }
)
"""The name is that of a table, view or namespace. What is not about rows has nulls after it."""


def outcome(statement: str, name: str, wrote: Written | None = None) -> Memory:
    """Return the outcome of a statement as a plan of one row."""
    row: dict[str, Any] = {"statement": statement, "name": name}
    if wrote is not None:
        row |= {} if wrote.counts is None else asdict(wrote.counts)
        row["snapshot_id"] = wrote.table.snapshot_id
    return rows([row], OUTCOME, statement.lower())


def rows_in(engine: LocalEngine, table: Table, entries: Collection[FileEntry] | None = None) -> Removed | None:
    """Return what some data files of a table hold, by default all; None where what says it cannot be read.

    Eager: see `live_rows` for what is read. A statement that replaces damaged files is to repair the table.
    """
    try:
        found = list(table.files()) if entries is None else entries
        return Removed(len(found), sum(live_rows(engine, table, found).values()))
    except (DataCorrupt, StorageError, PlanError, OSError):
        return None


def replaced_files(removed: Removed | None, files: Collection[NewFile] = ()) -> Counts | None:
    """Return what it is that data files went, and new ones came; None where it is not known what went."""
    if removed is None:
        return None
    return Counts(sum(file.rows for file in files), 0, removed.rows, len(files), removed.files, 0)


def rows(found: Sequence[Mapping[str, Any]], schema: pa.Schema, label: str) -> Memory:
    """Return a few rows as a plan."""
    table = pa.Table.from_pylist(list(found), schema=schema)
    return Memory(schema, table, label=label)
