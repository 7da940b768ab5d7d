"""What a statement did, as a row that every statement which changes something has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from iceblink.lake.table import Table
from iceblink.plan.nodes import Memory

OUTCOME = pa.schema(
    {
        "statement": pa.string(),
        "name": pa.string(),
        "snapshot_id": pa.int64(),
        "added_rows": pa.int64(),
        "deleted_rows": pa.int64(),
    }
)
"""The name is that of a table or namespace. The last three are of the snapshot that was made, null where none was."""


def outcome(statement: str, name: str, wrote: Table | None = None) -> Memory:
    """Return the outcome of a statement; `wrote` is the table at the snapshot that it made."""
    row: dict[str, Any] = {"statement": statement, "name": name}
    if wrote is not None and wrote.snapshot_id is not None:
        (snapshot,) = (one for one in wrote.history().to_pylist() if one["snapshot_id"] == wrote.snapshot_id)
        row |= {key: snapshot[key] or 0 for key in ("added_rows", "deleted_rows")}
        row["snapshot_id"] = wrote.snapshot_id
    return rows([row], OUTCOME, statement.lower())


def rows(found: Sequence[Mapping[str, Any]], schema: pa.Schema, label: str) -> Memory:
    """Return a few rows as a plan."""
    table = pa.Table.from_pylist(list(found), schema=schema)
    return Memory(schema, table, label=label)
