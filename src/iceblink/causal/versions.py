"""The version of a table that a dataset looks at, and the rows that came and went since an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from iceblink.causal.regression.design import quoted
from iceblink.errors import PlanError
from iceblink.lake.changes import CHANGE_TYPE, DELETE, INSERT, Changes
from iceblink.lake.lineage import Lineage, net_spans
from iceblink.lake.table import Table
from iceblink.plan.fingerprint import parts_of
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Query, Repartition, Scan
from iceblink.plan.rowwise import leaf_of, over
from iceblink.plan.sql import DIALECT

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

_FLEETING = {
    *("rand", "randn", "uuid"),
    *("currenttimestamp", "currentdatetime", "currentdate", "currenttime", "localtimestamp", "localtime"),
}
"""Keys of sqlglot's nodes that have another value in each run."""


@dataclass(frozen=True)
class Source:
    """One table at a version, and the statement through which a dataset looks at its rows, one by one.

    Parameters
    ----------
    table : str
        The table's UUID: another one may have its name later.
    snapshot_id : int or None
        None while the table is empty.
    statement : str
        Filters and computed columns as SQL; empty for the table as it is.
    """

    table: str
    snapshot_id: int | None
    statement: str

    @classmethod
    def of(cls, data: Dataset, where: str) -> Self:
        """Return what a dataset looks at.

        Raises
        ------
        PlanError
            Not the rows of one table, several rows at a time, or a look at the clock or at chance.
        """
        _check_lasting(data.plan, where)
        table = _table(data, where)
        steps = [text for name, text in parts_of(data.plan).items() if not name.startswith("table ")]
        return cls(table.uuid, table.snapshot_id, "\n".join(steps))

    def check_follows(self, saved: Self, where: str) -> None:
        """Raise PlanError where what was saved is no earlier version of this."""
        if (self.table, self.statement) != (saved.table, saved.statement):
            of = "table" if self.table != saved.table else "statement"
            raise PlanError(f"what was saved is of another {of}", where, "leave it out: all rows are read then")


def one_row(rows: pa.Table, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """Return the row that something was saved as.

    Raises
    ------
    PlanError
        There is not one row, or it has other columns.
    """
    missing = [name for name in schema.names if name not in rows.column_names]
    if missing or rows.num_rows != 1:
        what = f"column {missing[0]!r} is missing" if missing else f"there are {rows.num_rows:,} rows"
        raise PlanError(what, where, "one row, as to_arrow gives it: filter by snapshot_id")
    return rows.select(schema.names).cast(schema).combine_chunks().to_batches()[0]


@dataclass(frozen=True, eq=False)
class Changed:
    """What became of a table from one version to another, as a dataset sees it.

    Parameters
    ----------
    came, went : Dataset
        Lazy. A row that a rewrite carried over to another file is in both.
    most_rows, whole_rows : int
        Rows of the files that are read for it, and of all files of the table, by metadata.
    """

    came: Dataset
    went: Dataset
    most_rows: int
    whole_rows: int


def changed(data: Dataset, after: int | None, where: str) -> Changed:
    """Return what became of a dataset's table after a snapshot, up to the version that the dataset is of.

    Eager where manifests are read, not for rows. Compactions change nothing.

    Raises
    ------
    SnapshotNotFound
        The snapshot, or one after it, was expired.
    PlanError
        The version was not made from that snapshot, or a column of that time has its name no more.
    """
    table = _table(data, where)
    spans = net_spans(Lineage(table).since(after))
    if after is not None:
        _check_columns(table.at(snapshot=after), table, where)
    changes = Changes.of(table, spans, marked=True)
    names = ", ".join(map(quoted, leaf_of(data.plan).schema.names))
    came, went = (
        type(data)(
            over(
                data.plan,
                data.session.sql(
                    f"SELECT {names} FROM this WHERE {quoted(CHANGE_TYPE)} = '{kind}'", this=Scan.of(changes)
                ),
            ),
            data.session,
        )
        for kind in (INSERT, DELETE)
    )
    return Changed(came, went, *(sum(file.rows for file in part.files()) for part in (changes, table)))


def _check_lasting(plan: Plan, where: str) -> None:
    """Refuse a statement that has another value for the same row another time."""
    while isinstance(plan, Query | Repartition):
        if isinstance(plan, Query):
            for part in plan.tree.find_all(exp.Func):
                if part.key in _FLEETING or part.name.casefold() == "now":
                    raise PlanError(
                        f"{part.sql(DIALECT)} is another value each time",
                        where,
                        "write the time out; draw by the key of a row",
                    )
        if len(plan.inputs) != 1:
            return
        (plan,) = plan.inputs


def _table(data: Dataset, where: str) -> Table:
    """Return the one table of which a dataset looks at all rows, one by one."""
    leaf = leaf_of(data.plan)
    if not isinstance(leaf, Scan) or isinstance(leaf.table, Changes) or leaf.files is not None or leaf.part is not None:
        raise PlanError(
            "what follows a table looks at one table, row by row",
            where,
            "lake.table(name) with filters and computed columns; write the result of joins and functions to a table",
        )
    return leaf.table


def _check_columns(before: Table, now: Table, where: str) -> None:
    """Refuse columns that were dropped since, or renamed, and of whose name there is another one."""
    then = {field.name: field.metadata for field in before.schema}
    for field in now.schema:
        if field.metadata != then.get(field.name, field.metadata):
            what = f"column {field.name!r} is another one than in snapshot {before.snapshot_id}"
            raise PlanError(what, where, "read the table as a whole")
