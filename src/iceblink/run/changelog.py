"""A changelog as statements over the files that came and went: what only moved is left out, updates are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iceblink.errors import ColumnNotFound
from iceblink.lake.changes import CHANGE_TYPE, DELETE, INSERT, ORDINAL, SNAPSHOT, Changes
from iceblink.lake.lineage import Span
from iceblink.lake.row_lineage import ROW_ID, Traced
from iceblink.lake.table import Table
from iceblink.plan.nodes import Plan, Scan
from iceblink.plan.sql import union_query, unused
from iceblink.run.kernel_types import quoted
from iceblink.run.session import Session

MARKS = (CHANGE_TYPE, ORDINAL, SNAPSHOT)
UPDATE_BEFORE, UPDATE_AFTER = "update_before", "update_after"
_COUNT, _NUMBER, _CAME, _WENT = (f"__iceblink_{name}" for name in ("count", "number", "came", "went"))

Where = Callable[[Plan], Plan]


def changelog(
    session: Session, table: Table, spans: Sequence[Span], keys: Sequence[str], net: bool, where: Where
) -> Plan:
    """Return the rows that spans changed.

    Parameters
    ----------
    session : Session
    table : Table
        Whose columns the rows have.
    spans : sequence of Span
    keys : sequence of str
        Columns that identify a row; none to leave updates as they are, a row that goes and one that comes. With
        ``_row_id`` among them rows have the columns of row lineage, if these are not the table's own.
    net : bool
        Whether what several spans did to equal rows counts in sum, as if one had done it.
    where : callable
        Filters the rows of a plan, before anything else is done to them.

    Raises
    ------
    ColumnNotFound
        A key that the table does not have.
    DuplicateColumn
        The table has a column of the name of one of those that are added.
    PlanError
        ``_row_id`` is a key, and rows have none.
    """
    if ROW_ID in keys and ROW_ID not in table.schema.names:
        table = Traced.of(table)
    for name in keys:
        if name not in table.schema.names:
            raise ColumnNotFound.of(name, table.schema.names, f"changes of {table.name}, keys")
    names = list(table.schema.names)
    plain, mixed = [one for one in spans if not one.mixed], [one for one in spans if one.mixed]

    def read(some: Sequence[Span]) -> Plan:
        return where(Scan.of(Changes.of(table, tuple(some), marked=True)))

    parts: list[Plan] = []
    if plain or not mixed:
        rows = read(plain)
        parts.append(session.sql(_in_sum(names, table), this=rows) if net else rows)
    if mixed:
        rows = session.sql(_without_moves(names, table if net else None), this=read(mixed))
        parts.append(session.sql(_paired(names, keys, net), this=rows) if keys else rows)
    if len(parts) == 1:
        return parts[0]
    tree = union_query([part.name for part in parts], [*names, *MARKS])
    return session.engine.query(tree, {part.name: part for part in parts})


def _in_sum(names: Sequence[str], table: Table) -> str:
    """Return the statement that gives all rows the marks of one span."""
    return f"SELECT {_listed([*names, CHANGE_TYPE])}, {_one_span(table)} FROM this"


def _without_moves(names: Sequence[str], net: Table | None) -> str:
    """Return the statement that leaves out rows that a span took out and put in again: each as often as the other.

    So it is with what copy on write keeps of a file. Rows are equal as SQL groups them: null is null, NaN is NaN.
    """
    span = [] if net is not None else [ORDINAL, SNAPSHOT]
    by, count, number = _listed([*names, *span]), quoted(unused(_COUNT, names)), quoted(unused(_NUMBER, names))
    summed = f"sum(CASE WHEN {quoted(CHANGE_TYPE)} = '{INSERT}' THEN 1 ELSE -1 END)"
    left = f"SELECT {by}, CAST({summed} AS BIGINT) AS {count} FROM this GROUP BY {by} HAVING {summed} <> 0"
    each = f"SELECT {by}, {count}, unnest(range(abs({count}))) AS {number} FROM ({left}) AS summed"
    kind = f"CASE WHEN {count} > 0 THEN '{INSERT}' ELSE '{DELETE}' END AS {quoted(CHANGE_TYPE)}"
    marks = _listed(span) if net is None else _one_span(net)
    return f"SELECT {_listed(names)}, {kind}, {marks} FROM ({each}) AS each"


def _paired(names: Sequence[str], keys: Sequence[str], net: bool) -> str:
    """Return the statement that calls the one row of a key that went, and the one that came, an update."""
    by = _listed(keys if net else [*keys, ORDINAL])
    came, went, kind = quoted(unused(_CAME, names)), quoted(unused(_WENT, names)), quoted(CHANGE_TYPE)
    counts = ", ".join(
        f"count(CASE WHEN {kind} = '{which}' THEN 1 END) OVER (PARTITION BY {by}) AS {count}"
        for which, count in ((INSERT, came), (DELETE, went))
    )
    paired = " AND ".join([f"{came} = 1", f"{went} = 1", *(f"{quoted(key)} IS NOT NULL" for key in keys)])
    update = f"CASE WHEN {kind} = '{INSERT}' THEN '{UPDATE_AFTER}' ELSE '{UPDATE_BEFORE}' END"
    return (
        f"SELECT {_listed(names)}, CASE WHEN {paired} THEN {update} ELSE {kind} END AS {kind}, "
        f"{_listed([ORDINAL, SNAPSHOT])} FROM (SELECT *, {counts} FROM this) AS counted"
    )


def _one_span(table: Table) -> str:
    return f"CAST(0 AS INTEGER) AS {quoted(ORDINAL)}, CAST({table.snapshot_id} AS BIGINT) AS {quoted(SNAPSHOT)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))
