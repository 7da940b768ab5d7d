"""The summary of a snapshot, counted from the files that come and go.

References
----------
.. [1] Iceberg table spec, "Optional Snapshot Summary Fields".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, SnapshotSummaryCollector, Summary, update_snapshot_summaries


def counted(
    metadata: TableMetadata,
    operation: Operation,
    added: Iterable[DataFile],
    removed: Iterable[DataFile],
    parent_id: int | None,
    properties: Mapping[str, str],
    schemas: Mapping[int, Schema] = MappingProxyType({}),
) -> Summary:
    """Return the summary of a snapshot.

    Parameters
    ----------
    metadata : TableMetadata
    operation : Operation
        As PyIceberg can add up: not ``replace``.
    added, removed : iterable of DataFile
        Files of rows and of deletes.
    parent_id : int or None
        The snapshot before, on whose totals it builds.
    properties : mapping of str to str
        More to say.
    schemas : mapping of int to Schema
        By spec id, that has the columns that it partitions by; default: the table's.
    """
    limit = metadata.properties.get(
        TableProperties.WRITE_PARTITION_SUMMARY_LIMIT, TableProperties.WRITE_PARTITION_SUMMARY_LIMIT_DEFAULT
    )
    collector, specs, schema = SnapshotSummaryCollector(int(limit)), metadata.specs(), metadata.schema()
    vectors = {"added": 0, "removed": 0}
    for word, files, count in (("added", added, collector.add_file), ("removed", removed, collector.remove_file)):
        for file in files:
            count(file, schemas.get(file.spec_id, schema), specs[file.spec_id])
            vectors[word] += file.file_format == FileFormat.PUFFIN
    said = collector.build()
    for word, number in vectors.items():
        if number:  # PyIceberg takes them for position delete files
            name = f"{word}-position-delete-files"
            left = int(said.pop(name)) - number
            said |= {f"{word}-dvs": str(number)} | ({name: str(left)} if left else {})
    parent = None if parent_id is None else metadata.snapshot_by_id(parent_id)
    return update_snapshot_summaries(
        Summary(operation=operation, **said, **properties), None if parent is None else parent.summary
    )
