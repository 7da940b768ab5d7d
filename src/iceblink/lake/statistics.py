"""Statistics that no data file has: how many distinct values columns have, in a file beside the metadata.

A statistics file is of one snapshot. Later snapshots are judged by the nearest one before them that has statistics.

References
----------
.. [1] Iceberg table spec, "Table Statistics"; Iceberg Puffin spec, "apache-datasketches-theta-v1 blob type".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.statistics import StatisticsFile

from iceblink.errors import DataCorrupt
from iceblink.lake.blobs import Blob, Puffin
from iceblink.lake.retries import unreachable
from iceblink.lake.theta import NotASketch, Theta

if TYPE_CHECKING:
    from iceblink.lake.table import Table

THETA, NDV = "apache-datasketches-theta-v1", "ndv"


@dataclass(frozen=True)
class Statistics:
    """Numbers of distinct values, and of which snapshot they are.

    Parameters
    ----------
    table : str
    snapshot_id : int
    rows : int or None
        Of that snapshot; None where its summary does not say.
    distinct : mapping of str to int
        Column, as it is called now, to how many different values it has, nulls aside. Up to 4,096 they are counted,
        above they are estimated with a standard error of 1/64.
    path : str
        The statistics file.
    """

    table: str
    snapshot_id: int
    rows: int | None
    distinct: Mapping[str, int]
    path: str = field(repr=False)

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {count:,}" for name, count in self.distinct.items())
        return f"{self.table}, snapshot {self.snapshot_id}: distinct values of {shown or 'no column'}"


def statistics_of(table: Table) -> Statistics | None:
    """Return the statistics that are nearest to this version; None where there are none.

    Eager in metadata: a statistics file is read only where its writer did not say the numbers beside it.

    Raises
    ------
    DataCorrupt
        A statistics file that must be read is missing or damaged.
    StorageError
        The store does not hand it out.
    """
    snapshot = table.snapshot
    by_snapshot = {one.snapshot_id: one for one in table.pyiceberg.metadata.statistics}
    if snapshot is None or not by_snapshot:
        return None
    for ancestor in ancestors_of(snapshot, table.pyiceberg.metadata):
        if (file := by_snapshot.get(ancestor.snapshot_id)) is not None:
            distinct = distinct_values(table, file)
            return Statistics(table.name, ancestor.snapshot_id, rows_of(ancestor), distinct, file.statistics_path)
    return None


def rows_of(snapshot: Snapshot | None) -> int | None:
    """Return how many rows a snapshot has, before deletes, as its summary says."""
    told = None if snapshot is None or snapshot.summary is None else snapshot.summary.get("total-records")
    return None if told is None else int(told)


def distinct_values(table: Table, file: StatisticsFile) -> dict[str, int]:
    """Return the number of distinct values of each column that a statistics file tells of. Raises as `blobs_of`."""
    listed = [one for one in file.blob_metadata if one.type == THETA and len(one.fields) == 1]
    told = {one.fields[0]: (one.properties or {}).get(NDV, "") for one in listed}
    if not all(number.isdecimal() for number in told.values()):
        sketches = {blob.fields[0]: _sketch(blob) for blob in blobs_of(table, file) if _is_theta(blob)}
        told |= {
            column: str(round(sketch.estimate))
            for column, sketch in sketches.items()
            if sketch is not None and not told.get(column, "").isdecimal()
        }
    names = {one.field_id: one.name for one in table.iceberg_schema.fields}
    return {names[column]: int(told[column]) for column in names if told.get(column, "").isdecimal()}


def _is_theta(blob: Blob) -> bool:
    return blob.kind == THETA and len(blob.fields) == 1


def _sketch(blob: Blob) -> Theta | None:
    try:
        return Theta.from_bytes(blob.content)
    except NotASketch:  # of a form that is not ours to read: its engine says the number beside it
        return None


def blobs_of(table: Table, file: StatisticsFile) -> list[Blob]:
    """Read a statistics file. Raises DataCorrupt, StorageError."""
    try:
        content = table.storage.read(file.statistics_path)
    except FileNotFoundError:
        hint = "compute the statistics again"
        raise DataCorrupt("a statistics file is missing", file.statistics_path, hint) from None
    except OSError as error:
        raise unreachable(error, "statistics", file.statistics_path) from None
    return Puffin(content, file.file_footer_size_in_bytes).blobs(file.statistics_path)
