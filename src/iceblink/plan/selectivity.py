"""How many of a scan's rows a filter keeps, by the numbers of distinct values that statistics tell.

Bounds and null counts are not asked again: files and row groups that they leave out are not in the scan.
"""

from __future__ import annotations

from collections.abc import Mapping

from iceblink.errors import DataCorrupt, StorageError
from iceblink.lake.statistics import rows_of, statistics_of
from iceblink.lake.table import Table
from iceblink.predicate import And, Compare, Everything, IsIn, Nothing, Or, Predicate, columns


def rows_kept(table: Table, predicate: Predicate, scanned: float) -> float:
    """Estimate how many rows of a scan satisfy what was pushed to it.

    Every value is taken to be as frequent as any other, and columns to know nothing of each other. Without statistics
    of what the predicate names it is all that is scanned.

    Parameters
    ----------
    table : Table
    predicate : Predicate
    scanned : float
        Rows in the row groups that the predicate left.
    """
    if isinstance(predicate, Everything) or not table.pyiceberg.metadata.statistics:
        return scanned
    try:
        found = statistics_of(table)
    except (DataCorrupt, StorageError):  # an estimate is never worth an error
        found = None
    if found is None or not columns(predicate) & found.distinct.keys():
        return scanned
    # of all rows: a scan of one partition has just the rows of its value
    whole = rows_of(table.snapshot)
    return min(scanned, selectivity(predicate, found.distinct) * (scanned if whole is None else max(whole, scanned)))


def selectivity(predicate: Predicate, distinct: Mapping[str, int]) -> float:
    """Return which part of a table's rows satisfies a predicate: 1 for what is not known.

    Parameters
    ----------
    predicate : Predicate
    distinct : mapping of str to int
        Number of distinct values, by column.
    """
    match predicate:
        case Nothing():
            return 0.0
        case Compare(column, "="):
            return 1 / max(1, distinct.get(column, 1))
        case Compare(column, "!="):
            return 1 - 1 / max(2, distinct[column]) if column in distinct else 1.0
        case IsIn(column, values):
            return min(1.0, len(values) / max(1, distinct.get(column, 1)))
        case And(left, right):
            return selectivity(left, distinct) * selectivity(right, distinct)
        case Or(left, right):
            return min(1.0, selectivity(left, distinct) + selectivity(right, distinct))
    return 1.0
