"""How many rows data files still have, beside the deletes that apply to them."""

from __future__ import annotations

from collections.abc import Collection

from iceblink.lake.entries import FileEntry
from iceblink.lake.table import Table
from iceblink.plan.change_queries import FILE, MATCHES, live
from iceblink.plan.nodes import Scan
from iceblink.run.local_engine import LocalEngine
from iceblink.scan.place import file_column


def live_rows(engine: LocalEngine, table: Table, entries: Collection[FileEntry]) -> dict[str, int]:
    """Return the rows of data files of `table`, by path.

    Eager. Metadata says it of files without deletes; of the others deletes are read, and the columns that these name.
    """
    counted = {entry.path: 0 if entry.deletes else entry.rows for entry in entries}
    beside = frozenset(entry.path for entry in entries if entry.deletes)
    if beside:
        file, by_number = file_column(beside)
        scan = Scan.of(table).only(beside).with_placed(file)
        for batch in engine.batches(engine.query(live(scan, file), {scan.name: scan})):
            for row in batch.data.to_pylist():
                counted[by_number[row[FILE]]] = row[MATCHES]
    return counted
